"""Sockets of other processes, borrowed for a moment to change their options.

pidfd_getfd(2) makes a descriptor of another process's socket ours.  It is closed at once: as long as we hold
it, the other process cannot close its connection.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.errors import NotPossibleError
from harness.faults.filters import Instruction, packed

# The same number on all architectures (asm-generic/unistd.h).
_PIDFD_GETFD = 438
# asm-generic/socket.h; the module socket does not name them.
_ATTACH_FILTER, _DETACH_FILTER, _MAX_PACING_RATE = 26, 27, 47
_UNLIMITED = 0xFFFF_FFFF
# A process may close what we just saw, or end.
_GONE = {errno.EBADF, errno.ESRCH, errno.ENOENT}
_libc = ctypes.CDLL(None, use_errno=True)


class SockProgram(ctypes.Structure):
    """`struct sock_fprog` of linux/filter.h."""

    _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def tcp_sockets(pid: int) -> Iterator[socket.socket]:
    """Yield each TCP socket of a process, open until the next is asked for.

    Raises NotPossibleError when this user, or this kernel, may not.
    """
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        return
    try:
        for descriptor in _socket_descriptors(pid):
            borrowed = _borrow(handle, descriptor)
            if borrowed is None:
                continue
            with socket.socket(fileno=borrowed) as found:
                if found.family == socket.AF_INET and found.type == socket.SOCK_STREAM:
                    with contextlib.suppress(OSError):  # closed under our hands
                        yield found
    finally:
        os.close(handle)


def attach(found: socket.socket, code: Sequence[Instruction]) -> None:
    """Have a socket lose what a program says; connections accepted from a listener inherit it."""
    text = packed(code)
    buffer = ctypes.create_string_buffer(text, len(text))
    program = SockProgram(len(code), ctypes.cast(buffer, ctypes.c_void_p))
    found.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, bytes(program))


def detach(found: socket.socket) -> None:
    """Have a socket lose nothing; it may not have lost anything before."""
    with contextlib.suppress(FileNotFoundError):
        found.setsockopt(socket.SOL_SOCKET, _DETACH_FILTER, 0)


def pace(found: socket.socket, bytes_per_second: int | None) -> None:
    """Send no faster than this; None: as fast as it goes."""
    found.setsockopt(socket.SOL_SOCKET, _MAX_PACING_RATE, struct.pack("=I", bytes_per_second or _UNLIMITED))


def _socket_descriptors(pid: int) -> list[int]:
    """Numbers of a process's descriptors that are sockets."""
    found = []
    with contextlib.suppress(OSError):
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                if str(entry.readlink()).startswith("socket:"):
                    found.append(int(entry.name))
    return found


def _borrow(handle: int, descriptor: int) -> int | None:
    """Return a descriptor of ours for one of theirs, None if it is gone."""
    borrowed: int = _libc.syscall(_PIDFD_GETFD, handle, descriptor, 0)
    if borrowed >= 0:
        return borrowed
    problem = ctypes.get_errno()
    if problem in _GONE:
        return None
    raise NotPossibleError(f"sockets of other processes cannot be reached here: {os.strerror(problem)}")
