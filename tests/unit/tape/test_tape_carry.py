"""Promises of the compiled carrier: whole records in order; where it stops nothing is lost or begun too much.

That the mover keeps all its promises with it is tested in tests/unit/mediaserver, by the way "carried".
"""

from __future__ import annotations

import errno
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tape_support import DRIVE, FakeKernel, loaded

from tape import carry, errors
from tape.carry import Carried, Carrier, Peer
from tape.drive import Drive
from tape.model import LibraryModel
from tape.sg import SgTransport
from tape.transport import Running
from tests.unit.sg_support import SgDriver

RECORD = 3000
RECORDS = [bytes([number]) * RECORD for number in range(1, 8)]

pytestmark = pytest.mark.skipif(carry.helper() is None, reason="no C compiler when this was installed")


@dataclass
class Site:
    """A drive whose lanes records are carried between, and both ends of a connection."""

    library: LibraryModel
    drive: Drive
    lanes: list[memoryview]
    ours: socket.socket
    theirs: socket.socket
    halt: bytearray
    driver: SgDriver

    @property
    def carrier(self) -> Carrier:
        """The compiled one."""
        found = self.drive.transport.carrier
        assert found is not None
        return found

    @property
    def peer(self) -> Peer:
        """The server's end."""
        return Peer(self.ours.fileno(), self.halt)

    def begin_read(self, lane: int = 0) -> Running:
        """A READ at the beginning of the tape."""
        self.drive.rewind()
        return self.drive.begin_read(self.lanes[lane])

    def begin_write(self) -> Running:
        """The WRITE of the first record at the beginning of the tape."""
        self.drive.rewind()
        self.lanes[0][:] = RECORDS[0]
        return self.drive.begin_write(self.lanes[0])

    def on_tape(self) -> list[bytes]:
        """All records from the beginning on."""
        self.drive.rewind()
        found = []
        while True:
            try:
                found.append(self.drive.read(RECORD))
            except (errors.BlankCheckError, errors.FilemarkError):
                return found

    def received(self, count: int) -> bytes:
        """So many bytes at the other end."""
        return self.theirs.recv(count, socket.MSG_WAITALL)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A cartridge with all RECORDS and a filemark."""
    library = loaded(tmp_path)
    driver = SgDriver(library.transport(DRIVE))
    transport = SgTransport("/dev/sg0", driver)
    drive = Drive(transport)
    drive.rewind()
    for record in RECORDS:
        drive.write(record)
    drive.write_filemarks(1)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        lanes = [transport.buffer(RECORD, number) for number in (0, 1)]
        yield Site(library, drive, lanes, ours, theirs, bytearray(1), driver)
        for lane in lanes:
            lane.release()
    drive.close()
    library.close()


def ended(carried: Carried) -> Running:
    """The command that ended otherwise than plainly."""
    assert carried.running is not None
    assert carried.running.descriptor is None
    return carried.running


def test_records_are_sent_and_one_more_is_read(site: Site) -> None:
    """As many as asked arrive in order; the record behind them is on its way to the lane where it belongs."""
    carried = site.carrier.send_records(site.begin_read(lane=1), site.peer, 4)
    assert (carried.records, carried.odd, carried.held, carried.error) == (4, 0, None, 0)
    assert site.received(4 * RECORD) == b"".join(RECORDS[:4])
    assert carried.running is not None
    assert site.drive.end_read(carried.running) == RECORD
    assert bytes(site.lanes[1]) == RECORDS[4]


def test_a_mark_ends_it_behind_the_last_record(site: Site) -> None:
    """All records before it arrive, and who ends the command that met it is told of the mark."""
    carried = site.carrier.send_records(site.begin_read(), site.peer, 100)
    assert (carried.records, carried.held) == (len(RECORDS), None)
    assert site.received(len(RECORDS) * RECORD) == b"".join(RECORDS)
    with pytest.raises(errors.FilemarkError):
        site.drive.end_read(ended(carried))


def test_a_short_record_is_not_sent(site: Site) -> None:
    """Its length is the caller's to judge."""
    site.drive.rewind()
    site.drive.write(RECORDS[0])
    site.drive.write(b"short")
    site.drive.write_filemarks(1)
    carried = site.carrier.send_records(site.begin_read(), site.peer, 100)
    assert (carried.records, carried.held) == (1, None)
    assert site.drive.end_read(ended(carried)) == 5
    assert bytes(site.lanes[1][:5]) == b"short"


def test_a_receiver_that_stops_gets_the_rest_later(site: Site) -> None:
    """The call returns rather than wait; what was sent of the record is told, and the rest is in its lane."""
    site.ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    carried = site.carrier.send_records(site.begin_read(), site.peer, 100)
    assert carried.held is not None
    assert 0 < carried.records * RECORD + carried.odd < len(RECORDS) * RECORD
    rest = bytes(site.lanes[carried.held][carried.odd :])
    came = site.received(carried.records * RECORD + carried.odd)
    assert came + rest == b"".join(RECORDS[: carried.records + 1])
    assert carried.running is not None
    site.drive.end_read(carried.running)
    assert bytes(site.lanes[1 - carried.held]) == RECORDS[carried.records + 1]


def test_a_connection_that_is_gone_is_told(site: Site) -> None:
    """The read that was begun meanwhile is given back, and no signal ends the process."""
    site.theirs.close()
    carried = site.carrier.send_records(site.begin_read(), site.peer, 100)
    assert (carried.records, carried.odd, carried.error) == (0, 0, errno.EPIPE)
    assert carried.running is not None
    assert site.drive.end_read(carried.running) == RECORD


def test_after_a_halt_nothing_is_begun(site: Site) -> None:
    """What runs ends and is sent, or counted; the drive then has no command."""
    running = site.begin_read()
    site.halt[0] = 1
    carried = site.carrier.send_records(running, site.peer, 100)
    assert (carried.records, carried.running, carried.held) == (1, None, None)
    site.drive.rewind()
    assert site.drive.read(RECORD) == RECORDS[0]
    running = site.begin_write()
    site.theirs.sendall(RECORDS[1])
    carried = site.carrier.receive_records(running, site.peer, 0, 100)
    assert (carried.records, carried.running, carried.odd) == (1, None, RECORD)
    assert site.on_tape() == RECORDS[:1]


def test_records_are_written_as_they_come(site: Site) -> None:
    """One more than is counted is begun, and what is left of the connection's bytes stays there."""
    site.theirs.sendall(b"".join(RECORDS[1:]))
    carried = site.carrier.receive_records(site.begin_write(), site.peer, 0, 3)
    assert (carried.records, carried.odd, carried.error) == (3, 0, 0)
    assert carried.running is not None
    site.drive.end_write(carried.running)
    assert site.on_tape() == RECORDS[:4]
    assert site.ours.recv(RECORD, socket.MSG_WAITALL) == RECORDS[4]


def test_a_sender_that_stops_within_a_record_is_not_waited_for(site: Site) -> None:
    """What is whole is written and counted; what came of the next record is kept, and the rest joins it."""
    site.theirs.sendall(RECORDS[1] + RECORDS[2][:1000])
    carried = site.carrier.receive_records(site.begin_write(), site.peer, 0, 100)
    assert (carried.records, carried.running, carried.odd) == (2, None, 1000)
    running = site.drive.begin_write(site.lanes[1 - (carried.held or 0)])
    site.theirs.sendall(RECORDS[2][1000:])
    site.theirs.shutdown(socket.SHUT_WR)
    assert carried.held is not None
    carried = site.carrier.receive_records(running, site.peer, 1000, 100)
    assert (carried.odd, carried.error) == (0, 0)
    assert carried.running is not None
    site.drive.end_write(carried.running)
    # The lane of the record before was written once more, by this test, to have a command that runs.
    assert site.on_tape() == [RECORDS[0], RECORDS[1], RECORDS[1], RECORDS[2]]


def test_a_peer_that_trickles_does_not_hold_it(site: Site) -> None:
    """Small pieces, none of which is long in coming, add up: the call ends before the record is there."""
    is_over = threading.Event()

    def trickle() -> None:
        while not is_over.wait(0.02):
            site.theirs.send(b"x")

    site.theirs.send(b"x")
    peer = threading.Thread(target=trickle)
    peer.start()
    try:
        carried = site.carrier.receive_records(site.begin_write(), site.peer, 0, 100)
    finally:
        is_over.set()
        peer.join()
    if carried.running is not None:
        site.drive.end_write(carried.running)
    assert 0 < carried.odd < RECORD
    assert carried.error == 0


def test_a_command_that_the_driver_does_not_take_is_left_to_the_caller(site: Site) -> None:
    """The record that was read is sent, the one that came in is kept; nothing is at the drive."""
    running = site.begin_read()
    with site.driver.refusing():
        carried = site.carrier.send_records(running, site.peer, 100)
    assert (carried.records, carried.running, carried.held) == (1, None, None)
    assert site.received(RECORD) == RECORDS[0]
    running = site.begin_write()
    site.theirs.sendall(RECORDS[1])
    with site.driver.refusing():
        carried = site.carrier.receive_records(running, site.peer, 0, 100)
    assert (carried.records, carried.running, carried.odd, carried.error) == (1, None, RECORD, 0)
    assert carried.held is not None
    assert bytes(site.lanes[carried.held]) == RECORDS[1]
    site.drive.end_write(site.drive.begin_write(site.lanes[carried.held]))
    assert site.on_tape() == RECORDS[:2]


def test_a_connection_that_is_reset_is_told(site: Site) -> None:
    """What the drive has is given back, or counted."""
    running = site.begin_write()
    with socket.create_server(("127.0.0.1", 0)) as server:
        theirs = socket.create_connection(server.getsockname())
        ours, _ = server.accept()
    with ours:
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        theirs.close()
        carried = site.carrier.receive_records(running, Peer(ours.fileno(), site.halt), 0, 100)
    assert carried.error == errno.ECONNRESET
    assert carried.odd == 0
    if carried.running is not None:
        site.drive.end_write(carried.running)
    assert site.on_tape() == RECORDS[:1]


def test_a_full_cartridge_ends_it_and_the_next_record_is_kept(site: Site) -> None:
    """Early warning is no plain end: who ends the command is told, and nothing was begun after it."""
    room = (8 << 20) // RECORD
    pieces = [b"x" * RECORD for _ in range(room)]
    written, odd, running = 0, 0, site.begin_write()
    site.ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    for piece in pieces:
        site.theirs.sendall(piece)
        carried = site.carrier.receive_records(running, site.peer, odd, 1)
        written += carried.records
        odd = carried.odd
        assert carried.running is not None
        running = carried.running
        if running.descriptor is None:
            break
    assert running.descriptor is None, "no early warning came"
    assert site.drive.end_write(running), "the record is on tape, with the warning"
    assert len(site.on_tape()) == written + 1


def test_commands_of_others_are_refused(site: Site) -> None:
    """A command that was not begun in a lane, or lanes that are not there, are misuse."""
    with pytest.raises(errors.TapeMisuseError, match="between two lanes"):
        site.carrier.send_records(Running(b"", RECORD), site.peer, 1)


def test_without_the_helper_there_is_no_carrier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor where descriptors are not the kernel's, or it is not wanted."""
    library = loaded(tmp_path)
    assert SgTransport("/dev/sg0", FakeKernel(library.transport(DRIVE))).carrier is None
    monkeypatch.setenv("SPANREEL_QUICK", "0")
    transport = SgTransport("/dev/sg0", SgDriver(library.transport(DRIVE)))
    assert transport.carrier is None
    transport.close()
    library.close()
