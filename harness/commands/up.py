"""`spanreel lab up`."""

from __future__ import annotations

import click

from harness import bringup, session, states
from harness.commands.options import no_wait, which_lab


@click.command()
@which_lab
@click.option(
    "--to",
    "state",
    type=click.Choice(states.STATES[1:]),
    default=states.READY,
    show_default=True,
    help="State to bring it to; `seeded` empties the parts and writes the topology's seed.",
)
@click.option("--fresh", is_flag=True, help="Boot cold, whatever runs and whatever is kept.")
@click.option(
    "--no-save", "save", flag_value=False, default=True, help="Make no checkpoint of what was reached cold."
)
@no_wait
def up(topology: str | None, name: str | None, state: str, fresh: bool, save: bool, wait: bool) -> None:
    """Bring a lab up and leave it running.

    A checkpoint of the state is put back where there is one that fits: same image, topology and product.
    Disk and memory are checked first. A lab that is there already, or further, is left as it is.

    \b
    Examples:
      spanreel lab up --topology process
      spanreel lab up --to seeded
    """
    lab, wanted = session.wanted(topology, name)
    with session.holding(lab, wanted, wait=wait) as provider:
        bringup.up(provider, state, fresh=fresh, save=save)
        reached = provider.lab.state
    click.echo(f"lab {lab} is {reached}; look at it: spanreel lab info --lab {lab}")
