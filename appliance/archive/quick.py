"""Ordinary files, many in one call, where the compiled helper (native/) is there: that saves time.

It is compiled when the product is installed, if there is a C compiler.  Without it, and for every file that
is not ordinary, the Python code does all, and makes the same bytes.  ``SPANREEL_QUICK=0`` in the environment
has it left alone.
"""

import os
from collections.abc import Callable, Sequence
from importlib import import_module
from struct import Struct
from typing import Protocol, cast

__all__ = ["ORDINARY_BYTES", "ROW", "Owners", "Quick", "quick"]

ORDINARY_BYTES = 128 * 1024
"""Room in the buffer with which a call begins; for a file that needs more, what Python takes is nothing."""

ROW = Struct("=QQqqqIII4x")
"""Of a file that was saved: offset in the image, inode, size, times of modification and of change in
nanoseconds, mode bits, user, group."""

Owners = dict[tuple[int, int], tuple[bytes, bytes, bytes, bytes]]
"""The owner fields of headers, by user and group number."""


class Quick(Protocol):
    """What the helper does."""

    def save(
        self,
        directory: int,
        base: bytes,
        names: list[bytes | None],
        numbers: Sequence[int],
        first: int,
        buffer: memoryview,
        used: int,
        reserve: int,
        sent: int,
        job: bytes,
        owners: Owners,
        lines_room: int,
        checksum: Callable[[memoryview], bytes],
        escape: Callable[[bytes], bytes],
        /,
    ) -> tuple[int, int, bytes, bytes]:
        """Write the members of files in an open directory to `buffer`, from `used` on.

        `names[first]` comes first; None is no regular file, and not touched.  The run ends before the first
        file that is not ordinary, when less than `reserve` bytes are free, when the index lines are more than
        `lines_room` bytes, or after 256 files.  `base` is the directory's global path with a slash behind it,
        `sent` the offset in the image of the buffer's first byte.

        Returns how many files were written, how much of the buffer is used then, their lines of the index
        (index.py), and a `ROW` for each.
        """

    def span(self, buffer: memoryview, low: int, high: int, base: bytes, /) -> tuple[int, list[int]]:
        """See how far ordinary files of one directory follow each other, from a header at `low` on.

        Each is at hand as a whole, before `high`, its headers are sound, and its name is `base` and a last
        component.  Returns where the last ends, and where each begins.
        """

    def restore(
        self,
        buffer: memoryview,
        low: int,
        high: int,
        base: bytes,
        directory: int,
        may_give: bool,
        uid: int,
        gid: int,
        checksum: Callable[[memoryview], bytes],
        /,
    ) -> tuple[int, int, list[tuple[int, bytes, bytes]]]:
        """Restore such files, 256 at most, to an open directory, up to the first that cannot be made.

        Of that one nothing is there then.  `may_give`: files get the owners that they had; otherwise only
        those of `uid` and `gid` are restored.  Returns where the last ends in the buffer, the bytes of data,
        and of each the offset in the image that its headers name, its checksum in digits, and its last
        component.

        Raises `OSError` if half of a file cannot be removed again.
        """


def _load() -> Quick | None:
    try:
        return cast("Quick", import_module("appliance.archive._quick"))
    except ImportError:  # not compiled, or for another machine
        return None


_quick = _load()


def quick() -> Quick | None:
    """The helper, None where it is not there or not wanted."""
    return None if os.environ.get("SPANREEL_QUICK") == "0" else _quick
