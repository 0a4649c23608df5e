"""What makes the checksums of members, 128 bits each; formats.py says which is in use where.

XXH3 in its canonical form, so that `xxh128sum` makes it, too; before that the first half of SHA-256 (FIPS
180-4).  Chosen by measurement; the figures are in docs/tape-format.md.  Either tells damage, not intent: who
can write to a tape can write the checksums there as well, whatever makes them.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import xxhash

__all__ = ["CHECKSUM_BYTES", "SHA256", "XXH3", "Algorithm", "Checksum"]

CHECKSUM_BYTES = 16


class Checksum(Protocol):
    """A checksum that is being made; the first `CHECKSUM_BYTES` of its digest count."""

    def update(self, data: bytes | memoryview, /) -> None:
        """Take more bytes."""

    def digest(self) -> bytes:
        """Return the digest of the bytes so far."""


@dataclass(frozen=True)
class Algorithm:
    """One way to make checksums.

    Attributes:
        begin: a checksum of some bytes, which takes more.
        of: the checksum of what is at hand as a whole.

    """

    begin: Callable[[bytes | memoryview], Checksum]
    of: Callable[[bytes | memoryview], bytes]


def _sha256(data: bytes | memoryview) -> Checksum:
    return hashlib.sha256(data, usedforsecurity=False)


SHA256 = Algorithm(_sha256, lambda data: _sha256(data).digest()[:CHECKSUM_BYTES])
XXH3 = Algorithm(xxhash.xxh3_128, xxhash.xxh3_128_digest)
