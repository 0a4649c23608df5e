"""What is kept of a run besides its checks: the nodes' journals, which machines hold in memory only."""

from __future__ import annotations

from pathlib import Path

from harness.errors import HarnessError
from harness.providers.base import Provider


def keep_journals(provider: Provider, folder: Path) -> None:
    """Write each node's journal to `folder`/NODE.log; a node that cannot be asked leaves the reason there.

    Nodes that are processes have no journal: their logs are in the lab's folder already.
    """
    for node in provider.topology.nodes:
        command = provider.journal_command(node)
        if command is None:
            continue
        folder.mkdir(parents=True, exist_ok=True)
        target = folder / f"{node.name}.log"
        try:
            target.write_bytes(provider.run(node, command, check=False).stdout)
        except HarnessError as error:
            target.write_text(f"not kept: {error}\n", encoding="utf-8")
