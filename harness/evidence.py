"""What is kept of a run besides its checks: the nodes' journals, which machines hold in memory only."""

from __future__ import annotations

from pathlib import Path

from harness.errors import HarnessError
from harness.providers.base import Provider

_JOURNAL = ["journalctl", "--boot", "--output=short-iso-precise", "--no-pager"]


def keep_journals(provider: Provider, folder: Path) -> None:
    """Write each node's journal to `folder`/NODE.log; a node that cannot be asked leaves the reason there.

    Nodes that are processes have no journal: their logs are in the lab's folder already.
    """
    if provider.netns is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    for node in provider.topology.nodes:
        target = folder / f"{node.name}.log"
        try:
            target.write_bytes(provider.run(node, _JOURNAL, check=False).stdout)
        except HarnessError as error:
            target.write_text(f"not kept: {error}\n", encoding="utf-8")
