"""Sparse files: finding the data, and the map of GNU's pax format 1.0.

Source: GNU tar manual, "Storing Sparse Files", format 1.0: the member's body begins with decimal numbers,
one a line (count, then offset and size of each stretch of data), padded to a block; the data follows.
lseek(2) for SEEK_DATA and SEEK_HOLE.
"""

import errno
import os
from collections.abc import Callable

from appliance.archive.errors import DamagedArchiveError
from appliance.archive.ustar import BLOCK, padding

__all__ = ["EXTENTS_MAX", "Extent", "data_extents", "encode_map", "read_map", "sparse_records"]

# Beyond that the rest of the file counts as data: a map of 128 Ki stretches takes some 16 MiB of memory.
EXTENTS_MAX = 128 * 1024

_DIGITS_MAX = 20  # a 64-bit number has at most 20 decimal digits

# Offset and size of a stretch of data, in bytes.
Extent = tuple[int, int]


def data_extents(descriptor: int, size: int) -> list[Extent]:
    """Return where a file of `size` bytes has data; one stretch over everything means it has no holes.

    Stretches are aligned to blocks, because GNU tar pads each of them and libarchive pads none.  A file
    system without SEEK_DATA answers as if all were data (lseek(2)).
    """
    extents: list[Extent] = []
    end = 0
    while end < size:
        try:
            start = os.lseek(descriptor, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole up to the end
                break
            raise
        if start >= size:
            break
        stop = size if len(extents) == EXTENTS_MAX else os.lseek(descriptor, start, os.SEEK_HOLE)
        start -= start % BLOCK
        end = min(stop + padding(stop), size)
        if extents and start <= sum(extents[-1]):
            start = extents.pop()[0]
        extents.append((start, end - start))
    return extents


def encode_map(extents: list[Extent], size: int) -> bytes:
    """Return the padded map.  GNU tar ends it with an empty stretch at the end where a hole is last."""
    if not extents or sum(extents[-1]) < size:
        extents = [*extents, (size, 0)]
    text = b"%d\n" % len(extents) + b"".join(b"%d\n%d\n" % extent for extent in extents)
    return text + bytes(padding(len(text)))


def sparse_records(size: int) -> list[tuple[bytes, bytes]]:
    """Return the pax records that announce a map, for a file of `size` bytes in truth.

    GNU.sparse.name is left out: the member keeps its real name, in whichever form takes its bytes.
    """
    return [
        (b"GNU.sparse.major", b"1"),
        (b"GNU.sparse.minor", b"0"),
        (b"GNU.sparse.realsize", b"%d" % size),
    ]


class _MapReader:
    """Reads the numbers of a map block by block, so that no more is read than the map has."""

    def __init__(self, read_block: Callable[[], bytes], offset: int) -> None:
        self._read_block = read_block
        self._offset = offset
        self._text = b""

    def number(self) -> int:
        """Return the next number."""
        while b"\n" not in self._text:
            if len(self._text) > _DIGITS_MAX:
                break
            self._text += self._read_block()
        digits, _, self._text = self._text.partition(b"\n")
        if not digits.isdigit() or len(digits) > _DIGITS_MAX:
            raise DamagedArchiveError("the map of a sparse file is malformed", self._offset)
        return int(digits)


def read_map(read_block: Callable[[], bytes], size: int, stored: int, offset: int) -> list[Extent]:
    """Read a map, for a file of `size` bytes of whose member `stored` bytes are in the archive.

    `read_block` returns the member's next 512 bytes.  Raises `DamagedArchiveError` (at `offset`) for a
    map that is malformed, out of order, too long, or asks for more data than there is.
    """
    reader = _MapReader(read_block, offset)
    count = reader.number()
    if count > EXTENTS_MAX + 2:
        raise DamagedArchiveError(f"the map of a sparse file has {count} entries", offset)
    extents = [(reader.number(), reader.number()) for _ in range(count)]
    end = total = 0
    for start, length in extents:
        if start < end or start + length > size:
            raise DamagedArchiveError("the map of a sparse file is out of order", offset)
        end = start + length
        total += length
    if total > stored:
        raise DamagedArchiveError("the map of a sparse file asks for more data than it has", offset)
    return extents
