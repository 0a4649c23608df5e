"""The server's rules of a control connection: who may say what, when, and how it is answered."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ndmp_support import headers, record

from appliance.ndmp import auth
from appliance.ndmp import messages as m
from appliance.ndmp.declare import CODES, REGISTRY, Kind
from appliance.ndmp.dialect import OBSOLETE
from appliance.ndmp.endpoint import Endpoint, Received
from appliance.ndmp.enums import AuthType, ConnectionReason, DataHaltReason, ErrorCode
from appliance.ndmp.errors import ConnectionLostError, RefusalError, RemoteFaultError
from appliance.ndmp.session import BEFORE_AUTHENTICATION, STRANGER_RECORD_MAX, Accounts, Session
from appliance.ndmp.types import AuthData
from appliance.ndmp.xdr import Struct

PASSWORD = "pass wörd"


class FakeService:
    """Answers DATA_ABORT and DATA_STOP, as `behaviour` says, and counts its ends."""

    def __init__(self, behaviour: Callable[[], Struct] = m.DataAbortReply) -> None:
        self.behaviour = behaviour
        self.closed = 0

    def handlers(self) -> Mapping[type[Struct], Callable[[Any], Struct]]:
        return {
            m.DataAbortRequest: lambda _: self.behaviour(),
            m.DataStopRequest: lambda _: m.DataStopReply(),
        }

    def close(self) -> None:
        self.closed += 1


class Talk:
    """A DMA and a session, without sockets: what the session sends comes back as messages."""

    def __init__(self, accounts: Accounts | None = None, *services: FakeService, tls: bool = False) -> None:
        self.sent = b""
        self.session = Session(self._take, "peer", None if tls else accounts or Accounts({"dma": PASSWORD}))
        self._end, self._reader, self._read = Endpoint(), Endpoint(), 0
        for service in services:
            self.session.add(service)

    def _take(self, data: bytes) -> None:
        self.sent += data

    def heard(self) -> list[Received]:
        """What the session has sent since the last look."""
        fresh, self._read = self.sent[self._read :], len(self.sent)
        return self._reader.receive(fresh)

    def ask(self, request: Struct) -> Any:
        """A request's reply."""
        self.session.receive(self._end.request(request)[1])
        (reply,) = self.heard()
        assert (reply.kind, reply.error) == (Kind.REPLY, 0)
        return reply.body()

    def error(self, request: Struct) -> ErrorCode:
        """The error with which a request is answered in its body."""
        return ErrorCode(self.ask(request).error)

    def login(self, password: str = PASSWORD, user: str = "dma") -> ErrorCode:
        """Authenticate by MD5."""
        challenge = self.ask(m.ConfigGetAuthAttrRequest(AuthType.MD5)).server_attr.challenge
        return self.prove(auth.digest(password.encode(), challenge), user)

    def prove(self, digest: bytes, user: str = "dma") -> ErrorCode:
        """Send a digest."""
        return self.error(m.ConnectClientAuthRequest(AuthData(AuthType.MD5, user.encode(), b"", digest)))


REQUESTS = sorted(
    (c for (kind, code), c in REGISTRY.items() if kind is Kind.REQUEST and code not in OBSOLETE),
    key=lambda c: c.__name__,
)


@pytest.mark.parametrize("cls", [c for c in REQUESTS if c not in BEFORE_AUTHENTICATION])
def test_nothing_else_before_authentication(cls: type[Struct]) -> None:
    """Every message but the draft's five is NOT_AUTHORIZED, in the reply's body, until the login."""
    assert Talk(None, FakeService()).error(cls()) is ErrorCode.NOT_AUTHORIZED


def test_what_is_allowed_before_authentication_is_the_drafts_list() -> None:
    """The five messages of the draft, 3.1.2."""
    names = {cls.__name__.removesuffix("Request") for cls in BEFORE_AUTHENTICATION}
    assert names == {
        "ConnectOpen",
        "ConnectClose",
        "ConnectClientAuth",
        "ConfigGetServerInfo",
        "ConfigGetAuthAttr",
    }


def test_the_greeting_names_the_version() -> None:
    """The first words are CONNECTED and the highest version (draft, 4.1.2)."""
    talk = Talk()
    talk.session.greet()
    (post,) = talk.heard()
    assert (post.sequence, post.body()) == (
        1,
        m.NotifyConnectionStatusPost(ConnectionReason.CONNECTED, 4, b""),
    )


@pytest.mark.parametrize("version", [0, 1, 2, 5, 65535])
def test_other_versions_are_refused_and_may_be_followed_by_ours(version: int) -> None:
    """A version that is not spoken is ILLEGAL_ARGS, and the client may try the next one."""
    talk = Talk()
    assert talk.error(m.ConnectOpenRequest(version)) is ErrorCode.ILLEGAL_ARGS
    assert talk.error(m.ConnectOpenRequest(4)) is ErrorCode.NO_ERR


def test_a_second_open_is_illegal() -> None:
    """The version stands once it is agreed on, whatever version the second one names."""
    talk = Talk()
    talk.ask(m.ConnectOpenRequest(4))
    assert talk.error(m.ConnectOpenRequest(4)) is ErrorCode.ILLEGAL_STATE
    assert talk.error(m.ConnectOpenRequest(5)) is ErrorCode.ILLEGAL_STATE


@pytest.mark.parametrize(
    "first", [m.ConfigGetAuthAttrRequest(), m.DataGetStateRequest()], ids=["answered", "refused"]
)
def test_a_late_open_is_illegal(first: Struct) -> None:
    """After any other message, be it a refused one, CONNECT_OPEN is ILLEGAL_STATE (draft, 3.1.1)."""
    talk = Talk()
    talk.ask(first)
    assert talk.error(m.ConnectOpenRequest(4)) is ErrorCode.ILLEGAL_STATE


def test_open_may_be_skipped() -> None:
    """A client that takes the announced version logs in at once (draft, 3.1.1)."""
    assert Talk().login() is ErrorCode.NO_ERR


def test_the_right_password_opens_everything() -> None:
    """After authentication the services answer, and the session knows the user."""
    talk = Talk(None, FakeService())
    talk.ask(m.ConnectOpenRequest(4))
    assert talk.login() is ErrorCode.NO_ERR
    assert talk.error(m.DataStopRequest()) is ErrorCode.NO_ERR
    assert talk.session.user == "dma"


@pytest.mark.parametrize(
    ("user", "password"), [("dma", "wrong"), ("nobody", PASSWORD), ("nobody", ""), ("", "")]
)
def test_a_wrong_user_or_password_is_refused(user: str, password: str) -> None:
    """NOT_AUTHORIZED for both alike, and nothing is opened."""
    talk = Talk(None, FakeService())
    assert talk.login(password, user) is ErrorCode.NOT_AUTHORIZED
    assert talk.error(m.DataStopRequest()) is ErrorCode.NOT_AUTHORIZED


def test_an_account_without_password_is_shut() -> None:
    """The right digest of an empty password is refused (draft, 3.1.2), in clear text as well."""
    talk = Talk(Accounts({"dma": ""}, allow_text=True))
    assert talk.login("") is ErrorCode.NOT_AUTHORIZED
    clear = AuthData(AuthType.TEXT, b"dma", b"")
    assert talk.error(m.ConnectClientAuthRequest(clear)) is ErrorCode.NOT_AUTHORIZED


def test_a_proof_is_good_once_and_for_the_latest_challenge() -> None:
    """A digest heard on the wire is worthless: each challenge is new, the latest counts, and only once."""
    talk = Talk()
    first = talk.ask(m.ConfigGetAuthAttrRequest()).server_attr.challenge
    second = talk.ask(m.ConfigGetAuthAttrRequest()).server_attr.challenge
    assert len(first) == len(second) == 64
    assert first != second
    assert talk.prove(auth.digest(PASSWORD.encode(), first)) is ErrorCode.NOT_AUTHORIZED
    assert talk.prove(auth.digest(PASSWORD.encode(), second)) is ErrorCode.NOT_AUTHORIZED
    third = talk.ask(m.ConfigGetAuthAttrRequest()).server_attr.challenge
    assert talk.prove(auth.digest(PASSWORD.encode(), third)) is ErrorCode.NO_ERR
    assert talk.prove(auth.digest(PASSWORD.encode(), third)) is ErrorCode.NOT_AUTHORIZED


def test_a_proof_without_challenge_is_refused() -> None:
    """The digest over an empty challenge opens nothing."""
    assert Talk().prove(auth.digest(PASSWORD.encode(), b"")) is ErrorCode.NOT_AUTHORIZED


@pytest.mark.parametrize("data", [AuthData(AuthType.TEXT, b"dma", PASSWORD.encode()), AuthData()])
def test_clear_text_and_no_authentication_are_off(data: AuthData) -> None:
    """Unless configured, TEXT is not offered; NONE never is: ILLEGAL_ARGS, with the right password too."""
    talk = Talk()
    assert talk.error(m.ConfigGetAuthAttrRequest(data.type)) is ErrorCode.ILLEGAL_ARGS
    assert talk.error(m.ConnectClientAuthRequest(data)) is ErrorCode.ILLEGAL_ARGS


def test_clear_text_where_it_is_configured() -> None:
    """With `allow_text` the right password opens, a wrong one does not."""
    talk = Talk(Accounts({"dma": PASSWORD}, allow_text=True))
    assert talk.ask(m.ConfigGetAuthAttrRequest(AuthType.TEXT)).server_attr.type is AuthType.TEXT
    wrong = AuthData(AuthType.TEXT, b"dma", b"wrong")
    assert talk.error(m.ConnectClientAuthRequest(wrong)) is ErrorCode.NOT_AUTHORIZED
    right = AuthData(AuthType.TEXT, b"dma", PASSWORD.encode())
    assert talk.error(m.ConnectClientAuthRequest(right)) is ErrorCode.NO_ERR


def test_inside_tls_there_is_no_login() -> None:
    """Between nodes the certificate is the login: services answer at once, and no account opens anything."""
    talk = Talk(None, FakeService(), tls=True)
    assert talk.error(m.DataStopRequest()) is ErrorCode.NO_ERR
    assert talk.error(m.ConfigGetAuthAttrRequest()) is ErrorCode.ILLEGAL_ARGS


@pytest.mark.parametrize(
    ("code", "body", "error"),
    [
        (0x7777, b"", ErrorCode.NOT_SUPPORTED),
        (CODES[m.TapeReadRequest][1], bytes(4), ErrorCode.NOT_SUPPORTED),
        (CODES[m.DataStopRequest][1], b"surplus!", ErrorCode.XDR_DECODE),
        (CODES[m.ConnectClientAuthRequest][1], b"", ErrorCode.XDR_DECODE),
    ],
    ids=["unknown", "not of this server", "too long", "too short"],
)
def test_what_cannot_be_handled_is_answered(code: int, body: bytes, error: ErrorCode) -> None:
    """Unknown messages and undecodable bodies get a header with the error, and the session goes on."""
    talk = Talk(None, FakeService())
    talk.login()
    talk.heard()
    talk.sent, talk._read = b"", 0
    talk.session.receive(record(code, body, sequence=42))
    ((_, *head),) = headers(talk.sent)
    assert head == [1, code, 42, error, 0]
    talk.sent, talk._read = b"", 0
    assert talk.error(m.DataStopRequest()) is ErrorCode.NO_ERR


@pytest.mark.parametrize("request_class", [m.ConnectClientAuthRequest, m.ConfigGetAuthAttrRequest])
def test_an_unknown_kind_of_authentication_is_an_illegal_argument(request_class: type[Struct]) -> None:
    """A value that an enumeration lacks is ILLEGAL_ARGS, in the reply's body (draft, 3.1.2)."""
    talk = Talk()
    talk.session.receive(record(CODES[request_class][1], b"\0\0\0\x09"))
    (reply,) = talk.heard()
    assert (reply.error, reply.raw[:4]) == (0, b"\0\0\0\x09")


def test_an_unknown_message_of_a_stranger_is_not_authorized() -> None:
    """Before authentication nobody learns which messages a server knows."""
    talk = Talk()
    talk.session.receive(record(0x7777))
    assert [head[4] for head in headers(talk.sent)] == [ErrorCode.NOT_AUTHORIZED]


def test_posts_and_replies_of_a_client_are_ignored() -> None:
    """What a DMA has no business to send gets no answer, and harms nothing."""
    talk = Talk()
    talk.session.receive(
        record(CODES[m.NotifyDataHaltedPost][1], bytes(4)) + record(0x400, kind=1, reply_to=1)
    )
    assert talk.heard() == []
    assert talk.login() is ErrorCode.NO_ERR


def test_the_reply_precedes_what_a_request_sets_off() -> None:
    """What an accepted request starts is told after its reply (ndmjob and others count on it)."""
    talk = Talk(tls=True)

    def abort() -> Struct:
        talk.session.after_reply(lambda: talk.session.post(m.NotifyDataHaltedPost(DataHaltReason.ABORTED)))
        return m.DataAbortReply()

    talk.session.add(FakeService(abort))
    talk.session.receive(record(CODES[m.DataAbortRequest][1]))
    assert [each.body() for each in talk.heard()] == [
        m.DataAbortReply(),
        m.NotifyDataHaltedPost(DataHaltReason.ABORTED),
    ]


@pytest.mark.parametrize(
    ("failure", "error", "in_body"),
    [
        (RefusalError(ErrorCode.PRECONDITION), ErrorCode.PRECONDITION, True),
        (ConnectionLostError("gone", ErrorCode.CONNECT), ErrorCode.CONNECT, False),
        (ValueError("a bug"), ErrorCode.UNDEFINED, False),
    ],
    ids=["refusal", "peer lost", "bug"],
)
def test_a_failed_request_sets_nothing_off(failure: Exception, error: ErrorCode, in_body: bool) -> None:
    """A handler that fails is answered with its error, nothing it prepared happens, the session lives."""
    happened: list[str] = []
    talk = Talk(tls=True)

    def fail() -> Struct:
        talk.session.after_reply(lambda: happened.append("started"))
        raise failure

    talk.session.add(FakeService(fail))
    talk.session.receive(record(CODES[m.DataAbortRequest][1]))
    reply = talk.heard()[0]
    assert (reply.kind, reply.error) == (Kind.REPLY, 0 if in_body else error)
    assert not in_body or reply.body() == m.DataAbortReply(error)
    talk.heard()
    assert talk.error(m.DataStopRequest()) is ErrorCode.NO_ERR
    assert happened == []


def test_a_reply_that_cannot_be_encoded_is_answered() -> None:
    """A service that returns what XDR cannot hold costs an error reply, not the session."""
    talk = Talk(None, FakeService(lambda: m.TapeMtioReply(resid_count=1 << 32)), tls=True)
    talk.session.receive(record(CODES[m.DataAbortRequest][1]))
    (reply,) = talk.heard()
    assert (reply.kind, reply.error) == (Kind.REPLY, ErrorCode.XDR_ENCODE)


def test_close_has_no_reply_and_ends_everything() -> None:
    """After CONNECT_CLOSE nothing is sent and nothing is heard (draft, 3.1.3)."""
    talk = Talk(None, FakeService(), tls=True)
    close, stop = record(CODES[m.ConnectCloseRequest][1]), record(CODES[m.DataStopRequest][1])
    talk.session.receive(close + stop)
    assert talk.session.closed
    assert talk.heard() == []


def test_services_are_closed_once() -> None:
    """However a session ends, and however often that is noticed, each service gives back once."""
    services = [FakeService()]
    talk = Talk(None, *services, tls=True)
    talk.session.close()
    talk.session.close()
    assert [service.closed for service in services] == [1]


def test_two_services_cannot_answer_the_same() -> None:
    """Who answers a message is never a matter of order."""
    with pytest.raises(AssertionError, match="two services answer DataAbortRequest"):
        Talk(None, FakeService(), FakeService())


def test_a_stranger_cannot_make_us_hold_much() -> None:
    """Before authentication a message has 64 KiB at most; after it, a tape record fits."""
    talk = Talk(None, FakeService())
    big = record(CODES[m.DataStopRequest][1], bytes(STRANGER_RECORD_MAX))
    with pytest.raises(RemoteFaultError):
        talk.session.receive(big)
    talk = Talk(None, FakeService())
    talk.login()
    talk.session.receive(big)
    assert [each.error for each in talk.heard()] == [ErrorCode.XDR_DECODE]


@given(st.binary(max_size=300))
def test_garbage_ends_in_the_peers_fault_or_in_replies(data: bytes) -> None:
    """Whatever a stranger sends, only RemoteFaultError comes out, and nobody is logged in."""
    talk = Talk()
    with contextlib.suppress(RemoteFaultError):
        talk.session.receive(data)
    assert talk.session.user == ""
