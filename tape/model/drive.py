"""A tape drive of the library model (SSC-4): records, filemarks, loading, and what it says of itself.

Positions are object numbers of the cartridge: `position` is the object that the next READ gives.  Moving is
`motion`'s business.
"""

from __future__ import annotations

from collections.abc import Iterator

from tape.commands import (
    ERASE_6,
    LOAD_UNLOAD,
    READ_6,
    READ_BLOCK_LIMITS,
    WRITE_6,
    WRITE_FILEMARKS_6,
)
from tape.drive_data import LIMITS_FIELDS, LIMITS_LENGTH, MODE_FIELDS, MODE_LENGTH
from tape.fields import decode_fields, encode_fields
from tape.model.attributes import Attributes
from tape.model.cartridge import FRAME_BYTES, Cartridge, CartridgeKind
from tape.model.drive_logs import drive_logs
from tape.model.drive_pages import CAPABILITIES_VPD, DENSITY, DensityReport, drive_pages
from tape.model.inquiry import Inquiry
from tape.model.loaded import NO_MEDIUM, AtObject, TapeUnit
from tape.model.logs import Logs
from tape.model.modes import Modes
from tape.model.motion import Motion, end_of_data, filemark
from tape.model.opcodes import Opcodes
from tape.model.outcome import INVALID_FIELD_IN_CDB, INVALID_FIELD_IN_LIST, REMOVAL_PREVENTED
from tape.model.reservations import Reservations
from tape.model.unit import CheckCondition, illegal
from tape.sense import Sense, SenseKey
from tape.transport import DataOut

__all__ = ["MAX_RECORD_BYTES", "DriveModel"]

# What LTO drives take, and far above the 256 KiB this project writes.
MAX_RECORD_BYTES = 8 << 20
_SAME_DENSITY = (0x00, 0x7F, DENSITY)  # default, "no change", ours
_DESCRIPTOR_LENGTH = 8


def _early_warning() -> CheckCondition:
    return CheckCondition(Sense(SenseKey.NO_SENSE, 0x00, 0x02, eom=True, information=0))


def _overflow(left: int) -> CheckCondition:
    return CheckCondition(Sense(SenseKey.VOLUME_OVERFLOW, 0x00, 0x02, eom=True, information=left))


class DriveModel(TapeUnit):
    """One drive; arguments and attributes are those of `TapeUnit`."""

    def __init__(
        self, serial: str, early_warning_bytes: int, at_object: AtObject = lambda *_args, **_kwargs: None
    ) -> None:
        super().__init__(serial, early_warning_bytes, at_object)
        self._buffered_mode = 1
        self._block_length = 0
        handlers = (
            (READ_BLOCK_LIMITS, self._read_block_limits),
            (READ_6, self._read),
            (WRITE_6, self._write),
            (WRITE_FILEMARKS_6, self._write_filemarks),
            (LOAD_UNLOAD, self._load_unload),
            (ERASE_6, self._erase),
        )
        for command, handler in handlers:
            self.register(command, handler)
        Motion(self)
        Inquiry(self, {0xB0: lambda: CAPABILITIES_VPD})
        Modes(self, drive_pages(self._is_worm), self._mode_header, self._select_header)
        Logs(self, drive_logs(self))
        Attributes(self)
        DensityReport(self)
        Reservations(self)
        Opcodes(self)

    def _is_worm(self) -> bool:
        return self.cartridge is not None and self.cartridge.header.kind == CartridgeKind.WORM

    # -- reading -------------------------------------------------------------------------------------
    def _read(self, fields: dict[str, int], _data: DataOut) -> bytes:
        """READ(6), SSC-4, 6.4."""
        tape = self.tape()
        asked = fields["transfer_length"]
        if fields["fixed"]:
            return self._read_fixed(tape, asked, fields)
        if asked > MAX_RECORD_BYTES:
            raise illegal(INVALID_FIELD_IN_CDB)
        if asked == 0:
            return b""
        number = self._next_record(tape, asked)
        actual = tape.record_length(number)
        data = tape.read(number, asked)
        self._count_read(len(data))
        # A length that differs is told by ILI, asked minus actual.  SILI silences a short record, and a
        # long one only while the block length of the mode descriptor is 0 (SSC-4, 6.4).
        is_silent = fields["sili"] and (actual < asked or self._block_length == 0)
        if actual != asked and not is_silent:
            raise CheckCondition(Sense(SenseKey.NO_SENSE, ili=True, information=asked - actual), data)
        return data

    def _read_fixed(self, tape: Cartridge, count: int, fields: dict[str, int]) -> bytes:
        """Read so many records of the block length; one of another length ends it, behind it (6.4)."""
        length = self._fixed_length(count)
        if fields["sili"]:
            raise illegal(INVALID_FIELD_IN_CDB)
        blocks: list[bytes] = []
        for done in range(count):
            try:
                number = self._next_record(tape, count - done)
            except CheckCondition as check:
                # What was read before the filemark or the end of data is the initiator's.
                raise CheckCondition(check.sense, b"".join(blocks)) from None
            if tape.record_length(number) != length:
                sense = Sense(SenseKey.NO_SENSE, ili=True, information=count - done)
                raise CheckCondition(sense, b"".join(blocks))
            blocks.append(tape.read(number, length))
            self._count_read(length)
        return b"".join(blocks)

    def _next_record(self, tape: Cartridge, left: int) -> int:
        """Pass the next object and return its number; raise where it is no record."""
        if self.position >= tape.count:
            raise end_of_data(left)
        number = self.position
        self.touch(write=False)
        self.position += 1
        if tape.is_filemark(number):
            raise filemark(left)
        return number

    def _count_read(self, length: int) -> None:
        assert self.usage is not None
        self.usage.count_read(length)

    def _fixed_length(self, count: int) -> int:
        """Return the block length, with which so many blocks must be a transfer that we take."""
        if not self._block_length or count * self._block_length > MAX_RECORD_BYTES:
            raise illegal(INVALID_FIELD_IN_CDB)
        return self._block_length

    # -- writing -------------------------------------------------------------------------------------
    def _write(self, fields: dict[str, int], data: DataOut) -> bytes:
        """WRITE(6), SSC-4, 6.8: one record, or so many of the block length."""
        tape = self.writable_tape()
        length = total = fields["transfer_length"]
        if fields["fixed"]:
            length = self._fixed_length(total)
            total *= length
        if total > MAX_RECORD_BYTES or total > len(data):
            raise illegal(INVALID_FIELD_IN_CDB)
        if total == 0:
            return b""
        assert self.usage is not None
        for done, record in enumerate(_records(memoryview(data)[:total], length)):
            if self.left(tape) < length + FRAME_BYTES:
                raise _overflow(total // length - done if fields["fixed"] else length)
            self.touch(write=True)
            tape.write_record(self.position, record)
            self.position += 1
            self.dirty = True
            self.usage.count_written(length)
        return self._warned(tape)

    def _write_filemarks(self, fields: dict[str, int], _data: DataOut) -> bytes:
        """WRITE FILEMARKS(6), SSC-4, 6.9; also flushes, which is all it does for a count of 0."""
        count = fields["count"]
        tape = self.writable_tape() if count else self.tape()
        for done in range(count):
            if self.left(tape) < FRAME_BYTES:
                raise _overflow(count - done)
            self.touch(write=True)
            tape.write_filemark(self.position)
            self.position += 1
            self.dirty = True
        if not fields["immed"]:
            self.flush()
        return self._warned(tape) if count else b""

    def _erase(self, _fields: dict[str, int], _data: DataOut) -> bytes:
        """ERASE(6), SSC-4, 5.2: the current position becomes the end of data, long or short."""
        self.writable_tape().truncate(self.position)
        self.dirty = True
        return b""

    def _warned(self, tape: Cartridge) -> bytes:
        """End a write that succeeded: with early warning where the tape's end is near."""
        if self.behind_early_warning(tape):
            raise _early_warning()
        return b""

    # -- loading -------------------------------------------------------------------------------------
    def _load_unload(self, fields: dict[str, int], _data: DataOut) -> bytes:
        """LOAD UNLOAD, SSC-4, 7.2: after unloading the cartridge lies in the mouth of the drive."""
        if fields["eot"] or fields["hold"]:
            raise illegal(INVALID_FIELD_IN_CDB)
        if fields["load"]:
            if self.cartridge is None:
                raise CheckCondition(Sense(SenseKey.NOT_READY, *NO_MEDIUM))
            if self.loaded:
                self.position = 0
            else:
                self.thread(is_news=True)
                self.tape()
            return b""
        if self.cartridge is None or self.cartridge.header.kind != CartridgeKind.CLEANING:
            self.tape()
        self.flush()
        if self.prevented:
            raise illegal(REMOVAL_PREVENTED)
        self.loaded = False
        return b""

    # -- asking and choosing -------------------------------------------------------------------------
    def _read_block_limits(self, fields: dict[str, int], _data: DataOut) -> bytes:
        """READ BLOCK LIMITS, SSC-4, 6.5."""
        if fields["mloi"]:
            raise illegal(INVALID_FIELD_IN_CDB)
        values = {"granularity": 0, "maximum": MAX_RECORD_BYTES, "minimum": 1}
        return bytes(encode_fields(LIMITS_LENGTH, LIMITS_FIELDS, values))

    def _mode_header(self) -> tuple[int, bytes]:
        """Return write protection and buffered mode, and the descriptor: density, block length."""
        protected = self.cartridge is not None and self.loaded and self.cartridge.header.write_protected
        values = {
            "write_protected": int(protected),
            "buffered_mode": self._buffered_mode,
            "density": DENSITY,
            "block_length": self._block_length,
        }
        mode = encode_fields(MODE_LENGTH, MODE_FIELDS, values)
        return mode[2], bytes(mode[MODE_LENGTH - _DESCRIPTOR_LENGTH :])

    def _select_header(self, specific: int, descriptor: bytes) -> None:
        """Take buffered mode and the descriptor: our density, any block length we write (SSC-4, 8.3)."""
        values = decode_fields(MODE_FIELDS, bytes([0, 0, specific, 0]) + descriptor)
        is_ours = values["density"] in _SAME_DENSITY and values["block_length"] <= MAX_RECORD_BYTES
        if not is_ours or values["buffered_mode"] > 1:
            raise illegal(INVALID_FIELD_IN_LIST)
        self._buffered_mode = values["buffered_mode"]
        if descriptor:
            self._block_length = values["block_length"]


def _records(data: memoryview, length: int) -> Iterator[memoryview]:
    for start in range(0, len(data), length):
        yield data[start : start + length]
