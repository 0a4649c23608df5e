"""The checksum of members: BLAKE2b with 16 bytes (RFC 7693), as `b2sum -l 128` makes it.

Chosen by its worst case: it needs no special instructions.  The figures are in docs/tape-format.md.
"""

import hashlib
from typing import Protocol

__all__ = ["CHECKSUM_BYTES", "Checksum", "checksum"]

CHECKSUM_BYTES = 16


class Checksum(Protocol):
    """A checksum that is being made."""

    def update(self, data: bytes | memoryview, /) -> None:
        """Take more bytes."""

    def digest(self) -> bytes:
        """Return the checksum of the bytes so far."""


def checksum(data: bytes | memoryview = b"") -> Checksum:
    """Begin a checksum with `data`."""
    return hashlib.blake2b(data, digest_size=CHECKSUM_BYTES, usedforsecurity=False)
