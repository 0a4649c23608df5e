"""`spanreel lab lease`."""

from __future__ import annotations

import json

import click
from rich.console import Console
from rich.table import Table

from harness import lab as labs
from harness import leases, session
from harness.commands.options import no_wait, which_lab
from harness.errors import UsageError
from harness.providers.base import Provider
from harness.topology import MACHINES

MINUTE = 60.0


@click.group()
def lease() -> None:
    """See, take and give back the right to use a lab's tape libraries.

    Runs take it by themselves. Take it by hand before you work on a library for a while.

    \b
    Examples:
      spanreel lab lease list --topology machines.yaml
      spanreel lab lease take --topology machines.yaml --minutes 120 --reason "cleaning drive 2"
      spanreel lab lease release --topology machines.yaml
    """


@lease.command("list")
@which_lab
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_(topology: str | None, name: str | None, as_json: bool) -> None:
    """Say who holds the libraries, since when, for how long, and who waits.

    Example: spanreel lab lease list --topology machines.yaml
    """
    provider = _provider(topology, name)
    found = leases.listed(provider)
    if as_json:
        click.echo(json.dumps([{"node": node, **record} for node, record in found], indent=2))
        return
    held = {record["library"]: record for _, record in found}
    table = Table("library", "on", "lease", box=None)
    for library in provider.topology.libraries:
        record = held.get(library.changer, {"lease": None, "waiting": []})
        text = leases.describe(record["lease"]) if record["lease"] else "free"
        table.add_row(library.changer, library.node, text)
        for place, waiter in enumerate(record["waiting"], 1):
            table.add_row("", "", f"{place}. waits: {waiter['holder']} ({waiter['reason']})")
    Console(soft_wrap=True).print(table)


@lease.command("take")
@which_lab
@click.option("--minutes", type=click.IntRange(1, 7 * 24 * 60), default=60, show_default=True)
@click.option("--reason", default="by hand", show_default=True, help="What for, for those who wait.")
@no_wait
def take(topology: str | None, name: str | None, minutes: int, reason: str, wait: bool) -> None:
    """Take the leases of all libraries of a lab for a time; runs of this lab share them.

    Example: spanreel lab lease take --topology machines.yaml --minutes 120 --reason "cleaning drive 2"
    """
    provider = _provider(topology, name)
    taken = leases.Leases(provider, wait=wait, reason=reason)
    taken.take_by_hand(minutes * MINUTE)
    click.echo(f"yours for {minutes} minutes; give it back: spanreel lab lease release")


@lease.command("release")
@which_lab
@click.option("--force", is_flag=True, help="Also what another lab holds, whose harness is dead.")
def release(topology: str | None, name: str | None, force: bool) -> None:
    """Give back the leases of all libraries of a lab.

    Example: spanreel lab lease release --topology machines.yaml
    """
    provider = _provider(topology, name)
    for library in provider.topology.libraries:
        ended = leases.ask(provider, library, "release", force=force, manual=True)
        if ended.granted:
            click.echo(f"{library.changer} is free")
        else:
            said = leases.describe(ended.lease) if ended.lease else "nobody holds it"
            click.echo(f"{library.changer}: not yours to give back: {said}")


def _provider(topology: str | None, name: str | None) -> Provider:
    """Return the provider of a lab that runs, or of machines, which are there without it.

    The lab is not locked: who wants to see a lease wants it while a run has it.
    """
    if topology is None and name is None:
        return session.provider_of(session.running(topology, name))
    lab, chosen = session.wanted(topology, name)
    if chosen.provider != MACHINES:
        return session.provider_of(labs.require(lab))
    state = labs.load(lab)
    if state is None:
        with labs.locked(lab):
            state = labs.create(lab, chosen)
    if not chosen.libraries:
        raise UsageError(f"{chosen.file}: libraries: there is none to lease")
    return session.provider_of(state)
