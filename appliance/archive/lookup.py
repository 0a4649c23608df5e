"""Which of the things asked for a path belongs to: by component, the longest source of each entry."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Generic, TypeVar

__all__ = ["SourceTable"]

T = TypeVar("T")

_SLASH = ord("/")


class SourceTable(Generic[T]):
    """A table of (entry, source, value), asked for once a member.

    An entry is one thing that was asked for; it may have several sources, of which the longest at or above
    a path wins.  Entries are independent: a path may belong to several.  Paths and sources are relative to
    the backup root, in components joined by single slashes, and the root is empty.
    """

    def __init__(self, items: Iterable[tuple[int, bytes, T]], *, recursive: bool = True) -> None:
        """`recursive` False: a source stands for itself only, not for what lies below it."""
        self._items: dict[bytes, list[tuple[int, bytes, T]]] = defaultdict(list)
        for item in items:
            self._items[item[1]].append(item)
        self._parents = {source.rpartition(b"/")[0] for source in self._items if source}
        # Longest first.  A path may be a MiB of single letters: not every directory above it is looked up.
        self._lengths = sorted({len(source) for source in self._items}, reverse=True)
        self._recursive = recursive
        # Neighbours in the stream share their directory, so one remembered look-up serves most of them.
        self._last: tuple[bytes, list[tuple[int, bytes, T]]] | None = None
        self._last_found: Sequence[tuple[bytes, T]] = ()

    def find(self, path: bytes) -> Sequence[tuple[bytes, T]]:
        """The sources that `path` belongs to, with their values."""
        exact = self._items.get(path)
        if exact is None and self._last is not None and self._last[0] == path.rpartition(b"/")[0]:
            return self._last_found if self._recursive and path else []
        exact = exact or []
        if not self._recursive or not path:
            return [(source, value) for _, source, value in exact]
        above = self._above(path.rpartition(b"/")[0])
        if exact:
            taken = {entry for entry, _, _ in exact}
            above = [*exact, *(item for item in above if item[0] not in taken)]
        return [(source, value) for _, source, value in above]

    def children(self, directory: bytes) -> Sequence[tuple[bytes, T]] | None:
        """What all names in a directory belong to; None if one of them is a source itself."""
        if directory in self._parents:
            return None
        if not self._recursive:
            return ()
        self._above(directory)
        return self._last_found

    def _above(self, directory: bytes) -> list[tuple[int, bytes, T]]:
        """What a directory's children belong to, unless they are sources themselves."""
        if self._last is not None and self._last[0] == directory:
            return self._last[1]
        found: list[tuple[int, bytes, T]] = []
        seen: set[int] = set()
        whole = len(directory)
        for length in self._lengths:
            if length == whole or not length or (length < whole and directory[length] == _SLASH):
                items = self._items.get(directory[:length], [])
                found.extend(item for item in items if item[0] not in seen)
                seen.update(item[0] for item in items)
        self._last = directory, found
        self._last_found = [(source, value) for _, source, value in found]
        return found
