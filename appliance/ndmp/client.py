"""Thin adapter: a blocking NDMP client, for the DMA and for an entry server talking to its peers.

One thread reads; replies go to their callers, posts to `on_post` in the order in which they came.
"""

from __future__ import annotations

import queue
import secrets
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from typing import TypeVar, cast

from appliance.ndmp import auth, dataconn
from appliance.ndmp import messages as m
from appliance.ndmp.declare import CODES, REGISTRY, Kind
from appliance.ndmp.dialect import VERSION_4, Dialect
from appliance.ndmp.endpoint import Endpoint, Received
from appliance.ndmp.enums import AuthType, ConnectionReason, ErrorCode
from appliance.ndmp.errors import ConnectionLostError, NdmpError, RemoteFaultError, ReplyError
from appliance.ndmp.framing import RECEIVE_SIZE
from appliance.ndmp.sharedtls import shareable
from appliance.ndmp.types import CHALLENGE_LENGTH, AuthAttr, AuthData
from appliance.ndmp.version3 import VERSIONS
from appliance.ndmp.xdr import Struct

CONNECT_TIMEOUT_S = 20.0
"""A host that does not answer a TCP connect within this is not there."""

REPLY_TIMEOUT_S = 900.0
"""A reply may wait for a robot or a rewind; ndmjob waits 360 s, a large library needs longer."""

Reply = TypeVar("Reply", bound=Struct)


class Client:
    """A control connection to an NDMP server.

    `on_post` is called in the reading thread for every post but the greeting; it must not call back.
    Without it, posts wait in `posts` for the caller; a None there says that the connection ended, as
    `on_lost` does.  `agreed` is for who opens a session to a node of the cluster: the version of what nodes
    say to each other that both speak.
    """

    def __init__(
        self,
        stream: socket.socket,
        peer: str,
        on_post: Callable[[Received], None] | None = None,
        on_lost: Callable[[], None] | None = None,
        reply_timeout: float = REPLY_TIMEOUT_S,
    ) -> None:
        self.peer = peer
        self.agreed = 0
        self._reply_timeout = reply_timeout
        self._on_lost = on_lost
        self.posts: queue.SimpleQueue[Received | None] = queue.SimpleQueue()
        self._stream = stream
        self._talk = shareable(stream)
        self._on_post = on_post or self.posts.put
        self._endpoint = Endpoint()
        self._lock = threading.Lock()
        self._waiting: dict[int, queue.SimpleQueue[Received | None]] = {}
        self._lost: str | None = None
        self._announced = VERSION_4.version
        self._farewell = ""
        self._greeting: queue.SimpleQueue[m.NotifyConnectionStatusPost | None] = queue.SimpleQueue()
        threading.Thread(target=self._read, name=f"ndmp-client-{peer}", daemon=True).start()

    @classmethod
    def connect(
        cls,
        address: tuple[str, int],
        name: str = "",
        *,
        tls: ssl.SSLContext | None = None,
        on_post: Callable[[Received], None] | None = None,
        on_lost: Callable[[], None] | None = None,
        source: str | None = None,
        check: Callable[[socket.socket], None] | None = None,
        connect_timeout: float = CONNECT_TIMEOUT_S,
        reply_timeout: float = REPLY_TIMEOUT_S,
    ) -> Client:
        """Connect and await the greeting.

        `source` is the address to connect from; `check` looks at the connected (TLS) stream and raises if
        the peer is not who it should be; `on_lost` is called once, when the connection has ended.
        Raises ConnectionLostError when the server cannot be reached or refuses the connection.
        """
        peer = name or f"{address[0]}:{address[1]}"
        try:
            stream = socket.create_connection(
                address, connect_timeout, source_address=(source, 0) if source else None
            )
            dataconn.watch_peer(stream)
            dataconn.expect_acknowledgement(stream)
            if tls is not None:
                stream = tls.wrap_socket(stream)
            if check is not None:
                check(stream)
            stream.settimeout(None)
        except OSError as error:
            raise ConnectionLostError(
                f"cannot connect to {peer} at {address[0]} port {address[1]}: {error}", ErrorCode.CONNECT
            ) from error
        client = cls(stream, peer, on_post, on_lost, reply_timeout)
        client._announced = client._await_greeting(connect_timeout)
        return client

    def call(self, request: Struct, reply: type[Reply], timeout: float | None = None) -> Reply:
        """Send a request and return its reply.

        Raises ReplyError when the peer answers with an error, ConnectionLostError when it is gone or does
        not answer within `timeout` seconds, by default the client's `reply_timeout`.
        """
        answer = self.ask(request, timeout)
        name = type(request).__name__.removesuffix("Request")
        if answer.error:
            raise ReplyError(name, _error(answer.error), self.peer)
        body = answer.body()
        if not isinstance(body, reply):
            raise RemoteFaultError(f"{self.peer} answered {name} with {type(body).__name__}")
        error = cast(ErrorCode, getattr(body, "error", ErrorCode.NO_ERR))
        if error is not ErrorCode.NO_ERR:
            raise ReplyError(name, error, self.peer)
        return body

    def do(self, request: Struct, timeout: float | None = None) -> Struct:
        """`call` for a request whose reply is known by its name: the declared one."""
        return self.call(request, _reply_class(request), timeout)

    def ask(self, request: Struct, timeout: float | None = None) -> Received:
        """Send a request and return the reply as received, whatever its error."""
        timeout = self._reply_timeout if timeout is None else timeout
        waiter: queue.SimpleQueue[Received | None] = queue.SimpleQueue()
        with self._lock:
            if self._lost is not None:
                raise ConnectionLostError(f"{self.peer}: {self._lost}", ErrorCode.CONNECT)
            sequence, data = self._endpoint.request(request)
            self._waiting[sequence] = waiter
            self._send(data)
        try:
            answer = waiter.get(timeout=timeout)
        except queue.Empty:
            self.close()
            raise ConnectionLostError(
                f"{self.peer} did not answer {type(request).__name__} within {timeout:g} s", ErrorCode.TIMEOUT
            ) from None
        finally:
            self._waiting.pop(sequence, None)
        if answer is None:
            raise ConnectionLostError(f"{self.peer}: {self._lost}", ErrorCode.CONNECT)
        return answer

    @property
    def version(self) -> int:
        """The version that is spoken."""
        return self._endpoint.dialect.version

    def open(self, versions: Mapping[int, Dialect] = VERSIONS) -> None:
        """Negotiate: the first of `versions` that the server announced, or does not refuse.

        Raises RemoteFaultError when it speaks none of them.
        """
        for version, dialect in versions.items():
            if version > self._announced:
                continue
            try:
                self.do(m.ConnectOpenRequest(version))
            except ReplyError as error:
                if error.code is not ErrorCode.ILLEGAL_ARGS:
                    raise
                continue
            self._endpoint.dialect = dialect
            return
        spoken = " or ".join(str(version) for version in versions)
        raise RemoteFaultError(
            f"{self.peer} does not speak NDMP version {spoken}; it announced version {self._announced}",
            ErrorCode.NOT_SUPPORTED,
        )

    def login(self, user: str, password: str, versions: Mapping[int, Dialect] = VERSIONS) -> None:
        """Open, and authenticate by MD5.  Raises ReplyError(NOT_AUTHORIZED) for a wrong password."""
        self.open(versions)
        attributes = self.call(m.ConfigGetAuthAttrRequest(AuthType.MD5), m.ConfigGetAuthAttrReply)
        proof = auth.digest(password.encode(), attributes.server_attr.challenge)
        self.do(m.ConnectClientAuthRequest(AuthData(AuthType.MD5, user.encode(), b"", proof)))

    def verify_server(self, user: str, password: str) -> None:
        """Have the server prove that it knows the account's password; after `login` (draft, 3.1.4).

        Raises ReplyError when it does not offer that, RemoteFaultError(NOT_AUTHORIZED) for a wrong proof.
        """
        challenge = secrets.token_bytes(CHALLENGE_LENGTH)
        asked = m.ConnectServerAuthRequest(AuthAttr(AuthType.MD5, challenge))
        proof = self.call(asked, m.ConnectServerAuthReply).server_result
        known = proof.type is AuthType.MD5 and auth.verify(password.encode(), challenge, proof.digest)
        if not known or proof.user != user.encode():
            raise RemoteFaultError(
                f"{self.peer} does not know the password of {user!r}: it is not the server it should be",
                ErrorCode.NOT_AUTHORIZED,
            )

    def close(self) -> None:
        """Say goodbye and end the connection; safe to call twice."""
        with self._lock:
            if self._lost is None:
                self._lost = "the connection was closed"
                self._send(self._endpoint.request(m.ConnectCloseRequest())[1])
        dataconn.shut(self._stream)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _send(self, data: bytes) -> None:
        try:
            self._talk.sendall(data)
        except OSError as error:
            self._lost = self._lost or f"the connection broke: {error}"

    def _await_greeting(self, timeout: float) -> int:
        """The highest version that the server announces."""
        try:
            greeting = self._greeting.get(timeout=timeout)
        except queue.Empty:
            greeting = None
        if greeting is None or greeting.reason is not ConnectionReason.CONNECTED:
            self.close()
            reason = greeting.text_reason.decode("utf-8", "replace") if greeting else "it said nothing"
            raise ConnectionLostError(f"{self.peer} refused the connection: {reason}", ErrorCode.CONNECT)
        return greeting.protocol_version

    def _read(self) -> None:
        reason = "the peer closed the connection"
        try:
            while data := self._talk.recv(RECEIVE_SIZE):
                for message in self._endpoint.receive(data):
                    self._dispatch(message)
        except (OSError, NdmpError) as error:
            reason = f"the connection broke: {error}"
        finally:
            if self._farewell:
                reason = f"the peer ended the session: {self._farewell}"
            with self._lock:
                self._lost = self._lost or reason
                waiting = list(self._waiting.values())
            for waiter in waiting:
                waiter.put(None)
            self._greeting.put(None)
            self.posts.put(None)
            self._talk.close()
            if self._on_lost is not None:
                self._on_lost()

    def _dispatch(self, message: Received) -> None:
        if message.kind is Kind.REPLY:
            waiter = self._waiting.get(message.reply_to)
            if waiter is not None:
                waiter.put(message)
        elif message.code == CODES[m.NotifyConnectionStatusPost][1]:
            status = cast(m.NotifyConnectionStatusPost, message.body())
            if status.reason is ConnectionReason.SHUTDOWN:
                self._farewell = status.text_reason.decode("utf-8", "replace")
            self._greeting.put(status)
        else:
            self._on_post(message)


def _error(code: int) -> ErrorCode:
    try:
        return ErrorCode(code)
    except ValueError:
        return ErrorCode.UNDEFINED


def _reply_class(request: Struct) -> type[Struct]:
    return REGISTRY[(Kind.REPLY, CODES[type(request)][1])]
