"""`spanreel lab up`."""

from __future__ import annotations

import click

from harness import bringup, session
from harness.commands.options import no_wait, which_lab


@click.command()
@which_lab
@no_wait
def up(topology: str | None, name: str | None, wait: bool) -> None:
    """Bring a lab up and leave it running.

    Disk and memory are checked first. A lab that runs already is left as it is.

    Example: spanreel lab up --topology process
    """
    lab, wanted = session.wanted(topology, name)
    with session.holding(lab, wanted, wait=wait) as provider:
        bringup.up(provider)
    click.echo(f"lab {lab} is ready; look at it: spanreel lab info --lab {lab}")
