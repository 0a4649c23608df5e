"""Thin adapter: a TCP listener whose connections are NDMP sessions, one thread each.

With a TLS context the peer's certificate is the authentication (between nodes); without, accounts are.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable

import structlog

from appliance.ndmp import dataconn
from appliance.ndmp import messages as m
from appliance.ndmp.endpoint import Endpoint
from appliance.ndmp.enums import ConnectionReason
from appliance.ndmp.errors import NdmpError
from appliance.ndmp.framing import RECEIVE_SIZE
from appliance.ndmp.session import VERSION, Accounts, Session

HANDSHAKE_TIMEOUT_S = 30.0
"""A stranger who connects and says nothing holds a thread no longer than this."""

SESSIONS_MAX = 256
"""Control connections at once; one more is refused at once, so that a flood costs no threads."""

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
    ) -> None:
        """Raises OSError when the address cannot be listened on."""
        self._setup = setup
        self._accounts = accounts
        self._tls = tls
        self._lock = threading.Lock()
        self._connections: set[socket.socket] = set()
        self._stopped = threading.Event()
        self._listener = socket.create_server(address, backlog=64)
        self.address: tuple[str, int] = self._listener.getsockname()[:2]
        self._log = structlog.get_logger().bind(listen=f"{self.address[0]}:{self.address[1]}")

    def start(self) -> None:
        """Accept in a thread of its own."""
        threading.Thread(target=self._accept, name="ndmp-accept", daemon=True).start()

    def stop(self) -> None:
        """Stop listening and end every session."""
        self._stopped.set()
        # close() alone would leave a thread blocked in accept() to take one more connection.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
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
            if not self._hold(connection):
                self._log.warning("connection refused: too many sessions", peer=peer[0])
                self._refuse(connection)
                continue
            name = f"{peer[0]}:{peer[1]}"
            threading.Thread(
                target=self._serve, args=(connection, name), name=f"ndmp-{name}", daemon=True
            ).start()

    def _hold(self, connection: socket.socket) -> bool:
        """Count a connection in, so that `stop` ends it; not when there are too many, or after `stop`."""
        with self._lock:
            room = len(self._connections) < SESSIONS_MAX and not self._stopped.is_set()
            if room:
                self._connections.add(connection)
            return room

    def _refuse(self, connection: socket.socket) -> None:
        """Say why (draft-skardal-ndmpv4-04, 4.1.2) and close; inside TLS there is nobody to say it to yet."""
        refusal = m.NotifyConnectionStatusPost(ConnectionReason.REFUSED, VERSION, b"too many sessions")
        with connection, contextlib.suppress(OSError):
            if self._tls is None:
                connection.sendall(Endpoint().post(refusal))

    def _serve(self, connection: socket.socket, peer: str) -> None:
        stream = connection
        try:
            dataconn.watch_peer(connection)
            if self._tls is not None:
                connection.settimeout(HANDSHAKE_TIMEOUT_S)
                stream = self._wrapped(self._tls, connection)
            self._converse(stream, peer)
        except (OSError, NdmpError) as error:
            self._log.info("connection ended", peer=peer, why=str(error))
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
            raise ConnectionAbortedError("the server is stopping")
        stream.do_handshake()
        stream.settimeout(None)
        return stream

    def _converse(self, stream: socket.socket, peer: str) -> None:
        session = Session(_sender(stream), peer, self._accounts)
        try:
            self._setup(session, stream)
            session.greet()
            while not session.closed:
                data = stream.recv(RECEIVE_SIZE)
                if not data:
                    break
                session.receive(data)
        finally:
            session.close()


def _sender(stream: socket.socket) -> Callable[[bytes], None]:
    """A send that is whole messages at a time, and quiet once the peer is gone: the reader notices that."""
    lock = threading.Lock()

    def send(data: bytes) -> None:
        with lock:
            try:
                stream.sendall(data)
            except OSError:
                dataconn.shut(stream)

    return send
