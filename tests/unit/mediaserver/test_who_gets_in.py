"""Lost and uninvited peers of a media server: what they held is free, and what they bring is not taken."""

from __future__ import annotations

import dataclasses
import socket

import pytest

from appliance.ndmp import messages as m
from appliance.ndmp.client import Client
from appliance.ndmp.dataconn import address_of
from appliance.ndmp.enums import ErrorCode, MoverHaltReason, MoverMode, MoverState, TapeOpenMode
from appliance.ndmp.networks import DataRules, Networks
from appliance.ndmp.sessions import LiveSession
from tests.unit.mediaserver.support import (
    CHANGER,
    DRIVE,
    WAIT_S,
    Site,
    connect,
    error_of,
    is_gone,
    media_setup,
    mover,
    posted,
    receive,
)


def with_rules(site: Site, **rules: object) -> None:
    """New sessions of the site keep to these rules."""
    made = dataclasses.replace(DataRules(), **rules)  # type: ignore[arg-type]
    site.server._setup = media_setup(site.libraries, "media1", "127.0.0.1", rules=made)


def listening(site: Site) -> tuple[Client, m.MoverListenReply]:
    """A DMA whose mover listens for a backup."""
    client = site.opened()
    client.do(m.MoverSetRecordSizeRequest(512))
    client.do(m.MoverSetWindowRequest(0, 512 * 100))
    return client, client.call(m.MoverListenRequest(MoverMode.READ), m.MoverListenReply, WAIT_S)


def live_of(site: Site, client: Client) -> LiveSession:
    """The server's side of a session."""
    peer = "{}:{}".format(*client._stream.getsockname())
    return next(live for live in site.server.sessions.all() if live.session.peer == peer)


@pytest.mark.parametrize("killed", [True, False])
def test_drive_robot_and_mover_of_a_lost_dma_are_free(site: Site, killed: bool) -> None:
    """Its machine died, or somebody killed its session, in the middle of a backup: the next DMA has all."""
    client, reply = listening(site)
    client.do(m.ScsiOpenRequest(CHANGER))
    stream = site.keep(connect(reply))
    stream.sendall(bytes(512 * 3))
    live = live_of(site, client)
    if killed:
        live.cut()
    else:
        site.drop(client)
    assert live.gone.wait(WAIT_S)
    assert is_gone(stream)
    other = site.client()
    assert error_of(other, m.TapeOpenRequest(DRIVE, TapeOpenMode.RDWR)) is ErrorCode.NO_ERR
    assert error_of(other, m.ScsiOpenRequest(CHANGER)) is ErrorCode.NO_ERR
    assert site.server.sessions.sums()["mover", "moved"] <= 512 * 3


def test_a_session_tells_what_it_holds(site: Site) -> None:
    """Drive, cartridge, changer and mover are in the list, with the bytes moved so far."""
    client, reply = listening(site)
    client.do(m.ScsiOpenRequest(CHANGER))
    stream = site.keep(connect(reply))
    stream.sendall(bytes(512 * 3))
    stream.close()
    posted(client, m.NotifyMoverHaltedPost)
    told = live_of(site, client).describe()
    assert (told["user"], told["state"]) == ("dma", "authorized")
    assert told["services"] == {
        "tape": {"state": "open", "device": "drive:DRV1", "mode": "rdwr", "cartridge": "VTL001L5"},
        "changer": {"state": "open", "device": "changer:CHG1"},
        "mover": {"state": "halted", "mode": "read", "bytes": 1536, "moved": 1536},
    }
    client.do(m.MoverStopRequest())
    assert site.server.sessions.sums()["mover", "moved"] == 1536


def test_a_stranger_does_not_become_the_data_server(site: Site) -> None:
    """A connection from outside the networks is closed, and the mover goes on to wait for the right one."""
    with_rules(site, networks=Networks(["127.0.0.2"]))
    client, reply = listening(site)
    with connect(reply) as stranger:
        assert receive(stranger, 1) == b""
    assert mover(client).state is MoverState.LISTEN
    with socket.socket() as peer:
        peer.bind(("127.0.0.2", 0))
        peer.connect(("127.0.0.1", reply.connect_addr.tcp[0].port))
        peer.sendall(bytes(512))
    assert posted(client, m.NotifyMoverHaltedPost).reason is MoverHaltReason.CONNECT_CLOSED
    assert mover(client).bytes_moved == 512


def test_a_mover_that_nobody_connects_to_halts_in_time(site: Site) -> None:
    """The open door is closed after the configured time: CONNECT_ERROR."""
    with_rules(site, accept_timeout=0.2)
    client, _ = listening(site)
    assert posted(client, m.NotifyMoverHaltedPost).reason is MoverHaltReason.CONNECT_ERROR


def test_a_mover_is_no_proxy_into_other_networks(site: Site) -> None:
    """MOVER_CONNECT to an address outside is CONNECT, and the mover stays IDLE."""
    with_rules(site, networks=Networks(["127.0.0.2"]))
    client = site.opened()
    client.do(m.MoverSetRecordSizeRequest(512))
    client.do(m.MoverSetWindowRequest(0, 512 * 100))
    with socket.create_server(("127.0.0.1", 0)) as server:
        request = m.MoverConnectRequest(MoverMode.READ, address_of(server.getsockname()))
        assert error_of(client, request) is ErrorCode.CONNECT
    assert mover(client).state is MoverState.IDLE


def test_a_mover_listens_in_its_ports(site: Site) -> None:
    """The address in the reply is one that the firewall lets through."""
    with_rules(site, ports=range(28100, 28110))
    _, reply = listening(site)
    assert 28100 <= reply.connect_addr.tcp[0].port < 28110


def test_errors_of_a_drive_are_counted_by_its_serial(site: Site) -> None:
    """Each logged error of a device is one more in its figure; filemarks and ends of data are none."""
    client = site.client()
    assert error_of(client, m.TapeOpenRequest(DRIVE, TapeOpenMode.READ)) is ErrorCode.NO_TAPE_LOADED
    found = {serial: value for _, serial, value in site.libraries.figures()}
    assert found == {"CHG1": 0, "DRV1": 1, "DRV2": 0}
    site.operator_moves("VTL001L5")
    client.do(m.TapeOpenRequest(DRIVE, TapeOpenMode.READ))
    assert error_of(client, m.TapeReadRequest(512)) is ErrorCode.EOM
    assert {serial: value for _, serial, value in site.libraries.figures()} == found
