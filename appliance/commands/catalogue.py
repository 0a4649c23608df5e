"""`spanreel catalogue`: what is done to the catalogue as a whole."""

from __future__ import annotations

from pathlib import Path

import click

from appliance.backupserver import rebuild as dma
from appliance.commands._jobs import job_context, show_problems
from appliance.commands._options import config_option, echo_json, json_option
from appliance.errors import ExitCode


@click.group()
def catalogue() -> None:
    """Make a lost catalogue again.

    Example: spanreel catalogue rebuild
    """


@catalogue.command()
@click.argument("barcodes", metavar="[BARCODE]...", nargs=-1)
@click.option("--force", is_flag=True, help="Also where the catalogue has jobs: add what it lacks.")
@json_option
@config_option
def rebuild(barcodes: tuple[str, ...], force: bool, as_json: bool, config_file: Path) -> ExitCode:
    """Read cartridges, without BARCODE all in the library, and enter the jobs and files on them.

    Everything is read once, from the first byte to the last, and checked on the way.

    \b
    Example:
      spanreel catalogue rebuild
      spanreel catalogue rebuild VTL001L5 VTL002L5 --force
    """
    with job_context(config_file) as context:
        result = dma.run(context, barcodes, force=force)
    if as_json:
        echo_json(result.document())
    else:
        _print(result)
    return result.status.exit_code


def _print(result: dma.Result) -> None:
    show_problems(result.problems)
    click.echo(
        f"catalogue rebuilt from {len(result.cartridges)} cartridges: {len(result.jobs)} jobs, "
        f"{result.images} images, {result.files} files"
        + (f", {len(result.problems)} problems" if result.problems else "")
    )
