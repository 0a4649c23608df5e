"""Self-contained scripts that run on nodes: standard library only, one JSON argument each.

They are sent as text to `python3 -`; nothing of this tree is there when they run, so they import
nothing of it and share no code with the appliance.
"""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

from harness.providers.base import COMMAND_SECONDS, Provider
from harness.topology import Node


def source(name: str) -> bytes:
    """Return the text of a script."""
    return (resources.files("harness") / "guest" / f"{name}.py").read_bytes()


def encode(argument: Any) -> str:
    """Return an argument as scripts take it."""
    return json.dumps(argument)


def call(
    provider: Provider, node: Node, name: str, argument: Any, *, timeout: float = COMMAND_SECONDS
) -> Any:
    """Run a script on a node and return what it printed as JSON."""
    argv = ["python3", "-", encode(argument)]
    result = provider.run(node, argv, stdin=source(name), timeout=timeout)
    return json.loads(result.stdout)
