"""One record is received or sent while the drive has another; never has it two, none is late, none lost."""

from __future__ import annotations

import time

import pytest

from appliance.ndmp import messages as m
from appliance.ndmp.client import Client
from appliance.ndmp.enums import (
    ALL_ONES,
    MoverHaltReason,
    MoverMode,
    MoverPauseReason,
    MtioOp,
    TapeOpenMode,
)
from tape.commands import READ_6, WRITE_6
from tape.model.faults import CartridgeFault
from tests.unit.mediaserver.support import (
    CARTRIDGES,
    DRIVE,
    WAIT_S,
    Site,
    mover,
    mtio,
    place,
    posted,
    receive,
)
from tests.unit.mediaserver.test_mover_stream import RECORD, back_up, halted, image, on_tape, start

ONE, TWO = CARTRIDGES[:2]


@pytest.fixture(params=["overlapping", "carried"])
def commands(request: pytest.FixtureRequest) -> str:
    """Commands run by themselves."""
    return str(request.param)


def until_moved(client: Client, count: int) -> None:
    """Wait until so many bytes are on tape; GET_STATE is answered meanwhile."""
    deadline = time.monotonic() + WAIT_S
    while mover(client).bytes_moved != count:
        assert time.monotonic() < deadline, f"{count} bytes were never moved"


def test_a_record_is_received_while_the_drive_writes(site: Site) -> None:
    """The connection takes all of the next record; the drive gets it when it is done with the one before."""
    client, data = site.opened(), image(3 * RECORD)
    stream = start(site, client, MoverMode.READ)
    site.gate.hold(WRITE_6.opcode)
    stream.sendall(data[:RECORD])
    assert site.gate.arrived.wait(WAIT_S)
    stream.sendall(data[RECORD:])
    stream.close()
    assert site.gate.opcodes.count(WRITE_6.opcode) == 1
    assert mover(client).bytes_moved == 0
    site.gate.let_go()
    assert halted(client) is MoverHaltReason.CONNECT_CLOSED
    assert mover(client).bytes_moved == len(data)
    mtio(client, MtioOp.EOF)
    assert b"".join(on_tape(site)) == data


def test_a_data_server_that_stops_within_a_record_keeps_nobody_from_the_drive(site: Site) -> None:
    """What is on tape is counted when it is, though the next record is not whole; an abort is quick."""
    client, data = site.opened(), image(2 * RECORD)
    stream = start(site, client, MoverMode.READ)
    stream.sendall(data[: RECORD + RECORD // 2])
    until_moved(client, RECORD)
    client.do(m.MoverAbortRequest())
    assert halted(client) is MoverHaltReason.ABORTED
    client.do(m.MoverStopRequest())
    assert place(client) == (0, 1)


def test_a_failed_write_is_told_within_the_next_record_and_made_up_for_before_it(site: Site) -> None:
    """The record that failed is the first on the next cartridge, the half that was here follows it."""
    client, data = site.opened(), image(4 * RECORD)
    site.model.faults.add(CartridgeFault(ONE, medium_error=1, on_read=False))
    stream = start(site, client, MoverMode.READ)
    stream.sendall(data[: 2 * RECORD + RECORD // 2])
    assert posted(client, m.NotifyMoverPausedPost).reason is MoverPauseReason.EOM
    assert mover(client).bytes_moved == RECORD
    client.do(m.TapeCloseRequest())
    site.operator_moves(ONE, None)
    site.operator_moves(TWO)
    client.do(m.TapeOpenRequest(DRIVE, TapeOpenMode.RDWR))
    client.do(m.MoverSetWindowRequest(RECORD, ALL_ONES - RECORD))
    client.do(m.MoverContinueRequest())
    stream.sendall(data[2 * RECORD + RECORD // 2 :])
    stream.close()
    assert halted(client) is MoverHaltReason.CONNECT_CLOSED
    mtio(client, MtioOp.EOF)
    assert b"".join(on_tape(site, ONE)) == data[:RECORD]
    assert b"".join(on_tape(site, TWO)) == data[RECORD:]


def test_a_record_that_ends_after_an_abort_counts(site: Site) -> None:
    """The drive finishes what it has, and nothing is begun after it."""
    client, data = site.opened(), image(3 * RECORD)
    stream = start(site, client, MoverMode.READ)
    site.gate.hold(WRITE_6.opcode)
    stream.sendall(data)
    assert site.gate.arrived.wait(WAIT_S)
    client.do(m.MoverAbortRequest())
    assert halted(client) is MoverHaltReason.ABORTED
    site.gate.let_go()
    until_moved(client, RECORD)
    client.do(m.MoverStopRequest())
    mtio(client, MtioOp.EOF)
    assert b"".join(on_tape(site)) == data[:RECORD]


def test_reading_ahead_stays_within_what_was_asked_for(site: Site) -> None:
    """Behind a part that was read the tape stands where a DMA expects it."""
    client, data = site.opened(), image(5 * RECORD)
    back_up(site, client, data)
    stream = start(site, client, MoverMode.WRITE)
    client.do(m.MoverReadRequest(0, 2 * RECORD))
    assert receive(stream, 2 * RECORD) == data[: 2 * RECORD]
    client.do(m.MoverReadRequest(2 * RECORD, RECORD + 1))
    assert receive(stream, RECORD + 1) == data[2 * RECORD : 3 * RECORD + 1]
    assert site.gate.opcodes.count(READ_6.opcode) == 4
    stream.close()
    assert halted(client) is MoverHaltReason.CONNECT_CLOSED
    client.do(m.MoverStopRequest())
    assert place(client) == (0, 4)


def test_a_record_is_read_while_the_one_before_is_sent(site: Site) -> None:
    """The drive has the next record before the data server has taken this one."""
    client, data = site.opened(), image(3 * RECORD)
    back_up(site, client, data)
    stream = start(site, client, MoverMode.WRITE)
    site.gate.opcodes.clear()
    site.gate.hold(READ_6.opcode, nth=2)
    client.do(m.MoverReadRequest(0, 3 * RECORD))
    assert site.gate.arrived.wait(WAIT_S)
    assert receive(stream, RECORD) == data[:RECORD]
    site.gate.let_go()
    assert receive(stream, 2 * RECORD) == data[RECORD:]


def test_what_is_before_an_unreadable_record_arrives_whole(site: Site) -> None:
    """The error of a record that is read ahead is told in its turn."""
    client, data = site.opened(), image(4 * RECORD)
    back_up(site, client, data)
    site.model.faults.add(CartridgeFault(ONE, medium_error=2))
    stream = start(site, client, MoverMode.WRITE)
    client.do(m.MoverReadRequest(0, 4 * RECORD))
    assert receive(stream, 2 * RECORD) == data[: 2 * RECORD]
    assert stream.recv(1) == b""
    assert halted(client) is MoverHaltReason.MEDIA_ERROR
    assert (mover(client).bytes_moved, mover(client).record_num) == (2 * RECORD, 2)
