"""Control sessions to other nodes: NDMP inside TLS, to a node by its name and checked to be that node."""

from __future__ import annotations

import contextlib
import queue
import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from appliance import tls
from appliance.agreement import agree
from appliance.config import Cluster, NodeConfig
from appliance.errors import SpanreelError
from appliance.ndmp import extension as x
from appliance.ndmp import messages as m
from appliance.ndmp.client import CONNECT_TIMEOUT_S, Client
from appliance.ndmp.declare import CODES
from appliance.ndmp.endpoint import Received
from appliance.ndmp.enums import ALL_ONES, AddressType, DataOperation, ErrorCode, MoverMode
from appliance.ndmp.errors import ConnectionLostError, RemoteFaultError
from appliance.ndmp.logcontext import note
from appliance.ndmp.types import Address

ANSWER_S = 60.0
"""A node answers from memory, whatever its streams do; DATA_CONNECT waits longest, some 35 s for a connection
and a handshake.  One that says nothing for so long hangs or is gone, and is not waited for."""


@dataclass(frozen=True)
class Event:
    """Something a job waits for: `post` from `source`, or None when the session to it is lost."""

    source: str
    post: Received | None


Events = queue.SimpleQueue[Event]


class Peers:
    """Opens sessions to the other nodes of the cluster."""

    def __init__(self, config: NodeConfig) -> None:
        """Raises ConfigurationError for certificates that cannot be used."""
        self.address = config.node.address
        self.cluster = config.section(Cluster)
        self.tls: ssl.SSLContext = tls.client_context(config)
        # An entry server orders its own parts as it orders those of others: from the node that owns them.
        own = (config.node.name, (config.node.address, self.cluster.port))
        self._addresses = dict(
            [own, *((node.name, (node.address, node.port)) for node in self.cluster.nodes)]
        )

    def open(
        self,
        node: str,
        on_post: Callable[[Received], None] | None = None,
        on_lost: Callable[[], None] | None = None,
        patience: float | None = None,
    ) -> Client:
        """A session to `node`; no step of connecting, and no reply, is awaited longer than `patience`.

        Raises ConnectionLostError: the node is unknown, unreachable, more than one release apart, or somebody
        else answers.
        """
        address = self._addresses.get(node)
        if address is None:
            raise ConnectionLostError(f"{node} is not among this node's cluster.nodes", ErrorCode.CONNECT)
        patience = ANSWER_S if patience is None else patience
        client = Client.connect(
            address,
            node,
            tls=self.tls,
            on_post=on_post,
            on_lost=on_lost,
            source=self.address,
            check=lambda stream: _require_node(stream, node),
            connect_timeout=min(patience, CONNECT_TIMEOUT_S),
            reply_timeout=patience,
        )
        with closing_on_error(client):
            client.open()
            client.agreed = agree(client, node)
        return client


@contextlib.contextmanager
def closing_on_error(client: Client) -> Iterator[None]:
    """Close a session whose first words fail: nobody would have it, and its thread and socket stayed."""
    try:
        yield
    except BaseException:
        client.close()
        raise


def accept_peer(stream: socket.socket, *roles: str) -> tls.Identity:
    """Who connected to the cluster's port.

    Raises RemoteFaultError(NOT_AUTHORIZED) unless the peer's certificate names one of `roles`.
    """
    assert isinstance(stream, ssl.SSLSocket)
    try:
        identity = tls.peer_identity(stream)
        identity.require(*roles)
    except SpanreelError as error:
        raise RemoteFaultError(str(error), ErrorCode.NOT_AUTHORIZED) from error
    note(node=identity.node)
    return identity


def _require_node(stream: socket.socket, node: str) -> None:
    try:
        assert isinstance(stream, ssl.SSLSocket)
        found = tls.peer_identity(stream).node
    except tls.PeerError as error:
        raise ConnectionLostError(f"{node}: {error}", ErrorCode.CONNECT) from error
    if found != node:
        raise ConnectionLostError(f"{found} answered in the place of {node}", ErrorCode.CONNECT)


class ChannelSession:
    """The entry server's hold on a backup channel at the connection server."""

    NAME = "channel"

    def __init__(
        self,
        peers: Peers,
        job: str,
        events: Events,
        on_connected: Callable[[Address], None],
        on_over: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_connected` is told when the mover came, after `listen`; `on_over` that the channel is no more.

        Raises NdmpError when the connection server cannot be had.
        """

        def on_post(post: Received) -> None:
            if post.code == CODES[x.ChannelConnectedPost][1]:
                body = post.body()
                assert isinstance(body, x.ChannelConnectedPost)
                on_connected(body.addr)
            else:
                events.put(Event(self.NAME, post))
                if post.code == CODES[m.NotifyDataHaltedPost][1]:
                    on_over()

        def on_lost() -> None:
            events.put(Event(self.NAME, None))
            on_over()

        self._client = peers.open(peers.cluster.connection_server, on_post, on_lost)
        with closing_on_error(self._client):
            self.channel = self._client.call(x.ChannelOpenRequest(job.encode()), x.ChannelOpenReply).channel

    @property
    def agreed(self) -> int:
        """The version of what nodes say to each other that the connection server and this node speak."""
        return self._client.agreed

    def connect(self, address: Address) -> None:
        """Have the connection server connect to the mover."""
        self._client.do(m.DataConnectRequest(address))

    def listen(self, kind: AddressType = AddressType.TCP) -> Address:
        """Have the connection server listen for the mover; the address is the connection server's."""
        reply = self._client.call(m.DataListenRequest(kind), m.DataListenReply)
        return reply.connect_addr

    def state(self) -> m.DataGetStateReply:
        """The channel's state and counters."""
        return self._client.call(m.DataGetStateRequest(), m.DataGetStateReply)

    def start_backup(self) -> None:
        """Start relaying what the feeds bring."""
        self._client.do(x.ChannelStartRequest(DataOperation.BACKUP))

    def start_recover(self, request: x.ChannelStartRequest) -> None:
        """Start a restore: which members go to which feeds, and what of the image is read."""
        self._client.do(request)

    def finish(self, length: int) -> None:
        """Close the channel after `length` bytes of a backup.  Raises ReplyError when counts differ."""
        self._client.do(x.ChannelFinishRequest(length))

    def close(self) -> None:
        """End the session; a channel that still runs is broken off."""
        self._client.close()


class FeedSession:
    """The entry server's hold on one feed at the connection server."""

    def __init__(self, peers: Peers, channel: bytes, name: str, events: Events) -> None:
        """`name` is what the feed's events are marked with.  Raises NdmpError."""
        self.name = name
        self._client = peers.open(
            peers.cluster.connection_server,
            lambda post: events.put(Event(name, post)),
            lambda: events.put(Event(name, None)),
        )
        with closing_on_error(self._client):
            self.number = self._client.call(x.FeedAttachRequest(channel), x.FeedAttachReply).feed

    def listen(self, mode: MoverMode, offset: int) -> Address:
        """Set the window and listen; the address holds the one-time token."""
        self._client.do(m.MoverSetWindowRequest(offset, ALL_ONES - offset))
        reply = self._client.call(m.MoverListenRequest(mode, AddressType.TCP), m.MoverListenReply)
        return reply.connect_addr

    def read(self) -> None:
        """Let a restore's feed start."""
        self._client.do(m.MoverReadRequest(0, ALL_ONES))

    def state(self) -> m.MoverGetStateReply:
        """The feed's counters, exact once it halted."""
        return self._client.call(m.MoverGetStateRequest(), m.MoverGetStateReply)

    def close(self) -> None:
        """End the session; a feed that still runs is broken."""
        self._client.close()
