"""`spanreel lab history`."""

from __future__ import annotations

import json
from dataclasses import asdict

import click
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from harness.history import questions, store

MARKS = {
    "passed": ("+", "green"),
    "failed": ("F", "bold red"),
    "error": ("E", "red"),
    "known": ("k", "yellow"),
}


@click.command()
@click.argument("pattern", default="*")
@click.option("--topology", default="", metavar="NAME", help="Only runs of this topology.")
@click.option("--bad", is_flag=True, help="Only checks that fail now, or flake.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def history(pattern: str, topology: str, bad: bool, as_json: bool) -> None:
    """Say how checks did in past runs: `SCENARIO: CHECK` matches PATTERN.

    One mark a run, the newest at the right: + passed, F failed, E could not look, k a known issue.

    \b
    Examples:
      spanreel lab history 'two-jobs: *'
      spanreel lab history --bad
    """
    with store.opened() as connection:
        found = questions.standings(connection, pattern, topology)
    shown = [each for each in found if not bad or each.bad or each.flakes]
    if as_json:
        click.echo(json.dumps([asdict(each) | {"flakes": each.flakes} for each in shown], indent=2))
        return
    if not shown:
        click.echo("nothing in the history matches" if not found else "nothing fails, nothing flakes")
        return
    table = Table("topology", Column("check", overflow="fold"), "runs", "failing since", box=None)
    for each in shown:
        marks = Text()
        for outcome in each.outcomes:
            marks.append(*MARKS[outcome])
        table.add_row(each.topology, Text(each.title), marks, _since(each))
    Console().print(table)


def _since(standing: questions.Standing) -> str:
    if standing.since is None:
        return "flakes" if standing.flakes else ""
    revision, moment = standing.since
    good = f", good at {standing.last_good}" if standing.last_good else ""
    return f"{store.when(moment)} at {revision}{good}"
