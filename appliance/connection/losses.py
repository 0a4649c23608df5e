"""What damage on tape costs a restore: the files that the index names and that did not come by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from appliance.archive.errors import DamagedArchiveError
from appliance.archive.index import Index
from appliance.archive.member import GlobalHeader, Member
from appliance.archive.pax import header_origin

SEEN_MAX: Final = 64 * 1024
"""Members between two indexes are fewer; where there are no indexes, nothing is known."""

_NAME_BYTES: Final = 100


class Losses:
    """Told of what the reader meets, in order, without gaps up to a `restart`; answers at each index.

    `job` is what the image's headers are named after, as soon as one was seen.
    """

    def __init__(self) -> None:
        self.job: bytes | None = None
        self._start: int | None = None
        self._seen: set[int] = set()
        self._breaks: list[int] = []

    def met(self, item: Member | GlobalHeader) -> None:
        """A member, or a header between members."""
        if self.job is None:
            origin = header_origin(item.raw[:_NAME_BYTES].rstrip(b"\0"))
            self.job = origin[0] if origin else None
        self._begin(item.offset)
        if isinstance(item, Member):
            self.met_members((item.offset,))

    def met_members(self, offsets: Sequence[int]) -> None:
        """Members that follow one which was met."""
        for offset in offsets:
            if len(self._seen) >= SEEN_MAX:
                self._seen.clear()
                self._start = offset
            self._seen.add(offset)

    def broke(self, error: DamagedArchiveError) -> None:
        """Where the next header should have been is none."""
        self._begin(error.offset)
        if len(self._breaks) < SEEN_MAX:
            self._breaks.append(error.offset)

    def _begin(self, offset: int) -> None:
        if self._start is None:
            self._start = offset

    def at_index(self, index: Index) -> tuple[list[bytes], bool]:
        """The paths that were lost before this index, and whether it leaves damage unexplained."""
        lost: list[bytes] = []
        if self._breaks:
            start = self._start or 0
            lost = [e.path for e in index.entries if e.offset >= start and e.offset not in self._seen]
        unexplained = any(offset < index.start for offset in self._breaks)
        unexplained = unexplained or bool(self._breaks and not index.sound)
        self._breaks.clear()
        self._seen.clear()
        return lost, unexplained

    def restart(self) -> None:
        """What comes next stands elsewhere in the image."""
        self._start = None
        self._seen.clear()
        self._breaks.clear()

    @property
    def is_open(self) -> bool:
        """Whether there is damage that no index has explained yet."""
        return bool(self._breaks)
