"""`spanreel jobs`: the backup jobs in the catalogue."""

from __future__ import annotations

from pathlib import Path

import click

from appliance.backupserver import jobs as catalogued
from appliance.backupserver.jobs import Job
from appliance.backupserver.progress import show_size
from appliance.commands._jobs import catalogue_of
from appliance.commands._options import config_option, echo_json, json_option
from appliance.commands._table import show_table
from appliance.text import local_time, show_path

_HEAD = ("JOB", "LEVEL", "STATUS", "STARTED", "FILES", "SIZE", "PROBLEMS", "MEDIA", "PATHS")


@click.command()
@json_option
@config_option
def jobs(as_json: bool, config_file: Path) -> None:
    """List backup jobs, the oldest first.

    \b
    Example:
      spanreel jobs
      spanreel jobs --json
    """
    with catalogue_of(config_file) as (_, catalogue):
        found = list(catalogued.list_all(catalogue))
    if as_json:
        echo_json([job.document() for job in found])
        return
    show_table([_HEAD, *map(_row, found)])
    for job in found:
        if job.reason:
            click.echo(f"job {job.id}: {job.reason}")


def _row(job: Job) -> tuple[str, ...]:
    return (
        str(job.id),
        str(job.level),
        job.status.value,
        local_time(job.started),
        str(job.files),
        show_size(job.bytes),
        str(job.problems),
        " ".join(f"{barcode}:{file}" for barcode, file in job.media) or "-",
        " ".join(map(show_path, job.paths)),
    )
