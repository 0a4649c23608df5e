"""Which bytes of an image a restore reads, in which order.  No I/O: the router asks, and tells what it met.

Rules (docs/architecture.md, "A restore"): reads ascend, one is outstanding at a time; at each place 64 KiB
come first, then the rest of the member that its header announces; a length of all ones stands at offset 0
only.  What lies at or below a directory follows it without a gap within one owner's part, and the parts of
others below it are known from the table of parts, or else everything behind the directory is read.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from appliance.ndmp.enums import ALL_ONES
from appliance.paths import is_at_or_below

FIRST_BYTES = 64 << 10
"""The first read at a place: most members are smaller, and every image ends with a trailer that is longer, so
that this much is there wherever a member begins."""

AHEAD_MAX = 64 << 20
"""Reads within a directory grow up to this: a second of a fast drive, so that asking costs nothing beside it.
At most as much is read in vain as the directory holds."""


@dataclass(frozen=True)
class Place:
    """Where the member of something that was asked for begins, and its path relative to the backup root."""

    offset: int
    source: bytes


@dataclass(frozen=True)
class Stretch:
    """One part in the image: where it begins and ends, and its path relative to the backup root."""

    offset: int
    end: int
    path: bytes


@dataclass(frozen=True)
class Read:
    """What to ask for; `length` is all ones for a whole image."""

    offset: int
    length: int

    @property
    def end(self) -> int:
        """Offset of the first byte behind it."""
        return min(self.offset + self.length, ALL_ONES)


class ReadPlan:
    """The plan of one restore: a machine whose state is a place in the image, and up to where all is wanted.

    Repeat: `next_place` says where the next header is to be read, None when nothing is left; `found` is told
    what stands there (or `passed`, for a header that is no member's).  Whenever bytes are needed that were
    not asked for yet, `read` says what to ask for.
    """

    def __init__(
        self,
        places: Sequence[Place],
        parts: Sequence[Stretch] | None,
        *,
        recursive: bool = True,
        with_header: bool = False,
    ) -> None:
        """`parts` None: nobody knows them.  `recursive` False: directories mean their own entries.

        `with_header`: the first bytes of the image are read before all else.
        """
        self._parts = None if parts is None else sorted(parts, key=lambda part: part.offset)
        self._recursive = recursive
        # The end of a place is not known: 0.
        starts = {place.offset: 0 for place in places}
        self._sources: dict[int, list[bytes]] = {}
        if with_header:
            starts[0], self._sources[0] = 0, []
        for place in places:
            self._sources.setdefault(place.offset, []).append(place.source)
        tops = {place.source.rstrip(b"/") for place in places} if recursive else set()
        for part in self._parts or ():
            if any(top in tops for top in _at_or_above(part.path)):
                starts[part.offset] = max(part.end, starts.get(part.offset, 0))
        # Last first, to be taken from the end.
        self._pending = sorted(starts.items(), reverse=True)
        self._position = 0
        self._wanted_up_to = 0
        self._directory: bytes | None = None
        self._ahead = FIRST_BYTES

    @classmethod
    def whole(cls) -> ReadPlan:
        """The plan that reads a whole image."""
        plan = cls((), None)
        plan._wanted_up_to = ALL_ONES
        return plan

    @property
    def is_whole(self) -> bool:
        """Whether everything from here on is read, to the end of the image."""
        return self._wanted_up_to == ALL_ONES

    @property
    def is_to_the_end(self) -> bool:
        """Whether all that is left is read in a row, whatever it is."""
        return self.is_whole and not self._pending and self._directory is None

    def next_place(self) -> int | None:
        """Where the next header is to be read; None when nothing that is wanted is left."""
        while self._pending and self._pending[-1][0] <= self._position:
            offset, end = self._pending[-1]
            self._wanted_up_to = max(self._wanted_up_to, end)
            if offset == self._position and offset in self._sources:
                return offset
            # A part that begins here or began before; or a place in the middle of a member, which is none.
            self._pending.pop()
        if self._position < self._wanted_up_to or self._directory is not None:
            return self._position
        if not self._pending:
            return None
        self._position = self._pending[-1][0]
        self._ahead = FIRST_BYTES
        return self.next_place()

    def found(self, path: bytes, end: int, *, is_directory: bool) -> None:
        """At the place is the member of `path` (relative to the backup root); it ends before `end`."""
        sources = self._leave_place()
        if self._directory is not None and not is_at_or_below(path, self._directory):
            self._directory = None
        if is_directory and self._recursive and any(_same(path, source) for source in sources):
            if not self._limit(self._position):
                self._wanted_up_to = ALL_ONES
            elif self._directory is None:
                self._directory = path
        self._go_on(end)

    def passed(self, end: int) -> None:
        """At the place is a header that is no member's; it ends before `end`."""
        self._leave_place()
        self._go_on(end)

    def _go_on(self, end: int) -> None:
        self._position = end
        if self._directory is not None and end >= self._limit(end - 1):
            # Behind its part begins another's, or the trailer: neither is a reason to read on.
            self._directory = None

    @property
    def is_at_place(self) -> bool:
        """Whether the next header is the first of something that was asked for, not of what is below it."""
        return bool(self._pending) and self._pending[-1][0] == self._position

    def lost(self) -> None:
        """At the place is nothing that can be read: give up what begins there."""
        offset, _ = self._pending.pop()
        self._directory, self._wanted_up_to = None, 0
        self._position = offset + 1

    def _leave_place(self) -> list[bytes]:
        if not self.is_at_place:
            return []
        offset, _ = self._pending.pop()
        return self._sources.get(offset, [])

    def read(self, start: int, missing: int) -> Read:
        """What to ask for when everything before `start` was delivered.

        `missing` bytes of a member's data are known to follow; 0 within headers.
        """
        if self.is_whole:
            return Read(start, ALL_ONES - start)
        end = start + (missing or FIRST_BYTES)
        if start < self._wanted_up_to:
            end = max(start + missing, self._wanted_up_to)
        elif self._directory is not None:
            self._ahead = min(2 * self._ahead, AHEAD_MAX)
            end = max(end, min(start + self._ahead, self._limit(start)))
        return Read(start, end - start)

    def _limit(self, offset: int) -> int:
        """The end of the part that holds `offset`; 0 when none does."""
        parts = self._parts or []
        index = bisect.bisect_right(parts, offset, key=lambda part: part.offset) - 1
        return parts[index].end if index >= 0 and offset < parts[index].end else 0


def _at_or_above(path: bytes) -> Iterator[bytes]:
    """A path and the directories above it; the root is ""."""
    path = path.rstrip(b"/")
    yield path
    while path:
        path = path.rpartition(b"/")[0]
        yield path


def _same(path: bytes, source: bytes) -> bool:
    return path.rstrip(b"/") == source.rstrip(b"/")
