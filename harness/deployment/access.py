"""How ansible reaches the machines: private keys by path, and which host keys count."""

from __future__ import annotations

from dataclasses import dataclass

from harness.deployment.site import LIBVIRT
from harness.lab import LabState
from harness.topology import Node, Topology

SSH_PORT = 22


@dataclass(frozen=True)
class Access:
    """One machine: where SSH is, our private key's file, the machine's public keys."""

    address: str
    port: int
    user: str
    identity: str
    host_keys: tuple[str, ...]

    def known_hosts(self) -> list[str]:
        """Return its lines of a known_hosts file (sshd(8))."""
        name = self.address if self.port == SSH_PORT else f"[{self.address}]:{self.port}"
        return [f"{name} {key}" for key in self.host_keys]


def access(topology: Topology, lab: LabState, node: Node) -> Access:
    """Return how to reach a machine.  Raises UsageError where a key is missing."""
    # Here: paramiko and cryptography are of no use to who only reads an inventory.
    if topology.provider == LIBVIRT:
        from harness.providers.libvirt.identity import ensure_key

        identity = lab.secrets / "ssh"
        ensure_key(identity)
        keys = (ensure_key(lab.secrets / "host-keys" / node.name),)
        return Access(node.address, node.ssh.port, node.ssh.user, str(identity), keys)
    from harness.providers.machines import hostkeys

    pinned = tuple(hostkeys.pinned(node).splitlines())
    return Access(hostkeys.address(node), node.ssh.port, node.ssh.user, str(hostkeys.identity(node)), pinned)
