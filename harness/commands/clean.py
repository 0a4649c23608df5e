"""`spanreel lab clean`."""

from __future__ import annotations

import shutil

import click

from harness import bringup, session
from harness import lab as labs
from harness.commands.options import which_lab
from harness.errors import InfrastructureError


@click.command()
@which_lab
@click.option("--cache", is_flag=True, help="Also remove what all labs share: images, packages.")
def clean(topology: str | None, name: str | None, cache: bool) -> None:
    """Bring a lab down and remove its folder: data, tapes, logs, reports.

    Example: spanreel lab clean --topology process
    """
    lab = name or session.wanted(topology, name)[0]
    if labs.load(lab) is not None:
        with session.holding(lab, None) as provider:
            bringup.down(provider)
            folder = provider.lab.folder
        try:
            labs.remove(lab)
        except OSError as error:
            raise InfrastructureError(f"cannot remove {folder}: {error}") from error
        click.echo(f"removed {folder}")
    if cache:
        home = labs.cache_home()
        shutil.rmtree(home, ignore_errors=True)
        click.echo(f"removed {home}")
