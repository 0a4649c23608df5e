"""Names and places of one lab, all derived from the lab's name: nothing has to be remembered to be found."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from harness.lab import LabState
from harness.topology import Library, Node

# Inside the lab's own network namespace one name serves every lab.
BRIDGE = "lab0"
NETWORK = "lab"
# The library's iSCSI portal listens on the namespace's loopback, where nothing else does.
ISCSI_PORT = 3260
# Sockets live here, not in the lab's folder: their paths may have 107 bytes, home directories are long.
RUNTIME = Path("/run/spanreel")


@dataclass(frozen=True)
class Names:
    """Where the parts of one lab are."""

    lab: LabState

    @property
    def netns(self) -> str:
        """The network namespace."""
        return f"spanreel-{self.lab.name}"

    @property
    def runtime(self) -> Path:
        """Sockets and process ids; gone after a restart of the host, like what they belong to."""
        return RUNTIME / self.lab.name

    @property
    def libvirt(self) -> Path:
        """What the lab's own libvirtd keeps (configuration, logs, cache)."""
        return self.lab.folder / "libvirt"

    @property
    def tapes(self) -> Path:
        """Cartridges, one file each."""
        return self.lab.folder / "tapes"

    @property
    def logs(self) -> Path:
        """Logs of the lab's daemons."""
        return self.lab.folder / "log"

    def domain(self, node: Node) -> str:
        """Name of a node's virtual machine."""
        return f"{self.lab.name}-{node.name}"

    def console_log(self, node: Node) -> Path:
        """Recording of a node's serial console."""
        return self.lab.node_folder(node.name) / "console.log"

    def host_address(self) -> str:
        """The host's own address on the bridge: the first of the subnet."""
        return self.lab.subnet.rpartition(".")[0] + ".1"

    def mac(self, node: Node) -> str:
        """A locally administered address that is the same at every start."""
        digest = hashlib.sha256(f"{self.lab.name}/{node.name}".encode()).digest()
        return "52:54:00:" + ":".join(f"{byte:02x}" for byte in digest[:3])

    def target(self, index: int, library: Library) -> str:
        """Return the iSCSI name of a library's target."""
        return f"iqn.2026-11.example.spanreel:{self.lab.name}.{index}.{library.changer.lower()}"
