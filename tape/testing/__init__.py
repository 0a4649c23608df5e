"""What any drive and any changer must do, as checks to run on a transport.

The same checks run on the library model in unit tests, and on sg nodes in front of tgt, mhvtl or
hardware.  What a kind of library is known to be unable to do is declared with the reason (`KINDS`) and then
not asked of it: a check about just that raises SkippedCheck.  One that finds a broken promise raises
ConformanceError.  `python -m tape.testing` runs them on sg nodes.

    for check in DRIVE_CHECKS:
        check(transport, TGT_CANNOT)

The drive checks OVERWRITE the cartridge that is loaded.  They write with exact lengths and read the same
way, except where a check is about just that, so that one fault does not spoil all of them.
"""

from tape.testing.base import (
    KINDS,
    MHVTL_CANNOT,
    TGT_CANNOT,
    Cannot,
    Check,
    ConformanceError,
    SkippedCheck,
)
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
    "KINDS",
    "MHVTL_CANNOT",
    "TGT_CANNOT",
    "Cannot",
    "Check",
    "ConformanceError",
    "SkippedCheck",
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
