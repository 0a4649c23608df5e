"""The role connection server: channels and feeds, for file servers only."""

from __future__ import annotations

import socket

from appliance import tls
from appliance.agreement import offer
from appliance.config import Cluster, ConnectionServer, NodeConfig
from appliance.connection.channel import Channels
from appliance.connection.channel_service import ChannelService
from appliance.connection.feed_service import FeedService
from appliance.ndmp.server import NdmpServer
from appliance.ndmp.session import Session
from appliance.ndmp.sessions import Sessions
from appliance.peers import accept_peer
from appliance.roles import FILE_SERVER


class ConnectionServerRole:
    """Everything a connection server runs."""

    def __init__(self, config: NodeConfig, sessions: Sessions | None = None) -> None:
        """`sessions`: those of the whole process.  Raises SpanreelError for unusable certificates."""
        self._config = config
        self.sessions = sessions or Sessions()
        self._rules = config.section(ConnectionServer).data_rules
        self._channels = Channels()
        self._tls = tls.server_context(config)
        self._feed_tls = self._tls if config.section(Cluster).feed == "tls" else None
        self._server: NdmpServer | None = None

    def start(self) -> list[tuple[str, int]]:
        """Listen on the cluster's port.  Raises OSError when it is in use."""
        cluster = self._config.section(Cluster)
        self._server = NdmpServer(
            (self._config.node.address, cluster.port),
            self._setup,
            tls=self._tls,
            sessions=self.sessions,
            sessions_max=cluster.sessions_max,
        )
        self._server.start()
        return [self._server.address]

    def stop(self) -> None:
        """Stop listening and break off every channel."""
        if self._server is not None:
            self._server.stop()

    def _setup(self, session: Session, stream: socket.socket) -> None:
        identity = accept_peer(stream, FILE_SERVER)
        session.node = identity.node
        host = self._config.node.address
        session.add(offer())
        session.add(ChannelService(session, self._channels, host, session.log, self._rules))
        session.add(
            FeedService(session, self._channels, host, self._feed_tls, session.log, self._rules.ports)
        )
