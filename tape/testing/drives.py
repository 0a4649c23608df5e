"""What any tape drive must do.  All checks but the first OVERWRITE the loaded cartridge."""

from __future__ import annotations

from collections.abc import Collection

from tape.drive import Drive
from tape.errors import (
    BlankCheckError,
    DeviceError,
    EndOfMediumError,
    FilemarkError,
    UnitAttentionError,
    WriteProtectedError,
)
from tape.identity import DeviceKind
from tape.sense import Sense, SenseKey
from tape.testing.base import READY_TIMEOUT_S, Cannot, Check, ConformanceError, need, require, require_error
from tape.transport import ScsiStatus, Transport

__all__ = [
    "DRIVE_CHECKS",
    "check_blank_check",
    "check_drive_identity",
    "check_end_of_tape",
    "check_filemarks",
    "check_load_attention",
    "check_locate",
    "check_long_read",
    "check_overwrite_truncates",
    "check_position",
    "check_records",
    "check_short_read",
    "check_space_filemarks",
    "check_space_records",
    "check_unknown_command",
    "check_write_protected",
]

# Neither a multiple of 512 nor of 4: shows whoever rounds.
ODD_LENGTH = 1021
# The project's record size.
RECORD_LENGTH = 256 * 1024


def _pattern(seed: int, length: int) -> bytes:
    """Return bytes that differ between records and between places of one record."""
    unit = b"".join(((seed * 65_537 + place) & 0xFFFFFFFF).to_bytes(4, "big") for place in range(256))
    return (unit * (length // len(unit) + 1))[:length]


def _drive(transport: Transport) -> Drive:
    """Return a drive at the beginning of its tape, in variable-block mode."""
    drive = Drive(transport)
    drive.wait_ready(READY_TIMEOUT_S)
    drive.set_variable_block()
    drive.rewind()
    return drive


def _write_three_files(drive: Drive) -> None:
    """Write files of three, two and one record of ODD_LENGTH bytes, each closed by a filemark."""
    drive.rewind()
    for number, count in enumerate((3, 2, 1)):
        for record in range(count):
            drive.write(_pattern(number * 10 + record, ODD_LENGTH))
        drive.write_filemarks(1)
    drive.rewind()


def _require_record(drive: Drive, number: int, record: int, promise: str) -> None:
    """Read one record of the three files, which must be the one given."""
    try:
        found = drive.read(ODD_LENGTH)
    except DeviceError as error:
        raise ConformanceError(f"{promise}; found {type(error).__name__}: {error}") from error
    require(found == _pattern(number * 10 + record, ODD_LENGTH), promise, found[:16].hex())


def check_drive_identity(transport: Transport, _cannot: Collection[Cannot]) -> None:
    """A drive says that it is one, with names and a serial number."""
    identity = Drive(transport).identify()
    require(identity.kind is DeviceKind.DRIVE, "INQUIRY says tape drive", identity.kind)
    require(bool(identity.vendor and identity.product), "it has vendor and product", identity)
    require(bool(identity.serial), "VPD page 80h has a serial number", identity)


def check_records(transport: Transport, _cannot: Collection[Cannot]) -> None:
    """Records come back as written, each with its own length."""
    drive = _drive(transport)
    lengths = (ODD_LENGTH, 512, RECORD_LENGTH, 64 * 1024)
    for seed, length in enumerate(lengths):
        require(not drive.write(_pattern(seed, length)), "no early warning on an empty tape")
    drive.write_filemarks(1)
    drive.rewind()
    for seed, length in enumerate(lengths):
        require(drive.read(length) == _pattern(seed, length), f"record {seed} comes back as written")
    buffer = transport.buffer(RECORD_LENGTH)
    drive.rewind()
    drive.read(ODD_LENGTH)
    drive.read(512)
    require(drive.read_into(buffer) == RECORD_LENGTH, "a record fills the transport's buffer")
    require(bytes(buffer) == _pattern(2, RECORD_LENGTH), "a record arrives in the transport's buffer")


def check_short_read(transport: Transport, cannot: Collection[Cannot]) -> None:
    """Asking for more than the record has gives the record and its true length."""
    need(cannot, Cannot.SHORT_READ)
    drive = _drive(transport)
    _write_three_files(drive)
    found = drive.read(RECORD_LENGTH)
    require(found == _pattern(0, ODD_LENGTH), "a short record arrives whole", len(found))
    require(drive.last_record_length == ODD_LENGTH, "ILI tells its length", drive.last_record_length)
    _require_record(drive, 0, 1, "the tape stands behind the record")


def check_long_read(transport: Transport, cannot: Collection[Cannot]) -> None:
    """Asking for less than the record has gives its beginning and its true length."""
    need(cannot, Cannot.LONG_READ)
    drive = _drive(transport)
    _write_three_files(drive)
    found = drive.read(100)
    require(found == _pattern(0, 100), "the beginning of a longer record arrives", len(found))
    require(drive.last_record_length == ODD_LENGTH, "ILI tells its length", drive.last_record_length)
    _require_record(drive, 0, 1, "the tape stands behind the record, not within it")


def check_filemarks(transport: Transport, _cannot: Collection[Cannot]) -> None:
    """A filemark ends reading, and the tape then stands behind it."""
    drive = _drive(transport)
    _write_three_files(drive)
    for record in range(3):
        _require_record(drive, 0, record, "records of the first file in order")
    require_error(FilemarkError, lambda: drive.read(ODD_LENGTH), "a filemark follows the third record")
    require((drive.file_number, drive.block_number) == (1, 0), "file 1, record 0 comes next")
    _require_record(drive, 1, 0, "behind the filemark lies the next file")


def check_blank_check(transport: Transport, _cannot: Collection[Cannot]) -> None:
    """Behind the last object is the end of data, however often one asks."""
    drive = _drive(transport)
    _write_three_files(drive)
    drive.space_end_of_data()
    for _ in range(2):
        require_error(BlankCheckError, lambda: drive.read(ODD_LENGTH), "reading there is BLANK CHECK")


def check_overwrite_truncates(transport: Transport, _cannot: Collection[Cannot]) -> None:
    """A record written in the middle becomes the last one."""
    drive = _drive(transport)
    _write_three_files(drive)
    drive.read(ODD_LENGTH)
    drive.write(_pattern(99, ODD_LENGTH))
    drive.rewind()
    drive.read(ODD_LENGTH)
    found = drive.read(ODD_LENGTH)
    require(found == _pattern(99, ODD_LENGTH), "the new record replaces the old one")
    require_error(BlankCheckError, lambda: drive.read(ODD_LENGTH), "nothing is left behind it")


def check_space_filemarks(transport: Transport, cannot: Collection[Cannot]) -> None:
    """Spacing over filemarks goes behind the last forwards and before it backwards."""
    drive = _drive(transport)
    _write_three_files(drive)
    require(drive.space_filemarks(2) == 0, "two filemarks are there to be passed")
    _require_record(drive, 2, 0, "the third file begins behind the second filemark")
    if Cannot.SPACE_BACK_FILEMARKS not in cannot:
        require(drive.space_filemarks(-1) == 0, "one filemark lies before the third file")
        require_error(FilemarkError, lambda: drive.read(ODD_LENGTH), "the tape stands before that filemark")
    if Cannot.SPACE_REST not in cannot:
        drive.rewind()
        require(drive.space_filemarks(5) == 2, "two of five filemarks are missing at the end of data")
        require(isinstance(drive.last_stop, BlankCheckError), "that is BLANK CHECK", drive.last_stop)
        require(drive.space_filemarks(-5) == 2, "and two at the beginning of the tape")
        require(isinstance(drive.last_stop, EndOfMediumError), "where EOM is set", drive.last_stop)
        _require_record(drive, 0, 0, "the tape then stands at its beginning")


def check_space_records(transport: Transport, cannot: Collection[Cannot]) -> None:
    """Spacing over records counts records and stops at a filemark."""
    drive = _drive(transport)
    _write_three_files(drive)
    require(drive.space_records(2) == 0, "two records are there to be passed")
    _require_record(drive, 0, 2, "the third record comes next")
    require(drive.space_records(-2) == 0, "and two lie before that again")
    _require_record(drive, 0, 1, "the second record comes next")
    if Cannot.SPACE_RECORDS_STOP in cannot or Cannot.SPACE_REST in cannot:
        return
    require(drive.space_records(4) == 3, "the filemark behind the third record stops it")
    require(isinstance(drive.last_stop, FilemarkError), "and says so", drive.last_stop)
    _require_record(drive, 1, 0, "the tape stands behind that filemark")
    require(drive.space_records(-3) == 2, "backwards it stops at the filemark, too")
    require_error(FilemarkError, lambda: drive.read(ODD_LENGTH), "then before that filemark")


def check_position(transport: Transport, cannot: Collection[Cannot]) -> None:
    """READ POSITION counts records and filemarks alike."""
    need(cannot, Cannot.POSITION)
    drive = _drive(transport)
    _write_three_files(drive)
    start = drive.position()
    require(start is not None and start.bop and start.block == 0, "block 0, BOP, at the beginning", start)
    drive.space_filemarks(1)
    behind = drive.position()
    require(behind is not None and not behind.bop and behind.block == 4, "then block 4", behind)


def check_locate(transport: Transport, cannot: Collection[Cannot]) -> None:
    """LOCATE goes where READ POSITION was, and not behind the end of data."""
    need(cannot, Cannot.LOCATE)
    drive = _drive(transport)
    _write_three_files(drive)
    drive.locate(5)
    _require_record(drive, 1, 1, "block 5 is the second record of the second file")
    require_error(BlankCheckError, lambda: drive.locate(1000), "block 1000 lies behind the end of data")


def check_unknown_command(transport: Transport, _cannot: Collection[Cannot]) -> None:
    """A command nobody defined is refused and changes nothing."""
    drive = _drive(transport)
    done = transport.execute(bytes([0x02, 0, 0, 0, 0, 0]))
    require(done.status == ScsiStatus.CHECK_CONDITION, "CHECK CONDITION", done)
    sense = Sense.parse(done.sense)
    is_refusal = sense.key == SenseKey.ILLEGAL_REQUEST and sense.code == (0x20, 0x00)
    require(is_refusal, "ILLEGAL REQUEST 20/00", sense.text)
    drive.test_ready()


def check_load_attention(transport: Transport, cannot: Collection[Cannot]) -> None:
    """Unloading makes the drive not ready; loading again is told once by a unit attention."""
    need(cannot, Cannot.RELOAD)
    drive = _drive(transport)
    drive.unload()
    if Cannot.UNLOAD not in cannot:
        require_error(DeviceError, drive.test_ready, "an unloaded drive is not ready")
    drive.load()
    if Cannot.LOAD_ATTENTION not in cannot:
        error = require_error(UnitAttentionError, drive.test_ready, "a load is told by UNIT ATTENTION")
        require(error.sense is not None and error.sense.asc == 0x28, "28h, medium may have changed", error)
    drive.wait_ready(READY_TIMEOUT_S)


def check_end_of_tape(transport: Transport, cannot: Collection[Cannot], limit_bytes: int) -> None:
    """Early warning comes with a good write; a trailer still fits; then the tape overflows.

    Not in DRIVE_CHECKS: it fills the tape, and gives up after `limit_bytes`.
    """
    drive = _drive(transport)
    record = _pattern(7, RECORD_LENGTH)
    count, warned = 0, False
    while not warned:
        require(count * RECORD_LENGTH < limit_bytes, f"early warning within {limit_bytes} bytes")
        warned = drive.write(record)
        count += 1
    drive.write_filemarks(1)
    require(drive.write(record[:ODD_LENGTH]), "writes behind early warning succeed with the same warning")
    drive.write_filemarks(1)
    if Cannot.OVERFLOW not in cannot:
        require_error(EndOfMediumError, lambda: _fill(drive, record, limit_bytes), "then VOLUME OVERFLOW")
    drive.rewind()
    require(drive.space_records(count - 1) == 0, "all records before the warning are there")
    require(drive.read(RECORD_LENGTH) == record, "and the one that was warned about, too")


def _fill(drive: Drive, record: bytes, limit_bytes: int) -> None:
    """Write until the drive refuses."""
    for _ in range(limit_bytes // len(record) + 1):
        drive.write(record)


def check_write_protected(transport: Transport, _cannot: Collection[Cannot]) -> None:
    """With a write-protected cartridge loaded: it says so, and refuses.  Not in DRIVE_CHECKS."""
    drive = _drive(transport)
    require(drive.write_protected(), "MODE SENSE says write protected")
    require_error(WriteProtectedError, lambda: drive.write(b"x" * 512), "a write is refused")
    require_error(WriteProtectedError, lambda: drive.write_filemarks(1), "and so is a filemark")


DRIVE_CHECKS: tuple[Check, ...] = (
    check_drive_identity,
    check_records,
    check_short_read,
    check_long_read,
    check_filemarks,
    check_blank_check,
    check_overwrite_truncates,
    check_space_filemarks,
    check_space_records,
    check_position,
    check_locate,
    check_unknown_command,
    check_load_attention,
)
