"""Manifests on the host's side: taken from the owners, kept as JSON lines, read back.

What a manifest says is in `guest/manifest.py`, which makes it.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from harness import guest, parts
from harness.errors import InfrastructureError
from harness.providers.base import Provider
from harness.topology import Junction, Node

Entry = dict[str, Any]
# Exact path → entry, in path order.
Manifest = dict[bytes, Entry]


def take(provider: Provider, junctions: Iterable[Junction], target: Path) -> Manifest:
    """Describe parts on their owners, merge, and keep the result in `target`."""
    manifest: Manifest = {}
    for node, mine in parts.by_owner(provider, junctions):
        with provider.events.stepping(node.name, "manifest", target.stem) as progress:
            roots = [parts.manifest_root(provider, item) for item in mine]
            manifest |= take_roots(provider, node, roots)
            progress(f"{target.stem}: {len(manifest)} names")
    return keep(manifest, target)


def take_roots(provider: Provider, node: Node, roots: list[dict[str, Any]]) -> Manifest:
    """Describe folders of one node."""
    result = provider.run(
        node, ["python3", "-", json.dumps({"roots": roots})], stdin=guest.source("manifest")
    )
    return parse(result.stdout)


def keep(manifest: Manifest, target: Path) -> Manifest:
    """Write a manifest, sorted; return it in that order."""
    ordered = dict(sorted(manifest.items()))
    target.write_text("".join(json.dumps(entry) + "\n" for entry in ordered.values()), encoding="utf-8")
    return ordered


def parse(data: bytes) -> Manifest:
    """Read JSON lines."""
    try:
        entries = [json.loads(line) for line in data.splitlines()]
        return {base64.b64decode(entry["path_base64"]): entry for entry in entries}
    except (ValueError, KeyError) as error:
        raise InfrastructureError(f"a manifest is damaged: {error}") from error
