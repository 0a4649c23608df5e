"""What `spanreel lab info` says: enough to point any NDMP client at a running lab."""

from __future__ import annotations

from typing import Any

from harness import secretstore
from harness.namespace import Junctions
from harness.nodeconfig import gns_map
from harness.providers.base import Provider
from harness.topology import FILE_SERVER, MEDIA_SERVER, Node


def describe(provider: Provider, junctions: Junctions | None = None) -> dict[str, Any]:
    """Return the lab in the shape that the interface fixes; `junctions` is the map, else the topology's."""
    topology, lab = provider.topology, provider.lab
    return {
        "lab": lab.name,
        "topology": topology.name,
        "state": lab.state,
        "netns": provider.netns,
        "nodes": [_node(provider, node) for node in topology.nodes],
        "gns": [
            {"global_path": item["path"], "owner": item["owner"], "local_path": item["local"]}
            for item in (gns_map(provider) if junctions is None else junctions)
        ],
        "tape": _tape(provider),
    }


def _node(provider: Provider, node: Node) -> dict[str, Any]:
    """One node; what it does not have is null."""
    ndmp = node.has(FILE_SERVER) or node.has(MEDIA_SERVER)
    return {
        "name": node.name,
        "roles": list(node.roles),
        "address": node.address,
        "ndmp_port": provider.topology.ndmp_port if ndmp else None,
        "ndmp_user": secretstore.NDMP_USER if ndmp else None,
        "ndmp_password": secretstore.password(provider.lab) if ndmp else None,
        "local_root": provider.data_root(node) if node.has(FILE_SERVER) else None,
    }


def _tape(provider: Provider) -> dict[str, Any] | None:
    """The library the main job uses."""
    if not provider.topology.libraries:
        return None
    library = provider.topology.libraries[0]
    return {
        "node": library.node,
        "drives": [{"ndmp_device": f"drive:{serial}", "serial": serial} for serial in library.drives],
        "changer": {"ndmp_device": f"changer:{library.changer}", "serial": library.changer},
        "slots": [
            {"address": library.first_slot + index, "barcode": barcode}
            for index, barcode in enumerate(library.slots)
        ],
    }
