"""Faults by script: what is written is what goes wrong, in the command it is written for, and no other."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tape_support import BARCODES, CHANGER, DRIVE, FIRST_DRIVE, FIRST_SLOT, OTHER_DRIVE, loaded

from tape import errors
from tape.changer import Changer
from tape.drive import Drive
from tape.errors import TapeMisuseError
from tape.model import LibraryModel, parse_faults, read_faults
from tape.model.faults import CommandFault, Wait
from tape.sense import Sense

READY = bytes(6)


@pytest.fixture
def library(tmp_path: Path) -> Iterator[LibraryModel]:
    """A library whose first drive is loaded."""
    model = loaded(tmp_path)
    yield model
    model.close()


def go_wrong(library: LibraryModel, script: str) -> Drive:
    """Let a script happen from now on; return the loaded drive."""
    library.faults.extend(parse_faults(script))
    return Drive(library.transport(DRIVE))


def test_sense_on_the_nth_command_of_an_opcode(library: LibraryModel) -> None:
    """The third and fourth WRITE of that drive fail as written, and are not carried out; the rest is well."""
    drive = go_wrong(
        library,
        f'[[fault]]\ndevice = "{DRIVE}"\ncommand = "WRITE(6)"\nnth = 3\ntimes = 2\nsense = "03/0c/00"\n',
    )
    outcomes = []
    for number in range(6):
        drive.test_ready()
        try:
            drive.write(bytes([number]))
            outcomes.append("written")
        except errors.MediumError as error:
            outcomes.append(str(error.sense and error.sense.text))
    failed = "MEDIUM ERROR 03/0c/00: write error"
    assert outcomes == ["written", "written", failed, failed, "written", "written"]
    drive.rewind()
    assert [drive.read(1) for _ in range(4)] == [b"\0", b"\1", b"\4", b"\5"]


def test_a_medium_error_at_a_block(library: LibraryModel) -> None:
    """Object 2 cannot be read in any drive; what lies before and behind it can."""
    drive = go_wrong(library, f'[[cartridge]]\nbarcode = "{BARCODES[0]}"\nmedium_error = 2\non = "read"\n')
    for number in range(4):
        drive.write(bytes([number]))
    drive.rewind()
    assert [drive.read(1), drive.read(1)] == [b"\0", b"\1"]
    for _ in range(2):
        with pytest.raises(errors.MediumError):
            drive.read(1)
    assert library.drives[0].alerts == {5}
    drive.locate(3)
    assert drive.read(1) == b"\3"


def test_a_write_error_at_a_block_passes(library: LibraryModel) -> None:
    """With `times` the place is good again, as after a retry elsewhere on the tape."""
    drive = go_wrong(library, f'[[cartridge]]\nbarcode = "{BARCODES[0]}"\nmedium_error = 0\ntimes = 1\n')
    with pytest.raises(errors.MediumError):
        drive.write_filemarks(1)
    drive.write_filemarks(1)


def test_a_stuck_robot(library: LibraryModel) -> None:
    """Moves fail with a hardware error for as long as the script says; nothing has moved meanwhile."""
    go_wrong(library, '[[fault]]\ncommand = "MOVE MEDIUM"\ntimes = 2\nsense = "stuck robot"\n')
    changer = Changer(library.transport(CHANGER))
    before = changer.inventory()
    for _ in range(2):
        with pytest.raises(errors.HardwareError):
            changer.move(FIRST_DRIVE, FIRST_SLOT)
    assert changer.inventory() == before
    changer.move(FIRST_DRIVE, FIRST_SLOT)


def test_a_cartridge_that_lies_about_its_barcode(library: LibraryModel) -> None:
    """The changer reports another label than the cartridge has; what is on it does not change."""
    go_wrong(library, f'[[cartridge]]\nbarcode = "{BARCODES[1]}"\nshown_as = "LIE001L5"\n')
    inventory = Changer(library.transport(CHANGER)).inventory()
    assert [slot.barcode for slot in inventory.slots if slot.full] == ["LIE001L5", BARCODES[2]]


def test_statuses_without_sense(library: LibraryModel) -> None:
    """BUSY and RESERVATION CONFLICT are statuses of their own."""
    drive = go_wrong(
        library,
        '[[fault]]\nopcode = 0\nstatus = "busy"\n'
        '[[fault]]\nopcode = 0\nnth = 2\nstatus = "reservation conflict"\n',
    )
    with pytest.raises(errors.NotReadyError):
        drive.test_ready()
    with pytest.raises(errors.ReservationConflictError):
        drive.test_ready()
    drive.test_ready()


def test_a_drive_that_disappears_and_comes_back(library: LibraryModel) -> None:
    """In process: no delivery for so many commands, then a power on; the changer says that LUNs changed."""
    drive = go_wrong(library, f'[[fault]]\ndevice = "{DRIVE}"\ncommand = "REWIND"\ngone = 2\n')
    for action in (drive.rewind, drive.test_ready, drive.test_ready):
        with pytest.raises(errors.TransportError):
            action()
    with pytest.raises(errors.UnitAttentionError) as caught:
        drive.test_ready()
    assert caught.value.sense is not None
    assert caught.value.sense.code == (0x29, 0)
    done = library.transport(CHANGER).execute(READY)
    assert Sense.parse(done.sense).code == (0x3F, 0x0E)


def test_a_drive_is_taken_and_brought_back_by_a_test(library: LibraryModel) -> None:
    """`remove` and `restore` do by hand what a script does."""
    library.faults.remove(OTHER_DRIVE)
    other = library.transport(OTHER_DRIVE)
    for _ in range(3):
        with pytest.raises(errors.TransportError):
            other.execute(READY)
    library.faults.restore(OTHER_DRIVE)
    assert Sense.parse(other.execute(READY).sense).code == (0x29, 0)


@pytest.mark.parametrize(("when", "written"), [("before", 0), ("after", 1)])
def test_a_dropped_connection_before_or_after(library: LibraryModel, when: str, written: int) -> None:
    """The answer is lost either way; `after`: the record is on tape all the same."""
    drive = go_wrong(library, f'[[fault]]\ncommand = "WRITE(6)"\ndrop = "{when}"\n')
    with pytest.raises(errors.TransportError):
        drive.write(b"x")
    position = drive.position()
    assert position is not None
    assert position.block == written


def test_a_slow_command_is_carried_out(library: LibraryModel) -> None:
    """A delay ends by itself, and the command with it; beyond the sender's patience it is a time-out."""
    drive = go_wrong(library, '[[fault]]\ncommand = "REWIND"\ndelay = 0.01\n')
    drive.rewind()
    library.faults.add(CommandFault(Wait(60.0), opcode=0))
    with pytest.raises(errors.CommandTimeoutError):
        drive.transport.execute(READY, timeout_s=0.01)


def test_a_hanging_command_is_ended_by_its_initiator(library: LibraryModel) -> None:
    """`interrupt` ends the waiting at once, also when it comes before the wait has begun."""
    go_wrong(library, f'[[fault]]\ndevice = "{DRIVE}"\nopcode = 0\nhang = 600\n')
    ticket = library.faults.ticket(DRIVE)
    ended: list[tuple[int, int]] = []
    thread = threading.Thread(
        target=lambda: ended.append(
            Sense.parse(library.drives[0].execute(READY, b"", 0, ticket=ticket).sense).code
        )
    )
    thread.start()
    library.faults.interrupt(DRIVE)
    thread.join(30)
    assert ended == [(0x2E, 0x01)]


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("= 1", "no TOML"),
        ("[[other]]", "'other' is not known"),
        ("[fault]", "must be written [[fault]]"),
        ("[[fault]]", "exactly one of"),
        ('[[fault]]\nsense = "1/2/3"\nhang = 1', "exactly one of"),
        ('[[fault]]\nsense = "bad luck"', "KEY/ASC/ASCQ"),
        ('[[fault]]\nsense = "1f/0/0"', "KEY/ASC/ASCQ"),
        ('[[fault]]\nstatus = "odd"', "busy"),
        ("[[fault]]\ndelay = 601", "from 0 to 600 seconds"),
        ("[[fault]]\nhang = true", "from 0 to 600 seconds"),
        ('[[fault]]\nhang = "long"', "is wanted"),
        ("[[fault]]\ngone = 1\nnth = 0", "nth = 0"),
        ("[[fault]]\ngone = 1\nnth = true", "int is wanted"),
        ("[[fault]]\ngone = 1\ncolour = 3", "'colour' is not known"),
        ('[[fault]]\ngone = 1\ncommand = "WRITE"', "WRITE(6)"),
        ('[[fault]]\ngone = 1\ncommand = "WRITE(6)"\nopcode = 10', "exclude each other"),
        ("[[fault]]\ngone = 1\nopcode = 256", "0 to 255"),
        ('[[fault]]\ndrop = "never"', "before, after"),
        ("[[cartridge]]\nmedium_error = 1", "barcode"),
        ('[[cartridge]]\nbarcode = "A"', "medium_error or shown_as"),
        ('[[cartridge]]\nbarcode = "A"\nmedium_error = 1\non = "sight"', "read, write, both"),
        ('[[cartridge]]\nbarcode = "A"\nshown_as = "\u00e4"', "printable ASCII"),
        ('[[cartridge]]\nbarcode = "A"\nshown_as = "B"\nsize = 1', "'size' is not known"),
    ],
)
def test_a_script_that_says_nonsense_is_refused(tmp_path: Path, script: str, words: str) -> None:
    """The error names the file, the entry and what would be right."""
    file = tmp_path / "faults.toml"
    file.write_text(script, encoding="utf-8")
    with pytest.raises(TapeMisuseError) as caught:
        read_faults(file)
    assert words in str(caught.value)
    assert str(file) in str(caught.value)


def test_a_script_that_is_not_there(tmp_path: Path) -> None:
    """A missing file is named."""
    with pytest.raises(TapeMisuseError, match="cannot be read"):
        read_faults(tmp_path / "none.toml")
