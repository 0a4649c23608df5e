"""Promises of the sg transport, on a kernel of the test's own (real ones: tests/hardware, tests/e2e)."""

from __future__ import annotations

import ctypes
import errno
from pathlib import Path

import pytest
from tape_support import DRIVE, FakeKernel, Scripted, loaded

from tape import errors
from tape.drive import Drive
from tape.sg import SgTransport
from tape.sg_lane import SG_FLAG_MMAP_IO, SgIoHeader
from tape.transport import Completion

GOOD = Completion(0)
READY = bytes(6)


@pytest.mark.skipif(ctypes.sizeof(ctypes.c_void_p) != 8, reason="layout of 64-bit machines")
def test_the_header_has_the_kernels_layout() -> None:
    """Size and offsets are those a C compiler gives sg_io_hdr_t on 64-bit Linux."""
    assert ctypes.sizeof(SgIoHeader) == 88
    offsets = {"dxferp": 16, "cmdp": 24, "sbp": 32, "timeout": 40, "usr_ptr": 56, "status": 64, "resid": 72}
    assert {name: getattr(SgIoHeader, name).offset for name in offsets} == offsets


def test_records_go_through_the_mapped_buffer_without_a_copy(tmp_path: Path) -> None:
    """Data put into the transport's buffer is written from there and read back into it."""
    library = loaded(tmp_path)
    kernel = FakeKernel(library.transport(DRIVE))
    transport = SgTransport("/dev/sg0", kernel)
    drive = Drive(transport)
    drive.rewind()
    kernel.flags.clear()
    buffer = transport.buffer(10_000)
    buffer[:] = b"r" * 10_000
    drive.write(buffer)
    drive.write(buffer[:500])
    buffer[:] = bytes(10_000)
    drive.rewind()
    assert drive.read_into(buffer) == 10_000
    assert bytes(buffer) == b"r" * 10_000
    assert drive.read_into(buffer) == 500
    assert kernel.flags == [SG_FLAG_MMAP_IO, SG_FLAG_MMAP_IO, 0, SG_FLAG_MMAP_IO, SG_FLAG_MMAP_IO]
    library.close()


def test_other_commands_leave_the_buffer_alone(tmp_path: Path) -> None:
    """A record that waits in the buffer survives an INQUIRY and a READ to elsewhere."""
    library = loaded(tmp_path)
    transport = SgTransport("/dev/sg0", FakeKernel(library.transport(DRIVE)))
    drive = Drive(transport)
    drive.rewind()
    drive.write(b"other" * 100)
    drive.rewind()
    buffer = transport.buffer(1000)
    buffer[:] = b"w" * 1000
    assert drive.identify().serial == DRIVE
    assert drive.read(500) == b"other" * 100
    assert bytes(buffer) == b"w" * 1000
    library.close()


def test_the_middle_of_the_buffer_is_written_right(tmp_path: Path) -> None:
    """The driver always starts at the buffer's beginning, so any other part of it is copied."""
    library = loaded(tmp_path)
    transport = SgTransport("/dev/sg0", FakeKernel(library.transport(DRIVE)))
    drive = Drive(transport)
    drive.rewind()
    buffer = transport.buffer(1000)
    buffer[:] = b"a" * 500 + b"b" * 500
    drive.write(buffer[500:])
    drive.rewind()
    assert drive.read(500) == b"b" * 500
    library.close()


def test_more_than_the_driver_reserves_still_goes(tmp_path: Path) -> None:
    """A transfer larger than the reserved buffer falls back to ordinary I/O, and small ones stay mapped."""
    library = loaded(tmp_path)
    kernel = FakeKernel(library.transport(DRIVE), most=128 * 1024)
    transport = SgTransport("/dev/sg0", kernel)
    drive = Drive(transport)
    drive.rewind()
    record = bytes(range(256)) * 4096
    drive.write(record)
    drive.write(b"small")
    assert kernel.flags[-2:] == [0, SG_FLAG_MMAP_IO]
    drive.rewind()
    assert drive.read(len(record)) == record
    assert drive.read(5) == b"small"
    with pytest.raises(errors.TransportError, match="cannot carry 1048576 bytes"):
        transport.buffer(1 << 20)
    library.close()


def test_a_buffer_in_use_is_not_taken_away() -> None:
    """A larger buffer is given once the smaller one has been released, and misuse is told before."""
    kernel = FakeKernel(Scripted())
    transport = SgTransport("/dev/sg0", kernel)
    small = transport.buffer(4096)
    small[0] = 7
    with pytest.raises(errors.TapeMisuseError, match="still in use"):
        transport.buffer(100_000)
    assert small[0] == 7
    assert transport.buffer(4096)[0] == 7
    small.release()
    assert len(transport.buffer(100_000)) == 100_000
    transport.close()
    assert kernel.open_files == set()


def test_closing_with_a_buffer_in_use_closes_the_device() -> None:
    """A receiver that still holds the buffer does not keep the drive open."""
    kernel = FakeKernel(Scripted())
    transport = SgTransport("/dev/sg0", kernel)
    buffer = transport.buffer(4096)
    transport.close()
    transport.close()
    assert kernel.open_files == set()
    buffer[0] = 1
    with pytest.raises(errors.TapeMisuseError, match="closed"):
        transport.execute(READY)


def test_the_next_record_is_filled_while_one_is_written(tmp_path: Path) -> None:
    """Each lane has memory of its own, and what was begun moves the bytes of its own lane only."""
    library = loaded(tmp_path)
    kernel = FakeKernel(library.transport(DRIVE))
    transport = SgTransport("/dev/sg0", kernel)
    drive = Drive(transport)
    drive.rewind()
    kernel.flags.clear()
    lanes = [transport.buffer(1000, lane) for lane in (0, 1)]
    lanes[0][:] = b"0" * 1000
    running = drive.begin_write(lanes[0])
    lanes[1][:] = b"1" * 1000
    assert drive.end_write(running) is False
    assert drive.end_write(drive.begin_write(lanes[1])) is False
    assert kernel.flags == [SG_FLAG_MMAP_IO] * 2
    drive.rewind()
    running = drive.begin_read(lanes[1])
    lanes[0][:] = bytes(1000)
    assert drive.end_read(running) == 1000
    assert (bytes(lanes[0]), bytes(lanes[1])) == (bytes(1000), b"0" * 1000)
    assert drive.read(1000) == b"1" * 1000
    library.close()


def test_one_command_at_a_time() -> None:
    """Real drives carry out what is queued behind a failed write, so nothing is sent before its end."""
    kernel = FakeKernel(Scripted(GOOD, GOOD, GOOD))
    transport = SgTransport("/dev/sg0", kernel)
    lanes = [transport.buffer(10, lane) for lane in (0, 1)]
    running = transport.begin(READY, lanes[0], out=True)
    with pytest.raises(errors.TapeMisuseError, match="before a command has ended"):
        transport.begin(READY, lanes[1], out=True)
    with pytest.raises(errors.TapeMisuseError, match="before a command has ended"):
        transport.execute(READY)
    assert running.finish() == GOOD
    assert transport.execute(READY) == GOOD


def test_what_was_begun_fails_at_its_end_or_was_not_begun() -> None:
    """An error of the driver is told where it happens, and the path is free for the next command."""
    kernel = FakeKernel(Scripted(GOOD, GOOD))
    transport = SgTransport("/dev/sg0", kernel)
    lane = transport.buffer(10)
    kernel.error = OSError(errno.ENODEV, "No such device")
    with pytest.raises(errors.TransportError, match="not taken: No such device"):
        transport.begin(READY, lane, out=False)
    kernel.error = None
    running = transport.begin(READY, lane, out=False)
    kernel.error = OSError(errno.ENODEV, "No such device")
    with pytest.raises(errors.TransportError, match="no end of the command: No such device"):
        running.finish()
    kernel.error = None
    running = transport.begin(READY, lane, out=False)
    kernel.outcome = {"host_status": 3}
    with pytest.raises(errors.CommandTimeoutError, match="TEST UNIT READY: no answer"):
        running.finish()
    kernel.outcome = {}
    assert transport.execute(READY) == GOOD


def test_memory_of_ones_own_can_be_used_as_well() -> None:
    """What is no lane of this transport is carried out at once, with a copy."""
    kernel = FakeKernel(Scripted(GOOD))
    running = SgTransport("/dev/sg0", kernel).begin(READY, memoryview(bytearray(10)), out=True)
    assert running.descriptor is None
    assert running.finish() == GOOD


def test_check_condition_is_a_result() -> None:
    """Sense data comes back as bytes; nothing is raised for it."""
    sense = bytes.fromhex("700002000000000a000000003a0000000000")
    transport = SgTransport("/dev/sg0", FakeKernel(Scripted(Completion(2, b"", sense))))
    assert transport.execute(READY) == Completion(2, b"", sense)


def test_sense_without_status_counts_as_check_condition() -> None:
    """Old host adapters report sense by the driver status only."""
    kernel = FakeKernel(Scripted(GOOD))
    kernel.outcome = {"driver_status": 0x08, "sb_len_wr": 18}
    assert SgTransport("/dev/sg0", kernel).execute(READY).status == 2


@pytest.mark.parametrize(
    ("outcome", "kind", "text"),
    [
        ({"host_status": 3}, errors.CommandTimeoutError, "TEST UNIT READY: no answer within 5 s"),
        ({"driver_status": 6}, errors.CommandTimeoutError, "no answer"),
        ({"host_status": 1}, errors.TransportError, "no connection"),
        ({"host_status": 0x77}, errors.TransportError, "host status 77"),
        ({"driver_status": 4}, errors.TransportError, "driver status 04"),
    ],
)
def test_failed_deliveries_are_errors(
    outcome: dict[str, int], kind: type[errors.DeviceError], text: str
) -> None:
    """A command that did not arrive, or was not answered, is never taken for a result."""
    kernel = FakeKernel(Scripted(GOOD))
    kernel.outcome = outcome
    with pytest.raises(kind, match=text):
        SgTransport("/dev/sg0", kernel).execute(READY, timeout_s=5)


def test_a_vanished_device_is_a_transport_error() -> None:
    """The ioctl's own failure names the device; an interruption says what it may have left behind."""
    kernel = FakeKernel(Scripted())
    transport = SgTransport("/dev/sg7", kernel)
    kernel.error = OSError(errno.ENODEV, "No such device")
    with pytest.raises(errors.TransportError, match="/dev/sg7: SG_IO failed: No such device"):
        transport.execute(READY)
    kernel.error = OSError(errno.EINTR, "Interrupted system call")
    with pytest.raises(errors.TransportError, match="may still be running"):
        transport.execute(READY)


@pytest.mark.parametrize(
    ("number", "text"),
    [(errno.EACCES, "no right"), (errno.EBUSY, "exclusively"), (errno.ENXIO, "gone"), (errno.EIO, "error")],
)
def test_a_node_that_cannot_be_opened_says_why(number: int, text: str) -> None:
    """Each cause has words that tell what to do."""

    class Refusing(FakeKernel):
        def open(self, path: str) -> int:
            raise OSError(number, "Input/output error", path)

    with pytest.raises(errors.TransportError, match=f"/dev/sg0: .*{text}"):
        SgTransport("/dev/sg0", Refusing(Scripted()))


def test_real_nodes_that_are_none(tmp_path: Path) -> None:
    """With the real system calls: a missing node, and a file that is no SCSI device."""
    with pytest.raises(errors.TransportError, match="no such device node"):
        SgTransport(str(tmp_path / "sg0"))
    (tmp_path / "file").touch()
    with SgTransport(str(tmp_path / "file")) as transport, pytest.raises(errors.TransportError):
        transport.execute(READY)


def test_two_threads_are_refused() -> None:
    """A second command while one runs is the caller's mistake, and is told at once."""
    kernel = FakeKernel(Scripted(GOOD, GOOD))
    transport = SgTransport("/dev/sg0", kernel)
    seen: list[str] = []

    def interfere() -> None:
        kernel.during = None
        with pytest.raises(errors.TapeMisuseError, match="two threads") as caught:
            transport.execute(READY)
        seen.append(str(caught.value))

    kernel.during = interfere
    transport.execute(READY)
    assert len(seen) == 1
    transport.execute(READY)


def test_senseless_commands_are_misuse() -> None:
    """Both directions at once, and CDBs of impossible length, do not reach the driver."""
    transport = SgTransport("/dev/sg0", FakeKernel(Scripted()))
    with pytest.raises(errors.TapeMisuseError, match="one direction"):
        transport.execute(READY, data_out=b"x", data_in_length=1)
    for cdb in (b"", bytes(17)):
        with pytest.raises(errors.TapeMisuseError, match="CDB"):
            transport.execute(cdb)
