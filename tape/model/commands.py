"""Commands that the library model answers and the product does not send (SPC-4, SSC-4, SMC-3)."""

from __future__ import annotations

from tape.commands import Command
from tape.fields import Field

_ALLOCATION_16 = Field(0xFFFF, 7)
_EIGHT_BYTES = 0xFFFFFFFFFFFFFFFF

# -- every device (SPC-4, clause 6) ------------------------------------------------------------------
MODE_SELECT_10 = Command(
    "MODE SELECT(10)",
    0x55,
    10,
    {"pf": Field(0x10, 1), "sp": Field(0x01, 1), "parameter_list_length": Field(0xFFFF, 7)},
)
MODE_SENSE_10 = Command(
    "MODE SENSE(10)",
    0x5A,
    10,
    {
        "llbaa": Field(0x10, 1),
        "dbd": Field(0x08, 1),
        "pc": Field(0xC0, 2),
        "page_code": Field(0x3F, 2),
        "subpage_code": Field(0xFF, 3),
        "allocation_length": _ALLOCATION_16,
    },
)
LOG_SELECT = Command(
    "LOG SELECT",
    0x4C,
    10,
    {
        "pcr": Field(0x02, 1),
        "sp": Field(0x01, 1),
        "pc": Field(0xC0, 2),
        "page_code": Field(0x3F, 2),
        "subpage_code": Field(0xFF, 3),
        "parameter_list_length": Field(0xFFFF, 7),
    },
)
RESERVE_10 = Command("RESERVE(10)", 0x56, 10, {})
RELEASE_10 = Command("RELEASE(10)", 0x57, 10, {})
PERSISTENT_RESERVE_IN = Command(
    "PERSISTENT RESERVE IN", 0x5E, 10, {"service_action": Field(0x1F, 1), "allocation_length": _ALLOCATION_16}
)
PERSISTENT_RESERVE_OUT = Command(
    "PERSISTENT RESERVE OUT",
    0x5F,
    10,
    {
        "service_action": Field(0x1F, 1),
        "scope": Field(0xF0, 2),
        "type": Field(0x0F, 2),
        "parameter_list_length": Field(0xFFFFFFFF, 5),
    },
)
MAINTENANCE_IN = Command(
    "MAINTENANCE IN",
    0xA3,
    12,
    {
        "service_action": Field(0x1F, 1),
        "rctd": Field(0x80, 2),
        "reporting_options": Field(0x07, 2),
        "opcode": Field(0xFF, 3),
        "requested_action": Field(0xFFFF, 4),
        "allocation_length": Field(0xFFFFFFFF, 6),
    },
)
READ_ATTRIBUTE = Command(
    "READ ATTRIBUTE",
    0x8C,
    16,
    {
        "service_action": Field(0x1F, 1),
        "volume": Field(0xFF, 5),
        "partition": Field(0xFF, 7),
        "first": Field(0xFFFF, 8),
        "allocation_length": Field(0xFFFFFFFF, 10),
        "cache": Field(0x01, 14),
    },
)
WRITE_ATTRIBUTE = Command(
    "WRITE ATTRIBUTE",
    0x8D,
    16,
    {
        "wtc": Field(0x01, 1),
        "volume": Field(0xFF, 5),
        "partition": Field(0xFF, 7),
        "parameter_list_length": Field(0xFFFFFFFF, 10),
    },
)

# -- tape drives (SSC-4, clauses 6 and 7) ------------------------------------------------------------
REPORT_DENSITY_SUPPORT = Command(
    "REPORT DENSITY SUPPORT",
    0x44,
    10,
    {"medium_type": Field(0x02, 1), "media": Field(0x01, 1), "allocation_length": _ALLOCATION_16},
)
SPACE_16 = Command(
    "SPACE(16)", 0x91, 16, {"code": Field(0x0F, 1), "count": Field(_EIGHT_BYTES, 4, signed=True)}
)
LOCATE_16 = Command(
    "LOCATE(16)",
    0x92,
    16,
    {
        "dest_type": Field(0x38, 1),
        "cp": Field(0x02, 1),
        "immed": Field(0x01, 1),
        "partition": Field(0xFF, 3),
        "identifier": Field(_EIGHT_BYTES, 4),
    },
)

# -- media changers (SMC-3, clause 6) ----------------------------------------------------------------
POSITION_TO_ELEMENT = Command(
    "POSITION TO ELEMENT",
    0x2B,
    10,
    {"transport": Field(0xFFFF, 2), "destination": Field(0xFFFF, 4), "invert": Field(0x01, 8)},
)
INITIALIZE_WITH_RANGE = Command(
    "INITIALIZE ELEMENT STATUS WITH RANGE",
    0x37,
    10,
    {
        "fast": Field(0x02, 1),
        "range": Field(0x01, 1),
        "start": Field(0xFFFF, 2),
        "count": Field(0xFFFF, 6),
    },
)
