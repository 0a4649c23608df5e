"""The role connection server: channels and feeds, for file servers only."""

from __future__ import annotations

import socket

from appliance import tls
from appliance.config import Cluster, NodeConfig
from appliance.connection.channel import Channels
from appliance.connection.channel_service import ChannelService
from appliance.connection.feed_service import FeedService
from appliance.ndmp.server import NdmpServer
from appliance.ndmp.session import Session
from appliance.peers import accept_peer
from appliance.roles import FILE_SERVER


class ConnectionServerRole:
    """Everything a connection server runs."""

    def __init__(self, config: NodeConfig) -> None:
        """Raises SpanreelError for certificates that cannot be used."""
        self._config = config
        self._channels = Channels()
        self._tls = tls.server_context(config)
        self._feed_tls = self._tls if config.section(Cluster).feed == "tls" else None
        self._server: NdmpServer | None = None

    def start(self) -> list[tuple[str, int]]:
        """Listen on the cluster's port.  Raises OSError when it is in use."""
        address = (self._config.node.address, self._config.section(Cluster).port)
        self._server = NdmpServer(address, self._setup, tls=self._tls)
        self._server.start()
        return [self._server.address]

    def stop(self) -> None:
        """Stop listening and break off every channel."""
        if self._server is not None:
            self._server.stop()

    def _setup(self, session: Session, stream: socket.socket) -> None:
        identity = accept_peer(stream, FILE_SERVER)
        session.log = session.log.bind(node=identity.node)
        host = self._config.node.address
        session.add(ChannelService(session, self._channels, host, session.log))
        session.add(FeedService(session, self._channels, host, self._feed_tls, session.log))
