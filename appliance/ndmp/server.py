"""Thin adapter: a TCP listener whose connections are NDMP sessions, one thread each.

With a TLS context the peer's certificate is the authentication (between nodes); without, accounts are.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable

from appliance.ndmp import dataconn, logcontext
from appliance.ndmp import messages as m
from appliance.ndmp.accounts import Accounts
from appliance.ndmp.endpoint import Endpoint
from appliance.ndmp.enums import ConnectionReason
from appliance.ndmp.errors import NdmpError
from appliance.ndmp.framing import RECEIVE_SIZE
from appliance.ndmp.lazylog import get_logger
from appliance.ndmp.networks import ANYWHERE, Networks
from appliance.ndmp.session import VERSION, Session
from appliance.ndmp.sessions import LiveSession, Sessions, say_goodbye
from appliance.ndmp.sharedtls import ControlStream, shareable
from appliance.ndmp.states import SessionState

HANDSHAKE_TIMEOUT_S = 30.0
"""A stranger who connects and says nothing holds a thread no longer than this."""

LOGIN_TIMEOUT_S = 300.0
"""Who connects logs in within this, or is sent away: a stranger must not hold a session's place for ever."""

SESSIONS_MAX = 256
"""Control connections at once, by default; one more is refused at once, so that a flood costs no threads."""

ACCEPT_RETRY_S = 1.0
"""Pause after a failed accept: out of file descriptors, say, until a session ends."""

Setup = Callable[[Session, socket.socket], None]


class NdmpServer:
    """Accepts control connections on `address` and lets `setup` give each session its services."""

    def __init__(
        self,
        address: tuple[str, int],
        setup: Setup,
        *,
        accounts: Accounts | None = None,
        tls: ssl.SSLContext | None = None,
        sessions: Sessions | None = None,
        sessions_max: int = SESSIONS_MAX,
        allow: Networks = ANYWHERE,
    ) -> None:
        """`sessions`: those of the whole process; `allow`: who may connect at all.

        Raises OSError when the address cannot be listened on.
        """
        self.sessions = sessions or Sessions()
        self._sessions_max = sessions_max
        self._allow = allow
        self._port = "ndmp" if tls is None else "cluster"
        self._setup = setup
        self._accounts = accounts
        self._tls = tls
        self._lock = threading.Lock()
        self._connections: set[socket.socket] = set()
        self._live: set[LiveSession] = set()
        self._stopped = threading.Event()
        self._listener = socket.create_server(address, backlog=64)
        self.address: tuple[str, int] = self._listener.getsockname()[:2]
        self._log = get_logger().bind(listen=f"{self.address[0]}:{self.address[1]}")

    def start(self) -> None:
        """Accept in a thread of its own."""
        threading.Thread(target=self._accept, name="ndmp-accept", daemon=True).start()

    def stop(self) -> None:
        """Stop listening, and end every session once it was told so."""
        self._stopped.set()
        # close() alone would leave a thread blocked in accept() to take one more connection.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            live = list(self._live)
        say_goodbye(live, "the server is shutting down")
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            dataconn.shut(connection)

    def _accept(self) -> None:
        while True:
            try:
                connection, peer = self._listener.accept()
            except OSError as error:
                if self._stopped.is_set():
                    return
                self._log.error("no connection can be accepted", why=str(error))
                self._stopped.wait(ACCEPT_RETRY_S)
                continue
            if not self._allow.holds(peer[0]):
                self._refuse(
                    connection, peer[0], "network", f"{peer[0]} is not in the list of who may connect"
                )
                continue
            if not self._hold(connection):
                self._refuse(connection, peer[0], "full", f"too many sessions: {self._sessions_max} are open")
                continue
            name = f"{peer[0]}:{peer[1]}"
            threading.Thread(
                target=self._serve, args=(connection, name), name=f"ndmp-{name}", daemon=True
            ).start()

    def _hold(self, connection: socket.socket) -> bool:
        """Count a connection in, so that `stop` ends it; not when there are too many, or after `stop`."""
        with self._lock:
            room = len(self._connections) < self._sessions_max and not self._stopped.is_set()
            if room:
                self._connections.add(connection)
            return room

    def _refuse(self, connection: socket.socket, peer: str, reason: str, text: str) -> None:
        """Say why (draft-skardal-ndmpv4-04, 4.1.2) and close; inside TLS there is nobody to say it to yet."""
        self.sessions.count("refusals", reason)
        self._log.warning("connection refused", peer=peer, why=text)
        refusal = m.NotifyConnectionStatusPost(ConnectionReason.REFUSED, VERSION, text.encode())
        with connection, contextlib.suppress(OSError):
            if self._tls is None:
                connection.sendall(Endpoint().post(refusal))

    def _serve(self, connection: socket.socket, peer: str) -> None:
        stream = connection
        number = self.sessions.new_id()
        logcontext.note(session=number, peer=peer)
        try:
            dataconn.watch_peer(connection)
            if self._tls is not None:
                connection.settimeout(HANDSHAKE_TIMEOUT_S)
                stream = wrapped = self._wrapped(self._tls, connection)
                if not self._shakes_hands(wrapped):
                    return
            self._converse(stream, peer, number)
        except (OSError, NdmpError) as error:
            self._log.info("connection ended", why=str(error))
        finally:
            with self._lock:
                self._connections -= {connection, stream}
            stream.close()

    def _wrapped(self, tls: ssl.SSLContext, connection: socket.socket) -> ssl.SSLSocket:
        """The connection inside TLS, which takes its place: the plain socket is empty from now on."""
        stream = tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        with self._lock:
            self._connections.discard(connection)
            self._connections.add(stream)
        if self._stopped.is_set():
            with self._lock:
                self._connections.discard(stream)
            stream.close()
            raise ConnectionAbortedError("the server is stopping")
        return stream

    def _shakes_hands(self, stream: ssl.SSLSocket) -> bool:
        """Whether the peer is a node: it shows a certificate that holds, and still does."""
        try:
            stream.do_handshake()
        except ssl.SSLError as error:
            self.sessions.count("refusals", "certificate")
            self._log.warning("connection refused: no node of this cluster", why=str(error))
            return False
        stream.settimeout(None)
        return True

    def _converse(self, stream: socket.socket, peer: str, number: str) -> None:
        talk = shareable(stream)
        session = Session(_sender(talk, stream), peer, self._accounts)
        live = LiveSession(number, self._port, session, stream)
        try:
            if not self._set_up(session, stream):
                return
            with self._lock:
                # At once, so that whoever was greeted is also told of the end; 40 bytes never block.
                session.greet()
                self._live.add(live)
            self.sessions.add(live)
            self._receive(session, talk)
        finally:
            session.close()
            with self._lock:
                self._live.discard(live)
            self.sessions.remove(live)
            talk.close()

    def _set_up(self, session: Session, stream: socket.socket) -> bool:
        """Give the session its services, unless the peer has no business here: it is told so."""
        try:
            self._setup(session, stream)
        except NdmpError as error:
            self.sessions.count("refusals", "role")
            self._log.warning("connection refused", why=str(error))
            session.post(m.NotifyConnectionStatusPost(ConnectionReason.REFUSED, VERSION, str(error).encode()))
            return False
        return True

    def _receive(self, session: Session, stream: ControlStream) -> None:
        login_by = time.monotonic() + LOGIN_TIMEOUT_S
        awaiting_login = self._accounts is not None
        while not session.closed:
            if awaiting_login:
                awaiting_login = session.machine.state is not SessionState.AUTHORIZED
                stream.settimeout(max(0.001, login_by - time.monotonic()) if awaiting_login else None)
            data = stream.recv(RECEIVE_SIZE)
            if not data:
                break
            session.receive(data)


def _sender(talk: ControlStream, stream: socket.socket) -> Callable[[bytes], None]:
    """A send that is whole messages at a time, and quiet once the peer is gone: the reader notices that."""
    lock = threading.Lock()

    def send(data: bytes) -> None:
        with lock:
            try:
                talk.sendall(data)
            except OSError:
                dataconn.shut(stream)

    return send
