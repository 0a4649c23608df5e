"""What a tape drive tells about itself, and the layout of those answers (SSC-4).

The library model builds its answers from the same tables.
"""

from __future__ import annotations

from dataclasses import dataclass

from tape.fields import Field

__all__ = [
    "LIMITS_FIELDS",
    "LIMITS_LENGTH",
    "MODE_FIELDS",
    "MODE_LENGTH",
    "POSITION_FIELDS",
    "POSITION_LENGTH",
    "BlockLimits",
    "Position",
]

POSITION_LENGTH = 20
LIMITS_LENGTH = 6
MODE_LENGTH = 12  # header and one block descriptor

# READ POSITION short form (SSC-4, table 47).
POSITION_FIELDS = {
    "bop": Field(0x80, 0),
    "eop": Field(0x40, 0),
    "count_unknown": Field(0x20, 0),
    "location_unknown": Field(0x04, 0),
    "position_error": Field(0x02, 0),
    "first_block": Field(0xFFFFFFFF, 4),
    "last_block": Field(0xFFFFFFFF, 8),
}
LIMITS_FIELDS = {"granularity": Field(0x1F, 0), "maximum": Field(0xFFFFFF, 1), "minimum": Field(0xFFFF, 4)}
# Mode parameter header(6) and block descriptor (SSC-4, 8.3).
MODE_FIELDS = {
    "write_protected": Field(0x80, 2),
    "buffered_mode": Field(0x70, 2),
    "descriptor_length": Field(0xFF, 3),
    "density": Field(0xFF, 4),
    "block_length": Field(0xFFFFFF, 9),
}


@dataclass(frozen=True, slots=True)
class Position:
    """Where the tape stands.

    Attributes:
        block: number of the next object; records and filemarks both count, from 0.
        bop: at the beginning of the tape.
        eop: behind early warning.
        buffered: objects that were taken from us and are not on the tape yet; None when the drive does
            not say.  After a failed write they are lost.

    """

    block: int
    bop: bool
    eop: bool
    buffered: int | None = 0


@dataclass(frozen=True, slots=True)
class BlockLimits:
    """Record lengths the drive takes, in bytes; a maximum of 0 means that it names none (SSC-4, 6.5)."""

    minimum: int
    maximum: int
    granularity: int
