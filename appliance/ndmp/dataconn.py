"""Thin adapter: the TCP endpoints of data connections, and how they are written in messages.

No timer counts silence here: a tape change may take an hour (docs/architecture.md).  Liveness is judged
on control connections.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from collections.abc import Sequence

from appliance.ndmp.enums import AddressType, ErrorCode
from appliance.ndmp.errors import RefusalError
from appliance.ndmp.types import Address, Pval, TcpAddress

CONNECT_TIMEOUT_S = 20.0
"""A listening peer answers a TCP connect at once; one that does not within this is unreachable."""

SOCKET_BUFFER = 4 << 20
"""Bytes asked of the kernel for each direction: several tape records, so that neither end waits for the
other's single step."""


ALIVE_IDLE_S, ALIVE_EVERY_S, ALIVE_PROBES = 60, 15, 4
"""A peer that lost its power is known on a control connection after two minutes; Linux takes two hours,
for which a drive, a channel or a lease would be held."""


def watch_peer(stream: socket.socket) -> None:
    """For a control connection: small messages at once, and notice when the peer's machine is gone."""
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, ALIVE_IDLE_S)
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, ALIVE_EVERY_S)
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, ALIVE_PROBES)


def tune(stream: socket.socket) -> None:
    """Large buffers, keepalive, no delay: for a stream of bulk data."""
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
        stream.setsockopt(socket.SOL_SOCKET, option, SOCKET_BUFFER)


def listen(host: str, backlog: int = 1) -> socket.socket:
    """A listening socket on any free port of `host`.  Raises RefusalError(CONNECT)."""
    try:
        listener = socket.create_server((host, 0), backlog=backlog)
    except OSError as error:
        raise RefusalError(ErrorCode.CONNECT, f"cannot listen on {host}: {error}") from error
    tune(listener)
    return listener


def connect(address: Address, source: str) -> socket.socket:
    """Connect to the first endpoint that answers, from `source`.

    Raises RefusalError: ILLEGAL_ARGS for an address that is not TCP, CONNECT when no endpoint answers.
    """
    if address.type is not AddressType.TCP or not address.tcp:
        raise RefusalError(ErrorCode.ILLEGAL_ARGS, f"a TCP address is needed, not {address.type.name}")
    last: OSError | None = None
    for endpoint in address.tcp:
        try:
            stream = socket.create_connection(endpoint_of(endpoint), CONNECT_TIMEOUT_S, (source, 0))
        except OSError as error:
            last = error
            continue
        stream.settimeout(None)
        tune(stream)
        return stream
    host, port = endpoint_of(address.tcp[-1])
    raise RefusalError(ErrorCode.CONNECT, f"cannot connect to {host} port {port}: {last}")


def endpoint_of(address: TcpAddress) -> tuple[str, int]:
    """Host and port of one endpoint."""
    return str(ipaddress.IPv4Address(address.ip)), address.port


def address_of(endpoint: tuple[str, int], env: Sequence[Pval] = ()) -> Address:
    """A TCP address with one endpoint."""
    ip = int(ipaddress.IPv4Address(endpoint[0]))
    return Address(AddressType.TCP, (TcpAddress(ip, endpoint[1], tuple(env)),))


def local_address(stream: socket.socket, env: Sequence[Pval] = ()) -> Address:
    """The address under which peers reach a listening socket."""
    return address_of(stream.getsockname()[:2], env)


def peer_address(stream: socket.socket | None) -> Address:
    """The address of the peer of a connected socket, LOCAL before there is one and once it is gone."""
    if stream is None:
        return Address()
    try:
        return address_of(stream.getpeername()[:2])
    except OSError:
        return Address()


def shut(stream: socket.socket | None) -> None:
    """End a connection so that a thread blocked on it wakes; the thread closes it.  Safe to repeat.

    Never by ssl.SSLSocket.shutdown: that forgets TLS first, and the thread would go on with the bare
    connection: write file data in clear text, or take cipher text for what it reads.
    """
    if stream is not None:
        with contextlib.suppress(OSError):
            socket.socket.shutdown(stream, socket.SHUT_RDWR)
