"""Removing what a directory's list does not name, without ever leaving the file system it is in."""

import errno
import os
import stat
from collections.abc import Callable, Mapping

from appliance.archive.beneath import DIRECTORY_FLAGS
from appliance.archive.dumpdir import DIRECTORY, IN_ARCHIVE

__all__ = ["purge", "remove"]

_ASIDE = b".spanreel-removed-%d"


def purge(directory: int, names: Mapping[bytes, bytes], problem: Callable[[bytes, OSError], object]) -> int:
    """Remove from an open directory what its list does not have, or has as another type; return how many.

    `problem(name, error)` is told of what cannot be removed.  Raises `OSError` if it cannot be listed.
    """
    removed = 0
    for text in os.listdir(directory):
        name = os.fsencode(text)
        letter = names.get(name)
        try:
            if letter is None or (letter in (DIRECTORY, IN_ARCHIVE) and not _fits(directory, name, letter)):
                remove(directory, name)
                removed += 1
        except FileNotFoundError:
            continue
        except OSError as error:
            problem(name, error)
    return removed


def _fits(directory: int, name: bytes, letter: bytes) -> bool:
    mode = os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode
    return stat.S_ISDIR(mode) == (letter == DIRECTORY)


def remove(directory: int, name: bytes) -> None:
    """Remove a name from an open directory, with all that is below it.

    Trees are taken apart from below their top: what is a directory in one is moved up to the top first, so
    that neither depth nor path length has a limit.  Raises `OSError`, EXDEV for what is mounted there.
    """
    try:
        os.unlink(name, dir_fd=directory)
        return
    except IsADirectoryError:
        pass
    except PermissionError:
        if not stat.S_ISDIR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
            raise
    device = os.fstat(directory).st_dev
    top = os.open(name, DIRECTORY_FLAGS, dir_fd=directory)
    try:
        _check_device(top, device)
        _take_apart(top, device)
    finally:
        os.close(top)
    os.rmdir(name, dir_fd=directory)


def _take_apart(top: int, device: int) -> None:
    """Empty a directory."""
    moved = 0
    waiting = _empty(top, None, 0)
    while waiting:
        name = waiting.pop()
        inner = os.open(name, DIRECTORY_FLAGS, dir_fd=top)
        try:
            _check_device(inner, device)
            below = _empty(inner, top, moved)
        finally:
            os.close(inner)
        moved += len(below)
        waiting += below
        os.rmdir(name, dir_fd=top)


def _empty(directory: int, top: int | None, moved: int) -> list[bytes]:
    """Remove what is no directory; return the names of the others in `top`, to which they are moved."""
    below = []
    for text in os.listdir(directory):
        name = os.fsencode(text)
        try:
            os.unlink(name, dir_fd=directory)
        except (IsADirectoryError, PermissionError):
            if not stat.S_ISDIR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
                raise
            if top is None:
                below.append(name)
                continue
            below.append(_move_up(directory, name, top, moved + len(below)))
    return below


def _move_up(directory: int, name: bytes, top: int, number: int) -> bytes:
    """Give a directory a new name in `top`; return that."""
    while True:
        aside = _ASIDE % number
        try:
            os.rename(name, aside, src_dir_fd=directory, dst_dir_fd=top)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
            number += 1
        else:
            return aside


def _check_device(descriptor: int, device: int) -> None:
    if os.fstat(descriptor).st_dev != device:
        raise OSError(errno.EXDEV, "another file system is mounted there")
