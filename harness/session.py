"""What every `spanreel lab` command needs: which lab, its provider, its progress."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from harness import lab as labs
from harness import topology as topologies
from harness.errors import LabNotRunningError, UsageError
from harness.events import Events, JsonLines, view_for
from harness.lab import LabState
from harness.leases import Leases
from harness.providers import registry
from harness.providers.base import Provider
from harness.topology import Topology

# What `make lab` runs: the real thing.
DEFAULT_TOPOLOGY = "vms"


def wanted(topology: str | None, name: str | None) -> tuple[str, Topology]:
    """Return name and topology of the lab that options mean, whether it exists or not."""
    existing = labs.load(name) if name else None
    if existing is not None and topology is None:
        return existing.name, existing.topology()
    chosen = topologies.read(topologies.find(topology or DEFAULT_TOPOLOGY))
    return name or chosen.name, chosen


def running(topology: str | None, name: str | None) -> LabState:
    """Return the lab that options mean; without options, the only one that runs."""
    if name is None and topology is None:
        up = [item for item in map(labs.load, labs.names()) if item is not None and item.state != "off"]
        if len(up) > 1:
            raise UsageError(
                "more than one lab is running", hint=f"--lab {' or '.join(item.name for item in up)}"
            )
        if not up:
            raise LabNotRunningError("no lab is running", hint="start one: spanreel lab up")
        return up[0]
    return labs.require(name or topologies.read(topologies.find(topology or DEFAULT_TOPOLOGY)).name)


def provider_of(lab: LabState, events: Events | None = None) -> Provider:
    """Return the provider of an existing lab."""
    return registry.make(lab.topology(), lab, events or Events())


@contextmanager
def holding(name: str, topology: Topology | None, *, wait: bool = True) -> Iterator[Provider]:
    """Hold a lab's lock, make the lab if a topology is given, and show progress meanwhile.

    Leases of libraries that are taken meanwhile end with it; `wait` says whether to wait for them.
    """
    with ExitStack() as stack:
        stack.enter_context(labs.locked(name))
        lab = labs.create(name, topology) if topology else labs.load(name)
        if lab is None:
            raise LabNotRunningError(f"there is no lab {name}")
        events = Events()
        journal = JsonLines(lab.folder / "events.jsonl")
        stack.callback(journal.close)
        events.subscribe(journal)
        view = view_for(sys.stderr)
        stack.enter_context(view)
        events.subscribe(view)
        provider = provider_of(lab, events)
        provider.leases = Leases(provider, wait=wait)
        stack.callback(provider.leases.release)
        yield provider
