"""`spanreel lab info`."""

from __future__ import annotations

import json
import os
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from harness import namespace, session
from harness.commands.options import which_lab
from harness.info import describe
from harness.providers.base import Provider
from harness.topology import FILE_SERVER


@click.command()
@which_lab
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with passwords and local paths.")
def info(topology: str | None, name: str | None, as_json: bool) -> None:
    """Say what a running lab consists of, so that any NDMP client can be pointed at it.

    Example: spanreel lab info --topology process --json
    """
    provider = session.provider_of(session.running(topology, name))
    described = describe(provider, namespace.present(provider) if _answers(provider) else None)
    if as_json:
        click.echo(json.dumps(described, indent=2))
    else:
        _show(provider, described)


def _answers(provider: Provider) -> bool:
    """Whether the name space's writer can be asked; a lab that is half up is described all the same."""
    return (
        provider.lab.state in ("ready", "seeded")
        and provider.alive()[provider.topology.only(FILE_SERVER).name]
    )


def _show(provider: Provider, described: dict[str, Any]) -> None:
    """Print tables for people; secrets are left to --json."""
    console = Console()
    where = f", network namespace {described['netns']}" if described["netns"] else ""
    console.print(f"lab {described['lab']} ({described['topology']}): {described['state']}{where}")
    alive, consoles = provider.alive(), provider.consoles()
    nodes = Table("node", "roles", "address", "runs", "console", box=None)
    for node in described["nodes"]:
        name = node["name"]
        runs = "yes" if alive.get(name) else "no"
        log = consoles.get(name)
        shown = os.path.relpath(log, provider.lab.folder) if log else ""
        nodes.add_row(name, ", ".join(node["roles"]), node["address"], runs, shown)
    console.print(nodes)
    parts = Table("global path", "owner", box=None)
    for part in described["gns"]:
        parts.add_row(part["global_path"], part["owner"])
    console.print(parts)
    tape = described["tape"]
    if tape:
        console.print(f"library on {tape['node']}: {len(tape['drives'])} drives, {len(tape['slots'])} slots")
    console.print(f"folder: {provider.lab.folder}", soft_wrap=True)
