"""Version 3 on the wire, and its negotiation.

Expected bytes are put together here by hand, from the structures of the version 3 document (they agree with
the definitions that other implementations are built from, ndmp3.x), without the product's codec.
"""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ndmp_support import record, structures

from appliance.ndmp import messages as m
from appliance.ndmp.declare import CODES, REGISTRY, Kind
from appliance.ndmp.dialect import OBSOLETE
from appliance.ndmp.endpoint import Endpoint
from appliance.ndmp.enums import (
    AddressType,
    AuthType,
    ButypeAttr,
    DataHaltReason,
    DataState,
    ErrorCode,
    LogType,
    MoverHaltReason,
    MoverMode,
    MoverPauseReason,
    MoverState,
    RecoveryStatus,
)
from appliance.ndmp.errors import LocalMisuseError, RemoteFaultError
from appliance.ndmp.session import Accounts, Session
from appliance.ndmp.types import Address, Name, Pval, TcpAddress
from appliance.ndmp.version3 import ERRORS, VERSION_3, WIRES
from appliance.ndmp.xdr import Struct, XdrError

IP = 0x7F4D0015
TCP_BYTES = struct.pack(">3I", 1, IP, 10000)
ADDRESS = Address(AddressType.TCP, (TcpAddress(IP, 10000),))


def words(*values: int) -> bytes:
    """Numbers of four bytes."""
    return struct.pack(f">{len(values)}I", *values)


def text(value: bytes) -> bytes:
    """A string."""
    return words(len(value)) + value + bytes(-len(value) % 4)


BYTES = [
    (m.DataConnectRequest(ADDRESS), TCP_BYTES),
    (m.MoverConnectRequest(MoverMode.WRITE, ADDRESS), words(1) + TCP_BYTES),
    (m.DataListenReply(connect_addr=ADDRESS), words(0) + TCP_BYTES),
    (m.MoverListenReply(connect_addr=Address()), words(0, 0)),
    (
        m.DataGetStateReply(
            unsupported=3,
            state=DataState.CONNECTED,
            bytes_processed=1 << 40,
            data_connection_addr=ADDRESS,
            read_length=7,
        ),
        words(3, 0, 0, 4, 0, 1 << 8, 0, 0, 0, 0) + TCP_BYTES + words(0, 0, 0, 7),
    ),
    (
        m.MoverGetStateReply(
            mode=MoverMode.WRITE,
            state=MoverState.PAUSED,
            pause_reason=MoverPauseReason.EOW,
            record_size=512,
            record_num=9,
            bytes_moved=4,
            window_offset=1,
            window_length=2,
            data_connection_addr=ADDRESS,
        ),
        words(0, 3, 5, 0, 512, 9, 0, 4, 0, 0, 0, 0, 0, 1, 0, 2) + TCP_BYTES,
    ),
    (m.NotifyDataHaltedPost(DataHaltReason.CONNECT_ERROR), words(4) + text(b"connect error")),
    (m.NotifyMoverHaltedPost(MoverHaltReason.MEDIA_ERROR), words(3) + text(b"media error")),
    (m.LogMessagePost(LogType.WARNING, 5, b"odd", 1, 2), words(3, 5) + text(b"odd")),
    (m.LogFilePost(b"/a", RecoveryStatus.FAILED_NOT_FOUND), text(b"/a") + words(14)),
    (m.TapeGetStateReply(unsupported=2, blockno=3), words(0x42, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0)),
    (
        m.ConfigGetButypeInfoReply(
            butype_info=(m.ButypeInfo(b"tar", (), int(ButypeAttr.BACKUP_FH_FILE | ButypeAttr.BACKUP_UTF8)),)
        ),
        words(0, 1) + text(b"tar") + words(0, 0x81),
    ),
    (m.DataStopReply(ErrorCode.PRECONDITION), words(9)),
    (m.ConnectOpenRequest(3), words(3)),
]


@pytest.mark.parametrize(("body", "expected"), BYTES, ids=lambda value: type(value).__name__)
def test_a_message_has_version_3s_bytes(body: Struct, expected: bytes) -> None:
    """What differs from version 4 is written as the version 3 document lays it out."""
    assert VERSION_3.encode(body) == expected


def test_words_of_a_halt_and_a_partition_are_read() -> None:
    """What version 4 has no field for is taken, and left out."""
    halted = words(1) + text(b"all went well")
    assert VERSION_3.decode(m.NotifyDataHaltedPost, halted) == m.NotifyDataHaltedPost(
        DataHaltReason.SUCCESSFUL
    )
    state = words(0x42, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 17)
    assert VERSION_3.decode(m.TapeGetStateReply, state) == m.TapeGetStateReply(unsupported=2, blockno=3)


def test_a_fibre_channel_address_is_read_whole() -> None:
    """FC carries a loop identifier; the message around it stays in step."""
    assert VERSION_3.decode(m.MoverConnectRequest, words(0, 2, 99)) == m.MoverConnectRequest(
        MoverMode.READ, Address(AddressType.RESERVED)
    )


def test_file_history_and_its_attributes_are_one_bit() -> None:
    """A version 3 server that keeps file history may send either form."""
    raw = words(0, 1) + text(b"dump") + words(0, 0x201)
    (info,) = VERSION_3.decode(m.ConfigGetButypeInfoReply, raw).butype_info  # type: ignore[attr-defined]
    wanted = ButypeAttr.BACKUP_FH_FILE | ButypeAttr.BACKUP_FH_DIR | ButypeAttr.RECOVER_FILEHIST
    assert info.attrs == int(wanted)


@pytest.mark.parametrize("code", ErrorCode)
def test_every_error_has_a_number_in_version_3(code: ErrorCode) -> None:
    """Nothing above NDMP_CONNECT_ERR (23) is sent, in a header or a body."""
    assert VERSION_3.error(code) <= ErrorCode.CONNECT
    assert int.from_bytes(VERSION_3.encode(m.MoverListenReply(code))[:4], "big") <= 23
    assert (code in ERRORS) == (code > ErrorCode.CONNECT)


def test_every_recovery_status_comes_back() -> None:
    """LOG_FILE's error says the same as the status did."""
    for status in RecoveryStatus:
        raw = VERSION_3.encode(m.LogFilePost(b"x", status))
        assert VERSION_3.decode(m.LogFilePost, raw) == m.LogFilePost(b"x", status)
    unknown = text(b"x") + words(int(ErrorCode.EOM))
    assert VERSION_3.decode(m.LogFilePost, unknown) == m.LogFilePost(
        b"x", RecoveryStatus.FAILED_UNDEFINED_ERROR
    )


CONVERTED = (
    m.ConfigGetButypeInfoReply,
    m.DataStartRecoverRequest,
    m.DataStartRecoverFilehistRequest,
)
"""The same layout, with another meaning: each has a test of its own."""

SAME = sorted(
    (cls for (_, code), cls in REGISTRY.items() if code < 0x10000 and cls not in WIRES),
    key=lambda cls: cls.__name__,
)


@pytest.mark.parametrize("cls", SAME, ids=lambda cls: cls.__name__)
@given(data=st.data())
def test_all_other_messages_are_version_4s(cls: type[Struct], data: st.DataObject) -> None:
    """What is in no table has the same bytes in both versions, but for errors and attributes."""
    body = data.draw(structures(cls))
    if getattr(body, "error", None) in ERRORS or cls in CONVERTED:
        return
    raw = VERSION_3.encode(body)
    assert raw == body.to_bytes()
    assert VERSION_3.decode(cls, raw) == body


@pytest.mark.parametrize("cls", sorted(WIRES, key=lambda cls: cls.__name__), ids=lambda cls: cls.__name__)
@given(data=st.data())
def test_what_differs_round_trips(cls: type[Struct], data: st.DataObject) -> None:
    """A second trip changes nothing more than the first did."""
    body = data.draw(structures(cls))
    try:
        raw = VERSION_3.encode(body)
    except LocalMisuseError as error:
        assert "without an endpoint" in str(error)  # noqa: PT017  (only some values have none)
        return
    once = VERSION_3.decode(cls, raw)
    assert VERSION_3.decode(cls, VERSION_3.encode(once)) == once


@pytest.mark.parametrize("cls", sorted(WIRES, key=lambda cls: cls.__name__), ids=lambda cls: cls.__name__)
@given(raw=st.binary(max_size=120))
def test_garbage_is_a_fault_of_the_peer(cls: type[Struct], raw: bytes) -> None:
    """Bytes are a message of version 3 or raise XdrError, nothing else."""
    try:
        VERSION_3.decode(cls, raw)
    except XdrError:
        return


@pytest.mark.parametrize(
    ("wire", "target"),
    [
        (Name(b"/a/b", b"/restored"), b"/restored/a/b"),
        (Name(b"a/b", b"/restored/"), b"/restored/a/b"),
        (Name(b"/a/b", b"/restored", b"c"), b"/restored/c"),
        (Name(b"/a/b", b"", b"/restored/c"), b"/restored/c"),
        (Name(b"/a/b", b""), b"/a/b"),
        (Name(b"", b"/restored"), b"/restored"),
        (Name(b"", b""), b"/"),
    ],
)
def test_a_target_is_put_together_as_version_3_says(wire: Name, target: bytes) -> None:
    """Directory and new name, or directory and original path; ndmjob's new names hold slashes."""
    raw = m.DataStartRecoverRequest((), (wire,), b"tar").to_bytes()
    (name,) = VERSION_3.decode(m.DataStartRecoverRequest, raw).nlist  # type: ignore[attr-defined]
    assert (name.original_path, name.destination_path, name.name) == (wire.original_path, target, b"")


@pytest.mark.parametrize(
    ("name", "wire"),
    [
        (Name(b"/a/b", b"/restored/a/b"), (b"/restored", b"")),
        (Name(b"/a/b", b"/restored/a", b"b"), (b"/restored", b"")),
        (Name(b"/a/b", b"/a/b"), (b"/", b"")),
        (Name(b"/a/b", b"/restored/c"), (b"", b"/restored/c")),
        (Name(b"", b"/restored"), (b"/restored", b"")),
    ],
)
def test_our_targets_reach_a_server_of_version_3(name: Name, wire: tuple[bytes, bytes]) -> None:
    """What is written means the same target when it is read as version 3 says."""
    raw = VERSION_3.encode(m.DataStartRecoverRequest((), (name,), b"tar"))
    (sent,) = m.DataStartRecoverRequest.from_bytes(raw).nlist
    assert (sent.destination_path, sent.name) == wire
    (read,) = VERSION_3.decode(m.DataStartRecoverRequest, raw).nlist  # type: ignore[attr-defined]
    assert read.destination_path == name.destination_path + (b"/" + name.name if name.name else b"")


class Talk3:
    """A DMA of version 3 and a session, without sockets."""

    def __init__(self) -> None:
        self.sent = b""
        self.session = Session(self._take, "peer", Accounts({"dma": "secret"}))
        self.end, self.reader, self._read = Endpoint(), Endpoint(), 0

    def _take(self, data: bytes) -> None:
        self.sent += data

    def hear(self) -> list[Any]:
        """What the session has sent since."""
        fresh, self._read = self.sent[self._read :], len(self.sent)
        return self.reader.receive(fresh)

    def open(self) -> None:
        """Choose version 3."""
        self.session.receive(self.end.request(m.ConnectOpenRequest(3))[1])
        (reply,) = self.hear()
        assert reply.body() == m.ConnectOpenReply()
        self.end.dialect = self.reader.dialect = VERSION_3


def test_version_3_is_agreed_on() -> None:
    """After CONNECT_OPEN(3) replies and posts are version 3's; a second OPEN is illegal."""
    talk = Talk3()
    talk.open()
    talk.session.post(m.NotifyDataHaltedPost(DataHaltReason.ABORTED))
    (post,) = talk.hear()
    assert post.raw == words(2) + text(b"aborted")
    talk.session.receive(talk.end.request(m.ConnectOpenRequest(3))[1])
    assert [reply.body().error for reply in talk.hear()] == [ErrorCode.ILLEGAL_STATE]


def test_what_comes_in_the_same_packet_is_of_the_version_just_chosen() -> None:
    """A client need not wait for the reply: its next message is read as version 3."""
    talk = Talk3()
    asked = record(CODES[m.ConnectOpenRequest][1], words(3), sequence=1) + record(
        CODES[m.DataConnectRequest][1], TCP_BYTES, sequence=2
    )
    talk.session.receive(asked)
    talk.reader.dialect = VERSION_3
    _, reply = talk.hear()
    # Its body was understood: what is missing is the login, not a field.
    assert (reply.error, reply.body()) == (0, m.DataConnectReply(ErrorCode.NOT_AUTHORIZED))


def test_a_post_made_elsewhere_is_translated() -> None:
    """An owner's log line, encoded as version 4, reaches a DMA of version 3 as version 3."""
    talk = Talk3()
    talk.open()
    line = m.LogMessagePost(LogType.ERROR, 0, b"/a: gone")
    talk.session.raw_post(CODES[m.LogMessagePost][1], line.to_bytes())
    history = m.FhAddDirPost((m.FhDir((), 5, 2),))
    talk.session.raw_post(CODES[m.FhAddDirPost][1], history.to_bytes())
    assert [post.raw for post in talk.hear()] == [words(2, 0) + text(b"/a: gone"), history.to_bytes()]


@pytest.mark.parametrize("code", [0x109, 0x10A, 0x7FE00010])
def test_extensions_are_not_in_version_3(code: int) -> None:
    """Version 4's negotiation of extensions, and every extension, is NOT_SUPPORTED."""
    with pytest.raises(RemoteFaultError) as caught:
        VERSION_3.body(Kind.REQUEST, code, b"")
    assert caught.value.code is ErrorCode.NOT_SUPPORTED


@pytest.mark.parametrize("code", sorted(OBSOLETE))
def test_what_version_4_dropped_is_in_version_3_only(code: int) -> None:
    """SCSI_SET_TARGET and SCSI_RESET_BUS have messages in version 3, none in version 4."""
    assert VERSION_3.message(Kind.REQUEST, code) is not None
    assert Endpoint().dialect.message(Kind.REQUEST, code) is None


def test_nodes_do_not_speak_version_3() -> None:
    """Between nodes there are messages that version 3 has no room for."""
    sent: list[bytes] = []
    session = Session(sent.append, "fs2", None)
    session.receive(Endpoint().request(m.ConnectOpenRequest(3))[1])
    (reply,) = Endpoint().receive(sent[0])
    assert reply.body() == m.ConnectOpenReply(ErrorCode.ILLEGAL_ARGS)


def test_the_environment_survives_version_3() -> None:
    """Requests with lists are the same in both: env, nlist."""
    asked = m.DataStartBackupRequest(b"tar", (Pval(b"HIST", b"y"),))
    assert VERSION_3.decode(m.DataStartBackupRequest, VERSION_3.encode(asked)) == asked
    assert VERSION_3.encode(m.ConfigGetAuthAttrRequest(AuthType.MD5)) == words(2)
