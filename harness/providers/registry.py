"""Finds the provider a topology names; each is imported only when it is wanted."""

from __future__ import annotations

import importlib

from harness.errors import MissingToolError
from harness.events import Events
from harness.lab import LabState
from harness.providers.base import Provider
from harness.topology import Topology

# Name in the topology → module and class.
PROVIDERS = {
    "process": ("harness.providers.process.provider", "ProcessProvider"),
    "libvirt": ("harness.providers.libvirt.provider", "LibvirtProvider"),
    "machines": ("harness.providers.machines.provider", "MachinesProvider"),
}


def make(topology: Topology, lab: LabState, events: Events) -> Provider:
    """Return the provider of a lab."""
    module, name = PROVIDERS[topology.provider]
    try:
        cls: type[Provider] = getattr(importlib.import_module(module), name)
    except ImportError as error:
        what = error.name or str(error)
        raise MissingToolError(
            f"the Python module {what}",
            needed_for=f"the provider {topology.provider}",
            install="pip install -e '.[lab]'",
        ) from error
    return cls(topology, lab, events)
