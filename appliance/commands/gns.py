"""`spanreel gns`: look at and change the global name space.

All of it asks the file server that holds the map's writable copy, by a session between nodes.  Local
directories are shown on request only: this output is read in places where they are nobody's business.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from appliance.commands._options import (
    BytesPath,
    GlobalPath,
    config_option,
    echo_json,
    json_option,
    tidy,
)
from appliance.commands._table import show_table
from appliance.errors import ConfigurationError
from appliance.gns.change import Change, add_change, batch_change, remove_change
from appliance.gns.codec import MAP_SIZE_MAX
from appliance.text import path_from_json, path_json, show_path

if TYPE_CHECKING:
    from appliance.config import NodeConfig
    from appliance.gns.map import GnsMap, Junction

_FILE_KEYS = frozenset({"path", "path_base64", "owner", "local", "local_base64"})


@click.group()
def gns() -> None:
    """Look at and change the global name space.

    \b
    Example:
      spanreel gns add /projects --owner fs1 --local /data/projects
      spanreel gns ls
    """


def _load(config_file: Path) -> NodeConfig:
    # Here, not above: `spanreel gns --help` must not wait for pydantic.
    from appliance.config import load

    config = load(config_file)
    if config.file_server is None:
        # The map holds local paths: the writer gives it to file servers only.
        raise ConfigurationError(
            f"the name space is looked at and changed on a file server; {config.node.name} is none"
        )
    return config


def _fetch(config_file: Path) -> GnsMap:
    from appliance.gns.client import fetch_map

    return fetch_map(_load(config_file))


def _send(config_file: Path, change: Change) -> None:
    from appliance.gns.client import send_change

    generation = send_change(_load(config_file), dict(change))
    click.echo(f"the map has generation {generation}")


@gns.command()
@click.argument("path", type=GlobalPath(), required=False)
@click.option("--owner", metavar="NODE", help="The file server that has the files.")
@click.option("--local", type=BytesPath(), metavar="DIR", help="Their directory there.")
@click.option(
    "--file",
    "file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help='Add all of a JSON list of {"path", "owner", "local"}.',
)
@config_option
def add(
    path: bytes | None, owner: str | None, local: bytes | None, file: Path | None, config_file: Path
) -> None:
    """Show a directory of a file server at the global PATH.

    The same again changes nothing; with --file all are added or none.

    \b
    Examples:
      spanreel gns add /projects --owner fs1 --local /data/projects
      spanreel gns add --file gns.json
    """
    if file is not None:
        if path is not None or owner is not None or local is not None:
            raise click.UsageError("Give either --file, or PATH with --owner and --local.")
        _send(config_file, read_changes(file))
        return
    if path is None or owner is None or local is None:
        raise click.UsageError("PATH, --owner and --local are needed, or --file.")
    _send(config_file, add_change(path, owner, tidy(local)))


def read_changes(file: Path) -> dict[str, Any]:
    """Return the batch of additions in a JSON file; raises ConfigurationError naming the entry."""
    try:
        with file.open("rb") as stream:
            entries = json.loads(stream.read(MAP_SIZE_MAX))
    except OSError as error:
        raise ConfigurationError(f"{file}: cannot read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{file}: not JSON: {error}") from error
    if not isinstance(entries, list):
        raise ConfigurationError(f'{file}: must be a list of {{"path", "owner", "local"}}')
    return batch_change([_read_entry(f"{file}: [{number}]", entry) for number, entry in enumerate(entries)])


def _read_entry(where: str, entry: object) -> dict[str, Any]:
    if not isinstance(entry, Mapping):
        raise ConfigurationError(f'{where}: must be an object with "path", "owner" and "local"')
    unknown = sorted(set(entry) - _FILE_KEYS)
    if unknown:
        raise ConfigurationError(
            f"{where}: unknown key {unknown[0]!r}; allowed: {', '.join(sorted(_FILE_KEYS))}"
        )
    owner = entry.get("owner")
    if not isinstance(owner, str):
        raise ConfigurationError(f"{where}: 'owner' must be the name of a node")
    try:
        return add_change(tidy(path_from_json(entry)), owner, tidy(path_from_json(entry, "local")))
    except ValueError as error:
        raise ConfigurationError(f"{where}: {error}") from error


@gns.command("ls")
@click.option("--local", "with_local", is_flag=True, help="Show the owners' local directories too.")
@json_option
@config_option
def list_junctions(with_local: bool, as_json: bool, config_file: Path) -> None:
    """List the junctions: which file server owns which part.

    Example: spanreel gns ls
    """
    gns_map = _fetch(config_file)
    if as_json:
        junctions = [_junction_json(junction, with_local) for junction in gns_map.junctions]
        echo_json({"generation": gns_map.generation, "junctions": junctions})
        return
    rows = [("PATH", "OWNER", "SINCE", "LOCAL")[: 4 if with_local else 3]]
    for junction in gns_map.junctions:
        row = (show_path(junction.path), junction.owner, str(junction.generation), show_path(junction.local))
        rows.append(row[: 4 if with_local else 3])
    show_table(rows)
    click.echo(f"generation {gns_map.generation}")


@gns.command()
@click.argument("path", type=GlobalPath())
@click.option("--local", "with_local", is_flag=True, help="Show the owner's local path too.")
@json_option
@config_option
def resolve(path: bytes, with_local: bool, as_json: bool, config_file: Path) -> None:
    """Say which file server owns the global PATH; exit 1 when none does.

    Example: spanreel gns resolve /projects/media/film.mkv
    """
    resolution = _fetch(config_file).resolve(path)
    junction = resolution.junction
    if as_json:
        local = path_json(resolution.local, "local") if with_local else {}
        echo_json({**path_json(path), "junction": _junction_json(junction, with_local), **local})
        return
    rest = f" at {show_path(resolution.local)}" if with_local else ""
    click.echo(f"{show_path(path)}: {junction.owner}{rest}, part {show_path(junction.path)}")


@gns.command("rm")
@click.argument("path", type=GlobalPath())
@config_option
def remove(path: bytes, config_file: Path) -> None:
    """Take the junction at PATH out of the tree; the files stay where they are.

    Example: spanreel gns rm /projects/media
    """
    _send(config_file, remove_change(path))


@gns.command()
@click.argument("path", type=GlobalPath())
@click.option("--to", "node", required=True, metavar="NODE", help="The file server it goes to.")
@click.option("--local", type=BytesPath(), required=True, metavar="DIR", help="The directory there.")
@config_option
def move(path: bytes, node: str, local: bytes, config_file: Path) -> None:
    """Move the part at PATH to another file server; clients see no difference.

    The files are copied first, then the map is switched over.  Let nobody write there meanwhile.

    Example: spanreel gns move /projects/media --to fs2 --local /data/media
    """
    from appliance.gns import client

    generation = client.move(_load(config_file), path, node, tidy(local))
    click.echo(f"{show_path(path)} is on {node} now; the map has generation {generation}")


def _junction_json(junction: Junction, with_local: bool) -> dict[str, object]:
    return {
        **path_json(junction.path),
        "owner": junction.owner,
        "fileset": junction.fileset,
        "generation": junction.generation,
        **(path_json(junction.local, "local") if with_local else {}),
    }
