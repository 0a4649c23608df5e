"""Bit fields of SCSI structures, declared once and used for encoding and decoding.

A field is a bit mask and the offset of its first byte, as the tables of the standards are read:
`Field(0x1F, 1)` is the low five bits of byte 1, `Field(0xFFFFFF, 2)` a three-byte number at byte 2.
Numbers are big-endian throughout SCSI.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tape.errors import TapeMisuseError

__all__ = ["Field", "decode_fields", "encode_fields"]


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a structure.

    Attributes:
        mask: its bits within a big-endian number; the mask's width in bytes is the number's.
        offset: offset of the number's first byte.
        signed: two's complement, as the COUNT of SPACE.

    """

    mask: int
    offset: int
    signed: bool = False

    @property
    def size(self) -> int:
        """Bytes covered."""
        return (self.mask.bit_length() + 7) // 8

    @property
    def shift(self) -> int:
        """Distance of the field's lowest bit from the number's lowest bit."""
        return (self.mask & -self.mask).bit_length() - 1

    @property
    def width(self) -> int:
        """Bits of the field."""
        return self.mask.bit_count()

    def get(self, data: bytes | bytearray | memoryview) -> int:
        """Return the field's value in `data`; bytes beyond its end count as zero."""
        raw = bytes(data[self.offset : self.offset + self.size]).ljust(self.size, b"\0")
        value = (int.from_bytes(raw, "big") & self.mask) >> self.shift
        if self.signed and value >> (self.width - 1):
            value -= 1 << self.width
        return value

    def put(self, data: bytearray, value: int) -> None:
        """Store `value` in `data`, leaving the neighbouring bits alone.

        Raises:
            TapeMisuseError: the value does not fit.

        """
        low, high = (-(1 << (self.width - 1)), 1 << (self.width - 1)) if self.signed else (0, 1 << self.width)
        if not low <= value < high:
            raise TapeMisuseError(f"{value} does not fit into {self.width} bits at byte {self.offset}")
        end = self.offset + self.size
        rest = int.from_bytes(data[self.offset : end], "big") & ~self.mask
        bits = (value << self.shift) & self.mask
        data[self.offset : end] = (rest | bits).to_bytes(self.size, "big")


def encode_fields(length: int, fields: Mapping[str, Field], values: Mapping[str, int]) -> bytearray:
    """Return a structure of `length` bytes with the named values set and everything else zero.

    Raises:
        TapeMisuseError: unknown name, or a value that does not fit.

    """
    data = bytearray(length)
    for name, value in values.items():
        if name not in fields:
            raise TapeMisuseError(f"no field {name!r}; there are {', '.join(fields)}")
        fields[name].put(data, value)
    return data


def decode_fields(fields: Mapping[str, Field], data: bytes | bytearray | memoryview) -> dict[str, int]:
    """Return the value of every field."""
    return {name: field.get(data) for name, field in fields.items()}
