"""The SCSI commands that a DMA may send by SCSI_EXECUTE_CDB and TAPE_EXECUTE_CDB.

The draft sets no limits (3.3.5) but asks to consider what access gives away.  Here: what moves cartridges,
tape and data, and what asks; nothing that changes firmware, keys, passwords or persistent reservations.
Any other command is answered with NDMP_ILLEGAL_ARGS_ERR, and the log names it.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from appliance.ndmp.enums import CdbFlag, ErrorCode
from appliance.ndmp.errors import RefusalError
from tape.commands import name_of

DATA_LENGTH_MAX = 1 << 20
"""Bytes one command may carry: a report on thousands of elements; records go by TAPE_READ and the mover."""

FOREVER_S = 24 * 3600.0
"""What a timeout of 0, "for ever" (draft, 3.3.5), comes to: longer than any library's longest command."""

CDB_LENGTHS = (6, 10, 12, 16)
"""SPC-4, 4.2.2; longer ones (32 bytes) no tape device has."""


SEND_VOLUME_TAG = 0xB6
FIRST_CHANGING_TAG_ACTION = 0x08


class Effect(Enum):
    """What a command does to the tape."""

    ASKS = "asks only"
    MOVES = "moves tape or cartridges"
    WRITES = "changes what is on the tape or how it is written"


COMMON: Mapping[int, Effect] = {
    0x00: Effect.ASKS,  # TEST UNIT READY
    0x03: Effect.ASKS,  # REQUEST SENSE
    0x12: Effect.ASKS,  # INQUIRY
    0x16: Effect.ASKS,  # RESERVE(6)
    0x17: Effect.ASKS,  # RELEASE(6)
    0x1A: Effect.ASKS,  # MODE SENSE(6)
    0x1E: Effect.ASKS,  # PREVENT ALLOW MEDIUM REMOVAL
    0x4D: Effect.ASKS,  # LOG SENSE
    0x5A: Effect.ASKS,  # MODE SENSE(10)
    0x8C: Effect.ASKS,  # READ ATTRIBUTE
    0xA0: Effect.ASKS,  # REPORT LUNS
}

CHANGER: Mapping[int, Effect] = {
    **COMMON,
    0x07: Effect.ASKS,  # INITIALIZE ELEMENT STATUS
    0x2B: Effect.ASKS,  # POSITION TO ELEMENT: only the arm moves
    0x37: Effect.ASKS,  # INITIALIZE ELEMENT STATUS WITH RANGE
    0xA5: Effect.MOVES,  # MOVE MEDIUM
    0xA6: Effect.MOVES,  # EXCHANGE MEDIUM
    0xB5: Effect.ASKS,  # REQUEST VOLUME ELEMENT ADDRESS
    SEND_VOLUME_TAG: Effect.ASKS,  # as far as `check_volume_tag` lets it through
    0xB8: Effect.ASKS,  # READ ELEMENT STATUS
}

DRIVE: Mapping[int, Effect] = {
    **COMMON,
    0x01: Effect.MOVES,  # REWIND
    0x05: Effect.ASKS,  # READ BLOCK LIMITS
    0x08: Effect.MOVES,  # READ(6)
    0x0A: Effect.WRITES,  # WRITE(6)
    0x10: Effect.WRITES,  # WRITE FILEMARKS(6)
    0x11: Effect.MOVES,  # SPACE(6)
    0x13: Effect.MOVES,  # VERIFY(6)
    0x15: Effect.WRITES,  # MODE SELECT(6)
    0x19: Effect.WRITES,  # ERASE(6)
    0x1B: Effect.MOVES,  # LOAD UNLOAD
    0x2B: Effect.MOVES,  # LOCATE(10)
    0x34: Effect.ASKS,  # READ POSITION
    0x44: Effect.ASKS,  # REPORT DENSITY SUPPORT
    0x55: Effect.WRITES,  # MODE SELECT(10)
    0x8D: Effect.WRITES,  # WRITE ATTRIBUTE
    0x91: Effect.MOVES,  # SPACE(16)
    0x92: Effect.MOVES,  # LOCATE(16)
}


def checked(
    table: Mapping[int, Effect], flags: int, cdb: bytes, data_in_length: int, data_out: bytes
) -> Effect:
    """What the command does.

    Raises RefusalError(ILLEGAL_ARGS): not in the table, not a CDB, data both ways, without its flag or
    beyond DATA_LENGTH_MAX.
    """
    if len(cdb) not in CDB_LENGTHS:
        raise _illegal(f"a command of {len(cdb)} bytes")
    if cdb[0] not in table:
        raise _illegal(f"{name_of(cdb)} is not passed through")
    if flags == CdbFlag.DATA_IN | CdbFlag.DATA_OUT:
        raise _illegal(f"{name_of(cdb)} with data in both directions")
    if max(data_in_length, len(data_out)) > DATA_LENGTH_MAX:
        raise _illegal(f"{name_of(cdb)} with {max(data_in_length, len(data_out))} bytes of data")
    if data_out and not flags & CdbFlag.DATA_OUT:
        raise _illegal(f"{name_of(cdb)} with data out and no flag for it")
    return table[cdb[0]]


def check_volume_tag(cdb: bytes) -> None:
    """Refuse a SEND VOLUME TAG that gives or takes a barcode: listed barcodes must mean what they say.

    Translating (SMC-3, 6.18: send action codes below 8) only asks.  Raises RefusalError(ILLEGAL_ARGS).
    """
    if cdb[0] == SEND_VOLUME_TAG and cdb[5] & 0x1F >= FIRST_CHANGING_TAG_ACTION:
        raise _illegal(f"{name_of(cdb)} that changes a volume tag")


def wanted(flags: int, data_in_length: int) -> int:
    """Bytes to receive: the length counts only with its flag."""
    return data_in_length if flags & CdbFlag.DATA_IN else 0


def seconds(timeout_ms: int) -> float:
    """A request's timeout in seconds."""
    return min(timeout_ms / 1000, FOREVER_S) if timeout_ms else FOREVER_S


def _illegal(text: str) -> RefusalError:
    return RefusalError(ErrorCode.ILLEGAL_ARGS, text)
