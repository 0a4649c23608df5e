"""Checksums of what was restored, compared when the index comes, which is after the data."""

from binascii import hexlify
from typing import Generic, TypeVar

from appliance.archive.formats import Checksums
from appliance.archive.index import Index

__all__ = ["UNCHECKED_MAX", "Recheck"]

# Members between two indexes are fewer.  What is beyond, in an archive without indexes, is not checked.
UNCHECKED_MAX = 16 * 1024

T = TypeVar("T")


class Recheck(Generic[T]):
    """Members that were restored since the last index, by their place in the image."""

    def __init__(self) -> None:
        # The checksums in digits, as an index has them, by format; and the note.
        self._restored: dict[int, tuple[Checksums, T]] = {}

    def restored(self, offset: int, checksums: Checksums, note: T) -> None:
        """A member is restored; `note` comes back if it turns out to be damaged."""
        self.restored_as(offset, {version: hexlify(made) for version, made in checksums.items()}, note)

    def restored_as(self, offset: int, digits: Checksums, note: T) -> None:
        """Likewise, with the checksums in digits."""
        if len(self._restored) >= UNCHECKED_MAX:
            self._restored.clear()
        self._restored[offset] = digits, note

    def compare(self, index: Index) -> tuple[list[T], list[T]]:
        """Return the notes of the members that are not what the index says, and of those not compared.

        These have no checksum of the index's format.  In an index that is damaged itself a line that differs
        proves nothing.
        """
        restored, self._restored = self._restored, {}
        damaged, uncompared = [], []
        for offset, digits in index.checksums():
            sums, note = restored.pop(offset, (None, None))
            if sums is None or note is None:
                continue
            made = sums.get(index.version)
            if made is None:
                uncompared.append(note)
            elif made != digits and index.sound:
                damaged.append(note)
        return damaged, uncompared
