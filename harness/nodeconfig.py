"""A node's configuration: one TOML file, and the secrets it names.

The format is the appliance's (docs/architecture.md); `spanreel config ROLE --example` prints it
commented.  Here it is only written, from the topology.
"""

from __future__ import annotations

import json
from typing import Any, Protocol

from harness import secretstore
from harness.errors import UsageError
from harness.lab import LabState
from harness.providers.base import NodeFile, NodePaths, Provider
from harness.topology import (
    BACKUP_SERVER,
    CLIENT,
    CONNECTION_SERVER,
    FILE_SERVER,
    MEDIA_SERVER,
    PROCESS_MODEL,
    Library,
    Node,
    Topology,
)

# The size the design measured as fastest without wasting a drive's buffer.
RECORD_SIZE = 262144
# Where every node of a lab has its figures for Prometheus.
METRICS_PORT = 9700
MIB = 1024 * 1024

Table = dict[str, Any]


class Site(Protocol):
    """What configurations are made of: a site, or the machines that an inventory is for."""

    topology: Topology
    lab: LabState

    def paths(self, node: Node) -> NodePaths:
        """Where things lie on this node."""

    def data_root(self, node: Node) -> str:
        """Parent of the node's local roots."""

    def ndmp_reachable_at(self, node: Node) -> tuple[str, int]:
        """Where the DMA reaches this node's NDMP service."""


def files(site: Site, node: Node) -> list[NodeFile]:
    """Return all configuration files of a node."""
    if node.roles == (CLIENT,):
        return []
    topology, lab, paths = site.topology, site.lab, site.paths(node)
    text = to_toml(_config(site, node))
    made = [NodeFile(paths.config, text.encode())]
    secret = secretstore.password(lab)
    if node.has(FILE_SERVER) or node.has(MEDIA_SERVER):
        accounts = to_toml({secretstore.NDMP_USER: secret})
        made.append(NodeFile(paths.accounts, accounts.encode(), secret=True))
    if node.has(BACKUP_SERVER):
        made.append(NodeFile(paths.password, secret.encode(), secret=True))
    if secretstore.in_cluster(node):
        made += _tls(topology, lab, node, paths)
    return made


def catalogue(paths: NodePaths) -> str:
    """Return where the backup server keeps its catalogue."""
    return f"{paths.state}/catalogue.sqlite"


def local_root(site: Site, path: str) -> str:
    """Return the local root of a junction, which only its owner and the harness know."""
    junction = next(item for item in site.topology.gns if item.path == path)
    return f"{site.data_root(site.topology.node(junction.owner))}/{junction.dir}"


def gns_map(site: Site) -> list[dict[str, str]]:
    """Return the map as `spanreel gns add --file` reads it."""
    return [
        {"path": item.path, "owner": item.owner, "local": local_root(site, item.path)}
        for item in site.topology.gns
    ]


def to_toml(tables: Table) -> str:
    """Write TOML: scalars first, then tables, then arrays of tables."""
    return "\n".join(_lines(tables, ())) + "\n"


def _tls(topology: Topology, lab: LabState, node: Node, paths: NodePaths) -> list[NodeFile]:
    """Certificate files of a node."""
    secretstore.make_certificates(topology, lab)
    made = secretstore.certificate(lab, node)
    return [
        NodeFile(f"{paths.tls}/ca.pem", made.authority),
        NodeFile(f"{paths.tls}/node.pem", made.certificate),
        NodeFile(f"{paths.tls}/node.key", made.key, secret=True),
    ]


def _config(site: Site, node: Node) -> Table:
    """Everything in one node's file."""
    topology, paths = site.topology, site.paths(node)
    config: Table = {
        "schema": 1,
        "node": {
            "name": node.name,
            "address": node.address,
            "state": paths.state,
            "log": "info",
            "metrics": f"{node.address}:{METRICS_PORT}",
        },
    }
    if node.has(FILE_SERVER) or node.has(MEDIA_SERVER):
        config["ndmp"] = {"port": topology.ndmp_port, "accounts": paths.accounts}
    if secretstore.in_cluster(node):
        config["cluster"] = _cluster(topology, node, paths)
    if node.has(FILE_SERVER):
        config["file_server"] = _file_server(topology, paths)
    if node.has(CONNECTION_SERVER):
        config["connection_server"] = {}
    if node.has(MEDIA_SERVER):
        mine = [library for library in topology.libraries if library.node == node.name]
        config["media_server"] = {"libraries": [_library(library, paths) for library in mine]}
    if node.has(BACKUP_SERVER):
        config["backup_server"] = _backup_server(site, paths, 0)
    return config


def use_library(provider: Provider, node: Node, index: int) -> str:
    """Return the configuration of a backup server that uses a library; "" is the node's own, for the first.

    Each has a catalogue of its own.  Raises UsageError when the topology has no such library.
    """
    if index == 0:
        return ""
    path, text = _with_library(provider, node, index)
    provider.install(node, [NodeFile(path, text)])
    return path


def _with_library(site: Site, node: Node, index: int) -> tuple[str, bytes]:
    paths = site.paths(node)
    config = _config(site, node)
    config["backup_server"] = _backup_server(site, paths, index)
    config["backup_server"]["catalogue"] = f"{paths.state}/catalogue-{index}.sqlite"
    return f"{paths.config.removesuffix('.toml')}-{index}.toml", to_toml(config).encode()


def _cluster(topology: Topology, node: Node, paths: NodePaths) -> Table:
    """The section [cluster]."""
    peers = [peer for peer in topology.nodes if secretstore.in_cluster(peer) and peer.name != node.name]
    return {
        "port": topology.cluster_port,
        "authority": f"{paths.tls}/ca.pem",
        "certificate": f"{paths.tls}/node.pem",
        "key": f"{paths.tls}/node.key",
        "gns_writer": topology.only(FILE_SERVER).name,
        "connection_server": topology.only(CONNECTION_SERVER).name,
        "feed": "token",
        "nodes": [
            {"name": peer.name, "address": peer.address, "port": topology.cluster_port} for peer in peers
        ],
    }


def _file_server(topology: Topology, paths: NodePaths) -> Table:
    """The section [file_server]: the client's root stays root, or it could not look into every folder."""
    if not paths.exports:
        return {"nfs": False}
    trusted = [node.address for node in topology.with_role(CLIENT)]
    return {"nfs": True, "export_root": paths.exports, "clients": [topology.subnet], "root_clients": trusted}


def _library(library: Library, paths: NodePaths) -> Table:
    """One table of [[media_server.libraries]]."""
    table: Table = {
        "transport": "model" if library.transport == PROCESS_MODEL else "sg",
        "changer": library.changer,
        "drives": list(library.drives),
        "writable": list(library.writable),
    }
    if library.transport == PROCESS_MODEL:
        capacity = library.capacity_mib * MIB
        table |= {"folder": paths.library, "slots": list(library.slots), "capacity": capacity}
    return table


def _backup_server(site: Site, paths: NodePaths, index: int) -> Table:
    """The section [backup_server]: one library, and every NDMP server there is."""
    topology = site.topology
    if len(topology.libraries) <= index:
        raise UsageError(f"{topology.file}: libraries: {index + 1} are needed")
    library = topology.libraries[index]
    return {
        "catalogue": catalogue(paths),
        "entry": topology.only(FILE_SERVER).name,
        "media": library.node,
        "changer": library.changer,
        "drives": list(library.drives),
        "writable": list(library.writable),
        "record_size": RECORD_SIZE,
        "servers": [
            _server(site, node, paths)
            for node in topology.nodes
            if node.has(FILE_SERVER) or node.has(MEDIA_SERVER)
        ],
    }


def _server(site: Site, node: Node, paths: NodePaths) -> Table:
    """One table of [[backup_server.servers]]."""
    address, port = site.ndmp_reachable_at(node)
    return {
        "name": node.name,
        "address": address,
        "port": port,
        "user": secretstore.NDMP_USER,
        "password_file": paths.password,
    }


def _lines(table: Table, where: tuple[str, ...]) -> list[str]:
    """The lines of one table and of those below it."""
    lines = [f"{key} = {_value(value)}" for key, value in table.items() if not _is_table(value)]
    for key, value in table.items():
        name = ".".join((*where, key))
        if isinstance(value, dict):
            lines += ["", f"[{name}]", *_lines(value, (*where, key))]
        elif _is_table(value):
            for item in value:
                lines += ["", f"[[{name}]]", *_lines(item, (*where, key))]
    return lines


def _is_table(value: Any) -> bool:
    """Whether a value becomes a section of its own."""
    return isinstance(value, dict) or (isinstance(value, list) and bool(value) and isinstance(value[0], dict))


def _value(value: Any) -> str:
    """A scalar or a list of scalars: JSON's notation of those is TOML's too."""
    return json.dumps(value)
