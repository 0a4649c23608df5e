"""`spanreel lab down`."""

from __future__ import annotations

import click

from harness import bringup, session
from harness import lab as labs
from harness.commands.options import which_lab


@click.command()
@which_lab
def down(topology: str | None, name: str | None) -> None:
    """End everything a lab runs; its folder with logs and reports stays.

    Example: spanreel lab down --topology process
    """
    lab = name or session.wanted(topology, name)[0]
    if labs.load(lab) is None:
        click.echo(f"there is no lab {lab}")
        return
    with session.holding(lab, None) as provider:
        bringup.down(provider)
    click.echo(f"lab {lab} is down")
