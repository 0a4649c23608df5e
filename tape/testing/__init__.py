"""What any drive and any changer must do, as checks to run on a transport.

The same checks run on the library model in unit tests, and on sg nodes in front of tgt, mhvtl or
hardware.  What a library is known to be unable to do is declared (`Cannot`) and then not asked of it; a
check that finds something else raises ConformanceError with the promise that was broken.

    for check in DRIVE_CHECKS:
        check(transport, TGT_CANNOT)

The drive checks OVERWRITE the cartridge that is loaded.  They write with exact lengths and read the same
way, except where a check is about just that, so that one fault does not spoil all of them.
"""

from tape.testing.base import MHVTL_CANNOT, TGT_CANNOT, Cannot, Check, ConformanceError
from tape.testing.changers import (
    CHANGER_CHECKS,
    check_changer_identity,
    check_drive_serials,
    check_empty_source,
    check_full_destination,
    check_inventory,
    check_move_and_back,
)
from tape.testing.drives import (
    DRIVE_CHECKS,
    check_blank_check,
    check_drive_identity,
    check_end_of_tape,
    check_filemarks,
    check_load_attention,
    check_locate,
    check_long_read,
    check_overwrite_truncates,
    check_position,
    check_records,
    check_short_read,
    check_space_filemarks,
    check_space_records,
    check_unknown_command,
    check_write_protected,
)

__all__ = [
    "CHANGER_CHECKS",
    "DRIVE_CHECKS",
    "MHVTL_CANNOT",
    "TGT_CANNOT",
    "Cannot",
    "Check",
    "ConformanceError",
    "check_blank_check",
    "check_changer_identity",
    "check_drive_identity",
    "check_drive_serials",
    "check_empty_source",
    "check_end_of_tape",
    "check_filemarks",
    "check_full_destination",
    "check_inventory",
    "check_load_attention",
    "check_locate",
    "check_long_read",
    "check_move_and_back",
    "check_overwrite_truncates",
    "check_position",
    "check_records",
    "check_short_read",
    "check_space_filemarks",
    "check_space_records",
    "check_unknown_command",
    "check_write_protected",
]
