"""The checksum of members: the first 16 bytes of SHA-256 (FIPS 180-4), so that `sha256sum` makes it, too.

Chosen by measurement; the figures are in docs/tape-format.md.
"""

import hashlib
from typing import Protocol

__all__ = ["CHECKSUM_BYTES", "Checksum", "checksum"]

# 128 bits tell any two members apart; the other half would only make the index longer.
CHECKSUM_BYTES = 16


class Checksum(Protocol):
    """A checksum that is being made; the first `CHECKSUM_BYTES` of its digest count."""

    def update(self, data: bytes | memoryview, /) -> None:
        """Take more bytes."""

    def digest(self) -> bytes:
        """Return the digest of the bytes so far."""


def checksum(data: bytes | memoryview = b"") -> Checksum:
    """Begin a checksum with `data`."""
    return hashlib.sha256(data, usedforsecurity=False)
