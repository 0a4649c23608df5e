"""Ordinary files (quick.py) of one directory that follow each other in a stream: restored many at once."""

import os
from binascii import hexlify

from appliance.archive.formats import Checksums, Sums, algorithm_of
from appliance.archive.quick import Quick
from appliance.archive.reader import MemberReader
from appliance.archive.restore_attributes import Privileges

__all__ = ["Restored", "Run"]


Restored = tuple[int, Checksums, bytes]
"""A file that is restored: the offset that its headers name, its checksums in digits, its name."""


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
        version, made = self._reader.version, list[Checksums]()

        def sum_up(data: memoryview) -> bytes:
            """Of a file that was made: its checksums for all formats, of which the helper takes one."""
            made.append(Sums(None, data).made())
            return next(iter(made[-1].values()))

        checksum_of = sum_up if version is None else algorithm_of(version).of
        end, self.data_bytes, restored = self._quick.restore(
            buffer, low, high, self._base, self._directory, *self._owner, checksum_of
        )
        if version is None:
            digits = [{each: hexlify(value) for each, value in sums.items()} for sums in made]
        else:
            digits = [{version: one} for _, one, _ in restored]
        self._restored = [(each[0], sums, each[2]) for each, sums in zip(restored, digits, strict=True)]
        return end
