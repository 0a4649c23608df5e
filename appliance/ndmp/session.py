"""The server's side of a control connection, without I/O: who may say what, and who answers it.

A session holds services (CONFIG, DATA, MOVER, …).  A service declares which requests it answers; the
session checks the session's state, finds the service, turns its refusals into error replies, and keeps
the rule that whatever a request sets off is told after the reply to it.
"""

from __future__ import annotations

import dataclasses
import secrets
import threading
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from appliance.ndmp import auth, logcontext
from appliance.ndmp import messages as m
from appliance.ndmp.accounts import Account, Accounts
from appliance.ndmp.declare import CODES, REGISTRY, Kind
from appliance.ndmp.dialect import VERSION_4
from appliance.ndmp.endpoint import Endpoint, Received
from appliance.ndmp.enums import AuthType, ConnectionReason, ErrorCode, LogType
from appliance.ndmp.errors import NdmpError, RefusalError, RemoteFaultError
from appliance.ndmp.framing import RECORD_LENGTH_MAX
from appliance.ndmp.lazylog import get_logger
from appliance.ndmp.states import SESSION, Machine, SessionEvent, SessionState
from appliance.ndmp.types import CHALLENGE_LENGTH, AuthAttr, AuthData
from appliance.ndmp.version3 import VERSIONS
from appliance.ndmp.xdr import Struct, UnknownValueError

VERSION = VERSION_4.version
"""The highest version, which the server announces."""

BEFORE_AUTHENTICATION = frozenset(
    {
        m.ConnectOpenRequest,
        m.ConnectCloseRequest,
        m.ConnectClientAuthRequest,
        m.ConfigGetServerInfoRequest,
        m.ConfigGetAuthAttrRequest,
    }
)
"""What a client may say before it has proved who it is (draft-skardal-ndmpv4-04, 3.1.2)."""

STRANGER_RECORD_MAX = 64 << 10
"""Bytes of one message before authentication: the largest of those above has a user name and a password."""

Handler = Callable[[Any], Struct]


class Service(Protocol):
    """One interface's server half, made anew for each session."""

    def handlers(self) -> Mapping[type[Struct], Handler]:
        """The requests that this service answers.  A handler may raise RefusalError."""

    def close(self) -> None:
        """The session ended: give back everything that it held.  Called once, must not raise."""


class Poster(Protocol):
    """What a service needs of its session."""

    def post(self, body: Struct) -> None:
        """Send a post; silently dropped once the peer is gone."""

    def raw_post(self, code: int, raw: bytes) -> None:
        """Send a post whose body was encoded elsewhere."""

    def after_reply(self, action: Callable[[], None]) -> None:
        """Run `action` once the reply to the request being handled is on its way."""


class Session:
    """Rules of one control connection.  `send` takes bytes for the peer and may block.

    Attributes:
        user, account: who logged in, on the DMAs' port.
        node: who showed its certificate, on the cluster's port; set by the role.

    """

    def __init__(self, send: Callable[[bytes], None], peer: str, accounts: Accounts | None) -> None:
        """`accounts` None: the connection was authenticated by TLS, and roles are checked by the services."""
        self.peer = peer
        self.endpoint = Endpoint()
        self.machine: Machine[SessionState, SessionEvent] = Machine("session", SESSION, SessionState.GREETED)
        self.user = ""
        self.account: Account | None = None
        self.node = ""
        self.log = get_logger().bind(peer=peer)
        self._send = send
        self._sending = threading.Lock()
        self._accounts = accounts
        self._challenge = b""
        if accounts is not None:
            self.endpoint.limit(STRANGER_RECORD_MAX)
        self._services: list[Service] = []
        self._last_status: dict[str, dict[str, object]] = {}
        self._handlers: dict[type[Struct], Handler] = {
            m.ConnectOpenRequest: self._open,
            m.ConnectClientAuthRequest: self._authenticate,
            m.ConnectServerAuthRequest: self._authenticate_server,
            m.ConfigGetAuthAttrRequest: self._auth_attributes,
        }
        self._after: list[Callable[[], None]] = []

    @property
    def closed(self) -> bool:
        """Whether the session has ended."""
        return self.machine.state is SessionState.CLOSED

    @property
    def version(self) -> int:
        """The version that is spoken."""
        return self.endpoint.dialect.version

    @property
    def auth_types(self) -> tuple[AuthType, ...]:
        """The kinds of authentication on offer; none where TLS is the authentication."""
        return self._accounts.types() if self._accounts is not None else ()

    def add(self, service: Service) -> None:
        """Give the session a service."""
        self._services.append(service)
        for request in service.handlers():
            assert request not in self._handlers, f"two services answer {request.__name__}"
        self._handlers.update(service.handlers())

    def greet(self) -> None:
        """Say the first words: connected, and the highest version (draft, 4.1.2)."""
        self.post(m.NotifyConnectionStatusPost(ConnectionReason.CONNECTED, VERSION, b""))

    def receive(self, data: bytes) -> None:
        """Handle what the peer sent.  Raises RemoteFaultError when the connection cannot go on."""
        for message in self.endpoint.receive(data):
            if self.closed:
                return
            if message.kind is Kind.REQUEST:
                self._request(message)
            else:
                self.log.warning("message ignored", message=message.name)

    def post(self, body: Struct) -> None:
        """Send a post."""
        with self._sending:
            self._send(self.endpoint.post(body))

    def raw_post(self, code: int, raw: bytes) -> None:
        """Send a post whose body was encoded elsewhere."""
        with self._sending:
            self._send(self.endpoint.raw_post(code, raw))

    def after_reply(self, action: Callable[[], None]) -> None:
        """Run `action` once the reply to the request being handled is on its way."""
        self._after.append(action)

    def close(self) -> None:
        """End the session and release what its services hold."""
        self.machine.try_fire(SessionEvent.CLOSE)
        for service in reversed(self._services):
            service.close()
        if self._services:
            self._last_status = self.status()
        self._services.clear()

    def status(self) -> dict[str, dict[str, object]]:
        """What the services say of themselves (`sessions.Reporting`), in the end what they said last."""
        reports = [getattr(service, "status", None) for service in list(self._services)]
        found = {name: facts for report in reports if report for name, facts in report().items()}
        return found or self._last_status

    def _request(self, message: Received) -> None:
        # What came along with CONNECT_OPEN, in one packet, is of the version that it chose.
        message = dataclasses.replace(message, dialect=self.endpoint.dialect)
        if message.code == CODES[m.ConnectCloseRequest][1]:
            self.machine.fire(SessionEvent.CLOSE)
            return
        reply: Struct | ErrorCode
        try:
            reply = self._handlers[self._admit(message)](message.body())
        except (RefusalError, UnknownValueError) as refusal:
            # An illegal mode, operation or address type is an error of the function (draft, 2.8).
            reply = self._refusal(message, refusal)
        except NdmpError as error:
            self._note(message, error)
            reply = error.code
        except Exception as error:
            # A bug in one handler must not cost the DMA its session, in which a tape may be loaded.
            self.log.error("request failed", message=message.name, why=str(error), exc_info=True)
            reply = self._bug(message)
        self._reply(message, reply)
        actions, self._after = self._after, []
        for action in actions:
            action()

    def _reply(self, message: Received, reply: Struct | ErrorCode) -> None:
        """Send a reply, or a header with an error and no body."""
        with self._sending:
            if not isinstance(reply, ErrorCode):
                try:
                    self._send(self.endpoint.reply(message, reply))
                    return
                except NdmpError as error:
                    self.log.error("reply cannot be encoded", message=message.name, exc_info=True)
                    reply = error.code
            self._send(self.endpoint.error_reply(message, reply))

    def _admit(self, message: Received) -> type[Struct]:
        """The request's class, if the peer may send it now.  Raises NdmpError."""
        cls = message.dialect.message(Kind.REQUEST, message.code)
        if cls is not m.ConnectOpenRequest:
            self.machine.fire(SessionEvent.OTHER)
        if cls not in BEFORE_AUTHENTICATION:
            self._authorized_or_raise()
        if cls is None or cls not in self._handlers:
            raise RemoteFaultError(f"{message.name} is not supported here", ErrorCode.NOT_SUPPORTED)
        return cls

    def _authorized_or_raise(self) -> None:
        if self._accounts is not None and self.machine.state is not SessionState.AUTHORIZED:
            raise RefusalError(ErrorCode.NOT_AUTHORIZED, "the client has not authenticated itself")

    def _note(self, message: Received, error: NdmpError) -> None:
        self._after.clear()
        self.log.info("request refused", message=message.name, code=error.code.name, why=str(error))

    def _refusal(self, message: Received, refusal: NdmpError) -> Struct | ErrorCode:
        """A refusal becomes a reply with the error in its body, where there is one (draft, 2.7)."""
        self._note(message, refusal)
        cls = REGISTRY.get((Kind.REPLY, message.code))
        return cls(error=refusal.code) if cls else refusal.code  # type: ignore[call-arg]

    def _bug(self, message: Received) -> ErrorCode:
        self._after.clear()
        text = f"{message.name} failed by an internal error; the server's log has the details"
        self.after_reply(lambda: self.post(m.LogMessagePost(LogType.ERROR, 0, text.encode())))
        return ErrorCode.UNDEFINED

    def _open(self, request: m.ConnectOpenRequest) -> m.ConnectOpenReply:
        self.machine.check(SessionEvent.OPEN)
        dialect = VERSIONS.get(request.protocol_version)
        # Between nodes there are messages that only version 4 has room for.
        if dialect is None or (self._accounts is None and dialect is not VERSION_4):
            raise RefusalError(ErrorCode.ILLEGAL_ARGS, f"version {request.protocol_version} is not spoken")
        self.machine.fire(SessionEvent.OPEN)
        self.endpoint.dialect = dialect
        return m.ConnectOpenReply()

    def _auth_attributes(self, request: m.ConfigGetAuthAttrRequest) -> m.ConfigGetAuthAttrReply:
        if self._accounts is None or request.auth_type not in self._accounts.types():
            raise RefusalError(ErrorCode.ILLEGAL_ARGS, f"{request.auth_type.name} is not offered")
        if request.auth_type is not AuthType.MD5:
            return m.ConfigGetAuthAttrReply(server_attr=AuthAttr(request.auth_type))
        self._challenge = secrets.token_bytes(CHALLENGE_LENGTH)
        return m.ConfigGetAuthAttrReply(server_attr=AuthAttr(AuthType.MD5, self._challenge))

    def _authenticate(self, request: m.ConnectClientAuthRequest) -> m.ConnectClientAuthReply:
        if self._accounts is None:
            raise RefusalError(ErrorCode.ILLEGAL_ARGS, "the certificate is the authentication here")
        challenge, self._challenge = self._challenge, b""
        address = self.peer.rpartition(":")[0] or self.peer
        self.account = self._accounts.login(address, request.auth_data, challenge)
        user = request.auth_data.user.decode("utf-8", "replace")
        self.machine.fire(SessionEvent.AUTHORIZED)
        self.endpoint.limit(RECORD_LENGTH_MAX)
        self.user = user
        logcontext.note(user=user)
        return m.ConnectClientAuthReply()

    def _authenticate_server(self, request: m.ConnectServerAuthRequest) -> m.ConnectServerAuthReply:
        """Prove that the server knows the account's password too, by the DMA's challenge (draft, 3.1.4).

        A clear password is never sent, and no authentication at all proves nothing.
        """
        if self.account is None or request.client_attr.type is not AuthType.MD5:
            raise RefusalError(ErrorCode.ILLEGAL_ARGS, "the server authenticates itself by MD5 only")
        proof = auth.digest(self.account.password.encode(), request.client_attr.challenge)
        return m.ConnectServerAuthReply(
            server_result=AuthData(AuthType.MD5, self.user.encode(), digest=proof)
        )
