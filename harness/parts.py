"""The parts of the name space as the harness sees them: which folder on which node."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from harness.nodeconfig import local_root
from harness.providers.base import Provider
from harness.topology import RESTORED, Junction, Node


def at_or_below(path: str, top: str) -> bool:
    """Return whether a global path lies at or below another, by whole components."""
    return path == top or path.startswith(top.rstrip("/") + "/")


def originals(provider: Provider) -> list[Junction]:
    """Return the parts that are seeded and compared."""
    return [item for item in provider.topology.gns if not at_or_below(item.path, RESTORED)]


def restored(provider: Provider) -> list[Junction]:
    """Return the parts that restores go to."""
    return [item for item in provider.topology.gns if at_or_below(item.path, RESTORED)]


def by_owner(provider: Provider, junctions: Iterable[Junction]) -> Iterator[tuple[Node, list[Junction]]]:
    """Group parts by the node that holds them, in topology order."""
    wanted = list(junctions)
    for node in provider.topology.nodes:
        mine = [item for item in wanted if item.owner == node.name]
        if mine:
            yield node, mine


def junctions_below(provider: Provider, path: str) -> list[str]:
    """Return the global paths of all parts strictly below a path."""
    return [item.path for item in provider.topology.gns if item.path != path and at_or_below(item.path, path)]


def owner_of(provider: Provider, path: str) -> Junction | None:
    """Return the part a global path belongs to: the longest match."""
    matches = [item for item in provider.topology.gns if at_or_below(path, item.path)]
    return max(matches, key=lambda item: len(item.path), default=None)


def manifest_root(provider: Provider, junction: Junction) -> dict[str, Any]:
    """Return a part as `guest/manifest.py` takes it."""
    return {
        "global": junction.path,
        "local": local_root(provider, junction.path),
        "skip": junctions_below(provider, junction.path),
    }


def wipe_root(provider: Provider, junction: Junction) -> dict[str, Any]:
    """Return a part as `guest/wipe.py` takes it: mount points of parts below are kept."""
    local = local_root(provider, junction.path)
    keep = [local + path.removeprefix(junction.path) for path in junctions_below(provider, junction.path)]
    return {"local": local, "keep": keep}
