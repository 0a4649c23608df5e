"""Promises of `Drive.check_record`: the largest record is found without writing one."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from tape_support import DRIVE, FakeKernel, Scripted, check_condition, loaded

from tape.commands import READ_BLOCK_LIMITS, REPORT_LUNS
from tape.drive import Drive
from tape.errors import CommandTimeoutError, RecordSizeError
from tape.model.drive import MAX_RECORD_BYTES
from tape.sense import Sense
from tape.sg import SgTransport
from tape.sg_lane import SG_FLAG_MMAP_IO, SgIoHeader
from tape.transport import Completion


class Narrow(FakeKernel):
    """A host adapter with few segments: it reserves any buffer, and refuses a command that is too large."""

    carries = 512 * 1024

    def run(self, descriptor: int, header: SgIoHeader) -> None:
        if header.dxfer_len > self.carries:
            raise OSError(errno.EINVAL, "Invalid argument")
        super().run(descriptor, header)


def limits(maximum: int, minimum: int = 1, granularity: int = 0) -> Completion:
    """An answer to READ BLOCK LIMITS."""
    return Completion(0, bytes([granularity]) + maximum.to_bytes(3, "big") + minimum.to_bytes(2, "big"))


def test_the_path_is_tried_with_a_command_that_only_asks(tmp_path: Path) -> None:
    """As many bytes go the way of a record, mapped like one; the tape is not touched."""
    library = loaded(tmp_path)
    kernel = Narrow(library.transport(DRIVE))
    drive = Drive(SgTransport("/dev/sg0", kernel))
    drive.wait_ready(0)
    kernel.flags.clear()
    drive.check_record(512 * 1024)
    assert kernel.flags[-1] == SG_FLAG_MMAP_IO
    with pytest.raises(RecordSizeError, match="no record of 524289 bytes: the way to the drive"):
        drive.check_record(512 * 1024 + 1)
    assert library.drives[0].position == 0
    # What is carried can then be written as it was tried.
    buffer = drive.transport.buffer(512 * 1024)
    drive.write(buffer)
    buffer.release()
    library.close()


def test_a_kernel_that_reserves_too_little_is_told() -> None:
    """The driver's own bound counts like that of the adapter."""
    drive = Drive(SgTransport("/dev/sg0", FakeKernel(Scripted(limits(0)), most=128 * 1024)))
    with pytest.raises(RecordSizeError, match="the host adapter cannot carry 262144 bytes"):
        drive.check_record(256 * 1024)


@pytest.mark.parametrize(
    ("answer", "length", "words"),
    [
        (limits(4096), 4097, "takes 1 to 4096"),
        (limits(4096, minimum=512), 100, "takes 512 to 4096"),
        (limits(4096, granularity=9), 1000, "in steps of 512"),
    ],
)
def test_the_drives_own_limits_count(answer: Completion, length: int, words: str) -> None:
    """READ BLOCK LIMITS is believed, and nothing else is sent."""
    transport = Scripted(answer)
    with pytest.raises(RecordSizeError, match=words):
        Drive(transport).check_record(length)
    assert [cdb[0] for cdb in transport.cdbs] == [READ_BLOCK_LIMITS.opcode]


@pytest.mark.parametrize("answer", [limits(0), check_condition(Sense(5, 0x20, 0))])
def test_a_drive_that_names_no_limit_is_asked_no_more(answer: Completion) -> None:
    """A maximum of 0 means none, and a drive without the command leaves it to the path."""
    transport = Scripted(answer, check_condition(Sense(5, 0x24, 0)))
    Drive(transport).check_record(1 << 20)
    assert transport.cdbs[1] == REPORT_LUNS.cdb(allocation_length=1 << 20)


def test_small_records_cost_one_question() -> None:
    """64 KiB go everywhere."""
    transport = Scripted(limits(0))
    Drive(transport).check_record(64 * 1024)
    assert len(transport.cdbs) == 1


def test_a_drive_that_hangs_is_no_matter_of_sizes() -> None:
    """A timeout stays one."""

    def hang(_cdb: bytes) -> Completion:
        raise CommandTimeoutError("no answer", device="x")

    with pytest.raises(CommandTimeoutError):
        Drive(Scripted(limits(0), hang)).check_record(1 << 20)


def test_the_models_limit_is_what_it_takes(tmp_path: Path) -> None:
    """The largest record that the model names is written, and no larger one passes."""
    library = loaded(tmp_path)
    drive = Drive(library.transport(DRIVE))
    drive.wait_ready(0)
    drive.check_record(MAX_RECORD_BYTES)
    with pytest.raises(RecordSizeError):
        drive.check_record(MAX_RECORD_BYTES + 1)
    library.close()
