"""Writes the data that the main job backs up, on the owners themselves, and takes data away.

On the owners, because NFS hides capabilities, ACLs and holes.  What is written is a function of
the topology's seed: number, size, count of small files.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from harness import guest, parts
from harness.nodeconfig import local_root
from harness.providers.base import Provider
from harness.topology import Junction, Node

MIB = 1024 * 1024
# Real trees of a Debian system, richest first; those a small image lacks are passed over.
SOURCES = ["/usr/share/doc", "/usr/lib/python3", "/usr/bin", "/usr/share", "/usr/lib"]
# Name of the folder in each owner's first part that holds the nasty corner.
NASTY = "nasty"


@dataclass
class Seeded:
    """What was written."""

    files: int = 0
    bytes: int = 0
    # What a node could not make: "fs1: devices" → why.
    left_out: dict[str, str] = field(default_factory=dict)


def seed(provider: Provider) -> Seeded:
    """Empty all parts, then fill those that are backed up."""
    result = Seeded()
    wipe(provider, list(provider.topology.gns))
    owners = list(parts.by_owner(provider, parts.originals(provider)))
    total_parts = sum(len(junctions) for _, junctions in owners)
    for index, (node, junctions) in enumerate(owners):
        with provider.events.stepping(node.name, "seed"):
            number = provider.topology.seed.number + index * total_parts
            written = guest.call(
                provider, node, "seed_real", _real(provider, junctions, number, total_parts, len(owners))
            )
            result.files += written["files"]
            result.bytes += written["bytes"]
            _nasty(provider, node, junctions[0], number, result)
    return result


def wipe(provider: Provider, junctions: list[Junction]) -> int:
    """Delete what is in these parts, not the parts; return how many names went."""
    removed = 0
    for node, mine in parts.by_owner(provider, junctions):
        argument = {"roots": [parts.wipe_root(provider, item) for item in mine]}
        removed += guest.call(provider, node, "wipe", argument)["removed"]
    return removed


def _real(
    provider: Provider, junctions: list[Junction], number: int, shares: int, owners: int
) -> dict[str, Any]:
    """The argument of `seed_real` for one owner."""
    wanted = provider.topology.seed
    roots = [
        {
            "name": item.path,
            "local": local_root(provider, item.path),
            "bytes": wanted.size_mib * MIB // shares,
            "small_files": wanted.small_files // owners if item is junctions[0] else 0,
        }
        for item in junctions
    ]
    return {"number": number, "sources": SOURCES, "roots": roots}


def _nasty(provider: Provider, node: Node, junction: Junction, number: int, result: Seeded) -> None:
    """Make the nasty corner of one owner."""
    folder = f"{local_root(provider, junction.path)}/{NASTY}"
    made = guest.call(provider, node, "seed_nasty", {"number": number, "folder": folder})
    result.left_out |= {f"{node.name}: {name}": why for name, why in made["left_out"].items()}
