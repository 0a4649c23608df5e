"""Where a lab's things lie on a machine that has other things to do.

Everything but local roots and scratch space is in one folder that the lab makes and removes,
BASE/ADDRESS: what two labs cannot share is an address, and so they cannot share the folder.

    claim.json     whose it is
    config/        spanreel.toml, accounts, certificates, keys
    state/         what would be /var/lib/spanreel
    library/       cartridges of the in-process library
    product/       the deployed product
    run/           ids and logs of processes
    relay/         recordings of the backup server's NDMP sessions
"""

from __future__ import annotations

from harness.lab import LabState
from harness.leases import owner_of
from harness.providers.base import NodePaths
from harness.topology import Node

_STANDARD_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def folder(node: Node) -> str:
    """Return the lab's folder on the machine."""
    return f"{node.machine.base}/{node.address}"


def data(node: Node, lab: LabState) -> str:
    """Return the parent of local roots: named by the token, so that a leak of a local path is seen."""
    return f"{node.machine.data or folder(node)}/local-{lab.token}"


def scratch(node: Node, lab: LabState) -> str:
    """Return the scratch space."""
    if not node.machine.scratch:
        return f"{folder(node)}/scratch"
    return f"{node.machine.scratch}/spanreel-scratch-{owner_of(lab)}"


def elsewhere(node: Node, lab: LabState) -> list[str]:
    """Return the folders that the lab makes outside its own."""
    made = []
    if node.machine.data:
        made.append(data(node, lab))
    if node.machine.scratch:
        made.append(scratch(node, lab))
    return made


def paths(node: Node, lab: LabState) -> NodePaths:
    """Return where things lie."""
    top = folder(node)
    return NodePaths(
        config=f"{top}/config/spanreel.toml",
        accounts=f"{top}/config/accounts.toml",
        password=f"{top}/config/ndmp.password",
        tls=f"{top}/config/tls",
        state=f"{top}/state",
        data=data(node, lab),
        # Kernel NFS is the machine's own: its exports and mounts are not touched.
        exports="",
        library=f"{top}/library",
        scratch=scratch(node, lab),
    )


def run(node: Node) -> str:
    """Return the folder of process ids and logs."""
    return f"{folder(node)}/run"


def relay(node: Node) -> str:
    """Return the folder of recordings on the backup server's machine."""
    return f"{folder(node)}/relay"


def product(node: Node) -> str:
    """Return the folder of deployed products."""
    return f"{folder(node)}/product"


def environment(node: Node, lab: LabState) -> dict[str, str]:
    """Return the environment of commands: the deployed product, or an installed one, comes first."""
    deployed = node.machine.product == "deploy"
    own = f"{product(node)}/current/bin" if deployed else node.machine.bin
    made = {
        "SPANREEL_CONFIG": paths(node, lab).config,
        "LC_ALL": "C.UTF-8",
        "PATH": f"{own}:{_STANDARD_PATH}" if own else _STANDARD_PATH,
        # What is made there is removed; compiled files beside an installed product would stay.
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    if deployed:
        made["PYTHONPATH"] = f"{product(node)}/current/lib"
    return made
