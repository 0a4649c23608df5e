"""Thin adapter: the TCP endpoints of data connections, and how they are written in messages.

No timer counts silence here: a tape change may take an hour (docs/architecture.md).  Liveness is judged
on control connections.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import secrets
import select
import socket
import time
from collections.abc import Callable, Iterator, Sequence

from appliance.ndmp.enums import AddressType, ErrorCode
from appliance.ndmp.errors import RefusalError
from appliance.ndmp.lazylog import get_logger
from appliance.ndmp.networks import NO_RULES, DataRules, endpoints_of, host_of
from appliance.ndmp.types import Address, Pval, Tcp6Address, TcpAddress

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


ANSWERED_S = ALIVE_IDLE_S + ALIVE_EVERY_S * ALIVE_PROBES
"""For the side that asks.  Keepalive does not look while something is unacknowledged, and a question to a
machine that is gone would be sent again for a quarter of an hour."""


def expect_acknowledgement(stream: socket.socket) -> None:
    """For who sends questions: nothing acknowledged for two minutes means that the peer's machine is gone.

    Not for the other side of a control connection, and never for data: a DMA may be slow to read what is
    posted to it, and a paused stream is healthy (tcp(7), TCP_USER_TIMEOUT counts closed windows too).
    """
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, ANSWERED_S * 1000)


def tune(stream: socket.socket) -> None:
    """Large buffers, keepalive, no delay: for a stream of bulk data."""
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
        stream.setsockopt(socket.SOL_SOCKET, option, SOCKET_BUFFER)


def listen(host: str, backlog: int = 1, ports: range | None = None) -> socket.socket:
    """A listening socket on any free port of `host`, or on one of `ports`.  Raises RefusalError(CONNECT)."""
    last: OSError | None = None
    for port in _in_turn(ports) if ports else (0,):
        try:
            listener = socket.create_server((host, port), family=_family(host), backlog=backlog)
        except OSError as error:
            last = error
            if error.errno != errno.EADDRINUSE:
                break
        else:
            tune(listener)
            return listener
    among = f" on a port from {ports.start} to {ports[-1]}" if ports else ""
    raise RefusalError(ErrorCode.CONNECT, f"cannot listen on {host}{among}: {last}")


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _in_turn(ports: range) -> Iterator[int]:
    """All of them, from any on: two listeners in a row seldom try the same ones."""
    first = secrets.randbelow(len(ports))
    yield from ports[first:]
    yield from ports[:first]


def accept(
    listeners: Sequence[socket.socket], rules: DataRules, ended: Callable[[], bool] = lambda: False
) -> socket.socket:
    """Take one connection, from a peer that the rules allow; one from elsewhere is closed at once.

    The caller closes the listeners.  Raises TimeoutError when nobody came in time, OSError when a listener
    was shut.
    """
    deadline = time.monotonic() + rules.accept_timeout
    poller = select.poll()
    by_number = {listener.fileno(): listener for listener in listeners}
    for listener in listeners:
        poller.register(listener, select.POLLIN)
    while (left := deadline - time.monotonic()) > 0 and not ended():
        for number, _ in poller.poll(left * 1000)[:1]:
            stream, peer = by_number[number].accept()
            if rules.networks.holds(peer[0]):
                tune(stream)
                return stream
            stream.close()
            get_logger().warning(
                "data connection refused", peer=peer[0], why=f"it is outside data_networks ({rules.networks})"
            )
    raise TimeoutError(f"nobody connected within {rules.accept_timeout:g} s")


def connect(address: Address, source: str, rules: DataRules = NO_RULES) -> socket.socket:
    """Connect to the first endpoint that answers, of those that the rules allow, from `source`.

    Raises RefusalError: ILLEGAL_ARGS for an address that is not TCP, or IPv6 where this node has none;
    CONNECT when no endpoint answers.
    """
    endpoints = endpoints_of(address)
    sources = rules.hosts(address.type, source)
    if not endpoints or not sources:
        raise RefusalError(ErrorCode.ILLEGAL_ARGS, f"{address.type.name} cannot be connected to from here")
    allowed = rules.within(address)
    last: OSError | None = None
    for endpoint in endpoints_of(allowed):
        try:
            stream = socket.create_connection(endpoint_of(endpoint), CONNECT_TIMEOUT_S, (sources[0], 0))
        except OSError as error:
            last = error
            continue
        stream.settimeout(None)
        tune(stream)
        return stream
    host, port = endpoint_of(endpoints[-1])
    raise RefusalError(ErrorCode.CONNECT, f"cannot connect to {host} port {port}: {last}")


def endpoint_of(address: TcpAddress | Tcp6Address) -> tuple[str, int]:
    """Host and port of one endpoint."""
    return host_of(address), address.port


def address_of(endpoint: tuple[str, int], env: Sequence[Pval] = ()) -> Address:
    """A TCP address with one endpoint, of IPv4 or IPv6."""
    host, port = ipaddress.ip_address(endpoint[0]), endpoint[1]
    if isinstance(host, ipaddress.IPv6Address):
        return Address(AddressType.TCP_IPV6, tcp6=(Tcp6Address(host.packed, port, tuple(env)),))
    return Address(AddressType.TCP, (TcpAddress(int(host), port, tuple(env)),))


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
