"""`spanreel pause`: a while in which no job runs and none begins."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

import click

from appliance.backupserver import leases, peers
from appliance.commands._jobs import catalogue_of
from appliance.commands._options import config_option
from appliance.config import BackupServer
from appliance.errors import ConfigurationError, JobError

MINUTE_S: Final = 60
MINUTES_MAX: Final = 45
"""Less than a job waits for a drive (`peers.DRIVE_WAIT_S`): none fails because of a pause."""


@click.command()
@click.argument("reason", required=False)
@click.option(
    "--minutes",
    type=click.IntRange(1, MINUTES_MAX),
    default=30,
    show_default=True,
    help="It is over after this, whatever happened to whoever asked for it.",
)
@click.option(
    "--wait",
    "patience",
    type=click.IntRange(0),
    default=60,
    show_default=True,
    metavar="MINUTES",
    help="How long to wait for running jobs to end.",
)
@click.option("--end", is_flag=True, help="End the pause that there is.")
@config_option
def pause(reason: str | None, minutes: int, patience: int, end: bool, config_file: Path) -> None:
    """Wait until no job of this backup server runs, and let none begin for a while: they wait.

    REASON is what they are told. Until that moment jobs begin as ever, so nothing waits for a long one.
    If none comes within --wait, nothing is paused, and the exit code is 1.

    \b
    Examples:
      spanreel pause "upgrade of fs1" --minutes 20 --wait 120
      spanreel pause --end
    """
    if end == (reason is not None):
        raise ConfigurationError(
            'say why, `spanreel pause "upgrade of fs1"`, or end it, `spanreel pause --end`'
        )
    with catalogue_of(config_file) as (config, catalogue):
        if reason is None:
            click.echo("jobs go on" if leases.release_timed(catalogue) else "there was no pause")
            return
        resources = [leases.drive(serial) for serial in config.section(BackupServer).drives]
        deadline = time.monotonic() + patience * MINUTE_S
        told = ""
        while running := leases.take_all(catalogue, resources, reason, time.time() + minutes * MINUTE_S):
            text = "; ".join(map(str, running))
            if time.monotonic() >= deadline:
                raise JobError(f"not paused, jobs still run after {patience} minutes: {text}")
            if text != told:
                click.echo(f"waiting: {text}", err=True)
                told = text
            time.sleep(peers.DRIVE_POLL_S)
    click.echo(f"paused for {minutes} minutes: {reason}")
