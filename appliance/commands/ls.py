"""`spanreel ls`: what a job holds."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from appliance.backupserver import jobs as catalogued
from appliance.backupserver.history import Entry
from appliance.backupserver.listing import list_path
from appliance.commands._jobs import catalogue_of
from appliance.commands._options import GlobalPath, config_option, json_option
from appliance.errors import ConfigurationError
from appliance.ndmp.enums import FileType
from appliance.text import local_time, path_json, show_path

_FORMATS = {
    FileType.DIR: stat.S_IFDIR,
    FileType.FIFO: stat.S_IFIFO,
    FileType.CSPEC: stat.S_IFCHR,
    FileType.BSPEC: stat.S_IFBLK,
    FileType.REG: stat.S_IFREG,
    FileType.SLINK: stat.S_IFLNK,
    FileType.SOCK: stat.S_IFSOCK,
}


@click.command()
@click.argument("job")
@click.argument("path", required=False, type=GlobalPath(), default="/")
@click.option("--recursive", "-R", is_flag=True, help="List everything below PATH.")
@json_option
@config_option
def ls(job: str, path: bytes, recursive: bool, as_json: bool, config_file: Path) -> None:
    """List what JOB, a job's id or `latest`, holds of PATH (default: /).

    \b
    Example:
      spanreel ls latest /projects
      spanreel ls 12 --recursive --json
    """
    with catalogue_of(config_file) as (_, catalogue):
        found = catalogued.find(catalogue, job)
        entries = list_path(catalogue, found, path, recursive)
        if entries is None:
            raise ConfigurationError(f"job {found.id} does not hold {show_path(path)}")
        if as_json:
            _print_json(entries)
        else:
            for entry in entries:
                click.echo(_line(entry))


def _print_json(entries: Iterator[Entry]) -> None:
    """One array, an element a line, written as it is read: a job may hold millions of names."""
    separator = "[\n"
    for entry in entries:
        click.echo(separator + json.dumps(_document(entry)), nl=False)
        separator = ",\n"
    click.echo("[]" if separator == "[\n" else "\n]")


def _document(entry: Entry) -> dict[str, Any]:
    return {
        **path_json(entry.path),
        "type": entry.type.name.lower(),
        "mode": f"{entry.mode & 0o7777:04o}",
        "size": entry.size,
        "mtime": entry.mtime,
        "owner": entry.owner,
        "group": entry.group,
    }


def _line(entry: Entry) -> str:
    mode = stat.filemode(_FORMATS.get(entry.type, 0) | entry.mode & 0o7777)
    slash = "/" if entry.type is FileType.DIR and entry.path != b"/" else ""
    return (
        f"{mode} {entry.owner:>6} {entry.group:>6} {entry.size:>12} {local_time(entry.mtime)} "
        f"{show_path(entry.path)}{slash}"
    )
