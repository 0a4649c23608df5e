"""The target's sockets and threads: one connection's trouble is nobody else's; scripted faults."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import ClassVar

import pytest
from iscsi_support import NAMES, OPERATIONAL, TARGET, command, connect, login, receive_pdu, request
from tape_support import CHANGER, DRIVE, OTHER_DRIVE

from tape.commands import INQUIRY, PREVENT_ALLOW, REPORT_LUNS, REQUEST_SENSE, TEST_UNIT_READY
from tape.iscsi import IscsiServer, ModelUnits
from tape.iscsi.pdu import RESPONSES, Decoder, Pdu
from tape.model import LibraryModel
from tape.model.faults import CommandFault, Dropped, Gone, Wait
from tape.sense import Sense

READY = TEST_UNIT_READY.cdb()
ABSENT = (0x05, 0x25, 0x00)
LONG = 60.0


class Hand:
    """A session over a real socket, driven by hand."""

    all: ClassVar[list[Hand]] = []

    def __init__(self, server: IscsiServer, initiator: str = "iqn.2026-11.test:hand") -> None:
        self.socket = connect(server.address)
        self.all.append(self)
        self.decoder = Decoder(1 << 24, RESPONSES)
        self.number = 7
        self.send(login(NAMES | OPERATIONAL | {"InitiatorName": initiator}))
        answer = self.receive()
        assert answer is not None
        assert answer["status"] == 0

    def send(self, raw: bytes) -> None:
        self.socket.sendall(raw)

    def receive(self) -> Pdu | None:
        return receive_pdu(self.socket, self.decoder)

    def start(self, cdb: bytes, lun: int = 1, read: int = 0) -> int:
        """Send a command; return its tag."""
        tag = self.number
        self.send(command(cdb, tag=tag, cmdsn=self.number, lun=lun, read=read))
        self.number += 1
        return tag

    def do(self, cdb: bytes, lun: int = 1, read: int = 0) -> Pdu | None:
        """Send a command and return the unit that ends it."""
        self.start(cdb, lun, read)
        return self.receive()

    def sense(self, cdb: bytes, lun: int = 1) -> tuple[int, int, int] | None:
        """Return what a command ends with; None for GOOD."""
        answer = self.do(cdb, lun)
        assert answer is not None
        if not answer["status"]:
            return None
        sense = Sense.parse(answer.data[2:])
        return sense.key, sense.asc, sense.ascq

    def settle(self) -> None:
        """Hear all unit attentions."""
        for lun in (1, 2, 3):
            while (found := self.sense(READY, lun)) is not None and found[0] == 6:
                pass


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    """Every session of a test ends with it."""
    yield
    while Hand.all:
        Hand.all.pop().socket.close()


@pytest.fixture
def hand(server: IscsiServer) -> Hand:
    """A session that has heard its unit attentions."""
    session = Hand(server)
    session.settle()
    return session


@pytest.mark.parametrize(
    "raw",
    [b"GET / HTTP/1.1\r\nHost: here\r\n\r\n".ljust(96), request(0x1F), bytes([3, 0x87]) + b"\xff" * 46],
    ids=["another protocol", "an unknown opcode", "an endless segment"],
)
def test_a_malformed_unit_ends_its_connection_only(server: IscsiServer, hand: Hand, raw: bytes) -> None:
    """A stranger who talks nonsense is cut off; a session beside him goes on."""
    with connect(server.address) as stranger:
        stranger.sendall(raw)
        assert receive_pdu(stranger, Decoder(1 << 24, RESPONSES)) is None
    assert hand.sense(READY) is None
    hand.send(request(0x1F))
    assert hand.receive() is None
    assert Hand(server).sense(READY) == (6, 0x29, 0)


def test_a_session_of_the_same_name_replaces_the_old_one(server: IscsiServer, hand: Hand) -> None:
    """An initiator that lost its connection comes back before we noticed (RFC 7143, 6.3.5)."""
    again = Hand(server)
    assert hand.receive() is None
    assert again.sense(READY) == (6, 0x29, 0)
    assert again.sense(READY) is None


def test_a_lost_session_prevents_nothing_any_more(
    server: IscsiServer, library: LibraryModel, hand: Hand
) -> None:
    """PREVENT belongs to its session (SPC-4, 6.19): when that is gone, the robot gets the cartridge."""
    assert hand.sense(PREVENT_ALLOW.cdb(prevent=1)) is None
    assert library.drives[0].prevented
    hand.socket.close()
    Hand(server).settle()
    # The same name, so the old session has ended before the new one began.
    assert not library.drives[0].prevented


def test_where_there_is_no_device(hand: Hand) -> None:
    """LUN 0 and unknown LUNs: INQUIRY says 7Fh, REPORT LUNS lists the rest, all else is 05/25/00."""
    for lun in (0, 9):
        answer = hand.do(INQUIRY.cdb(allocation_length=36), lun, read=36)
        assert answer is not None
        assert (answer.data[0], len(answer.data)) == (0x7F, 36)
        assert hand.sense(READY, lun) == ABSENT
        answer = hand.do(REQUEST_SENSE.cdb(allocation_length=18), lun, read=18)
        assert answer is not None
        assert Sense.parse(answer.data).code == (0x25, 0)
        answer = hand.do(REPORT_LUNS.cdb(allocation_length=64), lun, read=64)
        assert answer is not None
        assert [answer.data[place + 1] for place in range(8, 32, 8)] == [1, 2, 3]
        assert (answer.data[3], answer["residual"]) == (24, 32)


def test_a_dropped_connection(server: IscsiServer, library: LibraryModel, hand: Hand) -> None:
    """The n-th command gets no answer but a closed connection; the next session finds the device well."""
    library.faults.add(CommandFault(Dropped(), device=DRIVE, opcode=0, nth=3))
    assert [hand.sense(READY), hand.sense(READY)] == [None, None]
    assert hand.do(READY) is None
    again = Hand(server)
    again.settle()
    assert again.sense(READY) is None


def test_a_drive_that_disappears_and_comes_back(library: LibraryModel, hand: Hand) -> None:
    """Gone: 05/25/00 and not in REPORT LUNS; back after so many commands, as from a power on."""
    library.faults.add(CommandFault(Gone(2), device=DRIVE, opcode=0))
    assert hand.sense(READY) == ABSENT
    answer = hand.do(REPORT_LUNS.cdb(allocation_length=64), 0, read=64)
    assert answer is not None
    assert answer.data[3] == 16
    assert hand.sense(READY, 2) == (6, 0x3F, 0x0E)
    assert [hand.sense(READY), hand.sense(READY)] == [ABSENT, ABSENT]
    assert hand.sense(READY) == (6, 0x29, 0)
    assert hand.sense(READY) is None


def test_a_hanging_command_hangs_alone(library: LibraryModel, hand: Hand) -> None:
    """While a drive hangs, its changer answers; a reset of the unit ends the waiting at once."""
    library.faults.add(CommandFault(Wait(LONG, answers=False), device=DRIVE, opcode=0))
    hand.start(READY)
    assert hand.sense(READY, 3) is None
    hand.send(request(0x02, 0x80 | 5, tag=99, lun=1, cmdsn=hand.number, immediate=True))
    answer = hand.receive()
    assert answer is not None
    assert (answer.layout.name, answer["response"]) == ("Task Management Response", 0)
    assert hand.sense(READY) == (6, 0x29, 0x03)


def test_a_lost_connection_ends_its_waiting(server: IscsiServer, library: LibraryModel, hand: Hand) -> None:
    """Nobody waits for a command whose initiator is gone: the device is free for the next session."""
    library.faults.add(CommandFault(Wait(LONG, answers=False), device=DRIVE, opcode=0))
    hand.start(READY)
    hand.socket.close()
    again = Hand(server)
    again.settle()
    assert again.sense(READY) is None


def test_sessions_work_at_the_same_time(server: IscsiServer) -> None:
    """Sessions of several initiators are served side by side, each with its own unit attention."""
    results: list[object] = []

    def work(number: int) -> None:
        mine = Hand(server, f"iqn.2026-11.test:number-{number}")
        mine.settle()
        results.extend(mine.sense(READY, lun) for lun in (1, 3) for _ in range(20))
        mine.socket.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [None] * 160


def test_connections_are_bounded(server: IscsiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """One connection too many is closed at once, and there is room again when another one ends."""
    monkeypatch.setattr("tape.iscsi.server.CONNECTIONS_MAX", 1)
    first = Hand(server)
    with connect(server.address) as second:
        assert second.recv(1) == b""
    first.send(request(0x06, 0x80, tag=1, cmdsn=7))
    assert first.receive() is not None
    assert first.receive() is None
    for connection in server.connections():
        connection.join()
    Hand(server).settle()


def test_stopping_ends_every_session(library: LibraryModel) -> None:
    """`stop` closes all connections, also one whose command hangs, and frees the port."""
    server = IscsiServer(ModelUnits(library), TARGET, ("127.0.0.1", 0))
    server.start()
    hand = Hand(server)
    library.faults.add(CommandFault(Wait(LONG, answers=False), device=CHANGER))
    hand.start(READY, 3)
    server.stop()
    assert hand.receive() is None
    assert server.connections() == []
    with socket.create_server(server.address):
        pass


def test_all_connections_can_be_cut(server: IscsiServer, hand: Hand, library: LibraryModel) -> None:
    """From a test: the network fails for a moment, and initiators come back to the same state."""
    other = Hand(server, "iqn.2026-11.test:other")
    server.drop_connections()
    assert [hand.receive(), other.receive()] == [None, None]
    again = Hand(server)
    again.settle()
    assert again.sense(READY) is None
    assert library.faults.is_gone(OTHER_DRIVE) is False
