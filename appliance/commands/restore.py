"""`spanreel restore`: run a restore in the foreground."""

from __future__ import annotations

from pathlib import Path

import click

from appliance.backupserver import restore as dma
from appliance.backupserver.progress import show_size
from appliance.commands._jobs import entry_server, job_at_rest, job_context
from appliance.commands._options import GlobalPath, config_option, echo_json, json_option
from appliance.config import BackupServer
from appliance.errors import ExitCode
from appliance.ndmp.enums import RecoveryStatus
from appliance.text import show_path


@click.command()
@click.argument("job")
@click.argument("paths", metavar="[PATH]...", nargs=-1, type=GlobalPath())
@click.option(
    "--to",
    metavar="DIRECTORY",
    type=GlobalPath(),
    help="Global directory in which PATH's last component appears, for / its children; default: in place.",
)
@click.option(
    "--existing",
    type=click.Choice(["overwrite", "keep", "newer"]),
    default="overwrite",
    show_default=True,
    help="What to do with a file that is there: replace it, leave it, or leave it if it is newer.",
)
@click.option("--entry", metavar="NAME", help="File server to ask, instead of backup_server.entry.")
@json_option
@config_option
def restore(
    job: str,
    paths: tuple[bytes, ...],
    to: bytes | None,
    existing: str,
    entry: str | None,
    as_json: bool,
    config_file: Path,
) -> ExitCode:
    """Restore global paths from JOB, a job's id or `latest`; without PATH all that it saved.

    \b
    Example:
      spanreel restore latest
      spanreel restore 12 /projects/plan.txt --to /restored --existing keep
    """
    with job_context(config_file) as context:
        settings = context.config.section(BackupServer)
        server = entry_server(settings, entry)
        source = job_at_rest(context.catalogue, job)
        result = dma.run(context, dma.Request(source, paths, to, existing, server))
    if as_json:
        echo_json(result.document())
    else:
        _print(result)
    return result.status.exit_code


def _print(result: dma.Result) -> None:
    for target, status in result.targets.items():
        outcome = "restored" if status is RecoveryStatus.SUCCESSFUL else status.name.lower().replace("_", " ")
        click.echo(f"{show_path(target)}: {outcome}")
    for line in result.lines:
        if not line.is_problem:
            click.echo(show_path(line.text))
    problems = f", {result.problems} problems" if result.problems else ""
    click.echo(f"restore of job {result.job} {result.status.value}: {show_size(result.bytes)}{problems}")
