"""Data connections at several addresses, and by IPv6 (extension class 0x2051)."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.dmaport import session_setup
from appliance.mediaserver.role import media_role
from appliance.ndmp import dataconn
from appliance.ndmp import messages as m
from appliance.ndmp.client import Client
from appliance.ndmp.enums import ALL_ONES, AddressType, ErrorCode, MoverMode, MoverState
from appliance.ndmp.networks import DataRules
from appliance.ndmp.version3 import VERSIONS
from tests.unit.mediaserver.support import WAIT_S, Site, error_of, mover

OWN, OTHER, IPV6 = "127.0.0.1", "127.0.0.2", "::1"
CHOSEN = m.ConfigSetExtListRequest((m.ClassVersion(m.IPV6_CLASS, 1),))


def has_ipv6() -> bool:
    """Whether this machine has the IPv6 loopback address."""
    try:
        socket.create_server((IPV6, 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


pytestmark = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A media server with two IPv4 addresses and one of IPv6, its own not the first in the list."""
    made = Site(tmp_path / "library")
    rules = DataRules(addresses=(OTHER, OWN, IPV6))
    made.server._setup = session_setup("media1", [media_role(made.libraries, OWN, rules=rules)], ipv6=True)
    yield made
    made.close()


def ready(site: Site) -> Client:
    """A DMA that may start the mover."""
    client = site.opened()
    client.do(m.MoverSetRecordSizeRequest(512))
    client.do(m.MoverSetWindowRequest(0, ALL_ONES))
    return client


@pytest.mark.parametrize("which", [0, 1])
def test_a_reply_names_every_address_the_own_one_first(site: Site, which: int) -> None:
    """Many peers try the first endpoint only; a connection to any of them is taken."""
    client = ready(site)
    reply = client.call(m.MoverListenRequest(MoverMode.READ), m.MoverListenReply)
    endpoints = [dataconn.endpoint_of(each) for each in reply.connect_addr.tcp]
    assert [host for host, _ in endpoints] == [OWN, OTHER]
    with socket.create_connection(endpoints[which], WAIT_S):
        while (state := mover(client)).state is not MoverState.ACTIVE:
            assert state.state is MoverState.LISTEN
        assert len(state.data_connection_addr.tcp) == 1


def test_ipv6_is_listened_at_and_connected_to(site: Site) -> None:
    """LISTEN, CONNECT and the state carry IPv6 endpoints of 16 bytes."""
    client = ready(site)
    client.call(m.ConfigGetExtListRequest(), m.ConfigGetExtListReply)
    client.do(CHOSEN)
    kinds = client.call(m.ConfigGetConnectionTypeRequest(), m.ConfigGetConnectionTypeReply)
    assert kinds.addr_types == (AddressType.TCP, AddressType.TCP_IPV6)
    listening = m.MoverListenRequest(MoverMode.READ, AddressType.TCP_IPV6)
    (endpoint,) = client.call(listening, m.MoverListenReply).connect_addr.tcp6
    assert endpoint.ip == ipaddress.IPv6Address(IPV6).packed
    with socket.create_connection(dataconn.endpoint_of(endpoint), WAIT_S):
        while (state := mover(client)).state is not MoverState.ACTIVE:
            assert state.state is MoverState.LISTEN
        assert state.data_connection_addr.type is AddressType.TCP_IPV6
    client.do(m.MoverAbortRequest())
    client.do(m.MoverStopRequest())
    client.do(m.MoverSetWindowRequest(0, ALL_ONES))
    with socket.create_server((IPV6, 0), family=socket.AF_INET6) as server:
        address = dataconn.local_address(server)
        client.do(m.MoverConnectRequest(MoverMode.READ, address))
        stream, peer = server.accept()
        stream.close()
        assert peer[0] == IPV6


def test_ipv6_is_an_extension(site: Site) -> None:
    """A DMA that chose other extensions, or speaks version 3, does not get it."""
    client = ready(site)
    client.call(m.ConfigGetExtListRequest(), m.ConfigGetExtListReply)
    client.do(m.ConfigSetExtListRequest())
    kinds = client.call(m.ConfigGetConnectionTypeRequest(), m.ConfigGetConnectionTypeReply)
    assert kinds.addr_types == (AddressType.TCP,)
    listening = m.MoverListenRequest(MoverMode.READ, AddressType.TCP_IPV6)
    assert error_of(client, listening) is ErrorCode.ILLEGAL_ARGS
    with Client.connect(site.server.address) as old:
        old.login("dma", "secret", {3: VERSIONS[3]})
        address = m.MoverConnectRequest(MoverMode.READ, dataconn.address_of((IPV6, 9)))
        assert address.addr.type is AddressType.TCP_IPV6
        asked = m.DataListenRequest(AddressType.TCP_IPV6)
        assert error_of(old, asked) is ErrorCode.NOT_SUPPORTED
