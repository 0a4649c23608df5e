"""Who holds something, in a form that survives the process: to tell a live holder from a dead one.

That is a process, or a time until which nobody else may have it.
"""

from __future__ import annotations

import os
import socket
import time
from functools import cache
from pathlib import Path

from appliance.text import local_time

_PROC = Path("/proc")
_START_TIME_FIELD = 19  # starttime, counted from the state, proc(5): pid and name come before it
_FIELDS = 4
_UNTIL = "until"


@cache
def _boot_id() -> str:
    return (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def _start_time(pid: int) -> str | None:
    """When a process started, in clock ticks since boot; None when it is gone or a zombie."""
    try:
        status = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The name is in parentheses and may hold anything, parentheses and blanks too.
    fields = status.rpartition(")")[2].split()
    return None if fields[0] in ("Z", "X") else fields[_START_TIME_FIELD]


def identity(pid: int | None = None) -> str:
    """Name this process (or `pid`) in one word: host, boot, pid and start time.

    A pid alone is used again by somebody else, sooner than one would like.
    """
    number = os.getpid() if pid is None else pid
    return f"{socket.gethostname()}/{_boot_id()}/{number}/{_start_time(number) or '0'}"


def until(when: float) -> str:
    """Name a holder that is no process: it holds until `when`, in seconds since 1970, and over a reboot."""
    return f"{_UNTIL}/{when:.0f}"


def is_timed(process: str) -> bool:
    """Whether the holder is a time."""
    return process.startswith(f"{_UNTIL}/")


def is_alive(process: str) -> bool:
    """Whether the process with this identity still runs, or the time has not come.

    The catalogue is a local file, so whoever wrote an identity with another boot id ran before a reboot.
    """
    if is_timed(process):
        return time.time() < float(process.partition("/")[2])
    parts = process.split("/")
    if len(parts) != _FIELDS or parts[1] != _boot_id() or not parts[2].isdecimal():
        return False
    return _start_time(int(parts[2])) == parts[3]


def show(process: str) -> str:
    """The identity for people: "pid 4711 on host", "until 2026-11-29 08:45:00"."""
    if is_timed(process):
        return f"{_UNTIL} {local_time(float(process.partition('/')[2]))}"
    parts = process.split("/")
    return f"pid {parts[2]} on {parts[0]}" if len(parts) == _FIELDS else process
