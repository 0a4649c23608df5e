"""What is on a cartridge, before something overwrites it."""

from __future__ import annotations

from appliance.backupserver.labels import RECORD_BYTES, ForeignRecordError, Label
from appliance.errors import JobError
from tape.drive import Drive
from tape.errors import BlankCheckError, DeviceError, FilemarkError


def require_blank_or(force: bool, drive: Drive, barcode: str, verb: str) -> None:
    """Refuse a cartridge that is not known to be blank, unless the operator insists.

    `verb` is the subcommand.  Raises JobError.
    """
    if force:
        return
    found = _contents(drive)
    if found:
        raise JobError(f"{barcode} {found}; `spanreel tape {verb} {barcode} --force` destroys that")


def _contents(drive: Drive) -> str:
    """Say what the first record of the tape is; empty when the tape is blank."""
    drive.set_variable_block()
    drive.rewind()
    try:
        record = drive.read(RECORD_BYTES)
    except BlankCheckError:
        return ""
    except FilemarkError:
        return "begins with a filemark"
    except DeviceError as error:
        return f"cannot be read ({error.what}), so what it holds is not known"
    try:
        return f"carries the label of {Label.parse(record).barcode}"
    except ForeignRecordError as error:
        return f"holds {error}"
