"""Checksums of what was restored, compared when the index comes, which is after the data."""

from binascii import hexlify
from collections.abc import Iterator
from typing import Generic, TypeVar

from appliance.archive.index import Index

__all__ = ["UNCHECKED_MAX", "Recheck"]

# Members between two indexes are fewer.  What is beyond, in an archive without indexes, is not checked.
UNCHECKED_MAX = 16 * 1024

T = TypeVar("T")


class Recheck(Generic[T]):
    """Members that were restored since the last index, by their place in the image."""

    def __init__(self) -> None:
        # The checksum in digits, as an index has it, and the note.
        self._restored: dict[int, tuple[bytes, T]] = {}

    def restored(self, offset: int, checksum: bytes, note: T) -> None:
        """A member is restored; `note` comes back if it turns out to be damaged."""
        self.restored_as(offset, hexlify(checksum), note)

    def restored_as(self, offset: int, digits: bytes, note: T) -> None:
        """Likewise, with the checksum in digits."""
        if len(self._restored) >= UNCHECKED_MAX:
            self._restored.clear()
        self._restored[offset] = digits, note

    def compare(self, index: Index, version: int) -> Iterator[T]:
        """Yield the notes of the members that are not what the index says.

        Their checksums were made as format `version` has them; with those of another nothing is compared.  In
        an index that is damaged itself a line that differs proves nothing.
        """
        restored, self._restored = self._restored, {}
        if index.version != version:
            return
        for offset, digits in index.checksums():
            found = restored.pop(offset, None)
            if found is not None and found[0] != digits and index.sound:
                yield found[1]
