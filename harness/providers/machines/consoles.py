"""Where consoles of machines are, as pyserial opens them."""

from __future__ import annotations

from pathlib import Path

from harness.errors import UsageError
from harness.topology import Node

# A console that somebody else records already.
FILE = "file"


def url(node: Node) -> str:
    """Return what the recorder opens, "" if there is nothing to record."""
    spec = node.console
    if spec is None or spec.kind == FILE:
        return ""
    if "," in spec.target or "=" in spec.target:
        raise UsageError(f"{node.name}: console: {spec.target} cannot be a console", hint="`baud` is a key")
    if spec.kind in ("serial", "pty"):
        place = spec.target
    else:
        place = f"{spec.kind}://{spec.target.removeprefix(f'{spec.kind}://')}"
    return f"{place},{spec.baud}"


def log(node: Node, folder: Path) -> Path | None:
    """Return the file in which a console is recorded, None if the machine has none."""
    if node.console is None:
        return None
    return Path(node.console.target) if node.console.kind == FILE else folder / "console.log"
