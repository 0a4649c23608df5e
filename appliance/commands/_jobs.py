"""What the commands of the backup server share: its catalogue, and signals that abort a job."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import click

from appliance.backupserver import jobs
from appliance.backupserver.catalogue import Catalogue, open_catalogue
from appliance.backupserver.peers import Context
from appliance.backupserver.progress import Screen
from appliance.config import BackupServer, NodeConfig, load
from appliance.errors import ConfigurationError
from appliance.text import show_path


@contextmanager
def catalogue_of(config_file: Path) -> Iterator[tuple[NodeConfig, Catalogue]]:
    """The configuration and its open catalogue; one that was brought up to date is told of on stderr."""
    config = load(config_file)
    path = config.section(BackupServer).catalogue
    with open_catalogue(path, lambda done: click.echo(f"spanreel: {done}", err=True)) as catalogue:
        yield config, catalogue


@contextmanager
def job_context(config_file: Path) -> Iterator[Context]:
    """What a job needs.  SIGTERM and SIGHUP abort it as Ctrl-C does."""
    with catalogue_of(config_file) as (config, catalogue):
        before = {number: signal.signal(number, _interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
        try:
            yield Context(config, catalogue, Screen())
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def entry_server(settings: BackupServer, name: str | None) -> str:
    """The file server to ask: `--entry`, else the configured one.  Raises ConfigurationError."""
    server = settings.server(name or settings.entry)
    if server.name == settings.media:
        others = ", ".join(each.name for each in settings.servers if each.name != settings.media)
        raise ConfigurationError(f"{server.name} is the media server; a job is asked of one of: {others}")
    return server.name


def job_at_rest(catalogue: Catalogue, name: str) -> jobs.Job:
    """The job of that id, or `latest`, which is not running any more.  Raises ConfigurationError."""
    job = jobs.find(catalogue, name)
    if job.status is jobs.Status.RUNNING:
        raise ConfigurationError(f"job {job.id} is still running: wait for its end")
    return job


def show_problems(problems: Sequence[tuple[bytes, str]]) -> None:
    """Print a line for each problem; the path of one between files is empty."""
    for path, text in problems:
        click.echo(f"{show_path(path)}: {text}" if path else text)


def _interrupt(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise KeyboardInterrupt
