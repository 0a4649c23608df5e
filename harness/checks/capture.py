"""Records the lab's bridge while a job runs: all NDMP control traffic, and who connected to whom."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path
from types import TracebackType

from harness.errors import InfrastructureError
from harness.providers.base import Provider
from harness.topology import BACKUP_SERVER

# tcpdump says that it listens within a fraction of a second.
START_SECONDS = 15.0
STOP_SECONDS = 15.0
POLL_SECONDS = 0.05
# Large enough for every packet that segmentation offload makes; nothing may be cut off.
SNAPLEN = 262144
# 64 MiB (in KiB) of kernel buffer: emulated guests send in bursts while both cores are busy.
BUFFER_KIB = 65536


class Capture:
    """A tcpdump on the bridge, running while entered."""

    def __init__(self, provider: Provider, target: Path) -> None:
        if provider.bridge is None:
            raise InfrastructureError("this lab has no bridge to capture on")
        self._provider = provider
        self._bridge = provider.bridge
        self.path = target
        self._log = target.with_suffix(".log")
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Capture:
        address = self._provider.topology.only(BACKUP_SERVER).address
        control = f"tcp port {self._provider.topology.ndmp_port} and host {address}"
        opened = "tcp[tcpflags] & (tcp-syn|tcp-fin|tcp-rst) != 0"
        argv = [
            "tcpdump",
            "-i",
            self._bridge,
            "-n",
            "-U",
            "-s",
            str(SNAPLEN),
            "-B",
            str(BUFFER_KIB),
            "-Z",
            "root",
        ]
        argv += ["-w", str(self.path), f"({control}) or ({opened})"]
        self._process = self._provider.popen_host(argv, self._log)
        deadline = time.monotonic() + START_SECONDS
        while b"listening on" not in self._log.read_bytes():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self._process.kill()
                self._process.wait()
                raise InfrastructureError(
                    f"tcpdump does not start: {self._said()}", hint="apt-get install tcpdump"
                )
            time.sleep(POLL_SECONDS)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is None:
            return
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if error is None and "0 packets dropped by kernel" not in self._said():
            raise InfrastructureError(f"the capture is not complete: {self._said()}")

    def _said(self) -> str:
        """What tcpdump printed, in one line."""
        return " | ".join(self._log.read_text(encoding="utf-8", errors="replace").splitlines())
