"""Processes that outlive the command that started them, and are ended exactly.

A process is remembered by its id, its start time and the boot it belongs to, so that an id the
kernel has given to somebody else is never signalled.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import InfrastructureError

# A role closes its sockets and journals in well under this; then it is killed.
STOP_SECONDS = 5.0
POLL_SECONDS = 0.02
# Field 22 of /proc/PID/stat, counted after the command name: start time in clock ticks.
STARTTIME_AFTER_NAME = 19


@dataclass(frozen=True)
class Started:
    """A process this lab started."""

    pid: int
    started: int
    boot: str

    def to_json(self) -> dict[str, int | str]:
        """Return what the state file keeps."""
        return {"pid": self.pid, "started": self.started, "boot": self.boot}


def spawn(argv: Sequence[str], log: Path, environment: Mapping[str, str], folder: Path) -> Started:
    """Start a process in a session of its own with its output appended to `log`."""
    with log.open("ab") as output:
        try:
            child = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=dict(environment),
                cwd=folder,
                start_new_session=True,
            )
        except OSError as error:
            raise InfrastructureError(f"host: cannot start {argv[0]}: {error.strerror}") from error
    started = _start_time(child.pid)
    # The child may be gone already; its id with start time 0 then matches nobody.
    child.returncode = 0  # It is a daemon now: nobody will wait for this object.
    return Started(child.pid, started or 0, _boot())


def alive(process: Started) -> bool:
    """Return whether this very process still runs (a zombie does not)."""
    _reap(process.pid)
    return process.boot == _boot() and process.started != 0 and _start_time(process.pid) == process.started


def stop(process: Started) -> None:
    """End a process and its group: politely, then by force."""
    for number, patience in ((signal.SIGTERM, STOP_SECONDS), (signal.SIGKILL, STOP_SECONDS)):
        if not alive(process):
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        deadline = time.monotonic() + patience
        while alive(process) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
    if alive(process):
        raise InfrastructureError(f"process {process.pid} survives SIGKILL")


def kill(process: Started) -> None:
    """End a process and its group by force, and wait until it is gone."""
    with contextlib.suppress(ProcessLookupError):
        if alive(process):
            os.killpg(process.pid, signal.SIGKILL)
    deadline = time.monotonic() + STOP_SECONDS
    while alive(process):
        if time.monotonic() > deadline:
            raise InfrastructureError(f"process {process.pid} survives SIGKILL")
        time.sleep(POLL_SECONDS)


def with_variable(name: str, value: str) -> list[int]:
    """Return the ids of all processes that were started with this environment variable."""
    wanted = f"{name}={value}".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended, or is another user's
            if wanted in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
    return found


def _reap(pid: int) -> None:
    """Collect our own dead child; somebody else's is init's business."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def _start_time(pid: int) -> int | None:
    """Start time of a process in ticks since boot, None if it is gone or a zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in ("Z", "X") else int(fields[STARTTIME_AFTER_NAME])


def _boot() -> str:
    """Name of the present boot: start times of another boot mean nothing."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def remember(pid: int) -> Started:
    """Return what is remembered of a process that somebody else here started."""
    return Started(pid, _start_time(pid) or 0, _boot())
