"""The mover window: the part of the image on the present tape file (draft-skardal-ndmpv4-04, 2.3.5)."""

from __future__ import annotations

from dataclasses import dataclass

from appliance.ndmp.enums import ALL_ONES, ErrorCode, MoverMode
from appliance.ndmp.errors import RefusalError


@dataclass(frozen=True)
class Window:
    """Offset and length in bytes of the image; length 0 is no window."""

    offset: int = 0
    length: int = 0

    @property
    def end(self) -> int:
        """Offset of the first byte behind it."""
        return self.offset + self.length

    @property
    def is_set(self) -> bool:
        """Whether this is a window at all."""
        return self.length > 0

    @property
    def is_endless(self) -> bool:
        """Whether it reaches to the end of the tape file, wherever that is (3.6.2.2)."""
        return self.end == ALL_ONES

    def check(self) -> None:
        """Raise RefusalError(ILLEGAL_ARGS) if offset and length overflow."""
        if self.end > ALL_ONES:
            raise RefusalError(ErrorCode.ILLEGAL_ARGS, f"window {self.offset}+{self.length} overflows")

    def to_the_end(self) -> Window:
        """The same window, where a length of all ones behind offset 0 means the largest legal one."""
        return Window(self.offset, ALL_ONES - self.offset) if self.length == ALL_ONES else self

    def fits(self, mode: MoverMode, record_size: int) -> bool:
        """Whether it suits a transfer in this direction (3.6.2.2).

        A backup's length is whole records or endless; a restore's offset is whole records.
        """
        if mode is MoverMode.READ:
            return self.is_endless or self.length % record_size == 0
        return self.offset % record_size == 0

    def holds(self, position: int) -> bool:
        """Whether the byte at this offset of the image is inside."""
        return self.offset <= position < self.end

    def room(self, used: int) -> int:
        """How many bytes of whole records may be written behind `used` bytes."""
        return ALL_ONES if self.is_endless else max(0, self.length - used)

    def has_room(self, used: int, record_size: int) -> bool:
        """Whether one more record may be written behind `used` bytes."""
        return record_size <= self.room(used)
