"""Promises of the library model: what survives, what is refused, and that it behaves as a tape."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tape_support import (
    BARCODES,
    CHANGER,
    DRIVE,
    FIRST_DRIVE,
    FIRST_SLOT,
    OTHER_DRIVE,
    loaded,
    spec,
    write_files,
)

from tape import commands, errors
from tape.changer import Changer
from tape.drive import Drive
from tape.model import LibraryModel, LibrarySpec, dump
from tape.model.__main__ import main as dump_main
from tape.model.library import cartridge_path
from tape.sense import Sense
from tape.transport import ScsiStatus, Transport

REPOSITORY = Path(__file__).parents[3]


def drive_of(library: LibraryModel) -> Drive:
    """The first drive, at the beginning of its tape."""
    drive = Drive(library.transport(DRIVE))
    drive.wait_ready(0)
    drive.rewind()
    return drive


def sense_of(transport: Transport, cdb: bytes, **data: object) -> tuple[int, int, int]:
    """The report that a command ends with."""
    done = transport.execute(cdb, **data)  # type: ignore[arg-type]
    assert done.status == ScsiStatus.CHECK_CONDITION
    sense = Sense.parse(done.sense)
    return sense.key, sense.asc, sense.ascq


# -- what survives -------------------------------------------------------------------------------------
def test_a_restart_finds_everything(tmp_path: Path) -> None:
    """After switching off and on, cartridges are where they were, with their contents."""
    library = loaded(tmp_path)
    write_files(drive_of(library), [[b"one", b"two"]])
    library.close()
    library = LibraryModel(tmp_path, spec())
    drive = drive_of(library)
    assert drive.read(3) + drive.read(3) == b"onetwo"
    inventory = Changer(library.transport(CHANGER)).inventory()
    library.close()
    element = inventory.at(FIRST_DRIVE)
    assert element is not None
    assert (element.barcode, element.source) == (BARCODES[0], FIRST_SLOT)


def test_a_killed_process_loses_no_finished_record(tmp_path: Path) -> None:
    """A process killed while it writes leaves whole records only, and all that were acknowledged."""
    loaded(tmp_path).close()
    program = """
import sys
sys.path[:0] = sys.argv[2:]
from pathlib import Path
from tape.drive import Drive
from tape.model import LibraryModel
from tape_support import DRIVE, spec
drive = Drive(LibraryModel(Path(sys.argv[1]), spec(capacity_bytes=1 << 30)).transport(DRIVE))
drive.wait_ready(0)
drive.rewind()
for number in range(1, 1000):
    drive.write(number.to_bytes(4, "big") * 5000)
    print(number, flush=True)
"""
    paths = [str(tmp_path), str(REPOSITORY), str(Path(__file__).parent)]
    with subprocess.Popen([sys.executable, "-c", program, *paths], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        acknowledged = [int(process.stdout.readline()) for _ in range(20)][-1]
        process.send_signal(signal.SIGKILL)
    library = LibraryModel(tmp_path, spec())
    drive = drive_of(library)
    drive.space_end_of_data()
    end = drive.position()
    assert end is not None
    drive.rewind()
    for number in range(1, end.block + 1):
        assert drive.read(20_000) == number.to_bytes(4, "big") * 5000
    library.close()
    assert end.block >= acknowledged


@given(cut=st.integers(1, 5 * 116 + 16))
@settings(max_examples=40, deadline=None)
def test_a_torn_end_is_cut_off(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    """However much of the file's end is missing, the whole records before it are read, and no other."""
    folder = tmp_path_factory.mktemp("torn")
    library = loaded(folder)
    records = [bytes([number]) * 100 for number in range(5)]
    write_files(drive_of(library), [records])
    library.close()
    path = cartridge_path(folder, BARCODES[0])
    os.truncate(path, path.stat().st_size - cut)
    whole = min(5, (path.stat().st_size - 512) // 116)
    assert list(dump(folder, BARCODES[0], 0)) == records[:whole]
    library = LibraryModel(folder, spec())
    drive = drive_of(library)
    assert [drive.read(100) for _ in range(whole)] == records[:whole]
    with pytest.raises(errors.BlankCheckError):
        drive.read(100)
    drive.write(b"new")
    library.close()
    assert list(dump(folder, BARCODES[0], 0)) == [*records[:whole], b"new"]


def test_one_process_has_the_library(tmp_path: Path) -> None:
    """Two would destroy each other's tapes; the second is told, and may try again later."""
    library = LibraryModel(tmp_path, spec())
    with pytest.raises(errors.TapeMisuseError, match="another process"):
        LibraryModel(tmp_path, spec())
    library.close()
    LibraryModel(tmp_path, spec()).close()


def test_a_spec_that_would_lose_a_cartridge_is_refused(tmp_path: Path) -> None:
    """A library made smaller says which cartridge has no place, and can be opened as before."""
    LibraryModel(tmp_path, spec()).close()
    with pytest.raises(errors.TapeMisuseError, match=BARCODES[2]):
        LibraryModel(tmp_path, spec(slots=BARCODES[:2]))
    LibraryModel(tmp_path, spec()).close()


def test_new_cartridges_are_added(tmp_path: Path) -> None:
    """A barcode that is new in the spec is put into its slot."""
    LibraryModel(tmp_path, spec()).close()
    library = LibraryModel(tmp_path, spec(slots=(*BARCODES, "NEW001L5", None)))
    found = Changer(library.transport(CHANGER)).inventory().find("NEW001L5")
    library.close()
    assert found is not None
    assert found.address == FIRST_SLOT + 3


@pytest.mark.parametrize(
    "changes",
    [
        {"slots": ("A", "A")},
        {"slots": ("../A",)},
        {"drive_serials": ("D1", CHANGER)},
        {"first_port": 4096},
        {"first_slot": 0xFFFF},
        {"capacity_bytes": 1000},
    ],
)
def test_senseless_specs_are_misuse(changes: dict[str, object]) -> None:
    """Names twice or unfit for files, overlapping addresses and tiny tapes are refused at once."""
    with pytest.raises(errors.TapeMisuseError):
        spec(**changes)


def test_foreign_files_are_not_taken_for_cartridges(tmp_path: Path) -> None:
    """Anything else under a cartridge's name is left alone and reported."""
    cartridge_path(tmp_path, BARCODES[0]).write_bytes(b"precious data")
    with pytest.raises(errors.TapeMisuseError, match="no cartridge"):
        loaded(tmp_path)
    assert cartridge_path(tmp_path, BARCODES[0]).read_bytes() == b"precious data"


# -- it behaves as a tape ------------------------------------------------------------------------------
OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["write", "mark", "read", "rewind", "eod", "records", "marks", "locate"]),
        st.integers(-4, 4),
    ),
    max_size=40,
)


class ListTape:
    """The simplest tape there is: a list, None being a filemark."""

    def __init__(self) -> None:
        self.objects: list[bytes | None] = []
        self.at = 0

    def put(self, item: bytes | None) -> None:
        self.objects[self.at :] = [item]
        self.at += 1

    def read(self) -> bytes | str:
        if self.at == len(self.objects):
            return "end"
        item = self.objects[self.at]
        self.at += 1
        return "mark" if item is None else item

    def space(self, count: int, *, marks: bool) -> int:
        """Step by step; return what is left when something stopped it."""
        left, step = abs(count), 1 if count > 0 else -1
        while left:
            if (step > 0 and self.at == len(self.objects)) or (step < 0 and self.at == 0):
                return left
            passed = self.objects[self.at if step > 0 else self.at - 1]
            self.at += step
            if marks:
                left -= passed is None
            elif passed is None:
                return left
            else:
                left -= 1
        return 0


def apply(drive: Drive, tape: ListTape, name: str, number: int, serial: int) -> None:
    """Do one thing on both and compare."""
    if name == "write":
        record = b"%d" % serial
        drive.write(record)
        tape.put(record)
    elif name == "mark":
        drive.write_filemarks(1)
        tape.put(None)
    elif name == "read":
        expected = tape.read()
        kinds = {"end": errors.BlankCheckError, "mark": errors.FilemarkError}
        if isinstance(expected, str):
            with pytest.raises(kinds[expected]):
                drive.read(100)
        else:
            assert drive.read(100) == expected
    elif name == "rewind":
        drive.rewind()
        tape.at = 0
    elif name == "eod":
        drive.space_end_of_data()
        tape.at = len(tape.objects)
    elif name == "locate":
        tape.at = min(abs(number), len(tape.objects))
        drive.locate(tape.at)
    else:
        move = drive.space_filemarks if name == "marks" else drive.space_records
        assert move(number) == tape.space(number, marks=name == "marks")


@given(operations=OPERATIONS)
@settings(max_examples=150, deadline=None)
def test_any_sequence_of_commands_does_what_a_list_does(
    tmp_path_factory: pytest.TempPathFactory, operations: list[tuple[str, int]]
) -> None:
    """Position and contents agree with a list of records and marks, whatever is done in any order."""
    library = loaded(tmp_path_factory.mktemp("tape"))
    drive, tape = drive_of(library), ListTape()
    for serial, (name, number) in enumerate(operations):
        apply(drive, tape, name, number, serial)
        position = drive.position()
        assert position is not None
        assert position.block == tape.at
        assert position.bop == (tape.at == 0)
        if drive.file_number is not None:
            assert drive.file_number == tape.objects[: tape.at].count(None)
        if drive.block_number is not None:
            marks = [n for n, item in enumerate(tape.objects[: tape.at]) if item is None]
            assert drive.block_number == tape.at - (marks[-1] + 1 if marks else 0)
    library.close()


def test_a_tape_file_is_dumped_for_gnu_tar(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """What was written through the drive comes out of the file, byte for byte, without the drive."""
    image = io.BytesIO()
    with tarfile.open(fileobj=image, mode="w") as archive:
        info = tarfile.TarInfo("etc/motd")
        info.size = 5
        archive.addfile(info, io.BytesIO(b"hello"))
    blocks = [image.getvalue()[n : n + 512] for n in range(0, len(image.getvalue()), 512)]
    library = loaded(tmp_path)
    write_files(drive_of(library), [[b"label"], blocks])
    library.close()
    assert list(dump(tmp_path, BARCODES[0], 0)) == [b"label"]
    assert dump_main([str(tmp_path), BARCODES[0], "1"]) == 0
    out = capfdbinary.readouterr().out
    listed = subprocess.run(["tar", "-tf", "-"], input=out, capture_output=True, check=True)
    assert listed.stdout == b"etc/motd\n"


def test_dump_says_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No such cartridge, and no such tape file, are told at once; wrong arguments give the usage."""
    LibraryModel(tmp_path, spec()).close()
    with pytest.raises(errors.TapeMisuseError, match="no tape file 1"):
        dump(tmp_path, BARCODES[0], 1)
    with pytest.raises(errors.TapeMisuseError, match="no cartridge"):
        dump(tmp_path, "NOSUCH", 0)
    assert dump_main([str(tmp_path), "NOSUCH", "0"]) == 1
    assert dump_main([]) == 2
    assert "usage" in capsys.readouterr().err


# -- what is told and refused --------------------------------------------------------------------------
def test_power_on_and_load_are_told_once(tmp_path: Path) -> None:
    """UNIT ATTENTION 29/00, then 28/00 after a load; INQUIRY tells neither and loses neither."""
    library = LibraryModel(tmp_path, spec())
    Changer(library.transport(CHANGER)).move(FIRST_SLOT, FIRST_DRIVE)
    transport = library.transport(DRIVE)
    assert Drive(transport).identify().serial == DRIVE
    ready = commands.TEST_UNIT_READY.cdb()
    assert sense_of(transport, ready) == (6, 0x29, 0x00)
    assert sense_of(transport, ready) == (6, 0x28, 0x00)
    assert transport.execute(ready).status == ScsiStatus.GOOD
    library.close()


def test_request_sense_takes_the_unit_attention(tmp_path: Path) -> None:
    """REQUEST SENSE returns the pending attention as data and clears it."""
    library = LibraryModel(tmp_path, spec())
    transport = library.transport(DRIVE)
    cdb = commands.REQUEST_SENSE.cdb(allocation_length=18)
    assert Sense.parse(transport.execute(cdb, data_in_length=18).data).code == (0x29, 0)
    assert Sense.parse(transport.execute(cdb, data_in_length=18).data).key == 0
    library.close()


@pytest.mark.parametrize(
    ("cdb", "data", "code"),
    [
        (bytes.fromhex("020000000000"), b"", (5, 0x20, 0)),
        (bytes.fromhex("120100000000"[:4] + "42000000"), b"", (5, 0x24, 0)),  # VPD page 42h
        (bytes.fromhex("080100000100"), b"", (5, 0x24, 0)),  # fixed blocks, of no length
        (bytes.fromhex("0a0000000500"), b"abc", (5, 0x24, 0)),  # less data than announced
        (bytes.fromhex("110200000100"), b"", (5, 0x24, 0)),  # sequential filemarks
        (bytes.fromhex("000000010000"), b"", (5, 0x24, 0)),  # a reserved bit
        (bytes.fromhex("00"), b"", (5, 0x24, 0)),  # cut short
        (bytes.fromhex("1a003e00ff00"), b"", (5, 0x24, 0)),  # an unknown mode page
        (bytes.fromhex("151000000200"), bytes(2), (5, 0x1A, 0)),
        (bytes.fromhex("151000000c00"), bytes.fromhex("000000080000000000ffffff"), (5, 0x26, 0)),
        (bytes.fromhex("1e0000000300"), b"", (5, 0x24, 0)),
    ],
)
def test_wrong_commands_are_refused(tmp_path: Path, cdb: bytes, data: bytes, code: tuple[int, ...]) -> None:
    """Unknown operations, fields and parameters end with the codes of SPC-4."""
    library = loaded(tmp_path)
    assert sense_of(library.transport(DRIVE), cdb, data_out=data) == code
    library.close()


def test_an_empty_drive_is_not_ready(tmp_path: Path) -> None:
    """Every medium command says that no cartridge is there."""
    library = LibraryModel(tmp_path, spec())
    transport = library.transport(OTHER_DRIVE)
    drive = Drive(transport)
    with pytest.raises(errors.NoMediumError):
        drive.wait_ready(0)
    for action in (drive.rewind, drive.load, drive.unload, lambda: drive.read(1), lambda: drive.write(b"x")):
        with pytest.raises(errors.NoMediumError):
            action()
    assert drive.write_protected() is False
    library.close()


@pytest.mark.parametrize(
    ("source", "destination", "code"),
    [
        (FIRST_SLOT + 4, FIRST_DRIVE, (0x3B, 0x0E)),
        (FIRST_SLOT, FIRST_SLOT + 1, (0x3B, 0x0D)),
        (FIRST_SLOT, 5, (0x21, 0x01)),
        (5, FIRST_SLOT, (0x21, 0x01)),
        (FIRST_SLOT, 1, (0x21, 0x01)),
    ],
)
def test_impossible_moves_are_refused(
    tmp_path: Path, source: int, destination: int, code: tuple[int, int]
) -> None:
    """Empty source, full destination and unknown elements have codes of their own; nothing moves."""
    library = LibraryModel(tmp_path, spec())
    changer = Changer(library.transport(CHANGER))
    before = changer.inventory()
    with pytest.raises(errors.IllegalRequestError) as caught:
        changer.move(source, destination)
    assert caught.value.sense is not None
    assert caught.value.sense.code == code
    assert changer.inventory() == before
    library.close()


def test_a_prevented_drive_keeps_its_cartridge(tmp_path: Path) -> None:
    """PREVENT stops the changer and UNLOAD (05/53/02) until it is lifted."""
    library = loaded(tmp_path)
    changer, drive = Changer(library.transport(CHANGER)), drive_of(library)
    drive.prevent_removal(True)
    for action in (lambda: changer.move(FIRST_DRIVE, FIRST_SLOT), drive.unload):
        with pytest.raises(errors.IllegalRequestError) as caught:
            action()
        assert caught.value.sense is not None
        assert caught.value.sense.code == (0x53, 0x02)
    drive.prevent_removal(False)
    changer.move(FIRST_DRIVE, FIRST_SLOT)
    with pytest.raises(errors.NoMediumError):
        drive.test_ready()
    library.close()


def test_a_cartridge_goes_from_drive_to_drive(tmp_path: Path) -> None:
    """Written in one drive, read in the other, with the slot it came from remembered."""
    library = loaded(tmp_path)
    drive_of(library).write(b"carried")
    changer = Changer(library.transport(CHANGER))
    changer.move(FIRST_DRIVE, FIRST_DRIVE + 1)
    other = Drive(library.transport(OTHER_DRIVE))
    other.wait_ready(0)
    assert other.read(7) == b"carried"
    element = changer.inventory().at(FIRST_DRIVE + 1)
    library.close()
    assert element is not None
    assert element.source == FIRST_SLOT


def test_a_move_that_cannot_be_recorded_does_not_happen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the map cannot be written, the cartridge stays in its drive and the changer reports a defect."""
    library = loaded(tmp_path)
    changer = Changer(library.transport(CHANGER))
    before = changer.inventory()

    def full(_self: Path, _target: Path) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        with pytest.raises(errors.HardwareError):
            changer.move(FIRST_DRIVE, FIRST_SLOT)
    assert changer.inventory() == before
    drive_of(library).write(b"still there")
    library.close()


def test_the_tab_is_out_of_reach_in_a_drive(tmp_path: Path) -> None:
    """Write protection is changed on cartridges in slots only, and survives a restart."""
    library = loaded(tmp_path)
    with pytest.raises(errors.TapeMisuseError, match="out of reach"):
        library.set_write_protected(BARCODES[0], True)
    with pytest.raises(errors.TapeMisuseError, match="no cartridge"):
        library.set_write_protected("NOSUCH", True)
    library.set_write_protected(BARCODES[1], True)
    Changer(library.transport(CHANGER)).move(FIRST_SLOT + 1, FIRST_DRIVE + 1)
    library.close()
    library = LibraryModel(tmp_path, spec())
    drive = Drive(library.transport(OTHER_DRIVE))
    drive.wait_ready(0)
    assert drive.write_protected()
    library.close()


def test_a_failing_disk_is_a_medium_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the host's disk takes half a record, the drive reports it, and the tape ends before it."""
    library = loaded(tmp_path)
    drive = drive_of(library)
    drive.write(b"good")
    real = os.pwritev
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwritev", lambda fd, parts, offset: real(fd, parts[:1], offset))
        with pytest.raises(errors.MediumError):
            drive.write(b"bad")
    drive.rewind()
    assert drive.read(4) == b"good"
    with pytest.raises(errors.BlankCheckError):
        drive.read(4)
    library.close()
    assert list(dump(tmp_path, BARCODES[0], 0)) == [b"good"]


def test_paths_end_with_the_library(tmp_path: Path) -> None:
    """A library switched off is a delivery failure; a closed path is our own mistake."""
    library = LibraryModel(tmp_path, spec())
    open_path, closed_path = library.transport(DRIVE), library.transport(DRIVE)
    closed_path.close()
    with pytest.raises(errors.TapeMisuseError, match="closed"):
        Drive(closed_path).identify()
    with pytest.raises(errors.TapeMisuseError, match="it has LIB0001, DRV0001"):
        library.transport("NOSUCH")
    library.close()
    with pytest.raises(errors.TransportError, match="powered off"):
        Drive(open_path).identify()


def test_identification_pages(tmp_path: Path) -> None:
    """VPD page 83h has a T10 and an NAA designator, different for each device, the same at each start."""
    pages = []
    for _ in range(2):
        library = LibraryModel(tmp_path, spec())
        for serial in (DRIVE, OTHER_DRIVE):
            cdb = commands.INQUIRY.cdb(evpd=1, page_code=0x83, allocation_length=255)
            pages.append(library.transport(serial).execute(cdb, data_in_length=255).data)
        library.close()
    assert pages[0] == pages[2]
    assert pages[0] != pages[1]
    assert pages[0][1] == 0x83
    assert len(pages[0]) == 4 + int.from_bytes(pages[0][2:4], "big")
    assert DRIVE.encode() in pages[0]
    assert pages[0][-8] >> 4 == 3


def test_block_limits(tmp_path: Path) -> None:
    """Limits are those that WRITE enforces."""
    library = loaded(tmp_path, capacity_bytes=1 << 26)
    drive = drive_of(library)
    limits = drive.block_limits()
    assert limits.minimum == 1
    drive.write(bytes(limits.maximum))
    with pytest.raises(errors.IllegalRequestError):
        drive.write(bytes(limits.maximum + 1))
    library.close()


def test_a_spec_defaults_to_the_usual_addresses() -> None:
    """Drives at 256, ports at 768, slots at 4096, the arm at 1, as in the foreign emulators' set-ups."""
    minimal = LibrarySpec("L", ("D",), (None,))
    assert (minimal.arm, minimal.first_drive, minimal.first_port, minimal.first_slot) == (1, 256, 768, 4096)


def test_the_lun_of_scsi_2_is_ignored(library: LibraryModel) -> None:
    """Mtx and other old programs send the LUN in byte 1, where later standards have nothing."""
    changer = library.transport(CHANGER)
    changer.execute(bytes(6))
    plain, with_lun = bytes.fromhex("b81010000007000004000000"), bytes.fromhex("b85010000007000004000000")
    first, second = (changer.execute(cdb, data_in_length=1024) for cdb in (plain, with_lun))
    assert first.status == second.status == ScsiStatus.GOOD
    assert first.data == second.data
