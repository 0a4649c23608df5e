"""Checksums of what was restored, compared when the index comes, which is after the data."""

from collections.abc import Iterator
from typing import Generic, NamedTuple, TypeVar

from appliance.archive.index import Index

__all__ = ["UNCHECKED_MAX", "Recheck"]

# Members between two indexes are fewer.  What is beyond, in an archive without indexes, is not checked.
UNCHECKED_MAX = 16 * 1024

T = TypeVar("T")


class _Restored(NamedTuple, Generic[T]):
    checksum: bytes
    note: T


class Recheck(Generic[T]):
    """Members that were restored since the last index, by their place in the image."""

    def __init__(self) -> None:
        self._restored: dict[int, _Restored[T]] = {}

    def restored(self, offset: int, checksum: bytes, note: T) -> None:
        """A member is restored; `note` comes back if it turns out to be damaged."""
        if len(self._restored) >= UNCHECKED_MAX:
            self._restored.clear()
        self._restored[offset] = _Restored(checksum, note)

    def compare(self, index: Index) -> Iterator[T]:
        """Yield the notes of the members that are not what the index says.

        In an index that is damaged itself a line that differs proves nothing.
        """
        for entry in index.entries:
            found = self._restored.pop(entry.offset, None)
            if found is not None and found.checksum != entry.checksum and index.sound:
                yield found.note
        self._restored.clear()
