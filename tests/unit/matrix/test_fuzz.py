"""Hostile bytes to live servers: before the login, after it, and cut or garbled in every place.

Seeded, so that a failure comes again; the number of sessions is bounded, and nothing depends on time.
"""

from __future__ import annotations

import contextlib
import random
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from appliance.ndmp import auth
from appliance.ndmp import messages as m
from appliance.ndmp.client import Client
from appliance.ndmp.declare import REGISTRY, Kind
from appliance.ndmp.endpoint import Endpoint
from appliance.ndmp.enums import AuthType, ErrorCode
from appliance.ndmp.framing import RECEIVE_SIZE
from appliance.ndmp.server import NdmpServer
from appliance.ndmp.types import AuthData
from appliance.ndmp.xdr import Struct
from tests.unit.matrix import test_data_matrix
from tests.unit.matrix.talks import ACCOUNTS, PASSWORD, USER, WAIT_S, Direct
from tests.unit.mediaserver.support import CARTRIDGES, Site, media_setup
from tests.unit.ndmp.ndmp_support import structures

SESSIONS = 150
MESSAGES = 8
# What would reach for the network, or wait for a connection that nobody makes; and what has no answer.
LEFT_OUT = {m.DataConnectRequest, m.MoverConnectRequest, m.MoverListenRequest, m.ConnectCloseRequest}
REQUESTS = sorted(
    {cls for (kind, _), cls in REGISTRY.items() if kind is Kind.REQUEST} - LEFT_OUT,
    key=lambda cls: cls.__name__,
)
BUGS = ("request failed", "reply cannot be encoded")
"""What the session logs when a handler broke."""


def mutated(message: bytes, rng: random.Random) -> bytes:
    """A record with some of it changed, cut, doubled or lied about."""
    data = bytearray(message)
    kind = rng.randrange(6)
    if kind == 0:
        for _ in range(rng.randrange(1, 6)):
            data[rng.randrange(4, len(data))] = rng.randrange(256)
    elif kind == 1:
        data[28:] = rng.randbytes(rng.randrange(200))
    elif kind == 2:
        data += rng.randbytes(rng.choice((1, 4, 400)))
    elif kind == 3:
        # A length or a count of nearly 2**32 in any place.
        place = rng.randrange(28, max(29, len(data))) & ~3
        data[place : place + 4] = struct.pack(">I", rng.choice((0xFFFFFFFF, 0x7FFFFFFF, 0x10000)))
    elif kind == 4:
        del data[rng.randrange(28, len(data) + 1) :]
    if rng.random() < 0.9:
        # The record mark is right: it is the message that is not.
        data[:4] = struct.pack(">I", 1 << 31 | len(data) - 4)
    return bytes(data)


def samples(rng: random.Random) -> Iterator[bytes]:
    """Requests of any kind with arguments of any kind, as bytes of a message."""
    end = Endpoint()
    while True:
        whole = end.request(rng.choice(REQUESTS)())[1]
        yield whole + rng.randbytes(4 * rng.choice((0, 0, 0, 1, 2, 5)))


def login(stream: socket.socket) -> None:
    """Log in as a DMA does, by hand."""
    end = Endpoint()
    stream.sendall(end.request(m.ConfigGetAuthAttrRequest(AuthType.MD5))[1])
    challenge = None
    while challenge is None:
        for message in end.receive(stream.recv(RECEIVE_SIZE)):
            if message.kind is Kind.REPLY:
                challenge = message.body().server_attr.challenge  # type: ignore[attr-defined]
    proof = auth.digest(PASSWORD.encode(), challenge)
    stream.sendall(
        end.request(m.ConnectClientAuthRequest(AuthData(AuthType.MD5, USER.encode(), digest=proof)))[1]
    )


def converse(stream: socket.socket, data: bytes) -> None:
    """Send all of it, read until the server is done with it."""
    with contextlib.suppress(OSError):
        stream.sendall(data)
        stream.shutdown(socket.SHUT_WR)
        while stream.recv(RECEIVE_SIZE):
            pass


@pytest.fixture(params=["data", "media"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[NdmpServer]:
    """A live server of each kind."""
    with contextlib.ExitStack() as stack:
        setup = test_data_matrix.setup
        if request.param == "media":
            site = Site(tmp_path / "library")
            stack.callback(site.close)
            site.operator_moves(CARTRIDGES[0])
            setup = media_setup(site.libraries, "media1", "127.0.0.1")
        made = NdmpServer(("127.0.0.1", 0), setup, accounts=ACCOUNTS)
        made.start()
        stack.callback(made.stop)
        yield made


@pytest.mark.parametrize("logged_in", [False, True])
@pytest.mark.parametrize("seed", [1, 2])
def test_no_bytes_harm_a_server(server: NdmpServer, seed: int, logged_in: bool) -> None:
    """Every session of garbage ends; no handler fails by a bug; another session is answered all along."""
    rng = random.Random(seed)
    source = samples(rng)
    structlog.reset_defaults()
    with capture_logs() as log, Client.connect(server.address, reply_timeout=WAIT_S) as witness:
        witness.login(USER, PASSWORD)
        for _ in range(SESSIONS):
            with socket.create_connection(server.address, WAIT_S) as stream:
                stream.settimeout(WAIT_S)
                if logged_in:
                    login(stream)
                converse(stream, b"".join(mutated(next(source), rng) for _ in range(MESSAGES)))
            witness.do(m.ConfigGetHostInfoRequest())
    assert [line for line in log if line["event"] in BUGS] == []
    assert any(line["event"] == "request refused" for line in log)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One library for all examples; each has a session of its own."""
    made = Site(tmp_path_factory.mktemp("fuzz") / "library")
    made.operator_moves(CARTRIDGES[0])
    yield made
    made.close()


def well_formed() -> st.SearchStrategy[list[Struct]]:
    """Requests whose arguments have the right types, and any values."""
    return st.lists(st.sampled_from(REQUESTS).flatmap(structures), max_size=10)


@pytest.mark.parametrize("kind", ["data", "media"])
@settings(max_examples=150, deadline=None)
@given(requests=well_formed())
def test_any_arguments_in_any_order_are_answered(site: Site, kind: str, requests: list[Struct]) -> None:
    """A session that has logged in answers every request once, and no handler breaks on its arguments."""
    talk = Direct(
        test_data_matrix.setup if kind == "data" else media_setup(site.libraries, "media1", "127.0.0.1")
    )
    try:
        talk.open(4)
        talk.login()
        with capture_logs() as log:
            for request in requests:
                assert isinstance(talk.error(request), ErrorCode)
        assert [line for line in log if line["event"] in BUGS] == []
    finally:
        talk.close()


@pytest.mark.parametrize("length", [0x7FFFFFFF, 0x00FFFFFF])
def test_a_record_that_never_ends_is_not_kept(server: NdmpServer, length: int) -> None:
    """A stranger's record beyond its bound, or fragments without end, closes the connection (2.6)."""
    with socket.create_connection(server.address, WAIT_S) as stream:
        stream.settimeout(WAIT_S)
        piece = struct.pack(">I", length) + bytes(65536)
        ended = False
        for _ in range(200):
            try:
                stream.sendall(piece)
            except OSError:
                ended = True
                break
        assert ended
