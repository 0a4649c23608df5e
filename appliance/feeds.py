"""Opening a feed: the data connection between a file server and the connection server.

The side that listens names a one-time token in the address's environment (`FEED_TOKEN`), given over a TLS
control session; the side that connects opens with it.  With `FEED_TLS` = y the connection is TLS first, and
its end must be a clean one.  A feed is taken once, and in time.
"""

from __future__ import annotations

import contextlib
import hmac
import secrets
import select
import socket
import ssl
import time

from appliance.ndmp import dataconn
from appliance.ndmp.enums import ErrorCode
from appliance.ndmp.errors import RefusalError
from appliance.ndmp.types import Address, Pval

TOKEN_LENGTH = 32
"""Bytes of a token: 128 random bits as hexadecimal digits."""

ACCEPT_TIMEOUT_S = 60.0
"""An owner is told the feed's address at once and connects at once; a busy machine may take a while."""

OPENING_TIMEOUT_S = 15.0
"""Who connects says its token (and shakes hands) within this, or is dropped."""

_TOKEN = b"FEED_TOKEN"
_TLS = b"FEED_TLS"


def new_token() -> bytes:
    """A token for one connection."""
    return secrets.token_hex(TOKEN_LENGTH // 2).encode()


def token_env(token: bytes, *, tls: bool = False) -> tuple[Pval, ...]:
    """What tells the peer, in the address's environment, how the connection is opened."""
    return Pval(_TOKEN, token), Pval(_TLS, b"y" if tls else b"n")


def token_of(address: Address) -> bytes:
    """The token that opens the connection to `address`; empty when there is none."""
    env = {pair.name: pair.value for endpoint in address.tcp for pair in endpoint.addr_env}
    return env.get(_TOKEN, b"")


def knows_token(stream: socket.socket, token: bytes) -> bool:
    """Whether who connected says the token, in time.  The stream has no time limit afterwards."""
    try:
        stream.settimeout(OPENING_TIMEOUT_S)
        good = hmac.compare_digest(_receive_exactly(stream, TOKEN_LENGTH), token)
        stream.settimeout(None)
    except OSError:
        return False
    return good


class FeedListener:
    """The listening end.  `tls` None: plain TCP after the token."""

    def __init__(self, host: str, tls: ssl.SSLContext | None, ports: range | None = None) -> None:
        """`ports`: those to listen on; None: any.  Raises RefusalError(CONNECT) when none can be had."""
        self._tls = tls
        self._token = new_token()
        self._socket = dataconn.listen(host, backlog=8, ports=ports)

    def address(self) -> Address:
        """The address to give to the peer, token and all: over a TLS control session only."""
        return dataconn.local_address(self._socket, token_env(self._token, tls=self._tls is not None))

    def accept(self) -> socket.socket:
        """Await the peer that knows the token; drop those who do not.

        Raises RefusalError(TIMEOUT) when nobody comes in time, or the listener was closed.
        """
        deadline = time.monotonic() + ACCEPT_TIMEOUT_S
        try:
            while (left := deadline - time.monotonic()) > 0:
                self._socket.settimeout(left)
                stream = self._admit(self._socket.accept()[0])
                if stream is not None:
                    return stream
        except OSError as error:
            raise RefusalError(ErrorCode.TIMEOUT, f"no feed was opened: {error}") from error
        finally:
            self.close()
        raise RefusalError(ErrorCode.TIMEOUT, "no feed was opened in time")

    def close(self) -> None:
        """Stop listening; wakes `accept`."""
        dataconn.shut(self._socket)
        self._socket.close()

    def _admit(self, stream: socket.socket) -> socket.socket | None:
        try:
            stream.settimeout(OPENING_TIMEOUT_S)
            if self._tls is not None:
                stream = self._tls.wrap_socket(stream, server_side=True, suppress_ragged_eofs=False)
        except OSError:
            stream.close()
            return None
        if knows_token(stream, self._token):
            dataconn.tune(stream)
            return stream
        stream.close()
        return None


def connect(address: Address, source: str, tls: ssl.SSLContext) -> socket.socket:
    """Open the feed that `address` names.  Raises RefusalError(CONNECT)."""
    env = {pair.name: pair.value for endpoint in address.tcp for pair in endpoint.addr_env}
    stream = dataconn.connect(address, source)
    try:
        if env.get(_TLS) == b"y":
            stream.settimeout(OPENING_TIMEOUT_S)
            stream = tls.wrap_socket(stream, suppress_ragged_eofs=False)
            stream.settimeout(None)
        stream.sendall(env.get(_TOKEN, b"").ljust(TOKEN_LENGTH)[:TOKEN_LENGTH])
    except OSError as error:
        stream.close()
        raise RefusalError(ErrorCode.CONNECT, f"the feed cannot be opened: {error}") from error
    return stream


class Receiver:
    """Reads a feed: as much as there is.  One read of a TLS connection brings a record, 16 KiB at most."""

    def __init__(self, stream: socket.socket) -> None:
        self._stream = stream
        self._error: OSError | None = None

    def into(self, view: memoryview) -> int:
        """Wait for some bytes, and return how many there are; 0 at a clean end.

        Raises OSError when the connection breaks; what came before that is returned first.
        """
        if self._error is not None:
            raise self._error
        got = self._stream.recv_into(view)
        if got and isinstance(self._stream, ssl.SSLSocket):
            got += self._at_hand(self._stream, view[got:])
        return got

    def _at_hand(self, stream: ssl.SSLSocket, view: memoryview) -> int:
        """What is there without waiting."""
        got = 0
        patience = stream.gettimeout()
        try:
            stream.settimeout(0)
            while got < len(view) and (more := stream.recv_into(view[got:])):
                got += more
            stream.settimeout(patience)
        except ssl.SSLWantReadError:
            stream.settimeout(patience)
        except OSError as error:
            self._error = error
        return got


def finish(stream: socket.socket) -> None:
    """End a stream cleanly and close it.

    The writer does, so that the reader knows that this was all; the reader does at the end, so that a
    TLS writer need not wait for its answer.

    A peer that is gone already is no error here: the byte counts, compared over control sessions, tell.
    """
    # ValueError: closed meanwhile, by an abort.
    with contextlib.suppress(OSError, ValueError):
        if isinstance(stream, ssl.SSLSocket):
            _await_room(stream)
            stream.settimeout(OPENING_TIMEOUT_S)
            stream.unwrap()
        else:
            stream.shutdown(socket.SHUT_WR)
    stream.close()


def _await_room(stream: socket.socket) -> None:
    """Wait until the connection takes more, or is shut: during a tape change that may be an hour."""
    poller = select.poll()
    poller.register(stream, select.POLLOUT)
    poller.poll()


def _receive_exactly(stream: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        piece = stream.recv(length - len(data))
        if not piece:
            raise ConnectionError("the peer closed the feed before its token")
        data += piece
    return data
