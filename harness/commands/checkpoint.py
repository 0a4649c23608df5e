"""`spanreel lab checkpoint`."""

from __future__ import annotations

import json
from dataclasses import asdict

import click
from rich.console import Console
from rich.table import Table

from harness import bringup, session
from harness import lab as labs
from harness.checkpoints.keeper import Keeper
from harness.checkpoints.record import Record
from harness.checkpoints.store import KEPT_BYTES
from harness.commands.options import no_wait, which_lab
from harness.errors import LabNotRunningError

GIB = 1 << 30


@click.group()
def checkpoint() -> None:
    """Keep a lab as it is, and go back to it in seconds.

    `spanreel lab up` and `run` use the checkpoints `ready` and `seeded` by themselves while image, topology
    and product are what they were made of.

    \b
    Example:
      spanreel lab up --to seeded
      spanreel lab checkpoint save before-the-test
      spanreel lab checkpoint revert before-the-test
    """


@checkpoint.command("list")
@which_lab
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_(topology: str | None, name: str | None, as_json: bool) -> None:
    """List a lab's checkpoints, and which no longer fit.

    Example: spanreel lab checkpoint list --lab vms
    """
    keeper = _keeper(topology, name)
    found = [(item, keeper.changes(item)) for item in keeper.store.all()] if keeper else []
    if as_json:
        rows = [asdict(item) | {"changed": changed} for item, changed in found]
        click.echo(json.dumps(rows, indent=2))
        return
    table = Table("name", "state", "made", "MiB", "fits", box=None)
    for item, changed in found:
        fits = "yes" if not changed else f"no: {', '.join(changed)} changed"
        table.add_row(item.name, item.state, item.made, str(item.bytes >> 20), fits)
    Console().print(table)


@checkpoint.command()
@which_lab
@click.argument("checkpoint_name", metavar="[NAME]", default="")
def save(topology: str | None, name: str | None, checkpoint_name: str) -> None:
    """Keep a running lab as it is now; without NAME, as the lab's state. It goes on running.

    Nothing may use a drive meanwhile; those of virtual machines are emptied.

    Example: spanreel lab checkpoint save before-the-test
    """
    lab = labs.require(_name(topology, name)).name
    with session.holding(lab, None) as provider:
        made = Keeper(provider).save(checkpoint_name)
    click.echo(f"checkpoint {made.name} of lab {lab}: {made.bytes >> 20} MiB")


@checkpoint.command()
@which_lab
@click.argument("checkpoint_name", metavar="NAME")
@no_wait
def revert(topology: str | None, name: str | None, checkpoint_name: str, wait: bool) -> None:
    """Put a lab back as it was at a checkpoint; one that is down comes up with it.

    Example: spanreel lab checkpoint revert ready
    """
    lab = _name(topology, name)
    with session.holding(lab, None, wait=wait) as provider:
        kept = bringup.revert(provider, Keeper(provider), checkpoint_name)
    click.echo(f"lab {lab} is {kept.state}, as of {kept.made}")


@checkpoint.command()
@which_lab
@click.option("--all", "everything", is_flag=True, help="Also those that fit.")
@click.option(
    "--keep-gib",
    type=click.IntRange(0),
    default=KEPT_BYTES // GIB,
    show_default=True,
    help="Size of those that stay; the oldest go first.",
)
def prune(topology: str | None, name: str | None, everything: bool, keep_gib: int) -> None:
    """Remove checkpoints that no longer fit, that are not whole, or that are beyond a size.

    Example: spanreel lab checkpoint prune --lab vms --all
    """
    lab = _name(topology, name)
    if labs.load(lab) is None:
        raise LabNotRunningError(f"there is no lab {lab}")
    with session.holding(lab, None) as provider:
        keeper = Keeper(provider)

        def stays(item: Record) -> bool:
            return not everything and not keeper.changes(item)

        gone = keeper.store.prune(stays, keep_gib * GIB)
    click.echo(f"removed: {', '.join(gone) or 'nothing'}")


def _name(topology: str | None, name: str | None) -> str:
    """Return the name of the lab that options mean."""
    return name or session.wanted(topology, name)[0]


def _keeper(topology: str | None, name: str | None) -> Keeper | None:
    lab = labs.load(_name(topology, name))
    return None if lab is None else Keeper(session.provider_of(lab))
