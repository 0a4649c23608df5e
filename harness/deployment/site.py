"""The machines of a topology as `site.yml` leaves them: what their configurations are made of."""

from __future__ import annotations

from harness.errors import UsageError
from harness.lab import LabState
from harness.providers import installed
from harness.providers.base import NodePaths
from harness.topology import Node, Topology

PROCESS = "process"
# Machines of the VM lab have local roots that are named by the lab's token (providers/base.py).
LIBVIRT = "libvirt"


class InstalledSite:
    """A `nodeconfig.Site` of machines with the product in its own places."""

    def __init__(self, topology: Topology, lab: LabState) -> None:
        """Raise UsageError for a topology that has no machines, or nodes that units cannot serve."""
        if topology.provider == PROCESS:
            raise UsageError(
                f"{topology.name}: its nodes are processes of this host; there is nothing to deploy to",
                hint="take a topology of machines: harness/topologies/machines-example.yaml",
            )
        for node in topology.nodes:
            if len(node.served_roles) > 1:
                raise UsageError(
                    f"{node.name}: {' and '.join(node.served_roles)}: a deployed node runs one daemon",
                    hint="give each role a node of its own",
                )
        self.topology = topology
        self.lab = lab

    def paths(self, node: Node) -> NodePaths:
        """Where things lie on this node."""
        return installed.paths(node, self.lab.token if self.topology.provider == LIBVIRT else "")

    def data_root(self, node: Node) -> str:
        """Parent of the node's local roots."""
        return self.paths(node).data

    def ndmp_reachable_at(self, node: Node) -> tuple[str, int]:
        """Its own address: nothing stands between."""
        return node.address, self.topology.ndmp_port
