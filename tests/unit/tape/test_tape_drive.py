"""Promises of Drive, on scripted devices that behave as real ones and emulators were seen to."""

from __future__ import annotations

from pathlib import Path

import pytest
from tape_support import DRIVE, Clock, Scripted, check_condition, loaded, write_files

from tape import errors
from tape.drive import Drive
from tape.drive_data import Position
from tape.sense import Sense
from tape.transport import Completion

GOOD = Completion(0)


def test_a_short_record_is_cut_by_sense_not_by_residual() -> None:
    """Behind QEMU the residual is 0 and stale bytes follow the record: only the ILI sense counts."""
    stale = b"record" + b"#" * 10
    drive = Drive(Scripted(check_condition(Sense(0, ili=True, information=10), stale)))
    assert drive.read(16) == b"record"
    assert drive.last_record_length == 6


def test_a_long_record_gives_its_beginning_and_its_length() -> None:
    """The caller sees that the record was cut from last_record_length."""
    drive = Drive(Scripted(check_condition(Sense(0, ili=True, information=-1000), b"x" * 24)))
    assert drive.read(24) == b"x" * 24
    assert drive.last_record_length == 1024


def test_ili_without_information_is_an_error() -> None:
    """A record whose length nobody knows is never handed on."""
    drive = Drive(Scripted(check_condition(Sense(0, ili=True), b"x" * 24)))
    with pytest.raises(errors.DeviceError, match="another length"):
        drive.read(24)


def test_an_impossible_length_is_an_error() -> None:
    """More bytes missing than asked for cannot be."""
    drive = Drive(Scripted(check_condition(Sense(0, ili=True, information=100), b"x" * 24)))
    with pytest.raises(errors.DeviceError):
        drive.read(24)


@pytest.mark.parametrize("length", [0, -1, 1 << 24])
def test_lengths_no_command_can_carry_are_misuse(length: int) -> None:
    """Lengths outside 1 to 2^24-1 never reach the device."""
    transport = Scripted()
    with pytest.raises(errors.TapeMisuseError):
        Drive(transport).read(length)
    assert transport.cdbs == []


def test_early_warning_is_a_success() -> None:
    """NO SENSE with EOM: the record is on the tape, and the caller is told that room is short."""
    drive = Drive(Scripted(check_condition(Sense(0, 0, 2, eom=True, information=0)), GOOD))
    assert drive.write(b"record") is True
    assert drive.write(b"record") is False


def test_early_warning_without_the_record_is_an_error() -> None:
    """If all of the record is left over, it was not written."""
    drive = Drive(Scripted(check_condition(Sense(0, 0, 2, eom=True, information=6))))
    with pytest.raises(errors.EndOfMediumError):
        drive.write(b"record")


def test_a_deferred_early_warning_is_an_error() -> None:
    """A report about an earlier command says that this one was not carried out."""
    drive = Drive(Scripted(check_condition(Sense(0, 0, 2, eom=True, information=0, deferred=True))))
    with pytest.raises(errors.EndOfMediumError):
        drive.write(b"record")


def test_volume_overflow_is_the_end() -> None:
    """VOLUME OVERFLOW means that the record is not on the tape."""
    drive = Drive(Scripted(check_condition(Sense(0xD, 0, 2, eom=True, information=6))))
    with pytest.raises(errors.EndOfMediumError, match="full"):
        drive.write(b"record")


@pytest.mark.parametrize("sign", [1, -1])
def test_the_rest_of_a_space_is_its_size(sign: int) -> None:
    """Devices differ in the sign they give the rest of a backward space."""
    sense = Sense(0, 0, 4, eom=True, information=sign * 2)
    drive = Drive(Scripted(check_condition(sense)))
    assert drive.space_filemarks(-5) == 2
    assert isinstance(drive.last_stop, errors.EndOfMediumError)
    assert drive.file_number == 0


def test_a_space_without_rest_is_an_error() -> None:
    """When a device does not say how far it came, no number is invented (tgt, fault 8)."""
    drive = Drive(Scripted(check_condition(Sense(0, 0, 5))))
    with pytest.raises(errors.BlankCheckError):
        drive.space_filemarks(5)


@pytest.mark.parametrize(
    "answer",
    [
        check_condition(Sense(5, 0x20, 0x00)),
        Completion(0, bytes([0x14]) + bytes(19)),  # tgt's stub
        Completion(0, bytes([0x02]) + bytes(19)),
        Completion(0, bytes(8)),
    ],
)
def test_no_position_is_none(answer: Completion) -> None:
    """A device that does not know its position is not believed to be at block 0."""
    assert Drive(Scripted(answer)).position() is None


def test_position_is_read() -> None:
    """BOP, EOP and the first block come from the short form."""
    answer = Completion(0, bytes([0xC0, 0, 0, 0]) + (77).to_bytes(4, "big") * 2 + bytes(8))
    assert Drive(Scripted(answer)).position() == Position(77, bop=True, eop=True)


@pytest.mark.parametrize(("flags", "buffered"), [(0, 7), (0x20, None)])
def test_position_tells_what_is_not_on_the_tape_yet(flags: int, buffered: int | None) -> None:
    """First minus last location is what the buffer holds, unless the drive says that it does not know."""
    numbers = (77).to_bytes(4, "big") + (70).to_bytes(4, "big")
    answer = Completion(0, bytes([flags, 0, 0, 0]) + numbers + bytes(8))
    position = Drive(Scripted(answer)).position()
    assert position is not None
    assert position.buffered == buffered


def test_variable_block_keeps_density_and_buffering() -> None:
    """MODE SELECT changes the block length only; WP is reserved there and goes out as 0."""
    mode = bytes.fromhex("0b0090085800000000000200")
    transport = Scripted(Completion(0, mode), GOOD)
    Drive(transport).set_variable_block()
    assert transport.cdbs[1].hex() == "151000000c00"
    assert transport.sent[1].hex() == "000010085800000000000000"


def test_waiting_takes_note_of_unit_attentions_and_of_time() -> None:
    """Unit attentions cost no time, becoming ready does; then the drive is ready."""
    clock = Clock()
    becoming = check_condition(Sense(2, 4, 1))
    answers = [check_condition(Sense(6, 0x29)), check_condition(Sense(6, 0x28)), becoming, becoming, GOOD]
    Drive(Scripted(*answers), now=clock.now, sleep=clock.sleep).wait_ready(10)
    assert clock.seconds == 1.0


def test_waiting_ends() -> None:
    """After the time given, the last reason is raised."""
    clock = Clock()
    transport = Scripted(*[check_condition(Sense(2, 4, 1))] * 100)
    with pytest.raises(errors.NotReadyError):
        Drive(transport, now=clock.now, sleep=clock.sleep).wait_ready(10)
    assert clock.seconds == 10.0


def test_no_medium_is_told_at_once_unless_expected() -> None:
    """An empty drive does not become full by waiting, unless a changer has just loaded it."""
    clock = Clock()
    empty = check_condition(Sense(2, 0x3A))
    with pytest.raises(errors.NoMediumError):
        Drive(Scripted(empty), now=clock.now, sleep=clock.sleep).wait_ready(10)
    Drive(Scripted(empty, empty, GOOD), now=clock.now, sleep=clock.sleep).wait_ready(10, medium_expected=True)


def test_endless_unit_attentions_end() -> None:
    """A device that tells unit attentions for ever does not hang us."""
    with pytest.raises(errors.UnitAttentionError):
        Drive(Scripted(*[check_condition(Sense(6, 0x29))] * 100)).wait_ready(10)


def test_position_is_lost_after_a_reset() -> None:
    """After an error that may have moved the tape, file and block are unknown, not wrong."""
    drive = Drive(Scripted(GOOD, check_condition(Sense(6, 0x29))))
    drive.rewind()
    assert (drive.file_number, drive.block_number) == (0, 0)
    with pytest.raises(errors.UnitAttentionError):
        drive.read(10)
    assert (drive.file_number, drive.block_number) == (None, None)


def test_closing_closes_the_transport() -> None:
    """A drive used as a context manager gives its transport up."""
    transport = Scripted()
    with Drive(transport):
        pass
    assert transport.closed


def test_file_and_block_follow_the_tape(tmp_path: Path) -> None:
    """TAPE_GET_STATE's numbers are right through reading, writing and all kinds of spacing."""
    library = loaded(tmp_path)
    drive = Drive(library.transport(DRIVE))

    def where() -> tuple[int | None, int | None]:
        return drive.file_number, drive.block_number

    assert where() == (None, None)
    drive.rewind()
    write_files(drive, [[b"a", b"b", b"c"], [b"d", b"e"]])
    assert where() == (2, 0)
    drive.rewind()
    drive.read(1)
    assert where() == (0, 1)
    assert drive.space_records(9) == 7
    assert where() == (1, 0)
    drive.read(1)
    assert drive.space_records(-1) == 0
    assert where() == (1, 0)
    assert drive.space_records(-1) == 1
    assert where() == (0, None)
    assert drive.space_filemarks(2) == 0
    assert where() == (2, 0)
    with pytest.raises(errors.BlankCheckError):
        drive.read(1)
    assert where() == (2, 0)
    assert drive.space_filemarks(-1) == 0
    assert where() == (1, None)
    assert drive.space_filemarks(-7) == 6
    assert where() == (0, 0)
    drive.locate(2)
    assert where() == (None, None)
    drive.locate(0)
    assert where() == (0, 0)
    drive.unload()
    assert where() == (None, None)
    library.close()


def test_spacing_into_blank_tape_keeps_the_file_and_forgets_the_block(tmp_path: Path) -> None:
    """Behind the last filemark the file number is the filemarks passed; records were not counted."""
    library = loaded(tmp_path)
    drive = Drive(library.transport(DRIVE))
    drive.rewind()
    write_files(drive, [[b"a"]])
    drive.write(b"b")
    drive.rewind()
    assert drive.space_filemarks(3) == 2
    assert (drive.file_number, drive.block_number) == (1, None)
    library.close()


def test_write_filemarks_zero_flushes_and_moves_nothing(tmp_path: Path) -> None:
    """A count of 0 leaves file and block as they are."""
    library = loaded(tmp_path)
    drive = Drive(library.transport(DRIVE))
    drive.rewind()
    drive.write(b"a")
    assert drive.write_filemarks(0) is False
    assert (drive.file_number, drive.block_number) == (0, 1)
    library.close()
