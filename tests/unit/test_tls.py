"""TLS between nodes: what a connection that ended meanwhile is taken for."""

from __future__ import annotations

import socket
import ssl

import pytest

from appliance.tls import PeerError, peer_identity


def test_a_connection_that_ended_meanwhile_has_no_identity() -> None:
    """A peer that is gone before it was looked at is a peer error, not a crash of the server."""
    ours, theirs = socket.socketpair()
    with theirs:
        stream = ssl.create_default_context().wrap_socket(
            ours, server_hostname="node", do_handshake_on_connect=False
        )
        with pytest.raises(PeerError):
            peer_identity(stream)
        stream.close()
        with pytest.raises(PeerError):
            peer_identity(stream)
