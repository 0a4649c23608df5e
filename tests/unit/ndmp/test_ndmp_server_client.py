"""Server and client over real sockets on loopback: the adapters' promises."""

from __future__ import annotations

import contextlib
import io
import queue
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import structlog
from ndmp_support import headers, record

from appliance import logs
from appliance.ndmp import auth
from appliance.ndmp import messages as m
from appliance.ndmp import server as server_module
from appliance.ndmp import sessions as sessions_module
from appliance.ndmp.client import Client
from appliance.ndmp.declare import CODES
from appliance.ndmp.endpoint import Endpoint
from appliance.ndmp.enums import AuthType, ConnectionReason, DataHaltReason, ErrorCode, LogType
from appliance.ndmp.errors import ConnectionLostError, RemoteFaultError, ReplyError
from appliance.ndmp.networks import Networks
from appliance.ndmp.server import NdmpServer
from appliance.ndmp.session import Accounts, Session
from appliance.ndmp.types import AuthData
from appliance.ndmp.xdr import Struct

WAIT_S = 20
"""Nothing here takes a tenth of a second; a hang is cut off long after."""

PASSWORD = "pass wörd"
HOST = "127.0.0.1"


class FakeService:
    """DATA_STOP is answered when `gate` opens; DATA_ABORT posts a hundred lines and a halt."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.thread = threading.current_thread()
        self.gate = threading.Event()
        self.entered = threading.Event()
        self.closed = threading.Event()

    def handlers(self) -> Mapping[type[Struct], Callable[[Any], Struct]]:
        return {m.DataAbortRequest: self._abort, m.DataStopRequest: self._stop}

    def close(self) -> None:
        self.closed.set()

    def _stop(self, _: Struct) -> Struct:
        self.entered.set()
        assert self.gate.wait(WAIT_S)
        return m.DataStopReply()

    def _abort(self, _: Struct) -> Struct:
        self.session.after_reply(self._tell)
        return m.DataAbortReply()

    def _tell(self) -> None:
        for number in range(100):
            self.session.post(m.LogMessagePost(LogType.NORMAL, number, b"line"))
        self.session.post(m.NotifyDataHaltedPost(DataHaltReason.ABORTED))


class Running:
    """A server and what its sessions were given."""

    def __init__(self, accounts: Accounts | None = None, **options: Any) -> None:
        self.services: queue.SimpleQueue[FakeService] = queue.SimpleQueue()
        self.server = NdmpServer((HOST, 0), self._setup, accounts=accounts, **options)
        self.server.start()

    def _setup(self, session: Session, stream: socket.socket) -> None:
        service = FakeService(session)
        session.add(service)
        self.services.put(service)

    def client(self, **options: Any) -> Client:
        return Client.connect(self.server.address, "server", **options)

    def service(self) -> FakeService:
        """The service of the session opened first of those not asked for yet."""
        return self.services.get(timeout=WAIT_S)

    def stranger(self) -> socket.socket:
        """A plain connection."""
        return socket.create_connection(self.server.address, WAIT_S)


@pytest.fixture
def running() -> Iterator[Running]:
    """A server that asks for no login."""
    made = Running()
    yield made
    made.server.stop()


def read_exactly(stream: socket.socket, length: int) -> bytes:
    """So many bytes."""
    data = b""
    while len(data) < length:
        piece = stream.recv(length - len(data))
        assert piece, "the server closed the connection"
        data += piece
    return data


def read_all(stream: socket.socket) -> bytes:
    """Everything until the server closes; a broken connection ends it too."""
    pieces = []
    with contextlib.suppress(ConnectionError):
        while piece := stream.recv(1 << 16):
            pieces.append(piece)
    return b"".join(pieces)


def test_the_first_bytes_are_the_greeting(running: Running) -> None:
    """Byte for byte: one record, NOTIFY_CONNECTION_STATUS, CONNECTED, version 4, no text."""
    with running.stranger() as stream:
        data = read_exactly(stream, 4 + 24 + 12)
    assert headers(data) == [(1, 0, 0x502, 0, 0, 12)]
    assert data[28:] == bytes.fromhex("00000000 00000004 00000000")


def test_login_over_the_wire() -> None:
    """The right password opens the session, the wrong one raises NOT_AUTHORIZED."""
    running = Running(Accounts({"dma": PASSWORD}))
    with running.client() as client, pytest.raises(ReplyError) as refused:
        client.login("dma", "wrong")
    assert refused.value.code is ErrorCode.NOT_AUTHORIZED
    with running.client() as client:
        client.login("dma", PASSWORD)
        client.do(m.DataAbortRequest())
    running.server.stop()


def test_posts_come_in_order_after_the_reply(running: Running) -> None:
    """What a request sets off arrives whole and in the order in which it was said."""
    with running.client() as client:
        client.do(m.DataAbortRequest())
        bodies = []
        while not isinstance(body := _next(client).body(), m.NotifyDataHaltedPost):
            assert isinstance(body, m.LogMessagePost)
            bodies.append(body.message_id)
    assert bodies == list(range(100))


def test_posts_of_many_threads_have_rising_sequence_numbers(running: Running) -> None:
    """Streams post while requests are answered; numbers on the wire rise by one, always."""
    threads, posts = 8, 50
    with running.stranger() as stream:
        session = running.service().session

        def post() -> None:
            for _ in range(posts):
                session.post(m.NotifyDataReadPost(0, 1))

        workers = [threading.Thread(target=post, daemon=True) for _ in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(WAIT_S)
        data = read_exactly(stream, 40 + threads * posts * 44)
    assert [head[0] for head in headers(data)] == list(range(1, 2 + threads * posts))


def test_a_post_handler_gets_every_post() -> None:
    """With `on_post`, posts go there, in order, and `posts` stays empty but for the end."""
    running, seen = Running(), []
    done = threading.Event()

    def on_post(post: Any) -> None:
        seen.append(post.name)
        if post.code == CODES[m.NotifyDataHaltedPost][1]:
            done.set()

    with running.client(on_post=on_post) as client:
        client.do(m.DataAbortRequest())
        assert done.wait(WAIT_S)
    assert seen == ["LogMessagePost"] * 100 + ["NotifyDataHaltedPost"]
    assert client.posts.get(timeout=WAIT_S) is None
    running.server.stop()


def test_a_lost_connection_wakes_whoever_waits(running: Running) -> None:
    """A caller that waits for a reply gets ConnectionLostError at once; `on_lost` and `posts` tell, too."""
    lost = threading.Event()
    client = running.client(on_lost=lost.set)
    service, outcome = running.service(), queue.SimpleQueue[Exception]()

    def call() -> None:
        try:
            client.do(m.DataStopRequest(), timeout=WAIT_S)
        except ConnectionLostError as error:
            outcome.put(error)

    caller = threading.Thread(target=call)
    caller.start()
    assert service.entered.wait(WAIT_S)
    running.server.stop()
    assert "server: the peer ended the session: the server is shutting down" in str(
        outcome.get(timeout=WAIT_S)
    )
    caller.join(WAIT_S)
    assert lost.wait(WAIT_S)
    assert client.posts.get(timeout=WAIT_S) is None
    with pytest.raises(ConnectionLostError):
        client.do(m.DataAbortRequest())
    service.gate.set()


def test_a_server_that_does_not_answer_is_given_up(running: Running) -> None:
    """After the timeout the call raises ConnectionLostError(TIMEOUT), and the session is over."""
    client = running.client()
    with pytest.raises(ConnectionLostError, match=r"did not answer DataStopRequest within 0\.05 s") as error:
        client.do(m.DataStopRequest(), timeout=0.05)
    assert error.value.code is ErrorCode.TIMEOUT
    with pytest.raises(ConnectionLostError):
        client.do(m.DataAbortRequest())
    running.service().gate.set()


def test_closing_twice_is_harmless(running: Running) -> None:
    """A closed session says so, and its server has given everything back."""
    client = running.client()
    client.close()
    client.close()
    assert running.service().closed.wait(WAIT_S)
    with pytest.raises(ConnectionLostError, match="was closed"):
        client.do(m.DataAbortRequest())


def test_a_dropped_connection_is_a_close(running: Running) -> None:
    """A DMA that just drops TCP, as ndmjob does, costs nothing: the services are closed."""
    running.stranger().close()
    assert running.service().closed.wait(WAIT_S)


@pytest.mark.parametrize(
    "garbage",
    [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\xff" * 4096, bytes(4096) + b"\xff" * 64],
    ids=["http", "ones", "zeros"],
)
def test_a_strangers_garbage_ends_that_session_only(running: Running, garbage: bytes) -> None:
    """Bytes that are no messages end the connection they came on; another session goes on."""
    with running.client() as client, running.stranger() as stream:
        running.service().gate.set()
        stream.sendall(garbage)
        assert len(headers(read_all(stream))) == 1
        assert running.service().closed.wait(WAIT_S)
        client.do(m.DataStopRequest(), timeout=WAIT_S)


def test_one_session_too_many_is_refused_with_the_reason() -> None:
    """It is told REFUSED and why, the others go on, and its place is free again once one ends."""
    running = Running(sessions_max=2)
    with running.client() as client, running.client() as other:
        running.service()
        second = running.service()
        with pytest.raises(ConnectionLostError, match="server refused the connection: too many sessions"):
            running.client()
        other.close()
        second.thread.join(WAIT_S)
        running.client().close()
        client.do(m.DataAbortRequest(), timeout=WAIT_S)
    running.server.stop()


def test_a_failed_accept_does_not_end_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Out of file descriptors, say: it is tried again, and sessions are accepted as before."""
    monkeypatch.setattr(server_module, "ACCEPT_RETRY_S", 0.0)
    running = Running.__new__(Running)
    running.services = queue.SimpleQueue()
    running.server = NdmpServer((HOST, 0), running._setup)
    real, failures = running.server._listener, [OSError(24, "too many open files")]

    class Failing:
        def accept(self) -> Any:
            if failures:
                raise failures.pop()
            return real.accept()

        def __getattr__(self, name: str) -> Any:
            return getattr(real, name)

    running.server._listener = Failing()  # type: ignore[assignment]
    running.server.start()
    with running.client() as client:
        client.do(m.DataAbortRequest(), timeout=WAIT_S)
    running.server.stop()


def test_stop_ends_every_session_and_the_port(running: Running) -> None:
    """After `stop` clients are disconnected, services are closed, and nobody can connect."""
    with running.stranger() as stream:
        service = running.service()
        running.server.stop()
        read_all(stream)
        assert service.closed.wait(WAIT_S)
    with pytest.raises(ConnectionLostError, match="cannot connect to server"):
        running.client()


def answered(reply: bytes) -> Client:
    """A client whose server greets and then sends `reply` to the first request, whatever it is."""
    listener = socket.create_server((HOST, 0))
    greeting = Endpoint().post(m.NotifyConnectionStatusPost())

    def serve() -> None:
        with listener, listener.accept()[0] as stream, contextlib.suppress(OSError):
            stream.sendall(greeting)
            stream.recv(1 << 16)
            stream.sendall(reply)
            while stream.recv(1 << 16):
                pass

    threading.Thread(target=serve, daemon=True).start()
    return Client.connect(listener.getsockname(), "fake")


def test_errors_of_header_and_body_are_the_same_to_a_caller() -> None:
    """A DMA must take an error in either place (draft, 2.7): both are ReplyError with its code."""
    (asked,) = Endpoint().receive(record(CODES[m.DataStopRequest][1]))
    for data in (
        Endpoint().error_reply(asked, ErrorCode.ILLEGAL_STATE),
        Endpoint().reply(asked, m.DataStopReply(ErrorCode.ILLEGAL_STATE)),
    ):
        with answered(data) as client, pytest.raises(ReplyError) as error:
            client.do(m.DataStopRequest(), timeout=WAIT_S)
        assert error.value.code is ErrorCode.ILLEGAL_STATE
        assert str(error.value) == "fake answered DataStop with ILLEGAL_STATE"


def test_a_reply_that_cannot_be_read_is_the_peers_fault() -> None:
    """A reply with a broken body raises RemoteFaultError in the caller and hangs nobody."""
    data = record(CODES[m.DataStopRequest][1], b"\0\0\0\xff", kind=1, reply_to=1)
    with answered(data) as client, pytest.raises(RemoteFaultError):
        client.do(m.DataStopRequest(), timeout=WAIT_S)


def test_a_reply_to_nothing_is_ignored() -> None:
    """A stray reply is no answer to another request."""
    good = record(CODES[m.DataStopRequest][1], bytes(4), kind=1, reply_to=1)
    stray = record(CODES[m.DataStopRequest][1], b"\0\0\0\x13", kind=1, reply_to=77)
    with answered(stray + good) as client:
        assert client.do(m.DataStopRequest(), timeout=WAIT_S) == m.DataStopReply()


def test_a_refusal_names_its_reason() -> None:
    """A server that greets with REFUSED is not connected to, and its text is in the error."""
    listener = socket.create_server((HOST, 0))
    refusal = m.NotifyConnectionStatusPost(ConnectionReason.REFUSED, 4, b"come back tomorrow")

    def serve() -> None:
        with listener, listener.accept()[0] as stream, contextlib.suppress(OSError):
            stream.sendall(Endpoint().post(refusal))
            stream.recv(1 << 16)

    threading.Thread(target=serve, daemon=True).start()
    with pytest.raises(ConnectionLostError, match="come back tomorrow"):
        Client.connect(listener.getsockname(), "fake")


def _next(client: Client) -> Any:
    post = client.posts.get(timeout=WAIT_S)
    assert post is not None
    return post


def test_a_peer_without_power_is_noticed_in_minutes() -> None:
    """Both ends of a control connection ask after a silent peer, long before Linux would by itself."""
    ends: queue.SimpleQueue[socket.socket] = queue.SimpleQueue()
    server = NdmpServer((HOST, 0), lambda _, stream: ends.put(stream))
    server.start()
    try:
        with Client.connect(server.address) as client:
            for end in (ends.get(timeout=WAIT_S), client._stream):
                idle, every, probes = (
                    end.getsockopt(socket.IPPROTO_TCP, option)
                    for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
                )
                assert end.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
                assert idle + every * probes <= 120
    finally:
        server.stop()


def test_stop_tells_every_session_first() -> None:
    """CONNECTION_STATUS(SHUTDOWN) with a text is the last post before the end (draft, 4.1.2)."""
    running = Running()
    with running.stranger() as stream:
        running.service()
        read_exactly(stream, 40)
        running.server.stop()
        (post,) = Endpoint().receive(read_all(stream))
    assert post.body() == m.NotifyConnectionStatusPost(
        ConnectionReason.SHUTDOWN, 4, b"the server is shutting down"
    )


def test_a_peer_that_does_not_read_does_not_hold_up_the_stop(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its session ends as all others do, though not a byte more can be sent to it."""
    monkeypatch.setattr(sessions_module, "FAREWELL_S", 0.2)
    with running.stranger():
        service = running.service()
        filler = threading.Thread(target=_post_until_blocked, args=(service.session,), daemon=True)
        filler.start()
        running.server.stop()
        assert service.closed.wait(WAIT_S)
        filler.join(WAIT_S)
        assert not filler.is_alive()


def _post_until_blocked(session: Session) -> None:
    while not session.closed:
        session.post(m.LogMessagePost(LogType.NORMAL, 0, bytes(1 << 20)))


def test_who_is_not_allowed_is_refused_with_the_reason() -> None:
    """A peer outside the list hears REFUSED, one line is logged, and it costs no session."""
    running = Running(allow=Networks(["127.0.0.2"]))
    with structlog.testing.capture_logs() as lines, running.stranger() as stream:
        (post,) = Endpoint().receive(read_all(stream))
    body = post.body()
    assert isinstance(body, m.NotifyConnectionStatusPost)
    assert (body.reason, body.text_reason) == (
        ConnectionReason.REFUSED,
        b"127.0.0.1 is not in the list of who may connect",
    )
    assert [(line["event"], line["peer"]) for line in lines] == [("connection refused", HOST)]
    assert running.server.sessions.counts() == {("refusals", "network"): 1}
    with Client.connect(running.server.address, source="127.0.0.2") as client:
        client.do(m.DataAbortRequest())
    running.server.stop()


def test_a_session_is_listed_while_it_lives(running: Running) -> None:
    """Id, peer, port, version and state are there from the first request to the end."""
    with running.client() as client:
        client.do(m.DataAbortRequest())
        (live,) = running.server.sessions.all()
        told = live.describe()
    assert (told["port"], told["version"], told["state"]) == ("ndmp", 4, "open")
    assert told["peer"] == live.session.peer
    assert live.gone.wait(WAIT_S)
    assert running.server.sessions.all() == []


def test_a_session_that_is_cut_gives_everything_back(running: Running) -> None:
    """Cutting one session off is to its services as if the peer were gone; others go on."""
    with running.client() as victim, running.client() as other:
        services = [running.service(), running.service()]
        other.do(m.DataAbortRequest())
        first = next(
            live for live in running.server.sessions.all() if live.session.peer.endswith(f":{_port(victim)}")
        )
        first.cut()
        assert first.gone.wait(WAIT_S)
        assert sorted(service.closed.is_set() for service in services) == [False, True]
        other.do(m.DataAbortRequest())


def _port(client: Client) -> int:
    port: int = client._stream.getsockname()[1]
    return port


def test_who_never_logs_in_is_sent_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Strangers do not hold the places of sessions for ever; who has logged in may be silent."""
    monkeypatch.setattr(server_module, "LOGIN_TIMEOUT_S", 0.5)
    running = Running(Accounts({"dma": PASSWORD}))
    with running.client() as client, running.stranger() as stream:
        client.login("dma", PASSWORD)
        assert len(headers(read_all(stream))) == 1
        client.do(m.DataAbortRequest())
    running.server.stop()


@pytest.mark.parametrize("good", [True, False])
def test_no_secret_is_ever_logged(good: bool) -> None:
    """Logins by digest and by clear text leave users in the log, and neither password nor digest."""
    output = io.StringIO()
    try:
        logs.setup("debug", output)
        password = "a very secret word"
        accounts = Accounts({"dma": password if good else "another"}, allow_text=True, wait=lambda _: None)
        running = Running(accounts)
        with running.client() as client:
            client.open()
            attributes = client.call(m.ConfigGetAuthAttrRequest(AuthType.MD5), m.ConfigGetAuthAttrReply)
            digest = auth.digest(password.encode(), attributes.server_attr.challenge)
            for data in (
                AuthData(AuthType.MD5, b"dma", b"", digest),
                AuthData(AuthType.TEXT, b"dma", password.encode()),
            ):
                client.ask(m.ConnectClientAuthRequest(data))
            client.ask(m.TapeReadRequest(1))
        running.server.stop()
    finally:
        structlog.reset_defaults()
    text = output.getvalue()
    assert "TapeReadRequest" in text
    for secret in (password, "another", digest.hex(), repr(digest), attributes.server_attr.challenge.hex()):
        assert secret not in text
    for line in text.splitlines():
        assert " session=" in line
        assert " peer=" in line
    assert ("user=dma" in text) is good


def test_a_failed_login_holds_up_nobody_else() -> None:
    """While one session waits for its next attempt, another one logs in."""
    waiting, go = threading.Event(), threading.Event()

    def wait(_: float) -> None:
        waiting.set()
        assert go.wait(WAIT_S)

    running = Running(Accounts({"dma": PASSWORD}, wait=wait))
    with running.client() as guesser, Client.connect(running.server.address, source="127.0.0.2") as dma:
        with pytest.raises(ReplyError):
            guesser.login("dma", "wrong")
        attributes = guesser.call(m.ConfigGetAuthAttrRequest(AuthType.MD5), m.ConfigGetAuthAttrReply)
        proof = auth.digest(b"wrong", attributes.server_attr.challenge)
        data = AuthData(AuthType.MD5, b"dma", b"", proof)
        again = threading.Thread(target=guesser.ask, args=(m.ConnectClientAuthRequest(data),))
        again.start()
        assert waiting.wait(WAIT_S)
        dma.login("dma", PASSWORD)
        go.set()
        again.join(WAIT_S)
    running.server.stop()
