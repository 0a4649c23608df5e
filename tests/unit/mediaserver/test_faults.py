"""What a drive's errors become: NDMP's word, a line with sense and remedy for the DMA, and exact counts."""

from __future__ import annotations

import queue
import socket

import pytest
from structlog.testing import capture_logs

from appliance.ndmp import messages as m
from appliance.ndmp.client import Client
from appliance.ndmp.enums import (
    ALL_ONES,
    ErrorCode,
    MoverHaltReason,
    MoverMode,
    MoverPauseReason,
    MtioOp,
    TapeFlag,
    TapeOpenMode,
)
from tape.commands import LOG_SENSE, READ_6, READ_BLOCK_LIMITS, READ_POSITION, WRITE_6
from tape.model.faults import CartridgeFault
from tape.model.faultscript import parse_faults
from tape.sense import Sense, SenseKey
from tape.transport import Completion, ScsiStatus
from tests.unit.mediaserver.support import (
    CARTRIDGES,
    COMMANDS,
    DRIVE,
    Site,
    error_of,
    mover,
    mtio,
    posted,
    read,
    receive,
    write,
)

RECORD = 1000
ONE, TWO = CARTRIDGES[:2]
MEDIUM = Completion(ScsiStatus.CHECK_CONDITION, sense=Sense(SenseKey.MEDIUM_ERROR, 0x0C, 0x00).encode())


@pytest.fixture(params=COMMANDS)
def commands(request: pytest.FixtureRequest) -> str:
    """Every promise here is kept however a drive's commands run."""
    return str(request.param)


def stream(site: Site, client: Client) -> socket.socket:
    """A backup's data connection to a mover that runs."""
    client.do(m.MoverSetRecordSizeRequest(RECORD))
    client.do(m.MoverSetWindowRequest(0, ALL_ONES))
    return site.listen(client, MoverMode.READ)


def lines(client: Client) -> list[str]:
    """The lines for the DMA's log so far."""
    found = []
    while True:
        try:
            message = client.posts.get_nowait()
        except queue.Empty:
            return found
        body = message.body() if message is not None else None
        if isinstance(body, m.LogMessagePost):
            found.append(body.entry.decode())


def test_a_bad_spot_is_an_end_of_medium_to_the_dma(site: Site) -> None:
    """The record in hand is kept, and written first on the next cartridge; a line tells what happened."""
    client = site.opened()
    site.model.faults.add(CartridgeFault(ONE, medium_error=2, on_read=False))
    sender = stream(site, client)
    data = bytes(range(200)) * 25
    sender.sendall(data)
    line = posted(client, m.LogMessagePost).entry.decode()
    assert f"drive:DRV1, cartridge {ONE}, position block 2" in line
    assert "MEDIUM ERROR 03/0c/00: write error" in line
    assert "clean the drive" in line
    assert posted(client, m.NotifyMoverPausedPost).reason is MoverPauseReason.EOM
    assert mover(client).bytes_moved == 2 * RECORD
    client.do(m.TapeCloseRequest())
    site.operator_moves(ONE, None)
    site.operator_moves(TWO)
    client.do(m.TapeOpenRequest(DRIVE, TapeOpenMode.RDWR))
    client.do(m.MoverSetWindowRequest(2 * RECORD, ALL_ONES - 2 * RECORD))
    client.do(m.MoverContinueRequest())
    sender.close()
    assert posted(client, m.NotifyMoverHaltedPost).reason is MoverHaltReason.CONNECT_CLOSED
    client.do(m.MoverStopRequest())
    mtio(client, MtioOp.REW)
    assert (
        b"".join(part for part in (read(client, RECORD) for _ in range(3)) if isinstance(part, bytes))
        == (data[2 * RECORD :])
    )


def test_a_drive_that_fails_once_pauses_and_says_that_it_was_an_error(site: Site) -> None:
    """An end of medium to any DMA; the flags of TAPE_GET_STATE tell one that looks to take another drive."""
    client = site.opened()
    site.model.faults.extend(
        parse_faults('[[fault]]\ndevice = "DRV1"\ncommand = "WRITE(6)"\nnth = 2\nsense = "hardware error"\n')
    )
    sender = stream(site, client)
    sender.sendall(bytes(2 * RECORD))
    assert posted(client, m.NotifyMoverPausedPost).reason is MoverPauseReason.EOM
    assert mover(client).bytes_moved == RECORD
    flags = client.call(m.TapeGetStateRequest(), m.TapeGetStateReply).flags
    assert flags & TapeFlag.ERROR
    client.do(m.MoverAbortRequest())


DEFECT = Completion(ScsiStatus.CHECK_CONDITION, sense=Sense(SenseKey.HARDWARE_ERROR, 0x44, 0x00).encode())


def reading(site: Site, client: Client, data: bytes) -> socket.socket:
    """Return a restore's data connection; the drive fails at the third record of what was asked for."""
    write(client, *(data[begin : begin + RECORD] for begin in range(0, len(data), RECORD)))
    mtio(client, MtioOp.REW)
    client.do(m.MoverSetRecordSizeRequest(RECORD))
    client.do(m.MoverSetWindowRequest(0, len(data)))
    stream = site.listen(client, MoverMode.WRITE)
    client.do(m.MoverReadRequest(0, 2 * RECORD))
    assert receive(stream, 2 * RECORD) == data[: 2 * RECORD]
    site.gate.fail(READ_6.opcode, DEFECT)
    client.do(m.MoverReadRequest(2 * RECORD, len(data) - 2 * RECORD))
    return stream


def test_a_drive_that_fails_while_reading_pauses_once(site: Site) -> None:
    """It asks for that place again, with the flag; from there on the stream goes on without loss."""
    client, data = site.opened(), bytes(range(200)) * 25
    stream = reading(site, client, data)
    line = posted(client, m.LogMessagePost).entry.decode()
    assert f"drive:DRV1, cartridge {ONE}, position block" in line
    assert "HARDWARE ERROR" in line
    assert "use another drive" in line
    assert posted(client, m.NotifyMoverPausedPost) == m.NotifyMoverPausedPost(
        MoverPauseReason.SEEK, 2 * RECORD
    )
    assert client.call(m.TapeGetStateRequest(), m.TapeGetStateReply).flags & TapeFlag.ERROR
    client.do(m.TapeCloseRequest())
    site.operator_moves(ONE, None)
    site.operator_moves(ONE, 1)
    client.do(m.TapeOpenRequest(b"drive:DRV2", TapeOpenMode.READ))
    mtio(client, MtioOp.FSR, 2)
    client.do(m.MoverSetWindowRequest(2 * RECORD, len(data) - 2 * RECORD))
    client.do(m.MoverContinueRequest())
    assert receive(stream, 3 * RECORD) == data[2 * RECORD :]
    assert mover(client).bytes_moved == len(data)


def test_a_drive_that_fails_again_while_reading_halts(site: Site) -> None:
    """Once in a stream: a DMA that knows no other drive is not kept busy for ever."""
    client = site.opened()
    reading(site, client, bytes(5 * RECORD))
    assert posted(client, m.NotifyMoverPausedPost).reason is MoverPauseReason.SEEK
    site.gate.fail(READ_6.opcode, DEFECT)
    mtio(client, MtioOp.REW)
    client.do(m.MoverSetWindowRequest(0, 5 * RECORD))
    client.do(m.MoverContinueRequest())
    assert posted(client, m.NotifyMoverHaltedPost).reason is MoverHaltReason.MEDIA_ERROR


def test_strict_halts_where_a_drive_fails(strict_site: Site) -> None:
    """The draft knows no pause for it."""
    client = strict_site.opened()
    reading(strict_site, client, bytes(5 * RECORD))
    assert posted(client, m.NotifyMoverHaltedPost).reason is MoverHaltReason.MEDIA_ERROR


def test_a_full_cartridge_is_no_error(site: Site) -> None:
    """The same pause, without the flag."""
    client = site.opened()
    sender = stream(site, client)
    sender.sendall(bytes(2 * RECORD))
    early = Sense(SenseKey.NO_SENSE, 0x00, 0x02, eom=True)
    site.gate.fail(WRITE_6.opcode, Completion(ScsiStatus.CHECK_CONDITION, sense=early.encode()))
    sender.sendall(bytes(2 * RECORD))
    assert posted(client, m.NotifyMoverPausedPost).reason is MoverPauseReason.EOM
    flags = client.call(m.TapeGetStateRequest(), m.TapeGetStateReply).flags
    assert not flags & TapeFlag.ERROR
    client.do(m.MoverAbortRequest())


def test_the_second_bad_spot_halts(site: Site) -> None:
    """Cartridges do not fail one after the other: then it is the drive."""
    client = site.opened()
    site.model.faults.add(CartridgeFault(ONE, medium_error=0, on_read=False))
    sender = stream(site, client)
    sender.sendall(bytes(3 * RECORD))
    assert posted(client, m.NotifyMoverPausedPost).reason is MoverPauseReason.EOM
    client.do(m.MoverSetWindowRequest(0, ALL_ONES))
    client.do(m.MoverContinueRequest())
    assert posted(client, m.NotifyMoverHaltedPost).reason is MoverHaltReason.MEDIA_ERROR


@pytest.mark.parametrize(("first", "last", "moved"), [(3, 1, RECORD), (3, 3, 3 * RECORD)])
def test_what_the_drive_lost_in_its_buffer_is_not_counted(
    site: Site, first: int, last: int, moved: int
) -> None:
    """bytes_moved is what is safely on tape; where something is missing the image cannot go on."""
    client = site.opened()
    sender = stream(site, client)
    numbers = first.to_bytes(4, "big") + last.to_bytes(4, "big")
    sender.sendall(bytes(3 * RECORD))
    while mover(client).bytes_moved < 3 * RECORD:
        pass
    site.gate.fail(WRITE_6.opcode, MEDIUM)
    for _ in range(3):
        site.gate.fail(READ_POSITION.opcode, Completion(0, bytes(4) + numbers + bytes(8)))
    sender.sendall(bytes(RECORD))
    if first != last:
        assert posted(client, m.NotifyMoverHaltedPost).reason is MoverHaltReason.MEDIA_ERROR
    else:
        assert posted(client, m.NotifyMoverPausedPost).reason is MoverPauseReason.EOM
    assert mover(client).bytes_moved == moved


def test_a_drive_that_does_not_tell_its_position_halts(site: Site) -> None:
    """Without an account of its buffer (tgt) nobody can say that all is on tape."""
    client = site.opened()
    sender = stream(site, client)
    site.gate.fail(WRITE_6.opcode, MEDIUM)
    unknown = Completion(ScsiStatus.CHECK_CONDITION, sense=Sense(SenseKey.ILLEGAL_REQUEST, 0x20, 0).encode())
    site.gate.fail(READ_POSITION.opcode, unknown)
    sender.sendall(bytes(RECORD))
    assert posted(client, m.NotifyMoverHaltedPost).reason is MoverHaltReason.MEDIA_ERROR


@pytest.mark.parametrize(
    ("fault", "code", "words"),
    [
        ('sense = "hardware error"', ErrorCode.IO, "switch the device off and on"),
        ('sense = "write error"', ErrorCode.IO, "clean the drive"),
        ('sense = "07/27/00"', ErrorCode.WRITE_PROTECT, "open the tab"),
        ("gone = 3", ErrorCode.IO, "spanreel tape discover"),
        ('drop = "before"', ErrorCode.IO, "cable, power and network"),
        ('sense = "04/15/01"', ErrorCode.IO, "free the arm"),
    ],
)
def test_each_error_has_its_word_and_its_remedy(site: Site, fault: str, code: ErrorCode, words: str) -> None:
    """A request fails with NDMP's nearest word; the DMA's log gets drive, cartridge, sense and what to do."""
    client = site.opened()
    site.model.faults.extend(parse_faults(f'[[fault]]\ndevice = "DRV1"\ncommand = "WRITE(6)"\n{fault}\n'))
    with capture_logs() as logged:
        assert error_of(client, m.TapeWriteRequest(b"data")) is code
    (line,) = lines(client)
    assert f"drive:DRV1, cartridge {ONE}" in line
    assert words in line
    (entry,) = [each for each in logged if each["event"] == "device error"]
    assert entry["cartridge"] == ONE
    assert entry["device"] == "drive:DRV1"
    assert entry["position"]
    assert words in entry["remedy"]


def test_what_is_waited_out_is_not_told(site: Site) -> None:
    """A DMA that polls an empty drive does not fill its log."""
    client = site.client()
    for _ in range(3):
        assert error_of(client, m.TapeOpenRequest(DRIVE)) is ErrorCode.NO_TAPE_LOADED
    assert lines(client) == []


def test_a_unit_attention_does_not_write_to_what_came_after_it(site: Site) -> None:
    """A reset in the middle of a backup ends it: what was in the drive's buffer is gone."""
    client = site.opened()
    sender = stream(site, client)
    reset = '[[fault]]\ndevice = "DRV1"\ncommand = "WRITE(6)"\nnth = 2\nsense = "reset"\n'
    site.model.faults.extend(parse_faults(reset))
    sender.sendall(bytes(3 * RECORD))
    assert posted(client, m.NotifyMoverHaltedPost).reason is MoverHaltReason.MEDIA_ERROR
    assert mover(client).bytes_moved == RECORD


def test_a_hanging_drive_is_a_timeout_and_does_not_block_the_session(site: Site) -> None:
    """A command that is not answered ends with the time that a drive may take, and TIMEOUT."""
    client = site.opened()
    site.model.faults.extend(parse_faults('[[fault]]\ndevice = "DRV1"\ncommand = "REWIND"\nhang = 0\n'))
    code = error_of(client, m.TapeMtioRequest(MtioOp.REW, 1))
    assert code in (ErrorCode.IO, ErrorCode.TIMEOUT)
    write(client, b"goes on")


def test_alerts_are_logged_at_the_close(site: Site) -> None:
    """TapeAlert 20, "clean now", becomes one warning in words; a drive without the page is no trouble."""
    client = site.opened()
    site.model.drives[0].alerts.add(20)
    with capture_logs() as logged:
        client.do(m.TapeCloseRequest())
    (entry,) = [each for each in logged if each["event"] == "drive alert"]
    assert (entry["flag"], entry["text"], entry["cartridge"]) == (20, "clean the drive now", ONE)
    client.do(m.TapeOpenRequest(DRIVE))
    unknown = Completion(ScsiStatus.CHECK_CONDITION, sense=Sense(SenseKey.ILLEGAL_REQUEST, 0x20, 0).encode())
    site.gate.fail(LOG_SENSE.opcode, unknown)
    client.do(m.TapeCloseRequest())


def test_a_record_size_that_cannot_be_is_told_before_anything_moves(site: Site) -> None:
    """MOVER_LISTEN fails with a line that says what can be; the drive is asked once for each size."""
    client = site.opened()
    client.do(m.MoverSetRecordSizeRequest(9 << 20))
    client.do(m.MoverSetWindowRequest(0, ALL_ONES))
    assert error_of(client, m.MoverListenRequest(MoverMode.READ)) is ErrorCode.IO
    (line,) = lines(client)
    assert f"no record of {9 << 20} bytes: the drive takes 1 to {8 << 20}" in line
    assert "choose another record size" in line
    client.do(m.MoverSetRecordSizeRequest(1 << 20))
    client.do(m.MoverSetWindowRequest(0, ALL_ONES))
    for _ in range(2):
        site.listen(client, MoverMode.READ).close()
        assert posted(client, m.NotifyMoverHaltedPost).reason is MoverHaltReason.CONNECT_CLOSED
        client.do(m.MoverStopRequest())
        client.do(m.MoverSetWindowRequest(0, ALL_ONES))
    assert site.gate.opcodes.count(READ_BLOCK_LIMITS.opcode) == 2
