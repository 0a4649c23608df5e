"""Running this checkout's playbooks on the machines of a lab, from within its network."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from harness import secretstore
from harness.deployment import bundle, inventory
from harness.deployment.site import InstalledSite
from harness.image.build import run_logged
from harness.image.cache import Cache
from harness.image.product import Product
from harness.image.recipe import checkout
from harness.lab import LabState
from harness.topology import Topology

_TASK = re.compile(r"^TASK \[(.+?)\]")
# A line of the recap: `conn1 : ok=40 changed=25 unreachable=0 failed=0 ...`.
_RECAP = re.compile(r"^(\S+)\s+: ok=\d+\s+changed=(\d+)\s+unreachable=0\s+failed=0\s", re.MULTILINE)


def prepare(topology: Topology, lab: LabState, product: Product) -> Path:
    """Write the lab's inventory; return its folder."""
    site = InstalledSite(topology, lab)
    secretstore.make_certificates(topology, lab)
    folder = lab.folder / "ansible"
    inventory.write(site, folder, bundle.place(bundle.pack(product, Cache()), folder))
    return folder


def argv(folder: Path, playbook: str, *options: str) -> list[str]:
    """Return the command line of one of our playbooks."""
    return [
        "ansible-playbook",
        "-i",
        f"{folder}/{inventory.HOSTS}",
        f"{checkout().ansible}/{playbook}",
        *options,
    ]


def environment() -> dict[str, str]:
    """Return what ansible needs: our configuration, and a locale that every machine has."""
    return {
        "ANSIBLE_CONFIG": f"{checkout().ansible}/ansible.cfg",
        "LC_ALL": "C.UTF-8",
        "ANSIBLE_NOCOLOR": "1",
    }


def run(command: Sequence[str], log: Path, what: str, progress: Callable[[str], None]) -> dict[str, int]:
    """Run a playbook with its output in `log`; return how many tasks changed something, by machine.

    Raises InfrastructureError with the last lines when a task failed.
    """

    def line(text: str) -> None:
        if found := _TASK.match(text):
            progress(found[1])

    run_logged(list(command), log, what, line, environment())
    return changes(log.read_text(encoding="utf-8", errors="replace"))


def changes(output: str) -> dict[str, int]:
    """Return how many tasks changed something, by machine, of the machines on which none failed."""
    return {found[1]: int(found[2]) for found in _RECAP.finditer(output)}
