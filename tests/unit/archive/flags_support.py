"""Flags of inodes, set and read without the product's code (ioctl_iflags(2))."""

import contextlib
import fcntl
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

IMMUTABLE = 0x10
APPEND_ONLY = 0x20
NODUMP = 0x40
_GET = 0x80086601
_SET = 0x40086602


def get_flags(path: Path) -> int:
    """The flags of a file or directory."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        return int(struct.unpack("i4x", fcntl.ioctl(descriptor, _GET, bytes(8)))[0])
    finally:
        os.close(descriptor)


def add_flags(path: Path, flags: int) -> None:
    """Set flags; skips the test where this file system or user cannot."""
    before = get_flags_or_skip(path)
    _set(path, before | flags)


def get_flags_or_skip(path: Path) -> int:
    """The flags; skips the test where there are none."""
    try:
        return get_flags(path)
    except OSError as error:
        pytest.skip(f"no flags on this file system: {error.strerror}")


def _set(path: Path, flags: int) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        fcntl.ioctl(descriptor, _SET, struct.pack("i4x", flags))
    except OSError as error:
        pytest.skip(f"flags cannot be set here: {error.strerror}")
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def flagged(path: Path, flags: int) -> Iterator[None]:
    """Flags for as long as the block runs: nobody can remove an immutable file."""
    before = get_flags_or_skip(path)
    _set(path, before | flags)
    try:
        yield
    finally:
        _set(path, before)
