"""A tape drive of the library model (SSC-4), in variable-block mode.

Positions are object numbers of the cartridge: `position` is the object that the next READ gives.  How a
command ends at filemarks, end of data, the beginning of the tape and near its end is written down once,
in the `CheckCondition`s of the first section.
"""

from __future__ import annotations

from typing import Protocol

from tape.commands import (
    ERASE_6,
    LOAD_UNLOAD,
    LOCATE_10,
    READ_6,
    READ_BLOCK_LIMITS,
    READ_POSITION,
    REWIND,
    SPACE_6,
    SPACE_CODE_BLOCKS,
    SPACE_CODE_END_OF_DATA,
    SPACE_CODE_FILEMARKS,
    WRITE_6,
    WRITE_FILEMARKS_6,
)
from tape.drive_data import (
    LIMITS_FIELDS,
    LIMITS_LENGTH,
    MODE_FIELDS,
    MODE_LENGTH,
    POSITION_FIELDS,
    POSITION_LENGTH,
)
from tape.fields import decode_fields, encode_fields
from tape.model.cartridge import FRAME_BYTES, Cartridge
from tape.model.drive_pages import DENSITY, drive_pages
from tape.model.inquiry import Inquiry
from tape.model.modes import Modes
from tape.model.unit import (
    INVALID_FIELD_IN_CDB,
    INVALID_FIELD_IN_LIST,
    MEDIUM_CHANGED,
    REMOVAL_PREVENTED,
    CheckCondition,
    LogicalUnit,
    UnitIdentity,
    illegal,
)
from tape.sense import Sense, SenseKey
from tape.transport import DataOut

__all__ = ["MAX_RECORD_BYTES", "DriveModel"]

# What LTO drives take, and far above the 256 KiB this project writes.
MAX_RECORD_BYTES = 8 << 20
_SAME_DENSITY = (0x00, 0x7F, DENSITY)  # default, "no change", ours
_DESCRIPTOR_LENGTH = 8


class AtObject(Protocol):
    """`FaultPlan.at_object`."""

    def __call__(self, barcode: str, number: int, *, write: bool) -> None:
        """Raise CheckCondition where the object cannot be used."""


def _filemark(left: int) -> CheckCondition:
    return CheckCondition(Sense(SenseKey.NO_SENSE, 0x00, 0x01, filemark=True, information=left))


def _end_of_data(left: int | None) -> CheckCondition:
    return CheckCondition(Sense(SenseKey.BLANK_CHECK, 0x00, 0x05, information=left))


def _beginning(left: int) -> CheckCondition:
    return CheckCondition(Sense(SenseKey.NO_SENSE, 0x00, 0x04, eom=True, information=left))


def _early_warning() -> CheckCondition:
    return CheckCondition(Sense(SenseKey.NO_SENSE, 0x00, 0x02, eom=True, information=0))


def _overflow(left: int) -> CheckCondition:
    return CheckCondition(Sense(SenseKey.VOLUME_OVERFLOW, 0x00, 0x02, eom=True, information=left))


class DriveModel(LogicalUnit):
    """One drive.

    Args:
        serial: unit serial number.
        early_warning_bytes: room left on a cartridge from which on every write gives early warning;
            at most half of the cartridge.
        at_object: asked with barcode and number of every object before it is read or written; raises
            CheckCondition where that goes wrong.

    Attributes:
        cartridge: what lies in the drive, threaded or ejected; None if it is empty.
        loaded: the cartridge is threaded.
        position: number of the next object.

    """

    def __init__(
        self, serial: str, early_warning_bytes: int, at_object: AtObject = lambda *_args, **_kwargs: None
    ) -> None:
        super().__init__(UnitIdentity(1, "VIRTUAL DRIVE", serial))
        self.cartridge: Cartridge | None = None
        self.loaded = False
        self.position = 0
        self._early_warning_bytes = early_warning_bytes
        self._at_object = at_object
        self._buffered_mode = 1
        self._dirty = False
        handlers = (
            (REWIND, self._rewind),
            (READ_BLOCK_LIMITS, self._read_block_limits),
            (READ_6, self._read),
            (WRITE_6, self._write),
            (WRITE_FILEMARKS_6, self._write_filemarks),
            (SPACE_6, self._space),
            (LOAD_UNLOAD, self._load_unload),
            (ERASE_6, self._erase),
            (LOCATE_10, self._locate),
            (READ_POSITION, self._read_position),
        )
        for command, handler in handlers:
            self.register(command, handler)
        Inquiry(self)
        self._modes = Modes(self, drive_pages(), self._mode_header, self._select_header)

    # -- what the changer and the operator do --------------------------------------------------------
    def insert(self, cartridge: Cartridge, *, is_power_on: bool = False) -> None:
        """Take a cartridge and thread it.  One that lay in it at power on is no news."""
        with self.lock:
            self.cartridge = cartridge
            self._thread(is_news=not is_power_on)

    def eject(self) -> Cartridge | None:
        """Give the cartridge out, unthreading it first if need be.  None if there is none."""
        with self.lock:
            cartridge = self.cartridge
            self._flush(cartridge)
            self.cartridge, self.loaded = None, False
            return cartridge

    def _thread(self, *, is_news: bool) -> None:
        self.loaded = True
        self.position = 0
        if is_news:
            self.attention(MEDIUM_CHANGED)

    def _flush(self, cartridge: Cartridge | None) -> None:
        if cartridge is not None and self._dirty:
            cartridge.flush()
        self._dirty = False

    # -- readiness -----------------------------------------------------------------------------------
    def require_ready(self) -> None:
        """Raise NOT READY, medium not present, unless a cartridge is threaded."""
        self._tape()

    def _tape(self) -> Cartridge:
        if self.cartridge is None or not self.loaded:
            raise CheckCondition(Sense(SenseKey.NOT_READY, 0x3A, 0x00))
        return self.cartridge

    def _writable_tape(self) -> Cartridge:
        tape = self._tape()
        if tape.header.write_protected:
            raise CheckCondition(Sense(SenseKey.DATA_PROTECT, 0x27, 0x00))
        return tape

    # -- records -------------------------------------------------------------------------------------
    def _read(self, fields: dict[str, int], _data: DataOut) -> bytes:
        """READ(6), SSC-4, 6.4: a length that differs is told by ILI, asked minus actual."""
        tape = self._tape()
        asked = fields["transfer_length"]
        if fields["fixed"] or asked > MAX_RECORD_BYTES:
            raise illegal(INVALID_FIELD_IN_CDB)
        if asked == 0:
            return b""
        if self.position >= tape.count:
            raise _end_of_data(asked)
        number = self.position
        self._at_object(tape.header.barcode, number, write=False)
        self.position += 1
        if tape.is_filemark(number):
            raise _filemark(asked)
        actual = tape.record_length(number)
        data = tape.read(number, asked)
        # SILI silences both cases while the block length of the mode descriptor is 0, as it is here.
        if actual != asked and not fields["sili"]:
            raise CheckCondition(Sense(SenseKey.NO_SENSE, ili=True, information=asked - actual), data)
        return data

    def _write(self, fields: dict[str, int], data: DataOut) -> bytes:
        """WRITE(6), SSC-4, 6.8."""
        tape = self._writable_tape()
        length = fields["transfer_length"]
        if fields["fixed"] or length > MAX_RECORD_BYTES or length > len(data):
            raise illegal(INVALID_FIELD_IN_CDB)
        if length == 0:
            return b""
        if self._left(tape) < length + FRAME_BYTES:
            raise _overflow(length)
        self._at_object(tape.header.barcode, self.position, write=True)
        tape.write_record(self.position, data if len(data) == length else memoryview(data)[:length])
        self.position += 1
        self._dirty = True
        return self._warned(tape)

    def _write_filemarks(self, fields: dict[str, int], _data: DataOut) -> bytes:
        """WRITE FILEMARKS(6), SSC-4, 6.9; also flushes, which is all it does for a count of 0."""
        count = fields["count"]
        tape = self._writable_tape() if count else self._tape()
        for done in range(count):
            if self._left(tape) < FRAME_BYTES:
                raise _overflow(count - done)
            self._at_object(tape.header.barcode, self.position, write=True)
            tape.write_filemark(self.position)
            self.position += 1
            self._dirty = True
        if not fields["immed"]:
            self._flush(tape)
        return self._warned(tape) if count else b""

    def _erase(self, _fields: dict[str, int], _data: DataOut) -> bytes:
        """ERASE(6), SSC-4, 5.2: the current position becomes the end of data, long or short."""
        self._writable_tape().truncate(self.position)
        self._dirty = True
        return b""

    def _left(self, tape: Cartridge) -> int:
        """Return the room behind the current position, in bytes."""
        return tape.header.capacity_bytes - tape.used_before(self.position)

    def _behind_early_warning(self, tape: Cartridge) -> bool:
        return self._left(tape) <= min(self._early_warning_bytes, tape.header.capacity_bytes // 2)

    def _warned(self, tape: Cartridge) -> bytes:
        """End a write that succeeded: with early warning where the tape's end is near."""
        if self._behind_early_warning(tape):
            raise _early_warning()
        return b""

    # -- moving --------------------------------------------------------------------------------------
    def _rewind(self, _fields: dict[str, int], _data: DataOut) -> bytes:
        self._flush(self._tape())
        self.position = 0
        return b""

    def _space(self, fields: dict[str, int], _data: DataOut) -> bytes:
        """SPACE(6), SSC-4, 7.10."""
        tape = self._tape()
        code, count = fields["code"], fields["count"]
        if code == SPACE_CODE_END_OF_DATA:
            self.position = tape.count
        elif code == SPACE_CODE_FILEMARKS:
            self._space_filemarks(tape, count)
        elif code == SPACE_CODE_BLOCKS:
            self._space_records(tape, count)
        else:
            raise illegal(INVALID_FIELD_IN_CDB)
        return b""

    def _space_filemarks(self, tape: Cartridge, count: int) -> None:
        """Forwards to the far side of the last one, backwards to the near side."""
        if count > 0:
            found = tape.filemark_from(self.position, count)
            if found is None:
                passed = tape.filemarks_between(self.position, tape.count)
                self.position = tape.count
                raise _end_of_data(count - passed)
            self.position = found + 1
        elif count < 0:
            found = tape.filemark_before(self.position, -count)
            if found is None:
                passed = tape.filemarks_between(0, self.position)
                self.position = 0
                raise _beginning(-count - passed)
            self.position = found

    def _space_records(self, tape: Cartridge, count: int) -> None:
        """Pass records; a filemark is passed too, but ends it."""
        start = self.position
        if count > 0:
            mark = tape.filemark_from(start, 1)
            stop = tape.count if mark is None else mark
            self.position = min(start + count, stop)
            left = count - (self.position - start)
            if left and mark is not None:
                self.position += 1
                raise _filemark(left)
            if left:
                raise _end_of_data(left)
        elif count < 0:
            mark = tape.filemark_before(start, 1)
            stop = 0 if mark is None else mark + 1
            self.position = max(start + count, stop)
            left = -count - (start - self.position)
            if left and mark is not None:
                self.position -= 1
                raise _filemark(left)
            if left:
                raise _beginning(left)

    def _locate(self, fields: dict[str, int], _data: DataOut) -> bytes:
        """LOCATE(10), SSC-4, 7.3; there is one partition, and addresses are object numbers."""
        tape = self._tape()
        if fields["bt"] or (fields["cp"] and fields["partition"]):
            raise illegal(INVALID_FIELD_IN_CDB)
        self.position = min(fields["block"], tape.count)
        if self.position < fields["block"]:
            raise _end_of_data(None)
        return b""

    def _read_position(self, fields: dict[str, int], _data: DataOut) -> bytes:
        """READ POSITION, short form (SSC-4, 7.6.2)."""
        tape = self._tape()
        if fields["service_action"]:
            raise illegal(INVALID_FIELD_IN_CDB)
        values = {
            "bop": int(self.position == 0),
            "eop": int(self._behind_early_warning(tape)),
            "first_block": self.position,
            "last_block": self.position,
        }
        return bytes(encode_fields(POSITION_LENGTH, POSITION_FIELDS, values))

    def _load_unload(self, fields: dict[str, int], _data: DataOut) -> bytes:
        """LOAD UNLOAD, SSC-4, 7.2: after unloading the cartridge lies in the mouth of the drive."""
        if fields["eot"] or fields["hold"]:
            raise illegal(INVALID_FIELD_IN_CDB)
        if fields["load"]:
            if self.cartridge is None:
                raise CheckCondition(Sense(SenseKey.NOT_READY, 0x3A, 0x00))
            if self.loaded:
                self.position = 0
            else:
                self._thread(is_news=True)
            return b""
        self._flush(self._tape())
        if self.prevented:
            raise illegal(REMOVAL_PREVENTED)
        self.loaded = False
        return b""

    # -- asking and choosing -------------------------------------------------------------------------
    def _read_block_limits(self, fields: dict[str, int], _data: DataOut) -> bytes:
        if fields["mloi"]:
            raise illegal(INVALID_FIELD_IN_CDB)
        values = {"granularity": 0, "maximum": MAX_RECORD_BYTES, "minimum": 1}
        return bytes(encode_fields(LIMITS_LENGTH, LIMITS_FIELDS, values))

    def _mode_header(self) -> tuple[int, bytes]:
        """Return write protection and buffered mode, and the descriptor: density, block length 0."""
        protected = self.cartridge is not None and self.loaded and self.cartridge.header.write_protected
        values = {"write_protected": int(protected), "buffered_mode": self._buffered_mode, "density": DENSITY}
        mode = encode_fields(MODE_LENGTH, MODE_FIELDS, values)
        return mode[2], bytes(mode[MODE_LENGTH - _DESCRIPTOR_LENGTH :])

    def _select_header(self, specific: int, descriptor: bytes) -> None:
        """Take buffered mode and the descriptor: our density, of block length 0 (SSC-4, 8.3)."""
        values = decode_fields(MODE_FIELDS, bytes([0, 0, specific, 0]) + descriptor)
        if values["density"] not in _SAME_DENSITY or values["block_length"] or values["buffered_mode"] > 1:
            raise illegal(INVALID_FIELD_IN_LIST)
        self._buffered_mode = values["buffered_mode"]
