"""A TLS connection that one thread receives from while others send.

OpenSSL allows one thread at a time in a connection, be it to read or to write (openssl-threads(7)), and
CPython's `ssl` does not see to that (python/cpython issues 143756 and 151508).  A reader may write, too: an
alert, when the peer cuts the connection.  Two threads at once end the process by an abort, once in very many
connections.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import ssl
import threading
from collections.abc import Callable
from functools import partial
from typing import Protocol, TypeVar

from appliance.ndmp import dataconn

T = TypeVar("T")


class ControlStream(Protocol):
    """What a control connection needs of its stream."""

    def recv(self, size: int, /) -> bytes:
        """At most `size` bytes; empty at the end.  Raises OSError."""

    def sendall(self, data: bytes, /) -> None:
        """Send everything.  Raises OSError."""

    def settimeout(self, seconds: float | None, /) -> None:
        """How long `recv` waits before it raises TimeoutError; None for ever."""

    def close(self) -> None:
        """Give the stream up."""


class SharedTls:
    """A TLS connection after its handshake.  No thread waits with its lock held.

    Those who send take turns by a lock of their own: messages must not be mixed.
    """

    def __init__(self, stream: ssl.SSLSocket) -> None:
        stream.setblocking(False)
        self._stream = stream
        self._one = threading.Lock()
        self._seconds: float | None = None

    def recv(self, size: int, /) -> bytes:
        """As `ControlStream.recv`."""
        return self._done(partial(self._stream.recv, size), self._seconds)

    def sendall(self, data: bytes, /) -> None:
        """As `ControlStream.sendall`; waits for room as long as it takes."""
        rest = memoryview(data)
        while rest:
            rest = rest[self._done(partial(self._stream.send, rest), None) :]

    def settimeout(self, seconds: float | None, /) -> None:
        """As `ControlStream.settimeout`."""
        self._seconds = seconds

    def close(self) -> None:
        """Wake those who wait, and close; safe to repeat."""
        dataconn.shut(self._stream)
        with self._one:
            self._stream.close()

    def _done(self, step: Callable[[], T], seconds: float | None) -> T:
        while True:
            with self._one:
                try:
                    return step()
                except ssl.SSLWantReadError:
                    event = select.POLLIN
                except ssl.SSLWantWriteError:
                    event = select.POLLOUT
            self._wait(event, seconds)

    def _wait(self, event: int, seconds: float | None) -> None:
        number = self._stream.fileno()
        if number < 0:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        poller = select.poll()
        poller.register(number, event)
        if not poller.poll(None if seconds is None else seconds * 1000):
            raise TimeoutError(f"nothing came within {seconds:g} s")


def shareable(stream: socket.socket) -> ControlStream:
    """The stream of a control connection, for a thread that receives and others that send."""
    return SharedTls(stream) if isinstance(stream, ssl.SSLSocket) else stream
