"""Read a cartridge's file without drive, library or SCSI: an independent look at what was written.

Nothing is changed and no lock is taken, so a cartridge can be looked at while it is being written; what
is not complete yet is not there.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tape.errors import TapeMisuseError
from tape.model.cartridge import HEADER_BYTES, MARK, CartridgeHeader, ObjectKind, unpack_mark
from tape.model.library import cartridge_path

__all__ = ["dump"]


def dump(folder: Path, barcode: str, file_number: int) -> Iterator[bytes]:
    """Yield the records of one tape file, in order.

    Args:
        folder: of the library.
        barcode: the cartridge.
        file_number: from 0; file N lies behind the Nth filemark.

    Raises:
        TapeMisuseError: no such cartridge, or fewer than `file_number` filemarks on it (at once, not
            when the iterator is used).

    """
    path = cartridge_path(folder, barcode)
    if not path.exists():
        raise TapeMisuseError(f"{folder} has no cartridge {barcode!r}")
    place = HEADER_BYTES
    for _ in range(file_number):
        following = _behind_next_filemark(path, place)
        if following is None:
            raise TapeMisuseError(f"{barcode} has no tape file {file_number}")
        place = following
    return _records(path, place)


def _behind_next_filemark(path: Path, place: int) -> int | None:
    """Return the offset behind the next filemark; None if there is none."""
    for kind, start, length in _objects(path, place):
        if kind == ObjectKind.FILEMARK:
            return start + length + MARK.size
    return None


def _records(path: Path, place: int) -> Iterator[bytes]:
    """Yield records up to the next filemark or the end."""
    with path.open("rb") as file:
        for kind, start, length in _objects(path, place):
            if kind == ObjectKind.FILEMARK:
                return
            file.seek(start)
            yield file.read(length)


def _objects(path: Path, place: int) -> Iterator[tuple[int, int, int]]:
    """Yield kind, offset of the data, and length of every complete object from `place` on."""
    with path.open("rb") as file:
        CartridgeHeader.decode(file.read(HEADER_BYTES), path)
        while True:
            file.seek(place)
            mark = file.read(MARK.size)
            kind, length = unpack_mark(mark)
            file.seek(place + MARK.size + length)
            if kind not in (ObjectKind.RECORD, ObjectKind.FILEMARK) or file.read(MARK.size) != mark:
                return
            yield kind, place + MARK.size, length
            place += length + 2 * MARK.size
