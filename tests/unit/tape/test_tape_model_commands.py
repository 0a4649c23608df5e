"""Commands of the library model that the product does not send; each test names the clause it is about."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tape_support import (
    BARCODES,
    CHANGER,
    DRIVE,
    FIRST_DRIVE,
    FIRST_PORT,
    FIRST_SLOT,
    loaded,
    spec,
    write_files,
)

from tape import commands, errors
from tape.changer import Changer
from tape.commands import Command
from tape.drive import Drive
from tape.errors import TapeMisuseError
from tape.model import LibraryModel
from tape.model import commands as more
from tape.sense import Sense
from tape.transport import Completion, ScsiStatus, Transport

OTHER = "another initiator"
ROOM = 4096


@pytest.fixture
def library(tmp_path: Path) -> Iterator[LibraryModel]:
    """A library whose first drive is loaded."""
    model = loaded(tmp_path)
    yield model
    model.close()


@pytest.fixture
def path(library: LibraryModel) -> Transport:
    """The loaded drive."""
    return library.transport(DRIVE)


def ask(path: Transport, command: Command, **values: int) -> bytes:
    """Return the data of a command that must succeed."""
    room = (
        {"allocation_length": 255 if command.length == 6 else ROOM}
        if "allocation_length" in command.fields
        else {}
    )
    done = path.execute(command.cdb(**{**room, **values}), data_in_length=ROOM)
    assert done.status == ScsiStatus.GOOD, Sense.parse(done.sense).text
    return done.data


def tell(path: Transport, command: Command, data: bytes, **values: int) -> Completion:
    """Send data with a command."""
    return path.execute(command.cdb(parameter_list_length=len(data), **values), data_out=data)


def sense(done: Completion) -> tuple[int, int, int]:
    """The report a command ended with."""
    assert done.status == ScsiStatus.CHECK_CONDITION
    found = Sense.parse(done.sense)
    return found.key, found.asc, found.ascq


def attribute(number: int, value: bytes, form: int = 1) -> bytes:
    """One attribute in a list."""
    return number.to_bytes(2, "big") + bytes([form]) + len(value).to_bytes(2, "big") + value


def listed(*attributes: bytes) -> bytes:
    """A parameter list."""
    body = b"".join(attributes)
    return len(body).to_bytes(4, "big") + body


# -- SPC-4 ---------------------------------------------------------------------------------------------
def test_vpd_pages(path: Transport, library: LibraryModel) -> None:
    """SPC-4 7.8 and SSC-4 8.5.2: pages are listed; B0h, WORM supported, is the drive's only."""
    assert ask(path, commands.INQUIRY, evpd=1)[4:] == bytes([0x00, 0x80, 0x83, 0xB0])
    assert ask(path, commands.INQUIRY, evpd=1, page_code=0xB0) == bytes([1, 0xB0, 0, 2, 1, 0])
    assert 0xB0 not in ask(library.transport(CHANGER), commands.INQUIRY, evpd=1)[4:]


def test_mode_pages_in_both_lengths(path: Transport) -> None:
    """SPC-4 6.13 and 6.14: the same pages behind headers of 4 and 8 bytes; DBD leaves the descriptor out."""
    short = ask(path, commands.MODE_SENSE_6, page_code=0x0F, dbd=1)
    long = ask(path, more.MODE_SENSE_10, page_code=0x0F, dbd=1)
    assert short[4:] == long[8:]
    assert (short[0], int.from_bytes(long[:2], "big")) == (len(short) - 1, len(long) - 2)
    assert (long[8], long[9], long[10] & 0xC0) == (0x0F, 0x0E, 0xC0)
    everything = ask(path, more.MODE_SENSE_10, page_code=0x3F, subpage_code=0xFF, dbd=1)[8:]
    codes = []
    while everything:
        has_subpage = bool(everything[0] & 0x40)
        length = 4 + int.from_bytes(everything[2:4], "big") if has_subpage else 2 + everything[1]
        codes.append((everything[0] & 0x3F, everything[1] if has_subpage else 0))
        everything = everything[length:]
    assert codes == [(0x02, 0), (0x0A, 0), (0x0F, 0), (0x10, 0), (0x10, 1), (0x11, 0), (0x1C, 0), (0x1D, 0)]


def test_compression_is_switched_by_mode_select(path: Transport, library: LibraryModel) -> None:
    """SSC-4 8.3.2, SPC-4 6.11: DCE may change, and others hear 2A/01; any other bit may not."""
    library.transport(DRIVE, OTHER).execute(bytes(6))
    page = bytearray(ask(path, commands.MODE_SENSE_6, page_code=0x0F, dbd=1)[4:])
    page[2] &= 0x7F
    assert tell(path, commands.MODE_SELECT_6, bytes(4) + page, pf=1).status == ScsiStatus.GOOD
    assert not ask(path, commands.MODE_SENSE_6, page_code=0x0F, dbd=1)[6] & 0x80
    assert sense(library.transport(DRIVE, OTHER).execute(bytes(6))) == (6, 0x2A, 0x01)
    page[2] = 0xFF
    assert sense(tell(path, more.MODE_SELECT_10, bytes(8) + page, pf=1)) == (5, 0x26, 0)
    assert not ask(path, commands.MODE_SENSE_6, page_code=0x0F, dbd=1)[6] & 0x80


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (bytes(4) + bytes([0x3E, 0]), (5, 0x26, 0)),
        (bytes(4) + bytes([0x0F, 14, 0]), (5, 0x1A, 0)),
        (bytes(4) + bytes([0x0F]), (5, 0x1A, 0)),
        (bytes(4) + bytes([0x0F, 2, 0, 0]), (5, 0x1A, 0)),
        (bytes(3) + bytes([8]), (5, 0x1A, 0)),
        (bytes(3) + bytes([16]) + bytes(16), (5, 0x26, 0)),
    ],
)
def test_malformed_mode_lists_are_refused(path: Transport, raw: bytes, code: tuple[int, int, int]) -> None:
    """SPC-4 6.11: unknown pages and descriptors are 26/00, lists cut short 1A/00."""
    assert sense(tell(path, commands.MODE_SELECT_6, raw, pf=1)) == code


def test_saved_values_are_not_kept(path: Transport) -> None:
    """SPC-4 6.13.3: saved values are refused with 39/00."""
    done = path.execute(
        commands.MODE_SENSE_6.cdb(pc=3, page_code=0x0F, allocation_length=64), data_in_length=64
    )
    assert sense(done) == (5, 0x39, 0)


def log(path: Transport, page: int, first: int = 0) -> dict[int, bytes]:
    """Parameters of a log page."""
    data = ask(path, commands.LOG_SENSE, page_code=page, pc=1, parameter_pointer=first)
    assert data[0] == page
    assert int.from_bytes(data[2:4], "big") == len(data) - 4
    found, place = {}, 4
    while place < len(data):
        end = place + 4 + data[place + 3]
        found[int.from_bytes(data[place : place + 2], "big")] = data[place + 4 : end]
        place = end
    return found


def test_log_pages_count_what_was_done(path: Transport, library: LibraryModel) -> None:
    """SPC-4 6.8, SSC-4 8.2: error counters, device and volume statistics; PCR resets (6.7)."""
    drive = Drive(path)
    drive.write(bytes(1_000_000))
    drive.write(bytes(1_000_000))
    drive.rewind()
    drive.read(1_000_000)
    assert ask(path, commands.LOG_SENSE, pc=1)[4:] == bytes([0, 2, 3, 0x0C, 0x17, 0x2E])
    number = int.from_bytes
    assert number(log(path, 0x02)[5], "big") == 2_000_000
    assert number(log(path, 0x03)[5], "big") == 1_000_000
    assert number(log(path, 0x0C)[0], "big") == 2_000_000
    volume = log(path, 0x17)
    assert [number(volume[code], "big") for code in (0, 1, 0x0E, 0x0F)] == [1, 1, 2, 1]
    assert volume[0x42] == BARCODES[0].encode().ljust(32)
    assert min(log(path, 0x17, first=0x40)) == 0x40
    assert path.execute(more.LOG_SELECT.cdb(pcr=1, pc=1)).status == ScsiStatus.GOOD
    assert number(log(path, 0x02)[5], "big") == 0
    done = path.execute(commands.LOG_SENSE.cdb(page_code=0x3E, pc=1, allocation_length=9), data_in_length=9)
    assert sense(done) == (5, 0x24, 0)


def test_tape_alert_is_told_once(path: Transport, library: LibraryModel) -> None:
    """SSC-4 8.2.3: a flag that is up is reported, and is down after that."""
    library.drives[0].alerts.add(20)
    flags = log(path, 0x2E)
    assert len(flags) == 64
    assert [code for code, value in flags.items() if value == b"\1"] == [20]
    assert log(path, 0x2E)[20] == b"\0"
    assert len(log(library.transport(CHANGER), 0x2E)) == 64


def test_attributes_are_kept_with_the_cartridge(path: Transport, library: LibraryModel) -> None:
    """SPC-4 6.17, 6.52, 7.4: host attributes survive unloading and power off; length 0 removes one."""
    value = attribute(0x0806, b"VTL001L5")
    assert tell(path, more.WRITE_ATTRIBUTE, listed(value, attribute(0x0801, b"Spanreel"))).status == 0
    library.close()
    again = LibraryModel(library.folder, spec())
    path = again.transport(DRIVE)
    Drive(path).wait_ready(0)
    assert value in ask(path, more.READ_ATTRIBUTE, first=0x0800)
    numbers = ask(path, more.READ_ATTRIBUTE, service_action=1)
    assert numbers[4:] == b"".join(
        number.to_bytes(2, "big")
        for number in (0, 1, 2, 3, 0x220, 0x221, 0x222, 0x223, 0x400, 0x401, 0x408, 0x801, 0x806)
    )
    assert ask(path, more.READ_ATTRIBUTE, service_action=3) == bytes([0, 2, 0, 1])
    assert tell(path, more.WRITE_ATTRIBUTE, listed(attribute(0x0806, b""))).status == 0
    assert value not in ask(path, more.READ_ATTRIBUTE)
    again.close()


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (listed(attribute(0x0003, bytes(8), 0)), (5, 0x26, 0)),
        (listed(attribute(0x0806, b"x" * 33)), (5, 0x26, 0)),
        (listed(attribute(0x0806, b"x", 0)), (5, 0x26, 0)),
        (listed(attribute(0x0806, b"good"), attribute(0x1234, b"x")), (5, 0x26, 0)),
        (listed(attribute(0x0806, b"abc")[:-1]), (5, 0x1A, 0)),
        (listed(b"\x08\x06"), (5, 0x1A, 0)),
        (bytes(2), (5, 0x1A, 0)),
        (bytes([0, 0, 0, 9]), (5, 0x1A, 0)),
    ],
)
def test_a_wrong_attribute_list_changes_nothing(
    path: Transport, raw: bytes, code: tuple[int, int, int]
) -> None:
    """SPC-4 6.52: read-only, unknown, too long, or cut short: refused as a whole."""
    before = ask(path, more.READ_ATTRIBUTE)
    assert sense(tell(path, more.WRITE_ATTRIBUTE, raw)) == code
    assert ask(path, more.READ_ATTRIBUTE) == before


def test_supported_operation_codes(path: Transport, library: LibraryModel) -> None:
    """SPC-4 6.35: all commands; and for one, which bits of its CDB mean something."""
    data = ask(path, more.MAINTENANCE_IN, service_action=0x0C)
    opcodes = {data[place] for place in range(4, len(data), 8)}
    assert opcodes == {command.opcode for command in library.drives[0].commands}
    one = ask(path, more.MAINTENANCE_IN, service_action=0x0C, reporting_options=1, opcode=0x08)
    assert one == bytes([0, 3, 0, 6, 0x08, 0x03, 0xFF, 0xFF, 0xFF, 0])
    none = ask(path, more.MAINTENANCE_IN, service_action=0x0C, reporting_options=1, opcode=0x02)
    assert none[1] & 0x07 == 1
    action = ask(
        path, more.MAINTENANCE_IN, service_action=0x0C, reporting_options=2, opcode=0x5E, requested_action=1
    )
    assert (action[1], action[4], action[5]) == (3, 0x5E, 1)
    assert ask(path, more.MAINTENANCE_IN, service_action=0x0D)[0] == 0xD8


def test_a_memory_that_cannot_be_kept_is_a_defect(path: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    """SPC-4 annex F: a folder that cannot be written is 04/44/00, not an error of the caller's."""

    def full(_self: Path, _target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    done = tell(path, more.WRITE_ATTRIBUTE, listed(attribute(0x0806, b"x")))
    monkeypatch.undo()
    assert sense(done) == (4, 0x44, 0)


# -- reservations --------------------------------------------------------------------------------------
def settled(library: LibraryModel, nexus: str, serial: str = DRIVE) -> Transport:
    """A path of another initiator that has heard its unit attention."""
    path = library.transport(serial, nexus)
    path.execute(bytes(6))
    return path


def test_a_simple_reservation_keeps_others_out(path: Transport, library: LibraryModel) -> None:
    """SPC-2 7.21, table 10: conflict for others, until RELEASE, the loss of the nexus, or a reset."""
    other = settled(library, OTHER)
    for ending in (
        lambda: path.execute(commands.RELEASE_6.cdb()),
        lambda: library.drives[0].detach(library.drives[0].nexus),
        library.drives[0].reset,
    ):
        assert path.execute(commands.RESERVE_6.cdb()).status == ScsiStatus.GOOD
        assert other.execute(bytes(6)).status == ScsiStatus.RESERVATION_CONFLICT
        assert other.execute(more.RESERVE_10.cdb()).status == ScsiStatus.RESERVATION_CONFLICT
        assert other.execute(more.RELEASE_10.cdb()).status == ScsiStatus.GOOD
        assert other.execute(commands.PREVENT_ALLOW.cdb()).status == ScsiStatus.GOOD
        ask(other, commands.INQUIRY)
        assert path.execute(commands.REWIND.cdb()).status == ScsiStatus.GOOD
        ending()
        other.execute(bytes(6))
        assert other.execute(bytes(6)).status == ScsiStatus.GOOD
        path.execute(bytes(6))


def persist(path: Transport, action: int, key: int, new: int = 0, kind: int = 0) -> Completion:
    """PERSISTENT RESERVE OUT."""
    data = key.to_bytes(8, "big") + new.to_bytes(8, "big") + bytes(8)
    return tell(path, more.PERSISTENT_RESERVE_OUT, data, service_action=action, type=kind)


def test_persistent_reservations(path: Transport, library: LibraryModel) -> None:
    """SPC-4 5.13: register, reserve, conflict, preempt; the one thrown out hears 2A/05."""
    other = settled(library, OTHER)
    assert persist(path, 1, 7, kind=3).status == ScsiStatus.RESERVATION_CONFLICT
    assert persist(path, 0, 0, 7).status == ScsiStatus.GOOD
    assert persist(path, 1, 7, kind=3).status == ScsiStatus.GOOD
    assert ask(path, more.PERSISTENT_RESERVE_IN)[8:] == (7).to_bytes(8, "big")
    held = ask(path, more.PERSISTENT_RESERVE_IN, service_action=1)
    assert (int.from_bytes(held[8:16], "big"), held[21]) == (7, 3)
    assert other.execute(commands.REWIND.cdb()).status == ScsiStatus.RESERVATION_CONFLICT
    assert other.execute(bytes(6)).status == ScsiStatus.GOOD
    assert path.execute(commands.RESERVE_6.cdb()).status == ScsiStatus.RESERVATION_CONFLICT
    assert persist(other, 6, 0, 9).status == ScsiStatus.GOOD
    assert persist(other, 1, 9, kind=3).status == ScsiStatus.RESERVATION_CONFLICT
    assert persist(other, 4, 9, 7, kind=3).status == ScsiStatus.GOOD
    assert sense(path.execute(bytes(6))) == (6, 0x2A, 0x05)
    assert path.execute(commands.REWIND.cdb()).status == ScsiStatus.RESERVATION_CONFLICT
    assert other.execute(commands.REWIND.cdb()).status == ScsiStatus.GOOD
    assert OTHER.encode() in ask(other, more.PERSISTENT_RESERVE_IN, service_action=3)
    assert ask(other, more.PERSISTENT_RESERVE_IN, service_action=2)[:2] == bytes([0, 8])
    assert persist(other, 2, 9, kind=3).status == ScsiStatus.GOOD
    assert path.execute(commands.REWIND.cdb()).status == ScsiStatus.GOOD


def test_registrants_share_and_are_told_of_the_end(path: Transport, library: LibraryModel) -> None:
    """SPC-4 5.13.11: with "registrants only" all registered may; release and CLEAR are told."""
    other = settled(library, OTHER)
    persist(path, 0, 0, 7)
    persist(other, 0, 0, 9)
    assert persist(path, 1, 7, kind=6).status == ScsiStatus.GOOD
    assert other.execute(commands.REWIND.cdb()).status == ScsiStatus.GOOD
    assert sense(persist(path, 2, 7, kind=5)) == (5, 0x26, 0x04)
    assert persist(path, 2, 7, kind=6).status == ScsiStatus.GOOD
    assert sense(other.execute(bytes(6))) == (6, 0x2A, 0x04)
    assert persist(path, 3, 7).status == ScsiStatus.GOOD
    assert sense(other.execute(bytes(6))) == (6, 0x2A, 0x03)
    assert ask(path, more.PERSISTENT_RESERVE_IN)[4:] == bytes(4)


# -- SSC-4 ---------------------------------------------------------------------------------------------
def test_positions_in_three_forms(path: Transport) -> None:
    """SSC-4 7.6: short, long with the file number, extended; all say the same object."""
    drive = Drive(path)
    write_files(drive, [[b"a", b"b"], [b"c"]])
    short = ask(path, commands.READ_POSITION)
    long = ask(path, commands.READ_POSITION, service_action=6, allocation_length=0)
    extended = ask(path, commands.READ_POSITION, service_action=8)
    assert (len(short), len(long), len(extended)) == (20, 32, 32)
    objects = [int.from_bytes(data, "big") for data in (short[4:8], long[8:16], extended[8:16])]
    assert objects == [5, 5, 5]
    assert int.from_bytes(long[16:24], "big") == 2
    done = path.execute(commands.READ_POSITION.cdb(service_action=5), data_in_length=32)
    assert sense(done) == (5, 0x24, 0)


def test_locate_16_and_space_16(path: Transport) -> None:
    """SSC-4 7.4 and 7.11: to an object, to a file, to the end; beyond it BLANK CHECK at the end of data."""
    drive = Drive(path)
    write_files(drive, [[b"a", b"b"], [b"c"]])

    def place(kind: int, number: int) -> int:
        ask(path, more.LOCATE_16, dest_type=kind, identifier=number)
        return int.from_bytes(ask(path, commands.READ_POSITION)[4:8], "big")

    assert [place(0, 1), place(1, 0), place(1, 1), place(3, 0)] == [1, 0, 3, 5]
    assert sense(path.execute(more.LOCATE_16.cdb(dest_type=1, identifier=9))) == (8, 0, 5)
    assert sense(path.execute(more.LOCATE_16.cdb(dest_type=2))) == (5, 0x24, 0)
    done = path.execute(more.SPACE_16.cdb(code=1, count=-(1 << 40)))
    assert Sense.parse(done.sense).eom
    ask(path, more.SPACE_16, code=1, count=2)
    assert int.from_bytes(ask(path, commands.READ_POSITION)[4:8], "big") == 5


def test_fixed_blocks(path: Transport) -> None:
    """SSC-4 6.4 and 6.8: so many blocks; another length, a filemark, the end stop it."""
    descriptor = bytes([0, 0, 0x10, 8, 0, 0, 0, 0, 0, 0, 2, 0])
    assert tell(path, commands.MODE_SELECT_6, descriptor, pf=1).status == ScsiStatus.GOOD
    data = bytes(range(256)) * 6
    write = commands.WRITE_6.cdb(fixed=1, transfer_length=3)
    assert path.execute(write, data_out=data).status == ScsiStatus.GOOD
    path.execute(commands.WRITE_6.cdb(transfer_length=100), data_out=bytes(100))
    path.execute(commands.WRITE_FILEMARKS_6.cdb(count=1))
    Drive(path).rewind()
    done = path.execute(commands.READ_6.cdb(fixed=1, transfer_length=5), data_in_length=5 * 512)
    found = Sense.parse(done.sense)
    assert (done.data, found.ili, found.information) == (data, True, 2)
    done = path.execute(commands.READ_6.cdb(fixed=1, transfer_length=2), data_in_length=1024)
    assert Sense.parse(done.sense).filemark
    done = path.execute(commands.READ_6.cdb(fixed=1, transfer_length=2), data_in_length=1024)
    assert (sense(done), Sense.parse(done.sense).information) == ((8, 0, 5), 2)
    assert sense(path.execute(commands.READ_6.cdb(fixed=1, sili=1, transfer_length=1))) == (5, 0x24, 0)


def test_erase_makes_here_the_end(path: Transport, library: LibraryModel) -> None:
    """SSC-4 5.2: what lay behind is gone; a protected cartridge refuses (07/27/00)."""
    drive = Drive(path)
    write_files(drive, [[b"one", b"two"]])
    drive.rewind()
    drive.read(3)
    drive.erase()
    with pytest.raises(errors.BlankCheckError):
        drive.read(3)
    changer = Changer(library.transport(CHANGER))
    changer.move(FIRST_DRIVE, FIRST_SLOT)
    library.set_write_protected(BARCODES[0], True)
    changer.move(FIRST_SLOT, FIRST_DRIVE)
    drive.wait_ready(0)
    with pytest.raises(errors.WriteProtectedError):
        drive.erase(whole=True)
    assert log(path, 0x2E)[9] == b"\1"


def test_density_report(path: Transport) -> None:
    """SSC-4 7.9: one density; of the medium with its own capacity."""
    data = ask(path, more.REPORT_DENSITY_SUPPORT)
    assert (int.from_bytes(data[:2], "big"), len(data), data[4], data[6]) == (54, 56, 0x58, 0xA0)
    medium = ask(path, more.REPORT_DENSITY_SUPPORT, media=1)
    assert int.from_bytes(medium[16:20], "big") == 8
    assert data[20:28] == b"LTO-CVE "


def test_a_worm_is_written_at_its_end_only(tmp_path: Path) -> None:
    """SSC-4 4.2.20: appending is allowed, overwriting and erasing are DATA PROTECT 30/0C."""
    library = loaded(tmp_path, slots=("AAA001LV", None))
    path = library.transport(DRIVE)
    drive = Drive(path)
    drive.write(b"once")
    drive.write_filemarks(1)
    drive.write(b"more")
    drive.rewind()
    for action in (lambda: drive.write(b"again"), lambda: drive.write_filemarks(1), drive.erase):
        with pytest.raises(errors.WriteProtectedError) as caught:
            action()
        assert caught.value.sense is not None
        assert caught.value.sense.code == (0x30, 0x0C)
    assert drive.read(4) == b"once"
    assert ask(path, commands.MODE_SENSE_6, page_code=0x1D, dbd=1)[6] == 1
    library.close()


def test_a_cleaning_cartridge_cleans(tmp_path: Path) -> None:
    """SSC-4 annex A: never ready (30/03), takes "clean now" down, can be unloaded and carried back."""
    library = LibraryModel(tmp_path, spec(slots=("CLN001L1", None)))
    library.drives[0].alerts.add(20)
    changer = Changer(library.transport(CHANGER))
    changer.wait_ready(0)
    changer.move(FIRST_SLOT, FIRST_DRIVE)
    drive = Drive(library.transport(DRIVE))
    with pytest.raises(errors.UnitAttentionError):
        drive.test_ready()
    with pytest.raises(errors.NotReadyError) as caught:
        drive.test_ready()
    assert caught.value.sense is not None
    assert caught.value.sense.code == (0x30, 0x03)
    assert library.drives[0].alerts == {11}
    drive.unload()
    changer.move(FIRST_DRIVE, FIRST_SLOT)
    library.close()


# -- SMC-3 ---------------------------------------------------------------------------------------------
def held(library: LibraryModel) -> dict[int, str | None]:
    """Which cartridge lies where."""
    elements = Changer(library.transport(CHANGER)).inventory().elements
    return {element.address: element.barcode for element in elements if element.full}


def test_exchange_medium(library: LibraryModel) -> None:
    """SMC-3 6.3: two cartridges change places, or the second goes elsewhere; a drive keeps its contents."""
    path = library.transport(CHANGER)
    Drive(library.transport(DRIVE)).write(b"first")
    first, second = FIRST_SLOT + 1, FIRST_SLOT + 4
    values = {"source": first, "first_destination": FIRST_DRIVE}
    ask(path, commands.EXCHANGE_MEDIUM, second_destination=first, **values)
    assert held(library) == {FIRST_DRIVE: BARCODES[1], first: BARCODES[0], FIRST_SLOT + 2: BARCODES[2]}
    ask(path, commands.EXCHANGE_MEDIUM, second_destination=second, **values)
    assert held(library) == {FIRST_DRIVE: BARCODES[0], second: BARCODES[1], FIRST_SLOT + 2: BARCODES[2]}
    drive = Drive(library.transport(DRIVE))
    drive.wait_ready(0)
    assert drive.read(5) == b"first"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"source": FIRST_SLOT}, (5, 0x3B, 0x0E)),
        ({"first_destination": FIRST_SLOT + 4}, (5, 0x3B, 0x0E)),
        ({"second_destination": FIRST_SLOT + 2}, (5, 0x3B, 0x0D)),
        ({"second_destination": FIRST_DRIVE}, (5, 0x21, 0x01)),
        ({"first_destination": 5}, (5, 0x21, 0x01)),
        ({"transport": 9}, (5, 0x21, 0x01)),
        ({"invert1": 1}, (5, 0x24, 0x00)),
    ],
)
def test_impossible_exchanges_move_nothing(
    library: LibraryModel, changes: dict[str, int], code: tuple[int, int, int]
) -> None:
    """SMC-3 6.3: empty source, full destination, unknown elements are refused, and nothing moves."""
    before = held(library)
    values = {
        "source": FIRST_SLOT + 1,
        "first_destination": FIRST_DRIVE,
        "second_destination": FIRST_SLOT + 4,
    }
    cdb = commands.EXCHANGE_MEDIUM.cdb(**{**values, **changes})
    assert sense(library.transport(CHANGER).execute(cdb)) == code
    assert held(library) == before


def test_a_locked_drive_exchanges_nothing(library: LibraryModel) -> None:
    """SMC-3 6.3 with SPC-4 6.19: removal prevented (53/02) holds for an exchange, before anything moves."""
    Drive(library.transport(DRIVE)).prevent_removal(True)
    before = held(library)
    cdb = commands.EXCHANGE_MEDIUM.cdb(
        source=FIRST_SLOT + 1, first_destination=FIRST_DRIVE, second_destination=FIRST_SLOT + 1
    )
    assert sense(library.transport(CHANGER).execute(cdb)) == (5, 0x53, 0x02)
    assert held(library) == before


def test_position_and_initialize_with_range(library: LibraryModel) -> None:
    """SMC-3 6.9 and 6.5: accepted for elements there are."""
    path = library.transport(CHANGER)
    ask(path, more.POSITION_TO_ELEMENT, destination=FIRST_SLOT)
    ask(path, more.INITIALIZE_WITH_RANGE, range=1, start=FIRST_SLOT, count=2)
    assert sense(path.execute(more.POSITION_TO_ELEMENT.cdb(destination=5))) == (5, 0x21, 0x01)


def test_mail_slots(library: LibraryModel) -> None:
    """SMC-3 6.10, 6.14.4: an import is told by 28/01, shown by IMPEXP; a door can be locked."""
    path = library.transport(CHANGER)
    changer = Changer(path)
    assert library.import_cartridge("NEW001L5") == FIRST_PORT
    assert sense(path.execute(bytes(6))) == (6, 0x28, 0x01)
    report = ask(path, commands.READ_ELEMENT_STATUS, element_type=3, count=1)
    # ImpEnab, ExEnab, Access, IMPEXP, Full.
    assert report[16 + 2] == 0x3B
    changer.move(FIRST_PORT, FIRST_SLOT + 4)
    changer.move(FIRST_SLOT + 4, FIRST_PORT)
    assert ask(path, commands.READ_ELEMENT_STATUS, element_type=3, count=1)[16 + 2] == 0x39
    changer.prevent_removal(True)
    with pytest.raises(TapeMisuseError, match="locked"):
        library.export_cartridge("NEW001L5")
    changer.prevent_removal(False)
    library.export_cartridge("NEW001L5")
    with pytest.raises(TapeMisuseError, match="in no mail slot"):
        library.export_cartridge(BARCODES[1])
    with pytest.raises(TapeMisuseError, match="in the library already"):
        library.import_cartridge(BARCODES[1])
    assert FIRST_PORT not in held(library)
