"""What any drive and any changer must do, as checks to run on a transport.

The same checks run on the library model in unit tests, and on sg nodes in front of tgt, mhvtl or
hardware.  What a library is known to be unable to do is declared (`Cannot`) and then not asked of it; a
check that finds something else raises ConformanceError with the promise that was broken.

    for check in DRIVE_CHECKS:
        check(transport, TGT_CANNOT)

The drive checks OVERWRITE the cartridge that is loaded.  They write with exact lengths and read the same
way, except where a check is about just that, so that one fault does not spoil all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto

from tape.changer import Changer
from tape.drive import Drive
from tape.errors import (
    BlankCheckError,
    DeviceError,
    EndOfMediumError,
    FilemarkError,
    IllegalRequestError,
    UnitAttentionError,
    WriteProtectedError,
)
from tape.identity import DeviceKind
from tape.sense import SenseKey
from tape.transport import Transport

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

# A changer that has just been switched on may look at its whole inventory first.
READY_TIMEOUT_S = 300.0
# Neither a multiple of 512 nor of 4: shows whoever rounds.
ODD_LENGTH = 1021
# The project's record size.
RECORD_LENGTH = 256 * 1024


class Cannot(Enum):
    """Something a library is known not to do (tape.md says which and why)."""

    SHORT_READ = auto()  # read with a buffer larger than the record
    LONG_READ = auto()  # read with a buffer smaller than the record
    SPACE_BACK_FILEMARKS = auto()  # stop right before the filemark
    SPACE_RECORDS_STOP = auto()  # stop record spacing at a filemark
    SPACE_REST = auto()  # say how much of a space was left
    POSITION = auto()  # READ POSITION
    LOCATE = auto()
    OVERFLOW = auto()  # VOLUME OVERFLOW at the end of the tape
    LOAD_ATTENTION = auto()  # UNIT ATTENTION 28/00 after a load
    RELOAD = auto()  # LOAD after UNLOAD
    DRIVE_SERIALS = auto()  # DVCID, of every drive


TGT_CANNOT = frozenset(
    {
        Cannot.SHORT_READ,
        Cannot.LONG_READ,
        Cannot.SPACE_BACK_FILEMARKS,
        Cannot.SPACE_RECORDS_STOP,
        Cannot.SPACE_REST,
        Cannot.POSITION,
        Cannot.LOCATE,
        Cannot.OVERFLOW,
        Cannot.LOAD_ATTENTION,
        Cannot.DRIVE_SERIALS,
    }
)
MHVTL_CANNOT = frozenset({Cannot.SPACE_REST, Cannot.LOAD_ATTENTION, Cannot.RELOAD})

Check = Callable[[Transport, frozenset[Cannot]], None]


class ConformanceError(AssertionError):
    """A device broke a promise; the text is the promise, and what came instead."""


def _require(condition: bool, promise: str, found: object = "") -> None:
    if not condition:
        raise ConformanceError(f"{promise}; found {found!r}" if found != "" else promise)


def _require_error(expected: type[DeviceError], action: Callable[[], object], promise: str) -> DeviceError:
    """Return the error that `action` must end with."""
    try:
        result = action()
    except expected as error:
        return error
    except DeviceError as error:
        raise ConformanceError(f"{promise}; found {type(error).__name__}: {error}") from error
    raise ConformanceError(f"{promise}; found no error, but {result!r}")


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
    found = drive.read(ODD_LENGTH)
    _require(found == _pattern(number * 10 + record, ODD_LENGTH), promise, found[:16].hex())


# -- drives --------------------------------------------------------------------------------------------
def check_drive_identity(transport: Transport, _cannot: frozenset[Cannot]) -> None:
    """A drive says that it is one, with names and a serial number."""
    identity = Drive(transport).identify()
    _require(identity.kind is DeviceKind.DRIVE, "INQUIRY says tape drive", identity.kind)
    _require(bool(identity.vendor and identity.product), "it has vendor and product", identity)
    _require(bool(identity.serial), "VPD page 80h has a serial number", identity)


def check_records(transport: Transport, _cannot: frozenset[Cannot]) -> None:
    """Records come back as written, each with its own length."""
    drive = _drive(transport)
    lengths = (ODD_LENGTH, 512, RECORD_LENGTH, 64 * 1024)
    for seed, length in enumerate(lengths):
        _require(not drive.write(_pattern(seed, length)), "no early warning on an empty tape")
    drive.write_filemarks(1)
    drive.rewind()
    for seed, length in enumerate(lengths):
        _require(drive.read(length) == _pattern(seed, length), f"record {seed} comes back as written")
    buffer = transport.buffer(RECORD_LENGTH)
    drive.rewind()
    drive.read(ODD_LENGTH)
    drive.read(512)
    _require(drive.read_into(buffer) == RECORD_LENGTH, "a record fills the transport's buffer")
    _require(bytes(buffer) == _pattern(2, RECORD_LENGTH), "a record arrives in the transport's buffer")


def check_short_read(transport: Transport, cannot: frozenset[Cannot]) -> None:
    """Asking for more than the record has gives the record and its true length."""
    if Cannot.SHORT_READ in cannot:
        return
    drive = _drive(transport)
    _write_three_files(drive)
    found = drive.read(RECORD_LENGTH)
    _require(found == _pattern(0, ODD_LENGTH), "a short record arrives whole", len(found))
    _require(drive.last_record_length == ODD_LENGTH, "ILI tells its length", drive.last_record_length)
    _require_record(drive, 0, 1, "the tape stands behind the record")


def check_long_read(transport: Transport, cannot: frozenset[Cannot]) -> None:
    """Asking for less than the record has gives its beginning and its true length."""
    if Cannot.LONG_READ in cannot:
        return
    drive = _drive(transport)
    _write_three_files(drive)
    found = drive.read(100)
    _require(found == _pattern(0, 100), "the beginning of a longer record arrives", len(found))
    _require(drive.last_record_length == ODD_LENGTH, "ILI tells its length", drive.last_record_length)
    _require_record(drive, 0, 1, "the tape stands behind the record, not within it")


def check_filemarks(transport: Transport, _cannot: frozenset[Cannot]) -> None:
    """A filemark ends reading, and the tape then stands behind it."""
    drive = _drive(transport)
    _write_three_files(drive)
    for record in range(3):
        _require_record(drive, 0, record, "records of the first file in order")
    _require_error(FilemarkError, lambda: drive.read(ODD_LENGTH), "a filemark follows the third record")
    _require((drive.file_number, drive.block_number) == (1, 0), "file 1, record 0 comes next")
    _require_record(drive, 1, 0, "behind the filemark lies the next file")


def check_blank_check(transport: Transport, _cannot: frozenset[Cannot]) -> None:
    """Behind the last object is the end of data, however often one asks."""
    drive = _drive(transport)
    _write_three_files(drive)
    drive.space_end_of_data()
    for _ in range(2):
        _require_error(BlankCheckError, lambda: drive.read(ODD_LENGTH), "reading there is BLANK CHECK")


def check_overwrite_truncates(transport: Transport, _cannot: frozenset[Cannot]) -> None:
    """A record written in the middle becomes the last one."""
    drive = _drive(transport)
    _write_three_files(drive)
    drive.read(ODD_LENGTH)
    drive.write(_pattern(99, ODD_LENGTH))
    drive.rewind()
    drive.read(ODD_LENGTH)
    found = drive.read(ODD_LENGTH)
    _require(found == _pattern(99, ODD_LENGTH), "the new record replaces the old one")
    _require_error(BlankCheckError, lambda: drive.read(ODD_LENGTH), "nothing is left behind it")


def check_space_filemarks(transport: Transport, cannot: frozenset[Cannot]) -> None:
    """Spacing over filemarks goes behind the last forwards and before it backwards."""
    drive = _drive(transport)
    _write_three_files(drive)
    _require(drive.space_filemarks(2) == 0, "two filemarks are there to be passed")
    _require_record(drive, 2, 0, "the third file begins behind the second filemark")
    if Cannot.SPACE_BACK_FILEMARKS not in cannot:
        _require(drive.space_filemarks(-1) == 0, "one filemark lies before the third file")
        _require_error(FilemarkError, lambda: drive.read(ODD_LENGTH), "the tape stands before that filemark")
    if Cannot.SPACE_REST not in cannot:
        drive.rewind()
        _require(drive.space_filemarks(5) == 2, "two of five filemarks are missing at the end of data")
        _require(isinstance(drive.last_stop, BlankCheckError), "that is BLANK CHECK", drive.last_stop)
        _require(drive.space_filemarks(-5) == 2, "and two at the beginning of the tape")
        _require(isinstance(drive.last_stop, EndOfMediumError), "where EOM is set", drive.last_stop)
        _require_record(drive, 0, 0, "the tape then stands at its beginning")


def check_space_records(transport: Transport, cannot: frozenset[Cannot]) -> None:
    """Spacing over records counts records and stops at a filemark."""
    drive = _drive(transport)
    _write_three_files(drive)
    _require(drive.space_records(2) == 0, "two records are there to be passed")
    _require_record(drive, 0, 2, "the third record comes next")
    _require(drive.space_records(-2) == 0, "and two lie before that again")
    _require_record(drive, 0, 1, "the second record comes next")
    if cannot & {Cannot.SPACE_RECORDS_STOP, Cannot.SPACE_REST}:
        return
    _require(drive.space_records(4) == 3, "the filemark behind the third record stops it")
    _require(isinstance(drive.last_stop, FilemarkError), "and says so", drive.last_stop)
    _require_record(drive, 1, 0, "the tape stands behind that filemark")
    _require(drive.space_records(-3) == 2, "backwards it stops at the filemark, too")
    _require_error(FilemarkError, lambda: drive.read(ODD_LENGTH), "then before that filemark")


def check_position(transport: Transport, cannot: frozenset[Cannot]) -> None:
    """READ POSITION counts records and filemarks alike."""
    if Cannot.POSITION in cannot:
        return
    drive = _drive(transport)
    _write_three_files(drive)
    start = drive.position()
    _require(start is not None and start.bop and start.block == 0, "block 0, BOP, at the beginning", start)
    drive.space_filemarks(1)
    behind = drive.position()
    _require(behind is not None and not behind.bop and behind.block == 4, "then block 4", behind)


def check_locate(transport: Transport, cannot: frozenset[Cannot]) -> None:
    """LOCATE goes where READ POSITION was, and not behind the end of data."""
    if Cannot.LOCATE in cannot:
        return
    drive = _drive(transport)
    _write_three_files(drive)
    drive.locate(5)
    _require_record(drive, 1, 1, "block 5 is the second record of the second file")
    _require_error(BlankCheckError, lambda: drive.locate(1000), "block 1000 lies behind the end of data")


def check_unknown_command(transport: Transport, _cannot: frozenset[Cannot]) -> None:
    """A command nobody defined is refused and changes nothing."""
    drive = _drive(transport)
    done = transport.execute(bytes([0x02, 0, 0, 0, 0, 0]))
    _require(done.status == 0x02 and len(done.sense) >= 14, "CHECK CONDITION with sense data", done)
    code = (done.sense[2] & 0x0F, done.sense[12], done.sense[13])
    _require(code == (SenseKey.ILLEGAL_REQUEST, 0x20, 0x00), "ILLEGAL REQUEST 20/00", code)
    drive.test_ready()


def check_load_attention(transport: Transport, cannot: frozenset[Cannot]) -> None:
    """Unloading makes the drive not ready; loading again is told once by a unit attention."""
    if Cannot.RELOAD in cannot:
        return
    drive = _drive(transport)
    drive.unload()
    _require_error(DeviceError, drive.test_ready, "an unloaded drive is not ready")
    drive.load()
    if Cannot.LOAD_ATTENTION not in cannot:
        error = _require_error(UnitAttentionError, drive.test_ready, "a load is told by UNIT ATTENTION")
        _require(error.sense is not None and error.sense.asc == 0x28, "28h, medium may have changed", error)
    drive.wait_ready(READY_TIMEOUT_S)


def check_end_of_tape(transport: Transport, cannot: frozenset[Cannot], limit_bytes: int) -> None:
    """Early warning comes with a good write; a trailer still fits; then the tape overflows.

    Not in DRIVE_CHECKS: it fills the tape, and gives up after `limit_bytes`.
    """
    drive = _drive(transport)
    record = _pattern(7, RECORD_LENGTH)
    count, warned = 0, False
    while not warned:
        _require(count * RECORD_LENGTH < limit_bytes, f"early warning within {limit_bytes} bytes")
        warned = drive.write(record)
        count += 1
    drive.write_filemarks(1)
    _require(drive.write(record[:ODD_LENGTH]), "writes behind early warning succeed with the same warning")
    drive.write_filemarks(1)
    if Cannot.OVERFLOW not in cannot:
        _require_error(EndOfMediumError, lambda: _fill(drive, record, limit_bytes), "then VOLUME OVERFLOW")
    drive.rewind()
    _require(drive.space_records(count - 1) == 0, "all records before the warning are there")
    _require(drive.read(RECORD_LENGTH) == record, "and the one that was warned about, too")


def _fill(drive: Drive, record: bytes, limit_bytes: int) -> None:
    """Write until the drive refuses."""
    for _ in range(limit_bytes // len(record) + 1):
        drive.write(record)


def check_write_protected(transport: Transport, _cannot: frozenset[Cannot]) -> None:
    """With a write-protected cartridge loaded: it says so, and refuses.  Not in DRIVE_CHECKS."""
    drive = _drive(transport)
    _require(drive.write_protected(), "MODE SENSE says write protected")
    _require_error(WriteProtectedError, lambda: drive.write(b"x" * 512), "a write is refused")
    _require_error(WriteProtectedError, lambda: drive.write_filemarks(1), "and so is a filemark")


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


# -- changers ------------------------------------------------------------------------------------------
def _changer(transport: Transport) -> Changer:
    changer = Changer(transport)
    changer.wait_ready(READY_TIMEOUT_S)
    return changer


def _slots(changer: Changer) -> tuple[int, int]:
    """Return the addresses of a full and of an empty slot, which the checks need."""
    slots = changer.inventory().slots
    full = [slot.address for slot in slots if slot.full]
    empty = [slot.address for slot in slots if not slot.full]
    _require(bool(full and empty), "the library has a full and an empty slot, as these checks need")
    return full[0], empty[0]


def check_changer_identity(transport: Transport, _cannot: frozenset[Cannot]) -> None:
    """A changer says that it is one, with a serial number."""
    identity = Changer(transport).identify()
    _require(identity.kind is DeviceKind.CHANGER, "INQUIRY says medium changer", identity.kind)
    _require(bool(identity.serial), "VPD page 80h has a serial number", identity)


def check_inventory(transport: Transport, _cannot: frozenset[Cannot]) -> None:
    """The report is complete: an arm, drives, slots, each address once, each barcode once."""
    inventory = _changer(transport).inventory()
    _require(
        bool(inventory.arms and inventory.slots and inventory.drives), "arm, slots and drives", inventory
    )
    addresses = [element.address for element in inventory.elements]
    _require(len(set(addresses)) == len(addresses), "each address occurs once", addresses)
    barcodes = [element.barcode for element in inventory.elements if element.full]
    _require(None not in barcodes, "every cartridge has a barcode", barcodes)
    _require(len(set(barcodes)) == len(barcodes), "each barcode occurs once", barcodes)


def check_drive_serials(transport: Transport, cannot: frozenset[Cannot]) -> None:
    """Each drive element names its drive's serial number (DVCID)."""
    if Cannot.DRIVE_SERIALS in cannot:
        return
    serials = [element.serial for element in _changer(transport).inventory().drives]
    _require(None not in serials and len(set(serials)) == len(serials), "each drive has its own", serials)


def check_move_and_back(transport: Transport, _cannot: frozenset[Cannot]) -> None:
    """A cartridge that was moved is in the new slot only, and can be brought back."""
    changer = _changer(transport)
    full, empty = _slots(changer)
    before = changer.inventory()
    origin = before.at(full)
    barcode = origin.barcode if origin is not None else None
    changer.move(full, empty)
    after = changer.inventory()
    there, here = after.at(empty), after.at(full)
    _require(there is not None and there.barcode == barcode, "the cartridge arrived", there)
    _require(here is not None and not here.full, "and left its slot empty", here)
    changer.move(empty, full)
    back = changer.inventory().at(full)
    _require(back is not None and back.barcode == barcode, "and came back", back)


def check_empty_source(transport: Transport, _cannot: frozenset[Cannot]) -> None:
    """Taking from an empty element is refused with 05/3b/0e."""
    changer = _changer(transport)
    full, empty = _slots(changer)
    error = _require_error(
        IllegalRequestError, lambda: changer.move(empty, full), "an empty source is refused"
    )
    _require(error.sense is not None and error.sense.code == (0x3B, 0x0E), "with 3b/0e", error)


def check_full_destination(transport: Transport, _cannot: frozenset[Cannot]) -> None:
    """Putting onto a full element is refused with 05/3b/0d, and nothing moves."""
    changer = _changer(transport)
    slots = [slot for slot in changer.inventory().slots if slot.full]
    _require(len(slots) > 1, "the library has two full slots, as this check needs")
    error = _require_error(
        IllegalRequestError,
        lambda: changer.move(slots[0].address, slots[1].address),
        "a full destination is refused",
    )
    _require(error.sense is not None and error.sense.code == (0x3B, 0x0D), "with 3b/0d", error)
    barcodes = [slot.barcode for slot in changer.inventory().slots if slot.full]
    _require(barcodes == [slot.barcode for slot in slots], "and nothing has moved", barcodes)


CHANGER_CHECKS: tuple[Check, ...] = (
    check_changer_identity,
    check_inventory,
    check_drive_serials,
    check_move_and_back,
    check_empty_source,
    check_full_destination,
)
