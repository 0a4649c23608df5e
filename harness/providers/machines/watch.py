"""Sees which connections machines had during a job, by their own tables of sockets."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import BinaryIO, cast

from harness import guest
from harness.checks import sockets
from harness.checks.connections import Connection
from harness.errors import InfrastructureError
from harness.ssh import Ssh

START_SECONDS = 30.0
# A job may take days.
WATCH_SECONDS = 30 * 24 * 3600.0
READY = b"watching\n"


@contextmanager
def watching(machines: Sequence[Ssh]) -> Iterator[Callable[[], set[Connection]]]:
    """Watch while entered; what is returned tells the connections, once left."""
    with ExitStack() as stack:
        watches = [stack.enter_context(_Watch(ssh)) for ssh in machines]
        yield lambda: set().union(*(watch.seen() for watch in watches))


class _Output(io.BytesIO):
    """What the script prints, and whether it has begun."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = threading.Event()

    def write(self, data: bytes) -> int:  # type: ignore[override]
        count = super().write(data)
        if self.getvalue().startswith(READY):
            self.begun.set()
        return count


class _Watch:
    """One machine, watched by a thread that waits for the script there."""

    def __init__(self, ssh: Ssh) -> None:
        self._ssh = ssh
        self._out = _Output()
        self._err = io.BytesIO()
        self._failure: Exception | None = None
        # The script watches until its input ends.
        read, write = os.pipe()
        self._stdin, self._end = os.fdopen(read, "rb"), os.fdopen(write, "wb")
        self._thread = threading.Thread(target=self._run, name=f"watch {ssh.node}", daemon=True)

    def __enter__(self) -> _Watch:
        self._thread.start()
        if not self._out.begun.wait(START_SECONDS):
            self._leave()
            said = self._err.getvalue().decode("utf-8", "backslashreplace")[-300:]
            raise InfrastructureError(f"{self._ssh.node}: watching its sockets did not start: {said}")
        return self

    def __exit__(self, *_: object) -> None:
        self._leave()

    def seen(self) -> set[Connection]:
        """Return the connections that were not there before."""
        if self._failure is not None:
            raise InfrastructureError(f"{self._ssh.node}: its sockets were not watched: {self._failure}")
        lines = self._out.getvalue().removeprefix(READY).decode()
        return sockets.parse("header\n" + lines)

    def _leave(self) -> None:
        self._end.close()
        self._thread.join(START_SECONDS)
        self._stdin.close()

    def _run(self) -> None:
        argv = ["python3", "-c", guest.source("sockets").decode()]
        try:
            code = self._ssh.exec(
                argv,
                stdin=cast("BinaryIO", self._stdin),
                stdout=self._out,
                stderr=self._err,
                timeout=WATCH_SECONDS,
            )
            if code != 0:
                self._failure = InfrastructureError(f"exit code {code}")
        except Exception as error:  # noqa: BLE001 - kept, and raised to whoever wants the connections
            self._failure = error
