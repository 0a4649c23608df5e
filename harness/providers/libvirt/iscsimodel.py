"""A tape library on the host: the project's own model, `spanreel tape serve` in the lab's network namespace.

The same interface as `tgt`, chosen by `transport: iscsi-model` of a library.  The guest cannot tell them
apart but by what they can do: docs/tape-model.md, docs/vm-lab.md.  One process a library, each at a port of
its own.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness import netns, product
from harness.errors import InfrastructureError
from harness.providers.libvirt.domain import ScsiUnit
from harness.providers.libvirt.tgt import MAIL_SLOTS, PORTAL
from harness.topology import Library

# Behind iSCSI's registered port, where tgt listens if the lab has both: library N is at FIRST_PORT + N - 1.
FIRST_PORT = 3270
# It is ready within a second; the bound is for a machine that is very busy.
_START_SECONDS = 30.0
_STOP_SECONDS = 15.0
_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class ModelTarget:
    """A library as an iSCSI target."""

    number: int
    name: str
    library: Library
    tapes: Path

    @property
    def port(self) -> int:
        """Where it listens."""
        return FIRST_PORT + self.number - 1

    @property
    def changer_lun(self) -> int:
        """Drives are units 1 to N, the changer is the next."""
        return len(self.library.drives) + 1

    def units(self) -> list[ScsiUnit]:
        """Every logical unit, drives and changer, for the hypervisor to attach."""
        return [ScsiUnit(self.name, lun, PORTAL, self.port) for lun in range(1, self.changer_lun + 1)]

    def command(self) -> list[str]:
        """What serves it.  Cartridges that exist keep their contents; the capacity is that of new ones."""
        library = self.library
        drives = [word for serial in library.drives for word in ("--drive", serial)]
        slots = [word for barcode in library.slots for word in ("--slot", barcode)]
        return [
            *product.argv("tape", "serve"),
            *("--folder", str(self.tapes), "--listen", f"{PORTAL}:{self.port}", "--name", self.name),
            *("--changer", library.changer, *drives, *slots),
            # Room to move cartridges about, as with tgt.
            *("--empty-slots", str(MAIL_SLOTS), "--first-slot", str(library.first_slot)),
            *("--capacity", str(library.capacity_mib)),
        ]


class ModelDaemon:
    """The libraries' processes in a network namespace.

    Args:
        namespace: its name.
        runtime: for process numbers and logs; gone after a restart of the host, like the processes.
        pids: tells the processes in a namespace; tests pass their own.

    """

    def __init__(
        self,
        namespace: str,
        runtime: Path,
        *,
        inside: Callable[[str, list[str]], list[str]] = netns.argv_inside,
        pids: Callable[[str], list[int]] = netns.pids,
    ) -> None:
        self._namespace = namespace
        self._runtime = runtime
        self._inside = inside
        self._pids = pids

    def start(self, targets: list[ModelTarget]) -> None:
        """Start what does not run; a library that runs is kept as it is."""
        for target in targets:
            if self._pid(target.number) is None:
                self._start(target)

    def stop(self) -> None:
        """End all of them; everything written is on disk then."""
        numbers = [int(path.stem.rpartition("-")[2]) for path in self._runtime.glob("tape-model-*.pid")]
        ending = {number: pid for number in numbers if (pid := self._pid(number)) is not None}
        for pid in ending.values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + _STOP_SECONDS
        for number, pid in ending.items():
            while self._pid(number) == pid:
                _reap(pid)
                if time.monotonic() > deadline:
                    raise InfrastructureError(f"the tape library of process {pid} does not end")
                time.sleep(_POLL_SECONDS)
        for number in numbers:
            self._pid_file(number).unlink(missing_ok=True)

    def _start(self, target: ModelTarget) -> None:
        command = self._inside(self._namespace, target.command())
        log = self._runtime / f"tape-model-{target.number}.log"
        target.tapes.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._pid_file(target.number).write_text(f"{process.pid}\n")
        deadline = time.monotonic() + _START_SECONDS
        while b"\nready " not in b"\n" + log.read_bytes():
            if process.poll() is not None or time.monotonic() > deadline:
                last = " ".join(log.read_text(errors="replace").strip().splitlines()[-1:]) or "no word"
                raise InfrastructureError(
                    f"the tape library {target.library.changer} did not start: {last}",
                    hint=f"see {log}; try: {' '.join(command)}",
                )
            time.sleep(_POLL_SECONDS)
        # It outlives us: nobody will wait for this object.
        process.returncode = 0

    def _pid_file(self, number: int) -> Path:
        return self._runtime / f"tape-model-{number}.pid"

    def _pid(self, number: int) -> int | None:
        """Return the process of a library; None when it does not run, whoever has its number by now."""
        try:
            pid = int(self._pid_file(number).read_text())
        except (FileNotFoundError, ValueError):
            return None
        return pid if pid in self._pids(self._namespace) else None


def _reap(pid: int) -> None:
    """Take note of the end of a process that is our own child; of another's there is nothing to take."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
