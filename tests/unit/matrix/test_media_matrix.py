"""MOVER, TAPE and SCSI: every message in every state, and its error (draft, 2.11.6, 3.3, 3.4, 3.6).

States are the mover's, with a cartridge in the drive, which is open for writing; before TAPE_OPEN the state
is CLOSED.  RESTORE is ACTIVE the other way round, with a part of the image asked for already.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from appliance.ndmp import dataconn
from appliance.ndmp import messages as m
from appliance.ndmp.enums import (
    ALL_ONES,
    AddressType,
    CdbFlag,
    ErrorCode,
    MoverMode,
    MoverState,
    MtioOp,
    TapeOpenMode,
)
from appliance.ndmp.types import Address, TcpAddress
from appliance.ndmp.xdr import Struct
from tape.commands import READ_6
from tests.unit.matrix.cells import Cell, cells
from tests.unit.matrix.talks import TALKS, WAIT_S, Talk
from tests.unit.mediaserver.support import CARTRIDGES, CHANGER, DRIVE, Site, media_setup

RECORD = 512
NOBODY = Address(AddressType.TCP, (TcpAddress(0x7F000001, 1),))
TEST_UNIT_READY, FORMAT = bytes(6), b"\x04" + bytes(5)

REQUESTS = {
    "MOVER_GET_STATE": m.MoverGetStateRequest(),
    "SET_RECORD_SIZE(1)": m.MoverSetRecordSizeRequest(1),
    "SET_RECORD_SIZE(8192)": m.MoverSetRecordSizeRequest(8192),
    "SET_RECORD_SIZE(0)": m.MoverSetRecordSizeRequest(0),
    "SET_RECORD_SIZE(2**32-1)": m.MoverSetRecordSizeRequest(2**32 - 1),
    "SET_WINDOW(0,512)": m.MoverSetWindowRequest(0, RECORD),
    "SET_WINDOW(0,all)": m.MoverSetWindowRequest(0, ALL_ONES),
    "SET_WINDOW(0,100)": m.MoverSetWindowRequest(0, 100),
    "SET_WINDOW(0,0)": m.MoverSetWindowRequest(0, 0),
    "SET_WINDOW(overflow)": m.MoverSetWindowRequest(ALL_ONES - 1, 2),
    "LISTEN(READ)": m.MoverListenRequest(MoverMode.READ),
    "LISTEN(WRITE)": m.MoverListenRequest(MoverMode.WRITE),
    "LISTEN(NOACTION)": m.MoverListenRequest(MoverMode.NOACTION),
    "LISTEN(IPC)": m.MoverListenRequest(MoverMode.READ, AddressType.IPC),
    "CONNECT(nobody)": m.MoverConnectRequest(MoverMode.READ, NOBODY),
    "CONNECT(IPC)": m.MoverConnectRequest(MoverMode.READ, Address(AddressType.IPC)),
    "MOVER_READ(0,512)": m.MoverReadRequest(0, RECORD),
    "MOVER_READ(0,0)": m.MoverReadRequest(0, 0),
    "MOVER_READ(overflow)": m.MoverReadRequest(ALL_ONES - 1, 2),
    "CONTINUE": m.MoverContinueRequest(),
    "MOVER_CLOSE": m.MoverCloseRequest(),
    "ABORT": m.MoverAbortRequest(),
    "STOP": m.MoverStopRequest(),
    "TAPE_OPEN": m.TapeOpenRequest(DRIVE, TapeOpenMode.RDWR),
    "TAPE_OPEN(nothing)": m.TapeOpenRequest(b"drive:NONE", TapeOpenMode.RDWR),
    "TAPE_GET_STATE": m.TapeGetStateRequest(),
    "MTIO(REW)": m.TapeMtioRequest(MtioOp.REW, 1),
    "MTIO(TUR)": m.TapeMtioRequest(MtioOp.TUR, 1),
    "MTIO(EOF)": m.TapeMtioRequest(MtioOp.EOF, 1),
    "MTIO(FSF,0)": m.TapeMtioRequest(MtioOp.FSF, 0),
    "TAPE_WRITE": m.TapeWriteRequest(bytes(RECORD)),
    "TAPE_WRITE(0)": m.TapeWriteRequest(b""),
    "TAPE_READ(0)": m.TapeReadRequest(0),
    "TAPE_EXECUTE_CDB": m.TapeExecuteCdbRequest(cdb=TEST_UNIT_READY),
    "TAPE_EXECUTE_CDB(FORMAT)": m.TapeExecuteCdbRequest(cdb=FORMAT),
    "TAPE_CLOSE": m.TapeCloseRequest(),
    "SCSI_GET_STATE": m.ScsiGetStateRequest(),
    "SCSI_CLOSE": m.ScsiCloseRequest(),
    "SCSI_OPEN(nothing)": m.ScsiOpenRequest(b"changer:NONE"),
    "SCSI_RESET_DEVICE": m.ScsiResetDeviceRequest(),
    "SCSI_EXECUTE_CDB": m.ScsiExecuteCdbRequest(cdb=TEST_UNIT_READY),
}

MATRIX = """
                          CLOSED  IDLE  LISTEN ACTIVE PAUSED HALTED RESTORE
MOVER_GET_STATE           ok      ok    ok     ok     ok     ok     ok
SET_RECORD_SIZE(1)        ok      ok    STATE  STATE  STATE  STATE  STATE
SET_RECORD_SIZE(8192)     ok      ok    STATE  STATE  STATE  STATE  STATE
SET_RECORD_SIZE(0)        ARGS    ARGS  STATE  STATE  STATE  STATE  STATE
SET_RECORD_SIZE(2**32-1)  ARGS    ARGS  STATE  STATE  STATE  STATE  STATE
SET_WINDOW(0,512)         .       ok    STATE  STATE  ok     STATE  STATE
SET_WINDOW(0,all)         .       ok    STATE  STATE  ok     STATE  STATE
SET_WINDOW(0,100)         .       ok    STATE  STATE  ARGS   STATE  STATE
SET_WINDOW(0,0)           .       .     STATE  STATE  ARGS   STATE  STATE
SET_WINDOW(overflow)      .       ARGS  STATE  STATE  ARGS   STATE  STATE
LISTEN(READ)              NOTOPEN ok    STATE  STATE  STATE  STATE  STATE
LISTEN(WRITE)             NOTOPEN ok    STATE  STATE  STATE  STATE  STATE
LISTEN(NOACTION)          ARGS    ARGS  STATE  STATE  STATE  STATE  STATE
LISTEN(IPC)               ARGS    ARGS  STATE  STATE  STATE  STATE  STATE
CONNECT(nobody)           NOTOPEN CONN  STATE  STATE  STATE  STATE  STATE
CONNECT(IPC)              ARGS    ARGS  STATE  STATE  STATE  STATE  STATE
MOVER_READ(0,512)         STATE   STATE STATE  STATE  STATE  STATE  READING
MOVER_READ(0,0)           STATE   STATE STATE  STATE  STATE  STATE  ARGS
MOVER_READ(overflow)      STATE   STATE STATE  STATE  STATE  STATE  ARGS
CONTINUE                  STATE   STATE STATE  STATE  PREC   STATE  STATE
MOVER_CLOSE               STATE   STATE STATE  STATE  ok     STATE  STATE
ABORT                     STATE   STATE ok     ok     ok     ok     ok
STOP                      STATE   STATE STATE  STATE  STATE  ok     STATE
TAPE_OPEN                 ok      OPENED OPENED OPENED OPENED OPENED OPENED
TAPE_OPEN(nothing)        NODEV   OPENED OPENED OPENED OPENED OPENED OPENED
TAPE_GET_STATE            NOTOPEN ok    ok     ok     ok     ok     ok
MTIO(REW)                 NOTOPEN ok    BUSY   BUSY   ok     ok     BUSY
MTIO(TUR)                 NOTOPEN ok    BUSY   BUSY   ok     ok     BUSY
MTIO(EOF)                 NOTOPEN ok    BUSY   BUSY   ok     ok     BUSY
MTIO(FSF,0)               NOTOPEN ok    BUSY   BUSY   ok     ok     BUSY
TAPE_WRITE                NOTOPEN ok    BUSY   BUSY   ok     ok     BUSY
TAPE_WRITE(0)             NOTOPEN ok    BUSY   BUSY   ok     ok     BUSY
TAPE_READ(0)              NOTOPEN ok    BUSY   BUSY   ok     ok     BUSY
TAPE_EXECUTE_CDB          NOTOPEN ok    BUSY   BUSY   ok     ok     BUSY
TAPE_EXECUTE_CDB(FORMAT)  NOTOPEN ARGS  BUSY   BUSY   ARGS   ARGS   BUSY
TAPE_CLOSE                NOTOPEN ok    BUSY   BUSY   ok     ok     BUSY
SCSI_GET_STATE            NOTOPEN NOTOPEN NOTOPEN NOTOPEN NOTOPEN NOTOPEN NOTOPEN
SCSI_CLOSE                NOTOPEN NOTOPEN NOTOPEN NOTOPEN NOTOPEN NOTOPEN NOTOPEN
SCSI_OPEN(nothing)        NODEV   .     .      .      .      .      .
SCSI_RESET_DEVICE         NOTOPEN NOTOPEN NOTOPEN NOTOPEN NOTOPEN NOTOPEN NOTOPEN
SCSI_EXECUTE_CDB          NOTOPEN NOTOPEN NOTOPEN NOTOPEN NOTOPEN NOTOPEN NOTOPEN
"""


class Bench:
    """One session of a media server, and the data connections that its states need."""

    def __init__(self, site: Site, make: Callable[..., Talk], *, strict: bool) -> None:
        self._site = site
        self._streams = contextlib.ExitStack()
        self.talk = make(media_setup(site.libraries, "media1", "127.0.0.1", strict=strict))

    def close(self) -> None:
        """End the session and its connections."""
        self._site.gate.let_go()
        self._streams.close()
        self.talk.close()

    def go(self, state: str) -> None:
        """Lead the session to a state."""
        self._site.operator_moves(CARTRIDGES[0])
        if state != "CLOSED":
            self._say(m.TapeOpenRequest(DRIVE, TapeOpenMode.RDWR), m.MoverSetRecordSizeRequest(RECORD))
            whole = RECORD if state == "PAUSED" else ALL_ONES
            self._say(m.MoverSetWindowRequest(0, whole))
        if state in ("ACTIVE", "PAUSED", "HALTED", "LISTEN"):
            self._listen(MoverMode.READ, connect=state != "LISTEN", data=2 * RECORD * (state == "PAUSED"))
        if state == "RESTORE":
            self._listen(MoverMode.WRITE, connect=True)
            self._await(MoverState.ACTIVE)
            # The drive is busy with the first record for as long as the test takes.
            self._site.gate.hold(READ_6.opcode)
            self._say(m.MoverReadRequest(0, ALL_ONES))
            assert self._site.gate.arrived.wait(WAIT_S)
        if state == "HALTED":
            self._say(m.MoverAbortRequest())
        self._await(MoverState[{"CLOSED": "IDLE", "RESTORE": "ACTIVE"}.get(state, state)])

    def _say(self, *requests: Struct) -> None:
        for request in requests:
            assert self.talk.error(request) is ErrorCode.NO_ERR, request

    def _listen(self, mode: MoverMode, *, connect: bool, data: int = 0) -> None:
        reply = self.talk.ask(m.MoverListenRequest(mode))
        assert reply.error is ErrorCode.NO_ERR
        if connect:
            endpoint = dataconn.endpoint_of(reply.connect_addr.tcp[0])
            stream = self._streams.enter_context(socket.create_connection(endpoint, WAIT_S))
            stream.sendall(bytes(data))

    def _await(self, state: MoverState) -> None:
        """MOVER_GET_STATE until the stream's thread has come so far."""
        deadline = time.monotonic() + WAIT_S
        while (now := self.talk.ask(m.MoverGetStateRequest()).state) is not state:
            assert time.monotonic() < deadline, f"the mover is {now.name} and does not become {state.name}"


@pytest.fixture(params=["compat", "strict"])
def profile(request: pytest.FixtureRequest) -> str:
    """Both profiles."""
    return str(request.param)


@pytest.fixture(params=TALKS)
def bench(request: pytest.FixtureRequest, profile: str, tmp_path: Path) -> Iterator[Bench]:
    """A session that has logged in, with and without a control connection."""
    site = Site(tmp_path / "library")
    made = Bench(site, TALKS[request.param], strict=profile == "strict")
    try:
        made.talk.open(4)
        made.talk.login()
        yield made
    finally:
        made.close()
        site.close()


@pytest.mark.parametrize("cell", list(cells(MATRIX, REQUESTS)), ids=str)
def test_media_server(bench: Bench, cell: Cell) -> None:
    """Each request is answered in each state of the mover as the draft says, in both profiles."""
    bench.go(cell.state)
    assert bench.talk.error(REQUESTS[cell.request]) is cell.expected


@pytest.mark.parametrize("profile", ["compat", "strict"], indirect=True)
def test_where_the_profiles_differ(bench: Bench, profile: str) -> None:
    """A window of no length, and one before any record size: DMAs send them, the draft forbids them."""
    strict = profile == "strict"
    expected = ErrorCode.PRECONDITION if strict else ErrorCode.NO_ERR
    assert bench.talk.error(m.MoverSetWindowRequest(0, 0)) is expected
    assert bench.talk.error(m.MoverSetWindowRequest(0, RECORD)) is expected
    bench.talk.ask(m.MoverSetRecordSizeRequest(RECORD))
    expected = ErrorCode.ILLEGAL_ARGS if strict else ErrorCode.NO_ERR
    assert bench.talk.error(m.MoverSetWindowRequest(0, 0)) is expected


def test_one_device_a_session(bench: Bench, profile: str) -> None:
    """The draft allows one open device, tape or changer (3.3.1, 3.4.1); DMAs open both, and may in compat."""
    bench.go("IDLE")
    expected = ErrorCode.DEVICE_OPENED if profile == "strict" else ErrorCode.NO_ERR
    assert bench.talk.error(m.ScsiOpenRequest(CHANGER)) is expected
    bench.talk.ask(m.TapeCloseRequest())
    bench.talk.ask(m.ScsiOpenRequest(CHANGER))
    assert bench.talk.error(m.ScsiOpenRequest(CHANGER)) is ErrorCode.DEVICE_OPENED
    assert bench.talk.error(m.TapeOpenRequest(DRIVE, TapeOpenMode.READ)) is expected


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (m.ScsiExecuteCdbRequest(cdb=TEST_UNIT_READY), ErrorCode.NO_ERR),
        (m.ScsiExecuteCdbRequest(cdb=FORMAT), ErrorCode.ILLEGAL_ARGS),
        (m.ScsiExecuteCdbRequest(cdb=b""), ErrorCode.ILLEGAL_ARGS),
        (m.ScsiExecuteCdbRequest(flags=int(sum(CdbFlag)), cdb=TEST_UNIT_READY), ErrorCode.ILLEGAL_ARGS),
        (m.ScsiGetStateRequest(), ErrorCode.NO_ERR),
        (m.ScsiResetDeviceRequest(), ErrorCode.NOT_SUPPORTED),
        (m.ScsiCloseRequest(), ErrorCode.NO_ERR),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_open_changer(bench: Bench, request_: Struct, code: ErrorCode) -> None:
    """Commands of the table pass, others are refused, and nothing is reset."""
    bench.talk.ask(m.ScsiOpenRequest(CHANGER))
    assert bench.talk.error(request_) is code
