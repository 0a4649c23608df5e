"""The lab's secrets: one NDMP password, one authority, a certificate per node of the cluster.

Made once per lab, kept in `LabState.secrets` (0700), never part of an image.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from harness import product
from harness.lab import LabState
from harness.topology import CONNECTION_SERVER, FILE_SERVER, Node, Topology

NDMP_USER = "spanreel"
# 96 bits, nobody guesses them, in 24 characters: some DMAs keep 31 bytes of a password only (ndmjob).
PASSWORD_BYTES = 12


@dataclass(frozen=True)
class NodeCertificate:
    """What a node shows to its peers."""

    authority: bytes
    certificate: bytes
    key: bytes


def password(lab: LabState) -> str:
    """Return the lab's NDMP password, made on first use.

    Nodes are configured in parallel: the file appears whole, and the first one made counts.
    """
    path = lab.secrets / "ndmp.password"
    if not path.exists():
        partial = lab.secrets / f"ndmp.password.{secrets.token_hex(4)}"
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_hex(PASSWORD_BYTES))
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(partial)
        partial.unlink()
    return path.read_text(encoding="ascii")


def in_cluster(node: Node) -> bool:
    """Return whether the node speaks NDMP inside TLS with others."""
    return node.has(FILE_SERVER) or node.has(CONNECTION_SERVER)


def make_certificates(topology: Topology, lab: LabState) -> None:
    """Make the authority and the certificates that are missing."""
    authority = lab.secrets / "authority"
    if not (authority / "ca.pem").exists():
        product.run(["ca", "init", "--out", str(authority)])
    issued = lab.secrets / "nodes"
    wanted = [
        node for node in topology.nodes if in_cluster(node) and not (issued / node.name / "node.pem").exists()
    ]
    if wanted:
        names = [f"{node.name}={'+'.join(node.served_roles)}@{node.address}" for node in wanted]
        product.run(["ca", "issue", "--ca", str(authority), "--out", str(issued), *names])


def certificate(lab: LabState, node: Node) -> NodeCertificate:
    """Return a node's certificate, made by `make_certificates` before."""
    folder: Path = lab.secrets / "nodes" / node.name
    names = ("ca.pem", "node.pem", "node.key")
    return NodeCertificate(*((folder / name).read_bytes() for name in names))
