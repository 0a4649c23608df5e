"""Whether a machine has what its roles need, before anything is put on it."""

from __future__ import annotations

from typing import Any

from harness.errors import InfrastructureError
from harness.image.product import NODE_PYTHON
from harness.nodeconfig import METRICS_PORT
from harness.topology import BACKUP_SERVER, CONNECTION_SERVER, FILE_SERVER, MEDIA_SERVER, Node, Topology

MIB = 1024 * 1024
# What the checks copy: seed, restored tree, extracted tree, and the image where the library is a model.
COPIES = 4
# The deployed product, its state and logs.
PRODUCT_MIB = 200
TOOLS = ("sh", "tar", "timeout", "env", "rm")


def binds(topology: Topology, node: Node) -> list[tuple[str, int]]:
    """Return where a node's roles will listen."""
    ports = []
    if node.has(FILE_SERVER) or node.has(MEDIA_SERVER):
        ports.append(topology.ndmp_port)
    if node.has(FILE_SERVER) or node.has(CONNECTION_SERVER):
        ports.append(topology.cluster_port)
    if node.served_roles:
        ports.append(METRICS_PORT)
    if node.has(BACKUP_SERVER):
        ports.append(0)  # no port yet: that the address is the machine's own
    return [(node.address, port) for port in ports]


def judge(topology: Topology, node: Node, facts: dict[str, Any]) -> None:
    """Raise the first thing that is not as it must be, with what to do about it."""
    version = ".".join(map(str, facts["python"]))
    if node.machine.product == "deploy" and (version != NODE_PYTHON or facts["machine"] != "x86_64"):
        raise _error(
            node,
            f"python3 {version} on {facts['machine']}; the deployed product is for {NODE_PYTHON} on x86_64",
            "install the product there and write `machine: {product: installed}`",
        )
    if facts["missing"]:
        raise _error(node, f"{', '.join(facts['missing'])} is not there", "install it on the machine")
    for address, port, why in facts["binds"]:
        raise _error(
            node,
            f"{address}{f':{port}' if port else ''} cannot be used: {why}",
            f"see who on the machine: ss -ltnp 'sport = :{port}'; or correct `address` in the topology",
        )
    if node.machine.service == "systemd" and not (facts["systemd"] and facts["root"]):
        raise _error(node, "units need systemd and root", "write `service: process`, or a user with sudo")
    for name, need in needs(topology, node).items():
        have = facts["free"][name] // MIB
        if have < need:
            raise _error(
                node,
                f"{have} MiB free for {name}, the lab needs {need}",
                f"name another folder in `machine: {name}`",
            )


def needs(topology: Topology, node: Node) -> dict[str, int]:
    """Return the MiB that must be free by kind of folder."""
    seed = topology.seed.size_mib + topology.seed.small_files * 4096 // MIB
    wanted = {"base": PRODUCT_MIB}
    if node.has(FILE_SERVER):
        wanted["data"] = COPIES * seed
    if node.has(MEDIA_SERVER):
        wanted["scratch"] = COPIES * seed
    return wanted


def by_systemd(node: Node, facts: dict[str, Any]) -> bool:
    """Return whether roles are started as units."""
    if node.machine.service == "auto":
        return bool(facts["systemd"] and facts["root"])
    return node.machine.service == "systemd"


def _error(node: Node, what: str, remedy: str) -> InfrastructureError:
    # The step is named by the caller (`reach.step`).
    return InfrastructureError(f"{node.name}: {what}", hint=remedy)
