"""`spanreel lab shell`."""

from __future__ import annotations

import os
import subprocess

import click
from click.shell_completion import CompletionItem

from harness import lab as labs
from harness import session
from harness.commands.options import which_lab
from harness.errors import HarnessError


def _nodes(ctx: click.Context, _parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """Complete names of nodes: of the lab that --lab names, else of all that run."""
    names: set[str] = set()
    try:
        for name in [ctx.params.get("name")] if ctx.params.get("name") else labs.names():
            lab = labs.load(str(name))
            if lab is not None and lab.state != "off":
                names |= {node.name for node in lab.topology().nodes}
    except HarnessError:
        return []
    return [CompletionItem(name) for name in sorted(names) if name.startswith(begun)]


@click.command()
@which_lab
@click.argument("node_name", metavar="NODE", shell_complete=_nodes)
@click.pass_context
def shell(ctx: click.Context, topology: str | None, name: str | None, node_name: str) -> None:
    """Open a shell on a node, at this terminal. `spanreel` there finds the node's configuration.

    Example: spanreel lab shell --topology process fs1
    """
    provider = session.provider_of(session.running(topology, name))
    node = provider.topology.node(node_name)
    argv, environment = provider.shell(node)
    ctx.exit(subprocess.call(argv, env=os.environ | environment))
