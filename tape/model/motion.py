"""Moving the tape of a model drive, and where it stands (SSC-4, clause 7).

How a movement ends at filemarks, end of data and the beginning of the tape is written down once, in the
`CheckCondition`s of the first section.
"""

from __future__ import annotations

from tape.commands import (
    LOCATE_10,
    READ_POSITION,
    REWIND,
    SPACE_6,
    SPACE_CODE_BLOCKS,
    SPACE_CODE_END_OF_DATA,
    SPACE_CODE_FILEMARKS,
)
from tape.drive_data import POSITION_FIELDS, POSITION_LENGTH
from tape.fields import Field, encode_fields
from tape.model.cartridge import Cartridge
from tape.model.commands import LOCATE_16, SPACE_16
from tape.model.loaded import TapeUnit
from tape.model.unit import INVALID_FIELD_IN_CDB, CheckCondition, illegal
from tape.sense import Sense, SenseKey
from tape.transport import DataOut

__all__ = ["Motion", "end_of_data", "filemark"]

# Service actions of READ POSITION (SSC-4, 7.6.1), and destinations of LOCATE(16) (7.4).
_SHORT, _SHORT_VENDOR, _LONG, _EXTENDED = 0x00, 0x01, 0x06, 0x08
_TO_OBJECT, _TO_FILE, _TO_END = 0, 1, 3
_LONG_LENGTH = _EXTENDED_LENGTH = 32
_LONG_FIELDS = {
    "bop": Field(0x80, 0),
    "eop": Field(0x40, 0),
    "partition": Field(0xFFFFFFFF, 4),
    "object": Field(0xFFFFFFFFFFFFFFFF, 8),
    "file": Field(0xFFFFFFFFFFFFFFFF, 16),
}
_EXTENDED_FIELDS = {
    "bop": Field(0x80, 0),
    "eop": Field(0x40, 0),
    "additional": Field(0xFFFF, 2),
    "first": Field(0xFFFFFFFFFFFFFFFF, 8),
    "last": Field(0xFFFFFFFFFFFFFFFF, 16),
}
# INFORMATION of fixed-format sense has 32 bits; more is reported as without (SPC-4, 4.5.3).
_INFORMATION_MAX = 0x7FFFFFFF


def _rest(left: int | None) -> int | None:
    return left if left is not None and left <= _INFORMATION_MAX else None


def filemark(left: int) -> CheckCondition:
    """A filemark ends it (SSC-4, 4.2.9)."""
    return CheckCondition(Sense(SenseKey.NO_SENSE, 0x00, 0x01, filemark=True, information=_rest(left)))


def end_of_data(left: int | None) -> CheckCondition:
    """The end of data ends it."""
    return CheckCondition(Sense(SenseKey.BLANK_CHECK, 0x00, 0x05, information=_rest(left)))


def _beginning(left: int) -> CheckCondition:
    return CheckCondition(Sense(SenseKey.NO_SENSE, 0x00, 0x04, eom=True, information=_rest(left)))


class Motion:
    """Answers the commands that move the tape or ask where it stands.

    Args:
        unit: whose tape it is.

    """

    def __init__(self, unit: TapeUnit) -> None:
        self._unit = unit
        unit.register(REWIND, self._rewind)
        unit.register(SPACE_6, self._space)
        unit.register(SPACE_16, self._space)
        unit.register(LOCATE_10, self._locate_10)
        unit.register(LOCATE_16, self._locate_16)
        unit.register(READ_POSITION, self._read_position)

    def _rewind(self, _fields: dict[str, int], _data: DataOut) -> bytes:
        self._unit.tape()
        self._unit.flush()
        self._unit.position = 0
        return b""

    # -- SPACE ---------------------------------------------------------------------------------------
    def _space(self, fields: dict[str, int], _data: DataOut) -> bytes:
        """SPACE(6) and SPACE(16), SSC-4, 7.10 and 7.11."""
        tape = self._unit.tape()
        code, count = fields["code"], fields["count"]
        if code == SPACE_CODE_END_OF_DATA:
            self._unit.position = tape.count
        elif code == SPACE_CODE_FILEMARKS:
            self._space_filemarks(tape, count)
        elif code == SPACE_CODE_BLOCKS:
            self._space_records(tape, count)
        else:
            raise illegal(INVALID_FIELD_IN_CDB)
        return b""

    def _space_filemarks(self, tape: Cartridge, count: int) -> None:
        """Forwards to the far side of the last one, backwards to the near side."""
        unit = self._unit
        if count > 0:
            found = tape.filemark_from(unit.position, count)
            if found is None:
                passed = tape.filemarks_between(unit.position, tape.count)
                unit.position = tape.count
                raise end_of_data(count - passed)
            unit.position = found + 1
        elif count < 0:
            found = tape.filemark_before(unit.position, -count)
            if found is None:
                passed = tape.filemarks_between(0, unit.position)
                unit.position = 0
                raise _beginning(-count - passed)
            unit.position = found

    def _space_records(self, tape: Cartridge, count: int) -> None:
        """Pass records; a filemark is passed too, but ends it."""
        unit, start = self._unit, self._unit.position
        if count > 0:
            mark = tape.filemark_from(start, 1)
            stop = tape.count if mark is None else mark
            unit.position = min(start + count, stop)
            left = count - (unit.position - start)
            if left and mark is not None:
                unit.position += 1
                raise filemark(left)
            if left:
                raise end_of_data(left)
        elif count < 0:
            mark = tape.filemark_before(start, 1)
            stop = 0 if mark is None else mark + 1
            unit.position = max(start + count, stop)
            left = -count - (start - unit.position)
            if left and mark is not None:
                unit.position -= 1
                raise filemark(left)
            if left:
                raise _beginning(left)

    # -- LOCATE --------------------------------------------------------------------------------------
    def _locate_10(self, fields: dict[str, int], _data: DataOut) -> bytes:
        """LOCATE(10), SSC-4, 7.3; there is one partition, and addresses are object numbers."""
        if fields["bt"]:
            raise illegal(INVALID_FIELD_IN_CDB)
        return self._locate(fields, _TO_OBJECT, fields["block"])

    def _locate_16(self, fields: dict[str, int], _data: DataOut) -> bytes:
        """LOCATE(16), SSC-4, 7.4: to an object, behind so many filemarks, or to the end of data."""
        return self._locate(fields, fields["dest_type"], fields["identifier"])

    def _locate(self, fields: dict[str, int], kind: int, number: int) -> bytes:
        tape = self._unit.tape()
        if kind not in (_TO_OBJECT, _TO_FILE, _TO_END) or (fields["cp"] and fields["partition"]):
            raise illegal(INVALID_FIELD_IN_CDB)
        target: int | None = number
        if kind == _TO_END:
            target = tape.count
        elif kind == _TO_FILE:
            mark = tape.filemark_from(0, number) if number else -1
            target = None if mark is None else mark + 1
        if target is None or target > tape.count:
            self._unit.position = tape.count
            raise end_of_data(None)
        self._unit.position = target
        return b""

    # -- READ POSITION -------------------------------------------------------------------------------
    def _read_position(self, fields: dict[str, int], _data: DataOut) -> bytes:
        """READ POSITION in three forms (SSC-4, 7.6.2 to 7.6.4).  Nothing is ever left in a buffer."""
        tape = self._unit.tape()
        place, action = self._unit.position, fields["service_action"]
        values = {"bop": int(place == 0), "eop": int(self._unit.behind_early_warning(tape))}
        if action in (_SHORT, _SHORT_VENDOR):
            values |= {"first_block": place, "last_block": place}
            return bytes(encode_fields(POSITION_LENGTH, POSITION_FIELDS, values))
        if action == _LONG:
            values |= {"object": place, "file": tape.filemarks_between(0, place)}
            return bytes(encode_fields(_LONG_LENGTH, _LONG_FIELDS, values))
        if action == _EXTENDED:
            values |= {"additional": _EXTENDED_LENGTH - 4, "first": place, "last": place}
            data = bytes(encode_fields(_EXTENDED_LENGTH, _EXTENDED_FIELDS, values))
            return data[: fields["allocation_length"]]
        raise illegal(INVALID_FIELD_IN_CDB)
