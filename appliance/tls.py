"""TLS between nodes: both sides show a certificate of the cluster's authority.

A connection proves which node is at the other end (`spanreel:node:NAME`) and which roles it has
(`spanreel:role:ROLE`).  Host names play no part, since nodes are known by name and may move address;
roles are checked for each message, by `Identity.require`.
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance.config import Cluster, NodeConfig
from appliance.errors import ConfigurationError, InfrastructureError
from appliance.files import check_secret
from appliance.ndmp.lazylog import get_logger
from appliance.roles import NODE_URI, ROLE_URI


class PeerError(InfrastructureError):
    """The other end of a connection is not a node of this cluster."""


class RoleError(InfrastructureError):
    """A node asked for what none of its roles may ask for."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What a peer's certificate proves."""

    node: str
    roles: frozenset[str]

    def require(self, *roles: str) -> None:
        """Raise RoleError unless the peer has at least one of `roles`."""
        if self.roles.isdisjoint(roles):
            has = ", ".join(sorted(self.roles)) or "no role"
            raise RoleError(f"node {self.node} has {has}; this needs {' or '.join(roles)}")


def server_context(config: NodeConfig) -> ssl.SSLContext:
    """Return the context for accepting connections of nodes.

    Raises ConfigurationError when a certificate file is missing, unusable or, for the key, not 0600.
    """
    return _revocable(ssl.PROTOCOL_TLS_SERVER, config)


def client_context(config: NodeConfig) -> ssl.SSLContext:
    """Return the context for connecting to nodes; raises as `server_context` does."""
    return _revocable(ssl.PROTOCOL_TLS_CLIENT, config)


def _revocable(protocol: int, config: NodeConfig) -> ssl.SSLContext:
    revoked = config.section(Cluster).revoked
    if revoked is None:
        return _context(protocol, config)
    return _FreshContext.of(protocol, config, revoked)


class _FreshContext(ssl.SSLContext):
    """Stands for the context that knows the present list of revoked certificates.

    OpenSSL keeps what it has read, so a list that has changed gets a context of its own.
    """

    _config: NodeConfig
    _file: Path
    _present: ssl.SSLContext
    _seen: tuple[int, ...] | None
    _lock: threading.Lock

    @classmethod
    def of(cls, protocol: int, config: NodeConfig, file: Path) -> _FreshContext:
        """Raises ConfigurationError when the list cannot be used."""
        made = cls(protocol)
        made._config, made._file, made._lock = config, file, threading.Lock()
        made._seen = _signature(file)
        made._present = _context(protocol, config)
        return made

    def wrap_socket(self, *given: Any, **options: Any) -> ssl.SSLSocket:
        """As the base class, by the present list."""
        return self._fresh().wrap_socket(*given, **options)

    def _fresh(self) -> ssl.SSLContext:
        with self._lock:
            seen = _signature(self._file)
            if seen != self._seen:
                self._seen = seen
                try:
                    self._present = _context(self.protocol, self._config)
                    get_logger().info("list of revoked certificates read again", file=str(self._file))
                except ConfigurationError as error:
                    # Better the last good list than none, or no cluster.
                    get_logger().error("the last list of revoked certificates stays", why=str(error))
            return self._present


def _signature(file: Path) -> tuple[int, ...] | None:
    """What changes when a file is replaced or written; None when it is not there."""
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _context(protocol: int, config: NodeConfig) -> ssl.SSLContext:
    cluster = config.section(Cluster)
    check_secret(cluster.key)
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # Python before 3.11.4, Debian 12's among them, tells OpenSSL to take a cut stream for one that ended.
    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    if protocol == ssl.PROTOCOL_TLS_SERVER:
        # Sessions are never resumed, and a ticket sent to a peer that closes without reading would turn
        # its clean end into a reset.
        context.num_tickets = 0
    try:
        context.load_verify_locations(cafile=cluster.authority)
        context.load_cert_chain(cluster.certificate, cluster.key)
    except OSError as error:
        # ssl.SSLError is an OSError too, and neither says which file it was.
        raise ConfigurationError(
            f"{config.source}: [cluster]: cannot use {cluster.authority}, {cluster.certificate} and "
            f"{cluster.key}: {error.strerror or error}; make them with `spanreel ca`"
        ) from error
    if cluster.revoked is not None:
        _check_revoked(context, cluster.revoked, config.source)
    return context


def _check_revoked(context: ssl.SSLContext, file: Path, source: Path) -> None:
    try:
        context.load_verify_locations(cafile=file)
    except OSError as error:
        raise ConfigurationError(
            f"{source}: [cluster] revoked: cannot use {file}: {error.strerror or error}; "
            "`spanreel ca revoke` makes it, or leave the key out"
        ) from error
    if not context.cert_store_stats()["crl"]:
        raise ConfigurationError(f"{source}: [cluster] revoked: {file} holds no list of revoked certificates")
    context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF


def handshake(
    context: ssl.SSLContext, connection: socket.socket, *, server_side: bool
) -> tuple[ssl.SSLSocket, Identity]:
    """Do the TLS handshake on a connected socket and return the TLS socket and who is there.

    A later end of the stream without TLS's own closing message raises ssl.SSLError: a stream that
    was cut is never taken for one that ended.  Raises PeerError, with `connection` closed, when the
    handshake fails or the certificate names no node.
    """
    try:
        wrapped = context.wrap_socket(connection, server_side=server_side, suppress_ragged_eofs=False)
    except OSError as error:
        connection.close()
        raise PeerError(
            f"no TLS with a node of this cluster: {error}; check both nodes' [cluster]"
        ) from error
    try:
        return wrapped, peer_identity(wrapped)
    except PeerError:
        wrapped.close()
        raise


def peer_identity(connection: ssl.SSLSocket) -> Identity:
    """Return what the peer's certificate proves; raises PeerError when it names no node."""
    try:
        certificate = connection.getpeercert()
    except (OSError, ValueError, AttributeError) as error:
        # CPython's answers for a connection that ended meanwhile, by a server that is being stopped.
        raise PeerError(f"the connection ended before its peer was known: {error}") from error
    return _identity(certificate or {})


def _identity(certificate: Mapping[str, Any]) -> Identity:
    uris = [value for kind, value in certificate.get("subjectAltName", ()) if kind == "URI"]
    nodes = [uri.removeprefix(NODE_URI) for uri in uris if uri.startswith(NODE_URI)]
    if len(nodes) != 1:
        raise PeerError(f"the peer's certificate names {len(nodes)} nodes, one is allowed; use `spanreel ca`")
    roles = frozenset(uri.removeprefix(ROLE_URI) for uri in uris if uri.startswith(ROLE_URI))
    return Identity(nodes[0], roles)
