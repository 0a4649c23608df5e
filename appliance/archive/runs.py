"""Ordinary files (quick.py) of one directory that follow each other in a stream: restored many at once."""

import os

from appliance.archive.formats import algorithm_of
from appliance.archive.quick import Quick
from appliance.archive.reader import MemberReader
from appliance.archive.restore_attributes import Privileges

__all__ = ["Restored", "Run"]


Restored = tuple[int, bytes, bytes]
"""A file that is restored: the offset that its headers name, its checksum in digits, its name."""


class Run:
    """Restores what `reader` has at hand to an open directory, to which all of its directory goes.

    `base` is what the names of the members begin with.  Nothing in the directory is replaced, and new names
    in it must not get an ACL by default.
    """

    def __init__(
        self, quick: Quick, reader: MemberReader, base: bytes, directory: int, privileges: Privileges
    ) -> None:
        self._quick = quick
        self._reader = reader
        self._base = base
        self._directory = directory
        self._owner = privileges.chown, os.geteuid(), os.getegid()
        self._restored: list[Restored] = []
        self.data_bytes = 0

    def restore(self) -> list[Restored]:
        """Restore some; none if the next member is none of them.

        `data_bytes` is what is in these.  Raises `OSError` if half of a file cannot be removed again.
        """
        self._restored = []
        self._reader.take_run(self._take)
        return self._restored

    def _take(self, buffer: memoryview, low: int, high: int) -> int:
        checksum_of = algorithm_of(self._reader.version).of
        end, self.data_bytes, self._restored = self._quick.restore(
            buffer, low, high, self._base, self._directory, *self._owner, checksum_of
        )
        return end
