"""`spanreel backup`: run a backup in the foreground."""

from __future__ import annotations

from pathlib import Path

import click

from appliance.backupserver import backup as dma
from appliance.backupserver.jobs import Job
from appliance.backupserver.levels import LEVEL_MAX
from appliance.backupserver.progress import show_size
from appliance.backupserver.wanted import Wanted
from appliance.commands._jobs import entry_server, job_context
from appliance.commands._options import BytesPath, GlobalPath, config_option, echo_json, json_option
from appliance.config import BackupServer
from appliance.errors import ExitCode
from appliance.text import show_path


@click.command()
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=GlobalPath())
@click.option(
    "--level",
    type=click.IntRange(0, LEVEL_MAX),
    help="0, the default, saves everything, N what changed since the last backup of a lower level.",
)
@click.option(
    "--incremental",
    is_flag=True,
    help="Save what changed since the last backup of each path, whatever its level.",
)
@click.option(
    "--type",
    "butype",
    type=click.Choice([name.decode() for name in dma.HISTORY_FORMS]),
    default=dma.BUTYPE.decode(),
    show_default=True,
    help="Backup type: both make the same image; dump's file history comes by directory and inode.",
)
@click.option(
    "--exclude",
    multiple=True,
    metavar="PATTERN",
    type=BytesPath(),
    help="Leave out what matches: a name anywhere, or a path from PATH if it has a slash. "
    "`*` is any bytes but a slash, a comma separates patterns. Repeatable.",
)
@click.option(
    "--only",
    multiple=True,
    metavar="PATTERN",
    type=BytesPath(),
    help="Save only what matches this path from PATH, with all below it. Repeatable.",
)
@click.option(
    "--skip-caches", is_flag=True, help="Leave out what is in directories tagged with CACHEDIR.TAG."
)
@click.option("--skip-nodump", is_flag=True, help="Leave out files and directories with the nodump flag.")
@click.option("--entry", metavar="NAME", help="File server to ask, instead of backup_server.entry.")
@json_option
@config_option
def backup(
    paths: tuple[bytes, ...],
    level: int | None,
    incremental: bool,
    butype: str,
    exclude: tuple[bytes, ...],
    only: tuple[bytes, ...],
    skip_caches: bool,
    skip_nodump: bool,
    entry: str | None,
    as_json: bool,
    config_file: Path,
) -> ExitCode:
    """Back up global paths to tape, as one job in the foreground.

    Ctrl-C aborts it; what happened is in `spanreel jobs`.

    \b
    Example:
      spanreel backup /
      spanreel backup / --incremental
      spanreel backup /projects /home --entry fs2 --json
      spanreel backup /home --exclude '*.iso,/*/Downloads' --skip-caches
    """
    if incremental and level is not None:
        raise click.UsageError("--incremental and --level contradict each other: give one")
    wanted_level = None if incremental else level or 0
    with job_context(config_file) as context:
        settings = context.config.section(BackupServer)
        server = entry_server(settings, entry)
        wanted = dma.without_nested(paths)
        for path in paths:
            if path not in wanted:
                context.screen.note(f"{show_path(path)} is part of another path given")
        selected = Wanted(exclude, only, skip_caches, skip_nodump)
        job = dma.run(context, dma.Request(wanted, server, wanted_level, butype.encode(), selected))
    if as_json:
        echo_json(job.document())
    else:
        _print(job)
    return job.status.exit_code


def _print(job: Job) -> None:
    media = ", ".join(f"{barcode} file {file}" for barcode, file in job.media)
    problems = f", {job.problems} problems" if job.problems else ""
    click.echo(
        f"job {job.id} {job.status.value}: {job.files} files, {show_size(job.bytes)}{problems}, on {media}"
    )
