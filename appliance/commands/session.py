"""`spanreel session`: the control sessions of the node it runs on."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from appliance.commands._options import config_option, echo_json, json_option
from appliance.commands._table import show_table
from appliance.config import load
from appliance.errors import ConfigurationError, ExitCode
from appliance.sessionlines import LineError, Request
from appliance.sessionsocket import ask_all
from appliance.text import show_path


@click.group()
def session() -> None:
    """Look at and end the control sessions of this node.

    \b
    Examples:
      spanreel session list
      spanreel session kill 3f9a-12
    """


@session.command("list")
@config_option
@json_option
def list_sessions(config_file: Path, as_json: bool) -> None:
    """List the sessions that are there now, of all roles of this node.

    Example: spanreel session list --json
    """
    found = [
        one for answer in ask_all(load(config_file).node.state, Request("list")) for one in answer["sessions"]
    ]
    if as_json:
        echo_json({"sessions": found})
        return
    show_table([("session", "port", "peer", "who", "since", "state", "services"), *map(_row, found)])


@session.command("kill")
@click.argument("number", metavar="ID")
@config_option
def kill(number: str, config_file: Path) -> ExitCode:
    """End a session, as if its peer were gone: its drive, robot, feed and channel are free again.

    Example: spanreel session kill 3f9a-12
    """
    try:
        (answer,) = ask_all(load(config_file).node.state, Request("kill", number))
    except LineError as error:
        raise ConfigurationError(f"{error}; `spanreel session list` shows those there are") from error
    if answer["gone"]:
        click.echo(f"session {number} ended")
        return ExitCode.COMPLETE
    click.echo(f"session {number} was cut off, and ends when its present request does", err=True)
    return ExitCode.PROBLEMS


def _row(one: dict[str, Any]) -> tuple[str, ...]:
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(one["since"]))
    # Users are whatever a DMA called itself; a terminal must not act on it.
    who = show_path(str(one["user"] or one["node"] or "-").encode("utf-8", "surrogateescape"))
    services = ", ".join(_service(name, facts) for name, facts in one["services"].items())
    return one["id"], one["port"], one["peer"], who, since, one["state"], services or "-"


def _service(name: str, facts: dict[str, Any]) -> str:
    """One service in a few words: `data active backup 12345 bytes of 20261122T140623Z-1a2b3c4d`."""
    words = [name, *(str(facts[key]) for key in ("state", "operation", "mode", "device") if facts.get(key))]
    if facts.get("bytes"):
        words.append(f"{facts['bytes']} bytes")
    if facts.get("job"):
        words.append(f"of {facts['job']}")
    return " ".join(word for word in words if word != "noaction")
