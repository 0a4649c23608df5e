"""A client whose server's machine is gone learns it, also with a question under way."""

from __future__ import annotations

import socket

import pytest

from appliance.ndmp import messages as m
from appliance.ndmp.client import Client
from appliance.ndmp.dataconn import ANSWERED_S
from appliance.ndmp.errors import ConnectionLostError
from appliance.ndmp.server import NdmpServer
from harness.faults import borrow
from harness.faults.filters import EVERYTHING, program

HASTY_MS = 200


def test_a_question_that_nobody_acknowledges_is_given_up() -> None:
    """Nothing acknowledged for two minutes, here a fifth of a second: the connection is lost."""
    server = NdmpServer(("127.0.0.1", 0), lambda _session, _stream: None)
    server.start()
    client = Client.connect(server.address, "media1")
    try:
        client.open()
        stream = client._stream
        assert stream.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == ANSWERED_S * 1000
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, HASTY_MS)
        borrow.attach(stream, program([EVERYTHING]))
        with pytest.raises(ConnectionLostError):
            client.call(m.ConfigGetHostInfoRequest(), m.ConfigGetHostInfoReply)
    finally:
        client.close()
        server.stop()
