"""MOVER: each request in each state (draft, 2.11.6 and 3.6; ndmp.md, 3.7)."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest

from appliance.ndmp import messages as m
from appliance.ndmp.client import Client
from appliance.ndmp.enums import (
    ALL_ONES,
    AddressType,
    ErrorCode,
    MoverHaltReason,
    MoverMode,
    MoverPauseReason,
    MoverState,
    MtioOp,
    TapeOpenMode,
)
from appliance.ndmp.types import Address, TcpAddress
from appliance.ndmp.xdr import Struct
from tests.unit.mediaserver.support import (
    DRIVE,
    Site,
    connect,
    error_of,
    is_gone,
    mover,
    posted,
)

RECORD = 10240
REQUESTS: dict[str, Struct] = {
    "SET_RECORD_SIZE": m.MoverSetRecordSizeRequest(RECORD),
    "SET_WINDOW": m.MoverSetWindowRequest(0, ALL_ONES),
    "SET_WINDOW 0": m.MoverSetWindowRequest(0, 0),
    "SET_WINDOW overflow": m.MoverSetWindowRequest(2, ALL_ONES - 1),
    "SET_WINDOW odd": m.MoverSetWindowRequest(0, RECORD + 1),
    "LISTEN": m.MoverListenRequest(MoverMode.READ),
    "CONNECT": m.MoverConnectRequest(MoverMode.READ, Address(AddressType.TCP, (TcpAddress(0x7F000001, 1),))),
    "READ": m.MoverReadRequest(0, 1),
    "CONTINUE": m.MoverContinueRequest(),
    "CLOSE": m.MoverCloseRequest(),
    "ABORT": m.MoverAbortRequest(),
    "STOP": m.MoverStopRequest(),
    "TAPE MTIO": m.TapeMtioRequest(MtioOp.TUR, 1),
    "TAPE WRITE": m.TapeWriteRequest(b"x"),
    "TAPE READ": m.TapeReadRequest(1),
    "TAPE CDB": m.TapeExecuteCdbRequest(cdb=bytes(6)),
    "TAPE CLOSE": m.TapeCloseRequest(),
    "TAPE STATE": m.TapeGetStateRequest(),
}
LEGAL = ErrorCode.NO_ERR
STATE = ErrorCode.ILLEGAL_STATE
BUSY = ErrorCode.DEVICE_BUSY
ARGS = ErrorCode.ILLEGAL_ARGS

_TAPE_IN_USE = {
    **dict.fromkeys(("TAPE MTIO", "TAPE WRITE", "TAPE READ", "TAPE CDB", "TAPE CLOSE"), BUSY),
    "TAPE STATE": LEGAL,
}
MATRIX: dict[MoverState, dict[str, ErrorCode]] = {
    MoverState.IDLE: {
        **dict.fromkeys(("SET_RECORD_SIZE", "SET_WINDOW", "SET_WINDOW 0", "SET_WINDOW odd", "LISTEN"), LEGAL),
        **dict.fromkeys(("READ", "CONTINUE", "CLOSE", "ABORT", "STOP"), STATE),
        "SET_WINDOW overflow": ARGS,
        "CONNECT": ErrorCode.CONNECT,
        "TAPE MTIO": LEGAL,
    },
    MoverState.LISTEN: {
        **dict.fromkeys(
            ("SET_RECORD_SIZE", "SET_WINDOW", "SET_WINDOW 0", "LISTEN", "CONNECT", "READ"), STATE
        ),
        **dict.fromkeys(("CONTINUE", "CLOSE", "STOP"), STATE),
        "ABORT": LEGAL,
        **_TAPE_IN_USE,
    },
    MoverState.ACTIVE: {
        **dict.fromkeys(
            ("SET_RECORD_SIZE", "SET_WINDOW", "LISTEN", "CONNECT", "READ", "CONTINUE", "CLOSE", "STOP"), STATE
        ),
        "ABORT": LEGAL,
        **_TAPE_IN_USE,
    },
    MoverState.PAUSED: {
        **dict.fromkeys(("SET_RECORD_SIZE", "LISTEN", "CONNECT", "READ", "STOP"), STATE),
        **dict.fromkeys(("SET_WINDOW 0", "SET_WINDOW overflow", "SET_WINDOW odd"), ARGS),
        **dict.fromkeys(("SET_WINDOW", "CLOSE", "ABORT", "TAPE MTIO", "TAPE CLOSE", "TAPE WRITE"), LEGAL),
        "CONTINUE": ErrorCode.PRECONDITION,
    },
    MoverState.HALTED: {
        **dict.fromkeys(
            ("SET_RECORD_SIZE", "SET_WINDOW", "LISTEN", "CONNECT", "READ", "CONTINUE", "CLOSE"), STATE
        ),
        **dict.fromkeys(("ABORT", "STOP", "TAPE MTIO", "TAPE CLOSE"), LEGAL),
    },
}


def bring_to(site: Site, state: MoverState) -> tuple[Client, socket.socket | None]:
    """A DMA whose mover is in this state, on a backup, and the data connection if there is one."""
    client = site.opened()
    client.do(m.MoverSetRecordSizeRequest(RECORD))
    if state is MoverState.IDLE:
        client.do(m.MoverSetWindowRequest(0, ALL_ONES))
        return client, None
    client.do(m.MoverSetWindowRequest(0, RECORD))
    if state is MoverState.LISTEN:
        client.do(m.MoverListenRequest(MoverMode.READ))
        return client, None
    stream = site.keep(_active(client))
    if state is not MoverState.ACTIVE:
        stream.sendall(bytes(2 * RECORD))
        assert posted(client, m.NotifyMoverPausedPost).reason is MoverPauseReason.EOW
    if state is MoverState.HALTED:
        client.do(m.MoverCloseRequest())
        posted(client, m.NotifyMoverHaltedPost)
    return client, stream


def _active(client: Client) -> socket.socket:
    """MOVER_CONNECT to a data server that listens: ACTIVE with the reply."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = Address(AddressType.TCP, (TcpAddress(0x7F000001, listener.getsockname()[1]),))
        client.do(m.MoverConnectRequest(MoverMode.READ, address))
        return listener.accept()[0]


@pytest.mark.parametrize(
    ("state", "name"),
    [(state, name) for state, row in MATRIX.items() for name in row],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_each_request_in_each_state_has_its_answer(site: Site, state: MoverState, name: str) -> None:
    """Requests move the machine where the draft says they may, and are refused elsewhere."""
    client, _ = bring_to(site, state)
    assert mover(client).state is state
    assert error_of(client, REQUESTS[name]) is MATRIX[state][name]


# What to ask of LISTEN and CONNECT, and how they answer (draft, 3.6.2.3 and 3.6.2.4).
STARTS: dict[str, tuple[list[Struct], MoverMode, ErrorCode]] = {
    "no drive": ([], MoverMode.WRITE, ErrorCode.DEV_NOT_OPEN),
    "no action": ([m.TapeOpenRequest(DRIVE)], MoverMode.NOACTION, ErrorCode.ILLEGAL_ARGS),
    "write, read only": ([m.TapeOpenRequest(DRIVE, TapeOpenMode.READ)], MoverMode.READ, ErrorCode.PERMISSION),
    "odd length": (
        [
            m.TapeOpenRequest(DRIVE, TapeOpenMode.RDWR),
            m.MoverSetRecordSizeRequest(RECORD),
            m.MoverSetWindowRequest(0, RECORD + 1),
        ],
        MoverMode.READ,
        ErrorCode.PRECONDITION,
    ),
    "odd offset": (
        [m.TapeOpenRequest(DRIVE), m.MoverSetRecordSizeRequest(RECORD), m.MoverSetWindowRequest(1, RECORD)],
        MoverMode.WRITE,
        ErrorCode.PRECONDITION,
    ),
}


@pytest.mark.parametrize("name", STARTS)
@pytest.mark.parametrize("way", ["LISTEN", "CONNECT"])
def test_what_a_start_needs(site: Site, name: str, way: str) -> None:
    """LISTEN and CONNECT check drive, mode and window, and leave the mover IDLE when they refuse."""
    before, mode, expected = STARTS[name]
    site.operator_moves("VTL001L5")
    client = site.client()
    for request in before:
        client.do(request)
    nobody = Address(AddressType.TCP, (TcpAddress(0x7F000001, 1),))
    start = m.MoverListenRequest(mode) if way == "LISTEN" else m.MoverConnectRequest(mode, nobody)
    assert error_of(client, start) is expected
    assert mover(client).state is MoverState.IDLE


@pytest.mark.parametrize("kind", [AddressType.LOCAL, AddressType.IPC, AddressType.RESERVED])
def test_only_tcp_is_offered(site: Site, kind: AddressType) -> None:
    """Other kinds of data connection are ILLEGAL_ARGS."""
    client, _ = bring_to(site, MoverState.IDLE)
    assert error_of(client, m.MoverListenRequest(MoverMode.WRITE, kind)) is ErrorCode.ILLEGAL_ARGS


@pytest.mark.parametrize(
    ("length", "expected"),
    [(0, ARGS), (1, LEGAL), (8192, LEGAL), (0xFFFFFF, LEGAL), (0x1000000, ARGS), (0xFFFFFFFF, ARGS)],
)
def test_record_sizes(site: Site, length: int, expected: ErrorCode) -> None:
    """Any record that a WRITE(6) can carry, and no other."""
    assert error_of(site.client(), m.MoverSetRecordSizeRequest(length)) is expected


def test_compat_needs_no_record_size(site: Site) -> None:
    """Profile compat takes a window first, of length 0 even, and records of 10,240 bytes then."""
    client = site.opened()
    assert error_of(client, m.MoverSetWindowRequest(0, 0)) is ErrorCode.NO_ERR
    assert mover(client).record_size == 10240
    assert error_of(client, m.MoverListenRequest(MoverMode.READ)) is ErrorCode.NO_ERR


def test_strict_needs_record_size_and_window(strict_site: Site) -> None:
    """Profile strict refuses what comes before what it depends on (draft, 3.6.2.2 and 3.6.2.4)."""
    client = strict_site.opened()
    assert error_of(client, m.MoverSetWindowRequest(0, RECORD)) is ErrorCode.PRECONDITION
    assert error_of(client, m.MoverListenRequest(MoverMode.READ)) is ErrorCode.PRECONDITION
    client.do(m.MoverSetRecordSizeRequest(RECORD))
    assert error_of(client, m.MoverSetWindowRequest(0, 0)) is ErrorCode.ILLEGAL_ARGS
    assert error_of(client, m.MoverSetWindowRequest(RECORD, ALL_ONES)) is ErrorCode.ILLEGAL_ARGS
    assert error_of(client, m.MoverListenRequest(MoverMode.READ)) is ErrorCode.PRECONDITION
    client.do(m.MoverSetWindowRequest(0, ALL_ONES))
    assert error_of(client, m.MoverListenRequest(MoverMode.READ)) is ErrorCode.NO_ERR
    assert error_of(client, m.MoverSetWindowRequest(0, RECORD)) is ErrorCode.ILLEGAL_STATE


def test_the_window_may_come_after_listen(site: Site) -> None:
    """Version 3's order: LISTEN, SET_WINDOW, then the data connection."""
    client = site.opened()
    client.do(m.MoverSetRecordSizeRequest(RECORD))
    reply = client.call(m.MoverListenRequest(MoverMode.READ), m.MoverListenReply)
    assert error_of(client, m.MoverSetWindowRequest(0, ALL_ONES)) is ErrorCode.NO_ERR
    assert error_of(client, m.MoverSetWindowRequest(0, ALL_ONES)) is ErrorCode.ILLEGAL_STATE
    with connect(reply) as stream:
        stream.sendall(bytes(RECORD))
    assert posted(client, m.NotifyMoverHaltedPost).reason is MoverHaltReason.CONNECT_CLOSED
    assert mover(client).bytes_moved == RECORD


def test_a_new_record_size_ends_the_window(site: Site) -> None:
    """SET_RECORD_SIZE resets the window, STOP does too but keeps the record size (draft, 3.6.1.1)."""
    client, _ = bring_to(site, MoverState.IDLE)
    client.do(m.MoverSetWindowRequest(4 * RECORD, 3 * RECORD))
    state = mover(client)
    assert (state.window_offset, state.window_length, state.record_num) == (4 * RECORD, 3 * RECORD, 4)
    client.do(m.MoverSetRecordSizeRequest(512))
    state = mover(client)
    assert (state.window_offset, state.window_length, state.record_size) == (0, 0, 512)
    client.do(m.MoverSetWindowRequest(0, 512))
    client.do(m.MoverListenRequest(MoverMode.READ))
    client.do(m.MoverAbortRequest())
    client.do(m.MoverStopRequest())
    state = mover(client)
    assert (state.state, state.mode, state.record_size) == (MoverState.IDLE, MoverMode.NOACTION, 512)
    assert (state.window_length, state.halt_reason, state.record_num) == (0, MoverHaltReason.NA, 0)


def test_the_peer_is_told_while_there_is_one(site: Site) -> None:
    """The data connection's address is the peer's endpoint from ACTIVE to STOP, else LOCAL (3.6.1.1)."""
    client, stream = bring_to(site, MoverState.ACTIVE)
    assert stream is not None
    port = stream.getsockname()[1]
    assert mover(client).data_connection_addr == Address(AddressType.TCP, (TcpAddress(0x7F000001, port),))
    client.do(m.MoverAbortRequest())
    client.do(m.MoverStopRequest())
    assert mover(client).data_connection_addr == Address()


@pytest.mark.parametrize(
    ("end", "reason"),
    [(m.MoverAbortRequest, MoverHaltReason.ABORTED), (m.MoverCloseRequest, MoverHaltReason.CONNECT_CLOSED)],
)
def test_a_request_to_halt_is_answered_before_the_post(
    site: Site, end: Callable[[], Struct], reason: MoverHaltReason
) -> None:
    """The reply has the lower sequence number, and the connection is closed."""
    client, stream = bring_to(site, MoverState.PAUSED)
    assert stream is not None
    reply = client.ask(end())
    post = client.posts.get(timeout=20)
    assert post is not None
    assert post.body() == m.NotifyMoverHaltedPost(reason)
    assert post.sequence > reply.sequence
    assert is_gone(stream)
    assert (mover(client).halt_reason, mover(client).pause_reason) == (reason, MoverPauseReason.NA)


def test_a_second_abort_tells_nothing_new(site: Site) -> None:
    """ABORT in HALTED is legal, keeps the first reason and posts no second halt."""
    client, _ = bring_to(site, MoverState.HALTED)
    client.do(m.MoverAbortRequest())
    assert mover(client).halt_reason is MoverHaltReason.CONNECT_CLOSED
    assert client.posts.empty()


def test_a_listener_takes_one_connection(site: Site) -> None:
    """The first data server is the only one: the door is closed behind it."""
    client, _ = bring_to(site, MoverState.IDLE)
    reply = client.call(m.MoverListenRequest(MoverMode.READ), m.MoverListenReply)
    with connect(reply) as first:
        first.sendall(bytes(1))
        first.shutdown(socket.SHUT_WR)
        posted(client, m.NotifyMoverHaltedPost)
        with pytest.raises(ConnectionRefusedError):
            connect(reply)


def test_a_vanished_dma_ends_the_listener(site: Site) -> None:
    """With the control connection the listener goes too."""
    client, _ = bring_to(site, MoverState.IDLE)
    reply = client.call(m.MoverListenRequest(MoverMode.READ), m.MoverListenReply)
    site.drop(client)
    with pytest.raises(ConnectionRefusedError):
        connect(reply)


def test_two_sessions_have_two_movers(site: Site) -> None:
    """A session's mover knows nothing of another's."""
    first, _ = bring_to(site, MoverState.LISTEN)
    second = site.client()
    assert mover(second).state is MoverState.IDLE
    assert mover(first).state is MoverState.LISTEN
