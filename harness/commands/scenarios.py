"""`spanreel lab scenarios`."""

from __future__ import annotations

import json

import click
from rich.console import Console
from rich.table import Column, Table

from harness.scenarios.table import SCENARIOS


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def scenarios(as_json: bool) -> None:
    """List the scenarios that `spanreel lab run --scenario` knows.

    Example: spanreel lab scenarios
    """
    if as_json:
        click.echo(json.dumps([{"name": each.name, "what": each.what} for each in SCENARIOS], indent=2))
        return
    table = Table("scenario", Column("what", overflow="fold"), box=None)
    for each in SCENARIOS:
        table.add_row(each.name, each.what + (" (slow)" if each.slow else ""))
    Console().print(table)
