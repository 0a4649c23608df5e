"""Where data connections may come from, go to and listen."""

from __future__ import annotations

import contextlib
import os
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from appliance.ndmp import dataconn
from appliance.ndmp.enums import AddressType, ErrorCode
from appliance.ndmp.errors import RefusalError
from appliance.ndmp.networks import DataRules, Networks
from appliance.ndmp.types import Address

HOST = "127.0.0.1"
WAIT_S = 20
ONLY_SECOND = Networks(["127.0.0.2"])


def come(address: tuple[str, int], source: str) -> socket.socket:
    """Connect to a listener from an address."""
    return socket.create_connection(address, WAIT_S, (source, 0))


def test_a_stranger_is_closed_and_the_peer_that_is_meant_is_taken() -> None:
    """Connections from outside are accepted only to be closed; the next one from inside is the one."""
    rules = DataRules(ONLY_SECOND, accept_timeout=WAIT_S)
    with dataconn.listen(HOST, 8) as listener, ThreadPoolExecutor(1) as pool:
        taking = pool.submit(dataconn.accept, [listener], rules)
        with come(listener.getsockname(), HOST) as stranger:
            assert stranger.recv(1) == b""
        with come(listener.getsockname(), "127.0.0.2") as peer, taking.result(WAIT_S) as stream:
            assert stream.getpeername() == peer.getsockname()


def test_a_listener_gives_up_in_time_whoever_else_comes() -> None:
    """Strangers do not lengthen the time that the right peer has."""
    rules = DataRules(ONLY_SECOND, accept_timeout=0.3)
    listener = dataconn.listen(HOST, 8)
    with listener, come(listener.getsockname(), HOST), pytest.raises(TimeoutError, match=r"within 0\.3 s"):
        dataconn.accept([listener], rules)


def test_a_listener_that_is_shut_wakes_at_once() -> None:
    """An abort does not wait for the time to pass."""
    listener = dataconn.listen(HOST)
    with ThreadPoolExecutor(1) as pool:
        taking = pool.submit(dataconn.accept, [listener], DataRules(accept_timeout=WAIT_S))
        dataconn.shut(listener)
        with pytest.raises(OSError, match="Invalid argument"):
            taking.result(WAIT_S / 2)
    listener.close()


def test_an_address_outside_is_not_connected_to() -> None:
    """CONNECT, with the address and the key in the text; nobody hears of it at the address."""
    with socket.create_server((HOST, 0)) as server:
        server.setblocking(False)
        with pytest.raises(RefusalError, match=r"127\.0\.0\.1 is outside .*data_networks") as refusal:
            dataconn.connect(dataconn.local_address(server), HOST, DataRules(ONLY_SECOND))
        with pytest.raises(BlockingIOError):
            server.accept()
    assert refusal.value.code is ErrorCode.CONNECT


def test_of_several_endpoints_those_inside_are_tried() -> None:
    """A server with a public and a private address is reached at the one that is allowed."""
    with socket.create_server(("127.0.0.2", 0)) as server:
        endpoints = [("192.0.2.1", 1), server.getsockname()]
        address = Address(AddressType.TCP, tuple(dataconn.address_of(each).tcp[0] for each in endpoints))
        with dataconn.connect(address, HOST, DataRules(ONLY_SECOND)) as stream:
            assert stream.getpeername() == server.getsockname()


def test_listeners_stay_within_their_ports() -> None:
    """Every port of the range is used, none beyond it; when all are taken that is told."""
    # An address of its own: other runs of this test may be under way on this machine.
    host = f"127.3.{os.getpid() >> 8 & 0xFF}.{os.getpid() % 250 + 1}"
    first = 28000
    ports = range(first, first + 3)
    with contextlib.ExitStack() as held:
        found = {held.enter_context(dataconn.listen(host, ports=ports)).getsockname()[1] for _ in ports}
        assert found == set(ports)
        with pytest.raises(RefusalError, match=f"on a port from {first} to {first + 2}") as refusal:
            dataconn.listen(host, ports=ports)
    assert refusal.value.code is ErrorCode.CONNECT


def test_networks_are_read_strictly() -> None:
    """A network with host bits is a mistake, not a guess."""
    networks = Networks(["10.0.0.0/8", "192.0.2.7"])
    assert [networks.holds(host) for host in ("10.1.2.3", "192.0.2.7", "192.0.2.8")] == [True, True, False]
    assert [Networks(["fd00::/8"]).holds(host) for host in ("fd00::1", "::1", "10.0.0.1")] == [
        True,
        False,
        False,
    ]
    for wrong in ("10.0.0.1/8", "fs1", "fd00::1/8"):
        with pytest.raises(ValueError, match=r"host bits|does not appear to be"):
            Networks([wrong])
