"""The mover's streams: what lies on tape, what comes back, and what is counted (draft, 2.3.5 and 3.6)."""

from __future__ import annotations

import random
import socket
import struct
import threading
import time

import pytest

from appliance.ndmp import messages as m
from appliance.ndmp.client import Client
from appliance.ndmp.enums import (
    ALL_ONES,
    ErrorCode,
    MoverHaltReason,
    MoverMode,
    MoverPauseReason,
    MoverState,
    MtioOp,
    TapeOpenMode,
)
from tape.commands import READ_6, WRITE_6
from tape.model import dump
from tape.sense import Sense, SenseKey
from tape.transport import Completion, ScsiStatus
from tests.unit.mediaserver.support import (
    CARTRIDGES,
    COMMANDS,
    DRIVE,
    WAIT_S,
    Site,
    error_of,
    is_gone,
    mover,
    mtio,
    place,
    posted,
    read,
    receive,
    write,
)

RECORD = 1000
ONE, TWO = CARTRIDGES[:2]


@pytest.fixture(params=COMMANDS)
def commands(request: pytest.FixtureRequest) -> str:
    """Every promise here is kept however a drive's commands run."""
    return str(request.param)


def image(size: int) -> bytes:
    """Bytes that differ everywhere, the same in each run."""
    return random.Random(size).randbytes(size)


def start(
    site: Site, client: Client, mode: MoverMode, window: tuple[int, int] = (0, ALL_ONES), record: int = RECORD
) -> socket.socket:
    """A mover that is connected to a data server, whose end is returned."""
    client.do(m.MoverSetRecordSizeRequest(record))
    client.do(m.MoverSetWindowRequest(*window))
    return active(site.listen(client, mode), client)


def active(stream: socket.socket, client: Client) -> socket.socket:
    """The same connection, once the mover has it."""
    deadline = time.monotonic() + WAIT_S
    while mover(client).state is not MoverState.ACTIVE:
        assert time.monotonic() < deadline, "the mover did not take the connection"
    return stream


def stop(client: Client) -> None:
    """From HALTED to IDLE, the tape at its beginning."""
    client.do(m.MoverStopRequest())
    mtio(client, MtioOp.REW)


def halted(client: Client) -> MoverHaltReason:
    """Why the mover halted, by its post; GET_STATE agrees."""
    reason = posted(client, m.NotifyMoverHaltedPost).reason
    assert (mover(client).state, mover(client).halt_reason) == (MoverState.HALTED, reason)
    return reason


def paused(client: Client) -> tuple[MoverPauseReason, int]:
    """Why the mover paused and what it wants, by its post; GET_STATE agrees."""
    post = posted(client, m.NotifyMoverPausedPost)
    assert (mover(client).state, mover(client).pause_reason) == (MoverState.PAUSED, post.reason)
    return post.reason, post.seek_position


def back_up(site: Site, client: Client, data: bytes, record: int = RECORD) -> None:
    """Write an image and a filemark, and rewind."""
    with start(site, client, MoverMode.READ, record=record) as stream:
        stream.sendall(data)
    assert halted(client) is MoverHaltReason.CONNECT_CLOSED
    mtio(client, MtioOp.EOF)
    stop(client)


def on_tape(site: Site, barcode: str = ONE, file_number: int = 0) -> list[bytes]:
    """The records of a tape file, read past drive and server."""
    return list(dump(site.folder, barcode, file_number))


@pytest.mark.parametrize("size", [0, 1, RECORD - 1, RECORD, RECORD + 1, 37 * RECORD + 17])
def test_an_image_survives_tape(site: Site, size: int) -> None:
    """Whole records on tape, the last one padded with zeros; counters without padding; all of it back."""
    client, data = site.opened(), image(size)
    with start(site, client, MoverMode.READ) as stream:
        stream.sendall(data)
    assert halted(client) is MoverHaltReason.CONNECT_CLOSED
    records = -(-size // RECORD)
    assert (mover(client).bytes_moved, mover(client).record_num) == (size, records)
    mtio(client, MtioOp.EOF)
    stop(client)
    assert b"".join(on_tape(site)) == data.ljust(records * RECORD, b"\0")
    assert {len(record) for record in on_tape(site)} <= {RECORD}
    if not size:
        return
    with start(site, client, MoverMode.WRITE, (0, size)) as stream:
        client.do(m.MoverReadRequest(0, size))
        assert receive(stream, size) == data
    assert halted(client) is MoverHaltReason.CONNECT_CLOSED
    state = mover(client)
    assert (state.bytes_moved, state.bytes_left_to_read, state.record_num) == (size, 0, records)


def test_records_of_the_product_s_size(site: Site) -> None:
    """256 KiB records, sent in pieces that fit nothing, lie on tape as records."""
    client, data = site.opened(), image(300_000)
    with start(site, client, MoverMode.READ, record=1 << 18) as stream:
        for place_ in range(0, len(data), 7777):
            stream.sendall(data[place_ : place_ + 7777])
    halted(client)
    assert [len(record) for record in on_tape(site)] == [1 << 18, 1 << 18]


def test_the_end_of_the_window_is_met_by_going_past_it(site: Site) -> None:
    """EOW only when there is more; the DMA writes between; the record in hand comes first afterwards."""
    client, data = site.opened(), image(5 * RECORD)
    with start(site, client, MoverMode.READ, (0, 2 * RECORD)) as stream:
        stream.sendall(data)
        stream.shutdown(socket.SHUT_WR)
        for _ in range(2):
            assert paused(client)[0] is MoverPauseReason.EOW
            write(client, b"between")
            mtio(client, MtioOp.EOF)
            client.do(m.MoverSetWindowRequest(0, 2 * RECORD))
            client.do(m.MoverContinueRequest())
        assert halted(client) is MoverHaltReason.CONNECT_CLOSED
    assert mover(client).bytes_moved == len(data)
    found = [on_tape(site, ONE, number) for number in range(3)]
    assert [len(records) for records in found] == [3, 3, 1]
    assert b"".join(record for records in found for record in records if record != b"between") == data


def test_an_image_that_fills_the_window_does_not_pause(site: Site) -> None:
    """A window that is just full halts with the end of the connection."""
    client = site.opened()
    with start(site, client, MoverMode.READ, (0, 2 * RECORD)) as stream:
        stream.sendall(image(2 * RECORD))
    assert halted(client) is MoverHaltReason.CONNECT_CLOSED


def send_all(stream: socket.socket, data: bytes) -> None:
    """What a data server does in a backup."""
    with stream:
        stream.sendall(data)


def span(site: Site, client: Client, data: bytes, record: int) -> list[int]:
    """Back up over two cartridges, the drive closed and opened between; bytes on each."""
    stream = start(site, client, MoverMode.READ, record=record)
    sender = threading.Thread(target=send_all, args=(stream, data))
    sender.start()
    assert paused(client)[0] is MoverPauseReason.EOM
    first = mover(client).bytes_moved
    change(site, client, (ONE, TWO))
    client.do(m.MoverSetWindowRequest(first, ALL_ONES - first))
    client.do(m.MoverContinueRequest())
    assert halted(client) is MoverHaltReason.CONNECT_CLOSED
    sender.join(WAIT_S)
    mtio(client, MtioOp.EOF)
    return [first, mover(client).bytes_moved - first]


def change(site: Site, client: Client, cartridges: tuple[str, str]) -> None:
    """Take one cartridge out and put the other one in, as a DMA does during a pause."""
    mtio(client, MtioOp.OFF)
    client.do(m.TapeCloseRequest())
    site.operator_moves(cartridges[0], None)
    site.operator_moves(cartridges[1])
    client.do(m.TapeOpenRequest(DRIVE, TapeOpenMode.RDWR))
    mtio(client, MtioOp.REW)


def test_an_image_spans_cartridges(site: Site) -> None:
    """EOM, another cartridge, CONTINUE: nothing is lost or doubled, and the restore asks for the second."""
    client, record = site.opened(), 30_000
    data = image(1_000_001)
    parts = span(site, client, data, record)
    assert sum(parts) == len(data)
    assert b"".join(on_tape(site, ONE)) == data[: parts[0]]
    assert b"".join(on_tape(site, TWO))[: parts[1]] == data[parts[0] :]
    client.do(m.MoverStopRequest())
    change(site, client, (TWO, ONE))
    with start(site, client, MoverMode.WRITE, (0, parts[0]), record) as stream:
        client.do(m.MoverReadRequest(0, len(data)))
        assert receive(stream, parts[0]) == data[: parts[0]]
        assert paused(client) == (MoverPauseReason.SEEK, parts[0])
        assert mover(client).bytes_left_to_read == parts[1]
        change(site, client, (ONE, TWO))
        client.do(m.MoverSetWindowRequest(parts[0], parts[1]))
        client.do(m.MoverContinueRequest())
        assert receive(stream, parts[1]) == data[parts[0] :]
    assert halted(client) is MoverHaltReason.CONNECT_CLOSED
    assert mover(client).bytes_moved == len(data)


def test_reads_may_go_forth_and_back(site: Site) -> None:
    """Direct access: parts in any order, across and within records, each exact."""
    client, data = site.opened(), image(50 * RECORD)
    back_up(site, client, data)
    with start(site, client, MoverMode.WRITE, (0, len(data))) as stream:
        for offset, length in [(41_234, 17), (3, 2500), (3_000, 1), (2_999, 1), (49_999, 1), (0, 50_000)]:
            client.do(m.MoverReadRequest(offset, length))
            assert receive(stream, length) == data[offset : offset + length]
            assert mover(client).seek_position == offset
    assert halted(client) is MoverHaltReason.CONNECT_CLOSED


def test_the_window_begins_where_the_tape_stands(site: Site) -> None:
    """A window in the middle of the image, the tape put there by the DMA (draft, 2.3.5.1.6)."""
    client, data = site.opened(), image(20 * RECORD)
    back_up(site, client, data)
    mtio(client, MtioOp.FSR, 10)
    with start(site, client, MoverMode.WRITE, (10 * RECORD, 5 * RECORD)) as stream:
        client.do(m.MoverReadRequest(12_345, 1000))
        assert receive(stream, 1000) == data[12_345:13_345]
        assert mover(client).record_num == 14
        client.do(m.MoverReadRequest(9_999, 1))
        assert paused(client) == (MoverPauseReason.SEEK, 9_999)
        mtio(client, MtioOp.REW)
        client.do(m.MoverSetWindowRequest(0, 20 * RECORD))
        client.do(m.MoverContinueRequest())
        assert receive(stream, 1) == data[9_999:10_000]
        client.do(m.MoverReadRequest(14_000, 1_500))
        assert receive(stream, 1500) == data[14_000:15_500]


def test_everything_is_read_until_the_filemark(site: Site) -> None:
    """All ones from 0: the whole tape file, then PAUSED(EOF) before the mark; MOVER_CLOSE ends it."""
    client, data = site.opened(), image(3 * RECORD)
    back_up(site, client, data)
    with start(site, client, MoverMode.WRITE) as stream:
        client.do(m.MoverReadRequest(0, ALL_ONES))
        assert receive(stream, len(data)) == data
        assert paused(client) == (MoverPauseReason.EOF, len(data))
        assert read(client) is ErrorCode.EOF
        assert place(client)[0] == 0
        client.do(m.MoverCloseRequest())
        assert halted(client) is MoverHaltReason.CONNECT_CLOSED
        assert is_gone(stream)


def test_a_seek_past_the_filemark_pauses_before_it(site: Site) -> None:
    """Spacing within an endless window never enters the next tape file."""
    client, data = site.opened(), image(3 * RECORD)
    back_up(site, client, data)
    start(site, client, MoverMode.WRITE)
    client.do(m.MoverReadRequest(30 * RECORD, 1))
    assert paused(client) == (MoverPauseReason.EOF, 30 * RECORD)


def test_blank_tape_pauses_with_eom(site: Site) -> None:
    """Reading where nothing was written is PAUSED(EOM) (draft, 3.6.1.1)."""
    client = site.opened(TapeOpenMode.READ)
    start(site, client, MoverMode.WRITE)
    client.do(m.MoverReadRequest(0, 1))
    assert paused(client) == (MoverPauseReason.EOM, 0)


def test_a_read_right_after_the_connection_is_served(site: Site) -> None:
    """The DMA hears of the connection from the data server, maybe before our thread has taken it."""
    client, data = site.opened(), image(RECORD)
    back_up(site, client, data)
    for _ in range(20):
        client.do(m.MoverSetWindowRequest(0, RECORD))
        with site.listen(client, MoverMode.WRITE) as stream:
            client.do(m.MoverReadRequest(0, RECORD))
            assert receive(stream, RECORD) == data
        assert halted(client) is MoverHaltReason.CONNECT_CLOSED
        stop(client)


def test_only_one_read_at_a_time(site: Site) -> None:
    """READ_IN_PROGRESS while bytes are owed, ILLEGAL_ARGS for no or too many bytes."""
    client = site.opened()
    back_up(site, client, image(3 * RECORD))
    start(site, client, MoverMode.WRITE, (0, 3 * RECORD))
    site.gate.hold(READ_6.opcode)
    for offset, length in [(0, 0), (1, ALL_ONES)]:
        assert error_of(client, m.MoverReadRequest(offset, length)) is ErrorCode.ILLEGAL_ARGS
    client.do(m.MoverReadRequest(0, 10))
    assert site.gate.arrived.wait(WAIT_S)
    assert error_of(client, m.MoverReadRequest(0, 10)) is ErrorCode.READ_IN_PROGRESS
    site.gate.let_go()


def test_a_data_server_that_has_enough_may_leave(site: Site) -> None:
    """Closed by the data server, idle or paused or in the middle: CONNECT_CLOSED."""
    client, data = site.opened(), image(400 * RECORD)
    back_up(site, client, data)
    for length, window in [(10, ALL_ONES), (len(data), 2 * RECORD), (len(data), ALL_ONES)]:
        with start(site, client, MoverMode.WRITE, (0, window)) as stream:
            client.do(m.MoverReadRequest(0, length))
            assert receive(stream, 10) == data[:10]
            if window == 2 * RECORD:
                paused(client)
        while isinstance(body := client.posts.get(timeout=WAIT_S).body(), m.NotifyMoverPausedPost):  # type: ignore[union-attr]
            assert body.reason is MoverPauseReason.EOF
        assert body == m.NotifyMoverHaltedPost(MoverHaltReason.CONNECT_CLOSED)
        stop(client)


def test_a_reset_is_no_end_of_an_image(site: Site) -> None:
    """A data server that dies in a backup is CONNECT_ERROR, and no half record is written."""
    client = site.opened()
    stream = start(site, client, MoverMode.READ)
    stream.sendall(image(RECORD // 2))
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.close()
    assert halted(client) is MoverHaltReason.CONNECT_ERROR
    assert on_tape(site) == []


def test_a_slow_drive_does_not_keep_the_dma_waiting(site: Site) -> None:
    """While a WRITE hangs, state and abort are answered; nothing more is written after the abort."""
    client = site.opened()
    site.gate.hold(WRITE_6.opcode)
    stream = start(site, client, MoverMode.READ)
    stream.sendall(image(20 * RECORD))
    assert site.gate.arrived.wait(WAIT_S)
    assert mover(client).state is MoverState.ACTIVE
    assert error_of(client, m.TapeGetStateRequest()) is ErrorCode.NO_ERR
    client.do(m.MoverAbortRequest(), WAIT_S)
    assert halted(client) is MoverHaltReason.ABORTED
    client.do(m.MoverStopRequest(), WAIT_S)
    site.gate.let_go()
    mtio(client, MtioOp.REW)
    assert len(on_tape(site)) == 1
    assert site.gate.opcodes.count(WRITE_6.opcode) == 1


def test_an_abort_while_the_data_server_sends_nothing(site: Site) -> None:
    """A stream that waits for data ends at once, its connection closed."""
    client = site.opened()
    stream = start(site, client, MoverMode.READ)
    client.do(m.MoverAbortRequest(), WAIT_S)
    assert halted(client) is MoverHaltReason.ABORTED
    assert is_gone(stream)


def test_an_abort_while_the_data_server_takes_nothing(site: Site) -> None:
    """A restore that is blocked by its peer ends at once, too, and the next one works."""
    client, data = site.opened(), image(700_000)
    back_up(site, client, data, record=70_000)
    stream = start(site, client, MoverMode.WRITE, record=70_000)
    client.do(m.MoverReadRequest(0, len(data)))
    assert receive(stream, 1) == data[:1]
    client.do(m.MoverAbortRequest(), WAIT_S)
    assert halted(client) is MoverHaltReason.ABORTED
    stop(client)
    with start(site, client, MoverMode.WRITE, record=70_000) as again:
        client.do(m.MoverReadRequest(5, 10))
        assert receive(again, 10) == data[5:15]


def test_a_vanished_dma_frees_the_drive(site: Site) -> None:
    """The control connection drops in mid-stream: stream, connection and drive end with it."""
    client = site.opened()
    stream = start(site, client, MoverMode.READ)
    stream.sendall(image(RECORD))
    site.drop(client)
    assert is_gone(stream)
    assert error_of(site.client(), m.TapeOpenRequest(DRIVE, TapeOpenMode.RDWR)) is ErrorCode.NO_ERR


def test_a_vanished_dma_waits_for_the_command_in_progress(site: Site) -> None:
    """A drive is not given to the next session while it still executes a command of the last one."""
    client = site.opened()
    site.gate.hold(WRITE_6.opcode)
    stream = start(site, client, MoverMode.READ)
    stream.sendall(image(RECORD))
    assert site.gate.arrived.wait(WAIT_S)
    client.close()
    assert is_gone(stream)
    assert error_of(site.client(), m.TapeOpenRequest(DRIVE)) is ErrorCode.DEVICE_BUSY
    site.gate.let_go()


@pytest.mark.parametrize("mode", [MoverMode.READ, MoverMode.WRITE])
def test_a_medium_error_halts(strict_site: Site, mode: MoverMode) -> None:
    """A place that cannot be read or written is MEDIA_ERROR, and the tape can be used afterwards."""
    site = strict_site
    client = site.opened()
    back_up(site, client, image(3 * RECORD))
    sense = Sense(SenseKey.MEDIUM_ERROR, 0x11, 0x00).encode()
    opcode = WRITE_6.opcode if mode is MoverMode.READ else READ_6.opcode
    site.gate.fail(opcode, Completion(ScsiStatus.CHECK_CONDITION, sense=sense))
    stream = start(site, client, mode, (0, ALL_ONES))
    if mode is MoverMode.READ:
        stream.sendall(image(RECORD))
    else:
        client.do(m.MoverReadRequest(0, 1))
    assert halted(client) is MoverHaltReason.MEDIA_ERROR
    stop(client)


def test_records_of_another_size_are_not_restored_wrongly(site: Site) -> None:
    """Too large, or short within the image: MEDIA_ERROR instead of bytes from elsewhere."""
    client = site.opened()
    back_up(site, client, image(4 * RECORD))
    for record in (RECORD - 1, RECORD + 1):
        start(site, client, MoverMode.WRITE, (0, ALL_ONES), record)
        client.do(m.MoverReadRequest(0, 4 * RECORD))
        assert halted(client) is MoverHaltReason.MEDIA_ERROR
        stop(client)


def test_a_short_last_record_ends_the_image(site: Site) -> None:
    """Tapes whose mover did not pad can be read to their end."""
    client = site.opened()
    write(client, b"a" * RECORD, b"b" * 10)
    mtio(client, MtioOp.REW)
    with start(site, client, MoverMode.WRITE) as stream:
        client.do(m.MoverReadRequest(0, ALL_ONES))
        assert receive(stream, RECORD + 10) == b"a" * RECORD + b"b" * 10
        assert paused(client) == (MoverPauseReason.EOF, RECORD + 10)


def test_a_pause_is_told_after_the_reply_that_led_to_it(site: Site) -> None:
    """MOVER_READ of what is not in the window: first its reply, then the pause."""
    client = site.opened()
    start(site, client, MoverMode.WRITE, (0, RECORD))
    reply = client.ask(m.MoverReadRequest(5 * RECORD, 1))
    post = client.posts.get(timeout=WAIT_S)
    assert post is not None
    assert post.sequence > reply.sequence
    assert post.body() == m.NotifyMoverPausedPost(MoverPauseReason.SEEK, 5 * RECORD)


def test_continue_needs_a_drive_that_may_be_written(site: Site) -> None:
    """A pause does not open a way around the list of writable cartridges, nor around the open mode."""
    client = site.opened()
    stream = start(site, client, MoverMode.READ, (0, RECORD))
    stream.sendall(image(2 * RECORD))
    paused(client)
    client.do(m.MoverSetWindowRequest(0, RECORD))
    client.do(m.TapeCloseRequest())
    assert error_of(client, m.MoverContinueRequest()) is ErrorCode.DEV_NOT_OPEN
    client.do(m.TapeOpenRequest(DRIVE, TapeOpenMode.READ))
    assert error_of(client, m.MoverContinueRequest()) is ErrorCode.PERMISSION
    client.do(m.TapeCloseRequest())
    site.operator_moves(ONE, None)
    site.operator_moves(CARTRIDGES[2])
    client.do(m.TapeOpenRequest(DRIVE, TapeOpenMode.RAW))
    assert error_of(client, m.MoverContinueRequest()) is ErrorCode.PERMISSION
    assert on_tape(site, CARTRIDGES[2]) == []
