"""A cartridge as a file: records and filemarks, one behind the other.

    header   512 bytes   one line of JSON, padded with blanks: format, barcode, capacity, write protection
    object   8 bytes     kind in the highest byte (1 record, 2 filemark), length in the other seven
             n bytes     the record
             8 bytes     the first eight again

The closing copy makes a torn end visible: a process killed within a write leaves an object whose two
marks differ or are not both there, and opening the cartridge cuts it off.  As on a tape, writing at some
place makes it the last one: whatever lay behind is gone.

While a cartridge is open, 8 bytes of memory per object hold where it starts, so that every move is a
lookup.  Data is on disk for certain after `flush` only (a filemark, unloading, closing), as in a drive.
"""

from __future__ import annotations

import json
import os
import re
import struct
from array import array
from bisect import bisect_left
from dataclasses import asdict, dataclass
from enum import IntEnum, StrEnum
from pathlib import Path

from tape.errors import MediumError, TapeMisuseError
from tape.model.formats import require_readable

__all__ = [
    "FRAME_BYTES",
    "HEADER_BYTES",
    "MARK",
    "Cartridge",
    "CartridgeHeader",
    "CartridgeKind",
    "ObjectKind",
    "unpack_mark",
]

HEADER_BYTES = 512
MARK = struct.Struct(">Q")
FRAME_BYTES = 2 * MARK.size
FORMAT = "spanreel-tape-1"
# Media identifiers of the LTO generations 3 to 9.
_WORM = re.compile(r"L[T-Z]")
_KIND_SHIFT = 56
_LENGTH_MASK = (1 << _KIND_SHIFT) - 1


class ObjectKind(IntEnum):
    """What an object is; 0 is neither, so that a hole in the file is recognised as torn."""

    RECORD = 1
    FILEMARK = 2


def pack_mark(kind: ObjectKind, length: int) -> bytes:
    """Return the eight bytes before and behind an object."""
    return MARK.pack(kind << _KIND_SHIFT | length)


def unpack_mark(mark: bytes) -> tuple[int, int]:
    """Return kind and length; kind 0 if the mark is cut short."""
    if len(mark) < MARK.size:
        return 0, 0
    (value,) = MARK.unpack(mark)
    return value >> _KIND_SHIFT, value & _LENGTH_MASK


class CartridgeKind(StrEnum):
    """What a cartridge is for."""

    DATA = "data"
    WORM = "worm"
    CLEANING = "cleaning"

    @classmethod
    def of(cls, barcode: str) -> CartridgeKind:
        """Tell it from a barcode: CLN... or ...CU cleans, media types LT to LZ are WORM."""
        if barcode.startswith("CLN") or barcode.endswith("CU"):
            return cls.CLEANING
        return cls.WORM if _WORM.fullmatch(barcode[-2:]) else cls.DATA


@dataclass(slots=True)
class CartridgeHeader:
    """What is known of a cartridge besides its contents.

    Attributes:
        barcode: its label.
        capacity_bytes: what it holds, the framing included.
        write_protected: its tab.
        format: version of the file.
        kind: a `CartridgeKind`.

    """

    barcode: str
    capacity_bytes: int
    write_protected: bool = False
    format: str = FORMAT
    kind: str = CartridgeKind.DATA

    def encode(self) -> bytes:
        """Return the 512 bytes of the header."""
        return json.dumps(asdict(self)).encode("ascii").ljust(HEADER_BYTES - 1) + b"\n"

    @classmethod
    def decode(cls, data: bytes, path: Path) -> CartridgeHeader:
        """Read a header.

        Raises:
            TapeMisuseError: the file is no cartridge.

        """
        try:
            if len(data) < HEADER_BYTES:
                raise ValueError(len(data))
            values = dict(json.loads(data))
            # Before the rest is looked at: a newer header may have more in it.
            require_readable(values["format"], FORMAT, path)
            return cls(**values)
        except (ValueError, TypeError, KeyError):
            raise TapeMisuseError(f"{path} is no cartridge of the library model") from None


class Cartridge:
    """One open cartridge.  Object numbers count records and filemarks from 0.

    Args:
        path: its file; `create` makes one.

    Raises:
        TapeMisuseError: the file is no cartridge.

    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            self.header = CartridgeHeader.decode(os.pread(self._file, HEADER_BYTES, 0), path)
        except TapeMisuseError:
            os.close(self._file)
            raise
        self._starts = array("Q")
        self._filemarks: list[int] = []
        self._end = HEADER_BYTES
        self._scan()

    @classmethod
    def create(cls, path: Path, header: CartridgeHeader) -> None:
        """Make an empty cartridge, wholly or not at all.

        Raises:
            TapeMisuseError: there is one already.

        """
        if path.exists():
            raise TapeMisuseError(f"{path} exists already")
        temporary = path.with_suffix(".new")
        temporary.write_bytes(header.encode())
        temporary.replace(path)

    # -- what is on it -------------------------------------------------------------------------------
    @property
    def count(self) -> int:
        """Number of objects; also the number the next one appended will get."""
        return len(self._starts)

    @property
    def used_bytes(self) -> int:
        """Room taken, framing included."""
        return self._end - HEADER_BYTES

    def used_before(self, number: int) -> int:
        """Return the room taken by all objects before this one."""
        return self._start_of(number) - HEADER_BYTES

    def is_filemark(self, number: int) -> bool:
        """Tell whether object `number` is a filemark."""
        index = bisect_left(self._filemarks, number)
        return index < len(self._filemarks) and self._filemarks[index] == number

    def record_length(self, number: int) -> int:
        """Return the bytes of record `number`."""
        return self._start_of(number + 1) - self._starts[number] - FRAME_BYTES

    def read(self, number: int, length: int) -> bytes:
        """Return up to `length` bytes of record `number`."""
        return os.pread(self._file, min(length, self.record_length(number)), self._starts[number] + MARK.size)

    def filemark_from(self, number: int, count: int) -> int | None:
        """Return the number of the `count`th filemark at or behind `number`; None if there are fewer."""
        index = bisect_left(self._filemarks, number) + count - 1
        return self._filemarks[index] if index < len(self._filemarks) else None

    def filemark_before(self, number: int, count: int) -> int | None:
        """Return the number of the `count`th filemark before `number`; None if there are fewer."""
        index = bisect_left(self._filemarks, number) - count
        return self._filemarks[index] if index >= 0 else None

    def filemarks_between(self, first: int, last: int) -> int:
        """Return how many filemarks have numbers from `first` to before `last`."""
        return bisect_left(self._filemarks, last) - bisect_left(self._filemarks, first)

    # -- changing it ---------------------------------------------------------------------------------
    def write_record(self, number: int, data: bytes | bytearray | memoryview) -> None:
        """Make `data` object `number`, the last one.

        Raises:
            MediumError: the host's disk did not take it.

        """
        self._append(number, ObjectKind.RECORD, data)

    def write_filemark(self, number: int) -> None:
        """Make object `number` a filemark, the last object."""
        self._append(number, ObjectKind.FILEMARK, b"")
        self._filemarks.append(number)

    def set_write_protected(self, protected: bool) -> None:
        """Move the cartridge's tab."""
        self.header.write_protected = protected
        os.pwrite(self._file, self.header.encode(), 0)

    def flush(self) -> None:
        """Have everything written so far on the host's disk.

        Raises:
            MediumError: the disk failed to take it.

        """
        try:
            os.fdatasync(self._file)
        except OSError as error:
            raise MediumError(f"flush failed: {error.strerror}", device=str(self.path)) from error

    def close(self) -> None:
        """Flush and close."""
        self.flush()
        os.close(self._file)

    def _start_of(self, number: int) -> int:
        return self._starts[number] if number < len(self._starts) else self._end

    def _append(self, number: int, kind: ObjectKind, data: bytes | bytearray | memoryview) -> None:
        """Write one object with a single call, behind cutting off what it replaces."""
        self.truncate(number)
        mark = pack_mark(kind, len(data))
        total = len(data) + FRAME_BYTES
        try:
            written = os.pwritev(self._file, [mark, data, mark], self._end)
        except OSError as error:
            raise MediumError(f"write failed: {error.strerror}", device=str(self.path)) from error
        if written != total:
            os.ftruncate(self._file, self._end)
            raise MediumError("write failed: the host's disk is full", device=str(self.path))
        self._starts.append(self._end)
        self._end += total

    def truncate(self, number: int) -> None:
        """Forget object `number` and all behind it."""
        if number >= len(self._starts):
            return
        self._end = self._starts[number]
        os.ftruncate(self._file, self._end)
        del self._starts[number:]
        del self._filemarks[bisect_left(self._filemarks, number) :]

    def _scan(self) -> None:
        """Find all objects; cut off a torn end."""
        size = os.fstat(self._file).st_size
        while self._end < size:
            kind, length = unpack_mark(os.pread(self._file, MARK.size, self._end))
            closing = os.pread(self._file, MARK.size, self._end + MARK.size + length)
            if kind not in (ObjectKind.RECORD, ObjectKind.FILEMARK) or (kind, length) != unpack_mark(closing):
                os.ftruncate(self._file, self._end)
                return
            if kind == ObjectKind.FILEMARK:
                self._filemarks.append(self.count)
            self._starts.append(self._end)
            self._end += length + FRAME_BYTES
