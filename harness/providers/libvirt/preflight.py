"""What this host must have before a lab of virtual machines is made; nothing is changed here."""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path

from harness.errors import InfrastructureError, MissingToolError
from harness.topology import Topology

# What installs everything below; `INSTALL=0 make lab` prints the packages behind it.
INSTALL = "bootstrap/install vms"

_TOOLS = {
    "ip": "the lab's network",
    "libvirtd": "virtual machines",
    "qemu-system-x86_64": "virtual machines",
    "qemu-img": "disks of virtual machines",
    "mmdebstrap": "building the appliance image",
    "ansible-playbook": "building the appliance image",
    "mke2fs": "building the appliance image",
}
_TGT_TOOLS = {"tgtd": "the tape library", "tgtadm": "the tape library", "tgtimg": "the tape library"}
# QEMU itself, beside the guest's memory, with its translation cache.
_MEMORY_OVERHEAD_MIB = 200
# The image while it is built: tree and disk.
_IMAGE_MIB = 2500
# A machine's writes to its root file system.
_OVERLAY_MIB = 300
# Seed, restored tree, extracted tree, restored parts, snapshots: how often the seed lies on data disks; and
# the cartridges hold it as often as the main job backs it up.
_SEED_COPIES = 10


def check(topology: Topology, folder: Path, cache: Path, *, image_is_there: bool) -> None:
    """Raise one clear error for the first thing that is missing."""
    if platform.machine() != "x86_64":
        raise InfrastructureError(f"the VM lab is for x86_64 hosts, this is {platform.machine()}")
    if os.geteuid() != 0:
        raise InfrastructureError(
            "the VM lab needs root (network namespaces, its own libvirtd)",
            hint="sudo make lab, or: make lab TOPOLOGY=process",
        )
    tools = dict(_TOOLS)
    if any(library.transport == "tgt" for library in topology.libraries):
        tools |= _TGT_TOOLS
    for tool, purpose in tools.items():
        if shutil.which(tool) is None:
            raise MissingToolError(tool, needed_for=purpose, install=INSTALL)
    _check_memory(sum(node.memory_mib + _MEMORY_OVERHEAD_MIB for node in topology.nodes))
    data = _OVERLAY_MIB * len(topology.nodes) + _SEED_COPIES * topology.seed.size_mib
    _check_disk(folder, data, "the lab's disks and tapes")
    if not image_is_there:
        _check_disk(cache, _IMAGE_MIB, "building the appliance image")


def _check_memory(wanted: int) -> None:
    free = available_memory_mib()
    if free < wanted:
        raise InfrastructureError(
            f"{free} MiB of memory available, the lab's machines need {wanted}",
            hint="end something, lower memory_mib in the topology, or: make lab TOPOLOGY=process",
        )


def _check_disk(folder: Path, wanted: int, purpose: str) -> None:
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free >> 20
    if free < wanted:
        raise InfrastructureError(
            f"{existing}: {free} MiB free, {purpose} may need {wanted}",
            hint="free some, or point XDG_STATE_HOME and XDG_CACHE_HOME elsewhere",
        )


def available_memory_mib(meminfo: Path = Path("/proc/meminfo")) -> int:
    """What the kernel would give without swapping."""
    for line in meminfo.read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) // 1024
    raise InfrastructureError(f"{meminfo} names no MemAvailable")
