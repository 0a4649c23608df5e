"""`spanreel verify`: read a job's tapes and compare every checksum."""

from __future__ import annotations

from pathlib import Path

import click

from appliance.backupserver import verify as dma
from appliance.backupserver.progress import show_size
from appliance.commands._jobs import job_at_rest, job_context, show_problems
from appliance.commands._options import GlobalPath, config_option, echo_json, json_option
from appliance.errors import ExitCode


@click.command()
@click.argument("job")
@click.argument("paths", metavar="[PATH]...", nargs=-1, type=GlobalPath())
@json_option
@config_option
def verify(job: str, paths: tuple[bytes, ...], as_json: bool, config_file: Path) -> ExitCode:
    """Read JOB, a job's id or `latest`, from tape and name every file that is not as it was saved.

    No file server is asked, and nothing is restored.  With PATH only what lies there is reported.

    \b
    Example:
      spanreel verify latest
      spanreel verify 12 /projects
    """
    with job_context(config_file) as context:
        source = job_at_rest(context.catalogue, job)
        result = dma.run(context, source, paths)
    if as_json:
        echo_json(result.document())
    else:
        _print(result)
    return result.status.exit_code


def _print(result: dma.Result) -> None:
    show_problems(result.problems)
    counts = f"{show_size(result.length)}, {result.files} files are as they were saved"
    counts += f", {result.damaged} are damaged" if result.damaged else ""
    counts += f", {result.unchecked} cannot be checked" if result.unchecked else ""
    click.echo(f"verify of job {result.job} {result.status.value}: {counts}")
