"""Where things lie on an installed machine: of the appliance image, or deployed by `site.yml`."""

from __future__ import annotations

from harness.providers.base import NodePaths
from harness.topology import FILE_SERVER, Node

CONFIGURATION = "/etc/spanreel"
STATE = "/var/lib/spanreel"
SCRATCH_MOUNT = "/var/tmp/scratch"  # noqa: S108 - on a machine of the lab
DATA = "/data"


def paths(node: Node, token: str = "") -> NodePaths:
    """Return a node's paths; with a lab's `token`, local roots carry it, so that a leak of one is seen."""
    mounts = [disk.mount for disk in node.disks]
    scratch = SCRATCH_MOUNT if SCRATCH_MOUNT in mounts else "/var/tmp/spanreel-scratch"  # noqa: S108
    return NodePaths(
        config=f"{CONFIGURATION}/spanreel.toml",
        accounts=f"{CONFIGURATION}/accounts.toml",
        password=f"{CONFIGURATION}/ndmp.password",
        tls=f"{CONFIGURATION}/tls",
        state=STATE,
        data=f"{_data(node, mounts)}/local-{token}" if token else _data(node, mounts),
        exports="/srv/gns" if node.has(FILE_SERVER) else "",
        library=f"{STATE}/library",
        scratch=node.machine.scratch or scratch,
    )


def _data(node: Node, mounts: list[str]) -> str:
    """The folder of local roots: the first disk of a file server."""
    if node.machine.data:
        return node.machine.data
    return mounts[0] if node.has(FILE_SERVER) and mounts else DATA
