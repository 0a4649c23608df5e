"""The iSCSI protocol without sockets: bytes as RFC 7143 draws them go in, bytes and events come out."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from iscsi_support import (
    NAMES,
    OPERATIONAL,
    PORTAL,
    TARGET,
    answers,
    command,
    data_out,
    feed,
    logged_in,
    login,
    new_session,
    request,
    text,
)

from tape.iscsi.errors import IscsiProtocolError
from tape.iscsi.pdu import REQUESTS, RESPONSES, Decoder
from tape.iscsi.session import WINDOW, Aborted, Closed, Execute, LoggedIn, UnitReset
from tape.iscsi.task import TRANSFER_BYTES_MAX
from tape.iscsi.text import decode_text
from tape.sense import Sense, SenseKey
from tape.transport import Completion, ScsiStatus

TEST_READY = bytes(6)
READ = bytes([0x08, 0, 0, 0x30, 0, 0])
WRITE = bytes([0x0A, 0, 0, 0x30, 0, 0])
SENSE = Sense(SenseKey.NO_SENSE, ili=True, information=2).encode()


# -- units -------------------------------------------------------------------------------------------
def test_a_login_request_is_read_as_the_standard_draws_it() -> None:
    """Fields of a header written down byte by byte are found (RFC 7143, 11.12)."""
    raw = bytes.fromhex(
        "43870000 00000005 4000002a00000000 11223344 00050000 00000009 0000000a"
        + "00" * 16
        + "613d620000000000"
    )
    (pdu,) = Decoder(1 << 20).feed(raw)
    assert pdu.layout.name == "Login Request"
    assert (pdu["immediate"], pdu["transit"], pdu["csg"], pdu["nsg"]) == (1, 1, 1, 3)
    assert (pdu["isid"], pdu["tsih"], pdu["itt"], pdu["cid"]) == (0x4000002A0000, 0, 0x11223344, 5)
    assert (pdu["cmdsn"], pdu["expstatsn"], pdu.data) == (9, 10, b"a=b\0\0")


def test_a_data_in_is_written_as_the_standard_draws_it() -> None:
    """A response's bytes are those of RFC 7143, 11.7, with the data padded to four bytes."""
    parts = RESPONSES[0x25].build(
        b"abcde",
        final=1,
        has_status=1,
        underflow=1,
        status=0,
        itt=0x11,
        ttt=0xFFFFFFFF,
        statsn=1,
        expcmdsn=2,
        maxcmdsn=3,
        datasn=4,
        offset=5,
        residual=6,
    )
    assert b"".join(bytes(part) for part in parts) == bytes.fromhex(
        "25830000 00000005 0000000000000000 00000011 ffffffff"
        "00000001 00000002 00000003 00000004 00000005 00000006 6162636465000000"
    )


@given(cuts=st.lists(st.integers(0, 200), max_size=6))
@settings(max_examples=30, deadline=None)
def test_units_are_found_however_the_stream_is_cut(cuts: list[int]) -> None:
    """TCP keeps no borders: the same PDUs come out of any pieces."""
    stream = request(0x00, 0x80, data=b"ping!", tag=3) + login(NAMES) + request(0x06, 0x80, tag=4)
    decoder = Decoder(1 << 20)
    places = sorted({0, len(stream), *(min(cut, len(stream)) for cut in cuts)})
    pieces = [stream[a:b] for a, b in pairwise(places)]
    found = [pdu for piece in pieces for pdu in decoder.feed(piece)]
    assert [pdu.layout.name for pdu in found] == ["NOP-Out", "Login Request", "Logout Request"]
    assert found[0].data == b"ping!"


def test_additional_headers_are_passed_over() -> None:
    """AHS are skipped by their length (11.2.1.5)."""
    raw = bytearray(request(0x00, 0x80, tag=3))
    raw[4] = 2
    (first, second) = Decoder(1 << 20).feed(bytes(raw) + bytes(8) + request(0x00, 0x80, tag=4))
    assert (first["itt"], second["itt"]) == (3, 4)


@pytest.mark.parametrize(
    "raw", [request(0x1F), b"\x00\x80" + bytes(3) + b"\xff\xff\xff" + bytes(40), bytes([0x3F]) + bytes(47)]
)
def test_an_impossible_header_is_refused_at_once(raw: bytes) -> None:
    """An unknown opcode, or a segment beyond the limit, ends it before anything is collected."""
    with pytest.raises(IscsiProtocolError):
        list(Decoder(1 << 20).feed(raw))


def test_opcodes_are_those_of_the_standard() -> None:
    """Initiator opcodes are below 20h, target opcodes from there on (11.2.1.2)."""
    assert sorted(REQUESTS) == [0, 1, 2, 3, 4, 5, 6, 0x10]
    assert sorted(RESPONSES) == [0x20, 0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x31, 0x3F]


# -- login -------------------------------------------------------------------------------------------
def test_a_login_through_both_stages() -> None:
    """Security, then operational: each stage is answered, the last answer carries the TSIH."""
    session = new_session()
    assert feed(session, login(NAMES | {"AuthMethod": "CHAP,None"}, 0, 1)) == []
    (first,) = answers(session)
    assert dict(decode_text(first.data)) == {"TargetPortalGroupTag": "1", "AuthMethod": "None"}
    assert (first["transit"], first["csg"], first["nsg"], first["tsih"]) == (1, 0, 1, 0)
    (event,) = feed(session, login(OPERATIONAL, 1, 3))
    (second,) = answers(session)
    agreed = dict(decode_text(second.data))
    assert (second["transit"], second["csg"], second["nsg"], second["tsih"]) == (1, 1, 3, 5)
    assert (second["status"], second["statsn"]) == (0, first["statsn"] + 1)
    assert agreed["InitialR2T"] == "No"
    assert agreed["ImmediateData"] == "Yes"
    assert agreed["MaxBurstLength"] == "8192"
    assert agreed["MaxOutstandingR2T"] == "1"
    assert agreed["MaxRecvDataSegmentLength"] == str(1 << 20)
    assert isinstance(event, LoggedIn)
    assert event.nexus == "iqn.2026-11.test:hand,i,4000002a0000"
    assert event.parameters.send_segment == 4096


@pytest.mark.parametrize(
    ("pairs", "stage", "status"),
    [
        ({"SessionType": "Normal"}, 1, 0x0207),
        ({"InitiatorName": "iqn.x", "SessionType": "Normal"}, 1, 0x0207),
        (NAMES | {"TargetName": "iqn.other"}, 1, 0x0203),
        (NAMES | {"SessionType": "Odd"}, 1, 0x0200),
        (NAMES | {"AuthMethod": "CHAP"}, 0, 0x0201),
        (NAMES | {"MaxBurstLength": "many"}, 1, 0x0200),
        (NAMES | {"ImmediateData": "Perhaps"}, 1, 0x0200),
        (NAMES | {"MaxRecvDataSegmentLength": "3"}, 1, 0x0200),
        (NAMES, 2, 0x0200),
    ],
)
def test_a_login_that_is_refused(pairs: dict[str, str], stage: int, status: int) -> None:
    """Each reason has its status (11.13.5), and the connection ends behind it."""
    session = new_session()
    assert feed(session, login(pairs, stage, 3)) == [Closed()]
    (answer,) = answers(session)
    assert answer["status"] == status
    assert session.closed


def test_a_login_to_a_session_that_is_no_more_is_refused() -> None:
    """A second connection of a session, or one that was lost, is answered 020Ah: nothing is kept."""
    raw = bytearray(login(NAMES))
    raw[14:16] = b"\x00\x01"
    session = new_session()
    feed(session, bytes(raw))
    assert answers(session)[0]["status"] == 0x020A


def test_a_newer_version_only_is_refused() -> None:
    """An initiator that wants version 1 at least is told 0205h."""
    raw = bytearray(login(NAMES))
    raw[2:4] = b"\x01\x01"
    session = new_session()
    feed(session, bytes(raw))
    assert answers(session)[0]["status"] == 0x0205


def test_text_over_several_requests_is_put_together() -> None:
    """With the C bit a key may be cut anywhere (6.2); the answer waits for the end."""
    session = new_session()
    whole = text(NAMES | OPERATIONAL)
    first = bytearray(request(0x03, 0x40 | 1 << 2, data=whole[:50], tag=0xAA, cmdsn=7, immediate=True))
    assert feed(session, bytes(first)) == []
    assert answers(session)[0].data == b""
    second = request(0x03, 0x80 | 1 << 2 | 3, data=whole[50:], tag=0xAA, cmdsn=7, immediate=True)
    assert isinstance(feed(session, second)[0], LoggedIn)


def test_unknown_keys_are_not_understood() -> None:
    """A key nobody defined is answered so, and does not end the login (6.2)."""
    session = new_session()
    feed(session, login(NAMES | {"X-org.example.new": "1", "InitiatorAlias": "me"}))
    agreed = dict(decode_text(answers(session)[0].data))
    assert agreed["X-org.example.new"] == "NotUnderstood"
    assert "InitiatorAlias" not in agreed


@pytest.mark.parametrize(
    "raw",
    [
        command(TEST_READY, tag=1, cmdsn=7),
        request(0x03, 0x87, data=b"no equals sign\0", immediate=True),
        request(0x03, 0x87, data=b"a=1\0a=2\0", immediate=True),
        request(0x03, 0x87, data=b"\xff\xfe=1\0", immediate=True),
    ],
)
def test_nonsense_before_the_login_ends_the_connection(raw: bytes) -> None:
    """A command, or text that is none, is no login."""
    with pytest.raises(IscsiProtocolError):
        feed(new_session(), raw)


def test_a_login_without_end_is_ended() -> None:
    """Requests that keep the stage for ever, and text without end, hold us for a bounded time only."""
    session = new_session()
    with pytest.raises(IscsiProtocolError):
        feed(session, *(login(NAMES, 1, None) for _ in range(100)))
    session = new_session()
    piece = request(0x03, 0x40 | 1 << 2, data=b"x" * 30_000, immediate=True)
    with pytest.raises(IscsiProtocolError):
        feed(session, piece, piece, piece)


# -- commands ----------------------------------------------------------------------------------------
def test_data_and_status_come_in_one_unit_where_they_may() -> None:
    """A GOOD read ends with the status on its last Data-In, cut to the initiator's segment and burst."""
    session = logged_in()
    (event,) = feed(session, command(READ, tag=9, cmdsn=7, read=12288))
    assert isinstance(event, Execute)
    assert (event.task.lun, event.task.cdb[:6], event.task.expected) == (1, READ, 12288)
    session.complete(event.task, Completion(ScsiStatus.GOOD, bytes(10_000)))
    units = answers(session)
    assert [len(unit.data) for unit in units] == [4096, 4096, 1808]
    assert [unit["offset"] for unit in units] == [0, 4096, 8192]
    assert [unit["datasn"] for unit in units] == [0, 1, 2]
    # MaxBurstLength is 8192: F ends each sequence (11.7.1).
    assert [unit["final"] for unit in units] == [0, 1, 1]
    assert [unit["has_status"] for unit in units] == [0, 0, 1]
    assert (units[2]["underflow"], units[2]["residual"]) == (1, 2288)
    assert units[2]["expcmdsn"] == 8


def test_sense_comes_in_a_response_behind_its_data() -> None:
    """CHECK CONDITION with data (a record of another length): Data-In without status, then the response."""
    session = logged_in()
    (event,) = feed(session, command(READ, tag=9, cmdsn=7, read=100))
    assert isinstance(event, Execute)
    session.complete(event.task, Completion(ScsiStatus.CHECK_CONDITION, bytes(98), SENSE))
    data, response = answers(session)
    assert (data["final"], data["has_status"], len(data.data)) == (1, 0, 98)
    assert response.layout.name == "SCSI Response"
    assert (response["status"], response["underflow"], response["residual"]) == (2, 1, 2)
    assert response["expdatasn"] == 1
    assert response.data == len(SENSE).to_bytes(2, "big") + SENSE


def test_a_write_in_one_unit_is_carried_out_at_once() -> None:
    """Immediate data that is all of it needs no R2T."""
    session = logged_in()
    (event,) = feed(session, command(WRITE, tag=9, cmdsn=7, write=5, data=b"12345"))
    assert isinstance(event, Execute)
    assert bytes(event.task.data) == b"12345"
    session.complete(event.task, Completion(ScsiStatus.GOOD))
    (response,) = answers(session)
    assert (response["status"], response["underflow"], response["statsn"]) == (0, 0, 1)


def test_a_long_write_is_asked_for_burst_by_burst() -> None:
    """Immediate, then unsolicited data up to FirstBurstLength, then one R2T at a time of MaxBurstLength."""
    session = logged_in()
    record = bytes(range(256)) * 80  # 20480
    first = command(WRITE, tag=9, cmdsn=7, write=len(record), data=record[:1024], final=False)
    assert feed(session, first) == []
    assert answers(session) == []
    unsolicited = data_out(record[1024:4096], tag=9, transfer=0xFFFFFFFF, number=0, offset=1024, final=True)
    assert feed(session, unsolicited) == []
    (r2t,) = answers(session)
    assert (r2t.layout.name, r2t["offset"], r2t["desired"], r2t["r2tsn"]) == ("R2T", 4096, 8192, 0)
    assert r2t["statsn"] == 1
    halves = [
        data_out(record[4096:8192], tag=9, transfer=r2t["ttt"], number=0, offset=4096, final=False),
        data_out(record[8192:12288], tag=9, transfer=r2t["ttt"], number=1, offset=8192, final=True),
    ]
    assert feed(session, *halves) == []
    (second,) = answers(session)
    assert (second["offset"], second["desired"], second["r2tsn"]) == (12288, 8192, 1)
    assert second["ttt"] != r2t["ttt"]
    last = data_out(record[12288:], tag=9, transfer=second["ttt"], number=0, offset=12288, final=True)
    (event,) = feed(session, last)
    assert isinstance(event, Execute)
    assert bytes(event.task.data) == record


@pytest.mark.parametrize(
    "wrong",
    [
        {"transfer": 77},
        {"offset": 4},
        {"number": 1},
        {"final": True, "data": b"x"},
        {"data": b"", "final": False},
        {"data": b"x" * 10_000},
    ],
)
def test_data_that_was_not_asked_for_ends_the_connection(wrong: dict[str, object]) -> None:
    """Another tag, another place, too little, too much, nothing: the stream cannot be trusted any more."""
    session = logged_in()
    feed(session, command(WRITE, tag=9, cmdsn=7, write=9000))
    (r2t,) = answers(session)
    values: dict[str, object] = {
        "data": b"x" * 4096,
        "transfer": r2t["ttt"],
        "number": 0,
        "offset": 0,
        "final": False,
    }
    values |= wrong
    with pytest.raises(IscsiProtocolError):
        feed(session, data_out(values.pop("data"), tag=9, **values))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "raw",
    [
        command(READ, tag=1, cmdsn=7, read=10, data=b"data"),
        command(WRITE, tag=1, cmdsn=7, write=2, data=b"too much"),
        command(TEST_READY, tag=1, cmdsn=8),
        command(TEST_READY, tag=0xFFFFFFFF, cmdsn=7),
        command(WRITE, tag=1, cmdsn=7, write=TRANSFER_BYTES_MAX + 1, final=False),
        request(0x01, 0xE0, tag=1, lun=1, word5=10, cmdsn=7),
        login(NAMES, cmdsn=7),
    ],
)
def test_a_command_that_breaks_the_rules_ends_the_connection(raw: bytes) -> None:
    """Data with a read, more than announced, a gap in CmdSN, a reserved tag, both directions, a login."""
    session = logged_in()
    if raw[0] & 0x3F == 0x03:
        feed(session, raw)
        assert [unit.layout.name for unit in answers(session)] == ["Reject"]
        return
    with pytest.raises(IscsiProtocolError):
        feed(session, raw)


def test_a_tag_in_use_ends_the_connection() -> None:
    """Two commands under way cannot share a task tag."""
    session = logged_in()
    feed(session, command(TEST_READY, tag=1, cmdsn=7))
    with pytest.raises(IscsiProtocolError):
        feed(session, command(TEST_READY, tag=1, cmdsn=8))


def test_immediate_data_that_was_not_agreed_on_ends_the_connection() -> None:
    """With ImmediateData=No there is none."""
    session = logged_in(ImmediateData="No")
    with pytest.raises(IscsiProtocolError):
        feed(session, command(WRITE, tag=9, cmdsn=7, write=5, data=b"12345"))


def test_a_transfer_too_long_is_answered_task_set_full() -> None:
    """More data than we hold is refused by status, and the connection goes on."""
    session = logged_in()
    assert feed(session, command(READ, tag=1, cmdsn=7, read=TRANSFER_BYTES_MAX + 1)) == []
    (response,) = answers(session)
    assert response["status"] == ScsiStatus.TASK_SET_FULL
    assert len(feed(session, command(TEST_READY, tag=2, cmdsn=8))) == 1


def test_the_window_closes_and_opens() -> None:
    """At most WINDOW commands are under way; MaxCmdSN says so, and one beyond is ignored (4.2.2.1)."""
    session = logged_in()
    events = [
        event
        for number in range(WINDOW + 1)
        for event in feed(session, command(TEST_READY, tag=number + 1, cmdsn=7 + number))
    ]
    assert len(events) == WINDOW
    first = events[0]
    assert isinstance(first, Execute)
    session.complete(first.task, Completion(ScsiStatus.GOOD))
    (response,) = answers(session)
    assert (response["expcmdsn"], response["maxcmdsn"]) == (7 + WINDOW, 7 + WINDOW)
    assert len(feed(session, command(TEST_READY, tag=90, cmdsn=7 + WINDOW))) == 1


def test_commands_end_in_any_order_with_status_numbers_in_sequence() -> None:
    """StatSN counts responses as they are sent, whichever command they end."""
    session = logged_in()
    one, two = feed(session, command(TEST_READY, tag=1, cmdsn=7), command(TEST_READY, tag=2, cmdsn=8))
    assert isinstance(one, Execute)
    assert isinstance(two, Execute)
    session.complete(two.task, Completion(ScsiStatus.GOOD))
    session.complete(one.task, Completion(ScsiStatus.BUSY))
    units = answers(session)
    assert [(unit["itt"], unit["statsn"], unit["status"]) for unit in units] == [(2, 1, 0), (1, 2, 8)]


# -- the rest of the full feature phase --------------------------------------------------------------
def test_a_ping_is_answered_with_its_data() -> None:
    """NOP-Out comes back as NOP-In (11.19); one without tag asks for no answer."""
    session = logged_in()
    feed(session, request(0x00, 0x80, data=b"ping", tag=4, word5=0xFFFFFFFF, immediate=True, cmdsn=7))
    (answer,) = answers(session)
    assert (answer.layout.name, answer.data, answer["itt"], answer["ttt"]) == (
        "NOP-In",
        b"ping",
        4,
        0xFFFFFFFF,
    )
    feed(session, request(0x00, 0x80, tag=0xFFFFFFFF, immediate=True, cmdsn=7))
    assert answers(session) == []


def test_send_targets_names_us_and_where_we_are() -> None:
    """The address is the one this connection came in at, so that it can be reached (appendix C)."""
    session = new_session()
    feed(session, login({"InitiatorName": "iqn.x", "SessionType": "Discovery"}))
    answers(session)
    feed(
        session, request(0x04, 0x80, data=text({"SendTargets": "All", "Odd": "1"}), word5=0xFFFFFFFF, cmdsn=7)
    )
    (answer,) = answers(session)
    assert decode_text(answer.data) == [
        ("TargetName", TARGET),
        ("TargetAddress", f"{PORTAL},1"),
        ("Odd", "NotUnderstood"),
    ]
    with pytest.raises(IscsiProtocolError):
        feed(session, command(TEST_READY, tag=1, cmdsn=8))


def test_a_logout_is_answered_and_ends_the_session() -> None:
    """Response 0, then nothing more is taken (11.14, 11.15)."""
    session = logged_in()
    assert feed(session, request(0x06, 0x80, tag=3, cmdsn=7)) == [Closed()]
    (answer,) = answers(session)
    assert (answer.layout.name, answer["response"]) == ("Logout Response", 0)
    assert feed(session, command(TEST_READY, tag=1, cmdsn=8)) == []


def test_what_we_do_not_support_is_rejected() -> None:
    """SNACK belongs to error recovery levels we do not have: Reject with the header it is about (11.17)."""
    session = logged_in()
    feed(session, request(0x10, 0x80, tag=3))
    (answer,) = answers(session)
    assert (answer.layout.name, answer["reason"]) == ("Reject", 5)
    assert answer.data == request(0x10, 0x80, tag=3)


def _manage(function: int, *, cmdsn: int, lun: int = 1, referenced: int = 0) -> bytes:
    return request(0x02, 0x80 | function, tag=50, lun=lun, word5=referenced, cmdsn=cmdsn, immediate=True)


def test_an_aborted_command_is_never_answered() -> None:
    """ABORT TASK ends a command without response; what waits for it is told; its data is dropped."""
    session = logged_in()
    (event,) = feed(session, command(READ, tag=9, cmdsn=7, read=100))
    assert isinstance(event, Execute)
    feed(session, command(WRITE, tag=10, cmdsn=8, write=9000))
    r2t = answers(session)[-1]
    aborts = feed(session, _manage(1, cmdsn=9, referenced=9), _manage(1, cmdsn=9, referenced=10))
    assert aborts == [Aborted(1), Aborted(1)]
    assert [unit["response"] for unit in answers(session)] == [0, 0]
    late = data_out(b"x" * 4096, tag=10, transfer=r2t["ttt"], number=0, offset=0, final=False)
    assert feed(session, late) == []
    session.complete(event.task, Completion(ScsiStatus.GOOD, bytes(100)))
    assert answers(session) == []


@pytest.mark.parametrize(
    ("function", "lun", "response", "events"),
    [
        (1, 1, 1, []),
        (2, 1, 0, [Aborted(1)]),
        (5, 2, 0, [UnitReset(2)]),
        (5, 9, 2, []),
        (6, 0, 0, [UnitReset(None)]),
        (7, 0, 0, [UnitReset(None), Closed()]),
        (8, 1, 5, []),
    ],
)
def test_task_management(function: int, lun: int, response: int, events: list[object]) -> None:
    """Each function is answered as 11.6.1 says: done, no such task, no such LUN, not supported."""
    session = logged_in()
    assert feed(session, _manage(function, cmdsn=7, lun=lun, referenced=77)) == events
    (answer,) = answers(session)
    assert (answer.layout.name, answer["response"]) == ("Task Management Response", response)


@given(noise=st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_noise_ends_a_connection_and_nothing_else(noise: bytes) -> None:
    """Whatever bytes come, before or after a login, either wait for more or end in a protocol error."""
    for session in (new_session(), logged_in()):
        try:
            feed(session, noise)
        except IscsiProtocolError:
            continue
