"""The commands this project sends, as tables of fields (SPC-4, SSC-4, SMC-3).

One table per command serves both directions: `READ_6.cdb(transfer_length=n)` on our side,
`READ_6.decode(cdb)` in the library model.  Signs and widths are those of the standard.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tape.errors import TapeMisuseError
from tape.fields import Field, decode_fields, encode_fields

__all__ = [
    "ERASE_6",
    "EXCHANGE_MEDIUM",
    "INITIALIZE_ELEMENT_STATUS",
    "INQUIRY",
    "LOAD_UNLOAD",
    "LOCATE_10",
    "LOG_SENSE",
    "MAX_TRANSFER_6",
    "MODE_SELECT_6",
    "MODE_SENSE_6",
    "MOVE_MEDIUM",
    "PREVENT_ALLOW",
    "READ_6",
    "READ_BLOCK_LIMITS",
    "READ_ELEMENT_STATUS",
    "READ_POSITION",
    "RELEASE_6",
    "REPORT_LUNS",
    "REQUEST_SENSE",
    "RESERVE_6",
    "REWIND",
    "SPACE_6",
    "SPACE_CODE_BLOCKS",
    "SPACE_CODE_END_OF_DATA",
    "SPACE_CODE_FILEMARKS",
    "TEST_UNIT_READY",
    "WRITE_6",
    "WRITE_FILEMARKS_6",
    "Command",
    "name_of",
]

# The 24-bit length of READ(6) and WRITE(6): no record can be longer.
MAX_TRANSFER_6 = 0xFFFFFF

# CODE of SPACE(6) (SSC-4, table 62).
SPACE_CODE_BLOCKS = 0
SPACE_CODE_FILEMARKS = 1
SPACE_CODE_END_OF_DATA = 3


@dataclass(frozen=True, slots=True)
class Command:
    """Layout of one CDB.

    Attributes:
        name: as printed in the standard.
        opcode: byte 0.
        length: bytes of the CDB.
        fields: everything else that can be set.

    """

    name: str
    opcode: int
    length: int
    fields: Mapping[str, Field]

    def cdb(self, **values: int) -> bytes:
        """Return the CDB with these fields set and all others zero.

        Raises:
            TapeMisuseError: unknown field, or a value that does not fit.

        """
        try:
            data = encode_fields(self.length, self.fields, values)
        except TapeMisuseError as error:
            raise TapeMisuseError(f"{self.name}: {error}") from None
        data[0] = self.opcode
        return bytes(data)

    def decode(self, cdb: bytes) -> dict[str, int]:
        """Return every field of a CDB of this command.

        Raises:
            TapeMisuseError: another command's opcode, or a CDB cut short.

        """
        if len(cdb) < self.length or cdb[0] != self.opcode:
            raise TapeMisuseError(f"{cdb.hex()} is no {self.name}")
        return decode_fields(self.fields, cdb)


# -- every device (SPC-4, clause 6) ------------------------------------------------------------------
TEST_UNIT_READY = Command("TEST UNIT READY", 0x00, 6, {})
REQUEST_SENSE = Command(
    "REQUEST SENSE", 0x03, 6, {"desc": Field(0x01, 1), "allocation_length": Field(0xFF, 4)}
)
INQUIRY = Command(
    "INQUIRY",
    0x12,
    6,
    {"evpd": Field(0x01, 1), "page_code": Field(0xFF, 2), "allocation_length": Field(0xFFFF, 3)},
)
MODE_SELECT_6 = Command(
    "MODE SELECT(6)",
    0x15,
    6,
    {"pf": Field(0x10, 1), "sp": Field(0x01, 1), "parameter_list_length": Field(0xFF, 4)},
)
MODE_SENSE_6 = Command(
    "MODE SENSE(6)",
    0x1A,
    6,
    {
        "dbd": Field(0x08, 1),
        "pc": Field(0xC0, 2),
        "page_code": Field(0x3F, 2),
        "subpage_code": Field(0xFF, 3),
        "allocation_length": Field(0xFF, 4),
    },
)
LOG_SENSE = Command(
    "LOG SENSE",
    0x4D,
    10,
    {
        "sp": Field(0x01, 1),
        "pc": Field(0xC0, 2),
        "page_code": Field(0x3F, 2),
        "subpage_code": Field(0xFF, 3),
        "parameter_pointer": Field(0xFFFF, 5),
        "allocation_length": Field(0xFFFF, 7),
    },
)
PREVENT_ALLOW = Command("PREVENT ALLOW MEDIUM REMOVAL", 0x1E, 6, {"prevent": Field(0x03, 4)})
# Of SPC-2, clause 7; SPC-3 and later keep the codes for it.
RESERVE_6 = Command("RESERVE(6)", 0x16, 6, {})
RELEASE_6 = Command("RELEASE(6)", 0x17, 6, {})
REPORT_LUNS = Command(
    "REPORT LUNS", 0xA0, 12, {"select_report": Field(0xFF, 2), "allocation_length": Field(0xFFFFFFFF, 6)}
)

# -- tape drives (SSC-4, clause 6 and 7) -------------------------------------------------------------
REWIND = Command("REWIND", 0x01, 6, {"immed": Field(0x01, 1)})
READ_BLOCK_LIMITS = Command("READ BLOCK LIMITS", 0x05, 6, {"mloi": Field(0x01, 1)})
READ_6 = Command(
    "READ(6)",
    0x08,
    6,
    {"sili": Field(0x02, 1), "fixed": Field(0x01, 1), "transfer_length": Field(0xFFFFFF, 2)},
)
WRITE_6 = Command("WRITE(6)", 0x0A, 6, {"fixed": Field(0x01, 1), "transfer_length": Field(0xFFFFFF, 2)})
WRITE_FILEMARKS_6 = Command(
    "WRITE FILEMARKS(6)", 0x10, 6, {"immed": Field(0x01, 1), "count": Field(0xFFFFFF, 2)}
)
SPACE_6 = Command("SPACE(6)", 0x11, 6, {"code": Field(0x0F, 1), "count": Field(0xFFFFFF, 2, signed=True)})
ERASE_6 = Command("ERASE(6)", 0x19, 6, {"immed": Field(0x02, 1), "long": Field(0x01, 1)})
LOAD_UNLOAD = Command(
    "LOAD UNLOAD",
    0x1B,
    6,
    {
        "immed": Field(0x01, 1),
        "hold": Field(0x08, 4),
        "eot": Field(0x04, 4),
        "reten": Field(0x02, 4),
        "load": Field(0x01, 4),
    },
)
LOCATE_10 = Command(
    "LOCATE(10)",
    0x2B,
    10,
    {
        "bt": Field(0x04, 1),
        "cp": Field(0x02, 1),
        "immed": Field(0x01, 1),
        "block": Field(0xFFFFFFFF, 3),
        "partition": Field(0xFF, 8),
    },
)
READ_POSITION = Command(
    "READ POSITION", 0x34, 10, {"service_action": Field(0x1F, 1), "allocation_length": Field(0xFFFF, 7)}
)

# -- media changers (SMC-3, clause 6) ----------------------------------------------------------------
INITIALIZE_ELEMENT_STATUS = Command("INITIALIZE ELEMENT STATUS", 0x07, 6, {})
MOVE_MEDIUM = Command(
    "MOVE MEDIUM",
    0xA5,
    12,
    {
        "transport": Field(0xFFFF, 2),
        "source": Field(0xFFFF, 4),
        "destination": Field(0xFFFF, 6),
        "invert": Field(0x01, 10),
    },
)
EXCHANGE_MEDIUM = Command(
    "EXCHANGE MEDIUM",
    0xA6,
    12,
    {
        "transport": Field(0xFFFF, 2),
        "source": Field(0xFFFF, 4),
        "first_destination": Field(0xFFFF, 6),
        "second_destination": Field(0xFFFF, 8),
        "invert1": Field(0x02, 10),
        "invert2": Field(0x01, 10),
    },
)
READ_ELEMENT_STATUS = Command(
    "READ ELEMENT STATUS",
    0xB8,
    12,
    {
        "voltag": Field(0x10, 1),
        "element_type": Field(0x0F, 1),
        "start": Field(0xFFFF, 2),
        "count": Field(0xFFFF, 4),
        "curdata": Field(0x02, 6),
        "dvcid": Field(0x01, 6),
        "allocation_length": Field(0xFFFFFF, 7),
    },
)

_COMMANDS = (
    *(TEST_UNIT_READY, REQUEST_SENSE, INQUIRY, MODE_SELECT_6, MODE_SENSE_6, PREVENT_ALLOW, REPORT_LUNS),
    *(
        REWIND,
        READ_BLOCK_LIMITS,
        READ_6,
        WRITE_6,
        WRITE_FILEMARKS_6,
        SPACE_6,
        LOAD_UNLOAD,
        LOCATE_10,
        ERASE_6,
    ),
    *(READ_POSITION, INITIALIZE_ELEMENT_STATUS, MOVE_MEDIUM, EXCHANGE_MEDIUM, READ_ELEMENT_STATUS),
    *(RESERVE_6, RELEASE_6, LOG_SENSE),
)

# Commands that pass through us in a DMA's SCSI_EXECUTE_CDB, known by name only.
_FOREIGN_NAMES = {
    0x37: "INITIALIZE ELEMENT STATUS WITH RANGE",
    0x44: "REPORT DENSITY SUPPORT",
    0x4C: "LOG SELECT",
    0x55: "MODE SELECT(10)",
    0x5A: "MODE SENSE(10)",
    0x5E: "PERSISTENT RESERVE IN",
    0x5F: "PERSISTENT RESERVE OUT",
    0x8C: "READ ATTRIBUTE",
    0x8D: "WRITE ATTRIBUTE",
    0x91: "SPACE(16)",
    0x92: "LOCATE(16)",
    0xA2: "SECURITY PROTOCOL IN",
    0xA3: "MAINTENANCE IN",
    0xB5: "SECURITY PROTOCOL OUT",
}
_NAMES = _FOREIGN_NAMES | {command.opcode: command.name for command in _COMMANDS}


def name_of(cdb: bytes) -> str:
    """Return the name of a CDB's command, for messages; "command xx" if we do not know it."""
    if not cdb:
        return "empty command"
    return _NAMES.get(cdb[0], f"command {cdb[0]:02x}")
