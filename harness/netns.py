"""Network namespaces: a lab's network that nothing leaves, and sockets in it from outside.

A thread may enter another network namespace alone (`setns` is per thread), and a socket belongs for
ever to the namespace it was made in.  So `connect` makes a socket in a short-lived thread there and
hands it back: SSH to a guest needs no process inside the namespace.
"""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from harness.errors import InfrastructureError

# `ip netns` keeps a mount of each namespace here.
RUN_NETNS = Path("/run/netns")
# <linux/sched.h>; Python has os.setns from 3.12 on only.
CLONE_NEWNET = 0x40000000

_libc = ctypes.CDLL(None, use_errno=True)


def exists(name: str) -> bool:
    """Whether the namespace is there."""
    return (RUN_NETNS / name).exists()


def create(name: str) -> None:
    """Make a namespace with its loopback up; one that is there is kept."""
    if not exists(name):
        _ip(["netns", "add", name], f"making network namespace {name}")
    _ip(["-n", name, "link", "set", "lo", "up"], f"bringing up loopback of {name}")


def delete(name: str) -> None:
    """Remove a namespace; what runs in it keeps it alive without a name, so end that first."""
    if exists(name):
        _ip(["netns", "delete", name], f"removing network namespace {name}")


def pids(name: str) -> list[int]:
    """Processes that live in the namespace."""
    if not exists(name):
        return []
    out = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True, check=False).stdout
    return [int(word) for word in out.split()]


def argv_inside(name: str, argv: list[str]) -> list[str]:
    """The command line that runs `argv` in the namespace."""
    return ["ip", "netns", "exec", name, *argv]


def connect(name: str | None, address: tuple[str, int], timeout: float) -> socket.socket:
    """A TCP connection made inside the namespace (None: in our own), usable from anywhere.

    Raises OSError as `socket.create_connection` does.
    """
    if name is None:
        return socket.create_connection(address, timeout)
    # A thread of its own, which ends: it must never serve anything else from inside the namespace.
    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(_connect_inside, RUN_NETNS / name, address, timeout).result()


def _connect_inside(path: Path, address: tuple[str, int], timeout: float) -> socket.socket:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc.setns(descriptor, CLONE_NEWNET) != 0:
            error = ctypes.get_errno()
            raise OSError(error, f"cannot enter network namespace {path.name}: {os.strerror(error)}")
    finally:
        os.close(descriptor)
    return socket.create_connection(address, timeout)


def _ip(arguments: list[str], what: str) -> None:
    try:
        result = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise InfrastructureError(f"{what}: `ip` is missing", hint="run: apt-get install iproute2") from error
    if result.returncode != 0:
        hint = "" if os.geteuid() == 0 else "run it as root or with sudo"
        raise InfrastructureError(f"{what} failed: {result.stderr.strip()}", hint=hint)
