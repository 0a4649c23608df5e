"""Headers and sequence numbers of one end of a control connection."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ndmp_support import headers, record

from appliance.ndmp import messages as m
from appliance.ndmp.declare import CODES, Kind
from appliance.ndmp.endpoint import Endpoint
from appliance.ndmp.enums import DataHaltReason, ErrorCode
from appliance.ndmp.errors import LocalMisuseError, RemoteFaultError
from appliance.ndmp.framing import frame

HALTED = CODES[m.NotifyDataHaltedPost][1]


def test_a_request_byte_by_byte() -> None:
    """Header and body are what the draft says: sequence, time, type, code, reply sequence, error, body."""
    sequence, data = Endpoint(clock=lambda: 0x5F000001).request(m.ConnectOpenRequest(4))
    assert sequence == 1
    assert data == struct.pack(">8I", 0x80000000 | 28, 1, 0x5F000001, 0, 0x900, 0, 0, 4)


def test_everything_counts_in_one_sequence() -> None:
    """Requests, replies, error replies and posts share one counter that starts at one."""
    end = Endpoint()
    (asked,) = Endpoint().receive(record(0x400, sequence=77))
    sent = [
        end.request(m.DataStopRequest())[1],
        end.reply(asked, m.DataGetStateReply()),
        end.post(m.NotifyDataHaltedPost(DataHaltReason.ABORTED)),
        end.error_reply(asked, ErrorCode.XDR_DECODE),
        end.raw_post(HALTED, b"\0\0\0\1"),
    ]
    assert [head[:5] for head in headers(b"".join(sent))] == [
        (1, 0, 0x407, 0, 0),
        (2, 1, 0x400, 77, 0),
        (3, 0, HALTED, 0, 0),
        (4, 1, 0x400, 77, ErrorCode.XDR_DECODE),
        (5, 0, HALTED, 0, 0),
    ]


def test_the_sequence_goes_round() -> None:
    """After four billion messages the counter starts over instead of failing."""
    end = Endpoint()
    end._sequence = 0xFFFFFFFF
    assert end.request(m.DataStopRequest())[0] == 0


def test_an_error_reply_has_no_body() -> None:
    """With an error in the header nothing follows it (draft, 2.7)."""
    (asked,) = Endpoint().receive(record(0x400))
    assert [head[5] for head in headers(Endpoint().error_reply(asked, ErrorCode.NOT_SUPPORTED))] == [0]


def test_requests_replies_and_posts_are_told_apart() -> None:
    """A reply by its type; a post by its code, since the type on the wire is a request's."""
    data = record(0x400) + record(0x400, kind=1, reply_to=9) + record(HALTED)
    found = Endpoint().receive(data)
    assert [(each.kind, each.reply_to) for each in found] == [
        (Kind.REQUEST, 0),
        (Kind.REPLY, 9),
        (Kind.POST, 0),
    ]


@pytest.mark.parametrize("bad", [frame(b""), frame(bytes(23)), record(0x400, kind=2)])
def test_a_message_without_a_readable_header_is_dropped(bad: bytes) -> None:
    """Too short a record, or a type that is neither request nor reply, is dropped; the next one counts."""
    found = Endpoint().receive(bad + record(0x407))
    assert [each.code for each in found] == [0x407]


@given(st.binary(max_size=120))
def test_garbage_is_messages_or_the_peers_fault(data: bytes) -> None:
    """Bytes from a stranger never raise anything but RemoteFaultError, bodies included."""
    end = Endpoint()
    end.limit(1 << 10)
    with contextlib.suppress(RemoteFaultError):
        for message in end.receive(data):
            message.body()


def test_an_unknown_message_is_not_supported() -> None:
    """A code that nobody declared: its body raises NOT_SUPPORTED, and its name is the code."""
    (message,) = Endpoint().receive(record(0x7777))
    assert message.name == "request 0x7777"
    with pytest.raises(RemoteFaultError) as error:
        message.body()
    assert error.value.code is ErrorCode.NOT_SUPPORTED


def test_a_body_sent_as_what_it_is_not_is_our_bug() -> None:
    """A post cannot be sent as a request, nor a reply as a post."""
    with pytest.raises(LocalMisuseError, match="no request"):
        Endpoint().request(m.NotifyDataHaltedPost())
    with pytest.raises(LocalMisuseError, match="no post"):
        Endpoint().post(m.DataStopReply())
