"""`spanreel session`: the control sessions of the node it runs on."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Final

import click

from appliance.commands._options import config_option, echo_json, json_option
from appliance.commands._table import show_table
from appliance.config import load
from appliance.errors import ConfigurationError, ExitCode, JobError
from appliance.sessionlines import LineError, Request
from appliance.sessionsocket import ask_all
from appliance.text import show_path

MINUTE_S: Final = 60
POLL_S: Final = 1.0
"""Between two looks at the sessions."""
IDLE: Final = "idle"


@click.group()
def session() -> None:
    """Look at and end the control sessions of this node.

    \b
    Examples:
      spanreel session list
      spanreel session kill 3f9a-12
      spanreel session wait
    """


@session.command("list")
@config_option
@json_option
def list_sessions(config_file: Path, as_json: bool) -> None:
    """List the sessions that are there now, of all roles of this node.

    Example: spanreel session list --json
    """
    found = _sessions(load(config_file).node.state)
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


@session.command("wait")
@click.option(
    "--minutes", type=click.IntRange(0), default=60, show_default=True, help="How long to wait at most."
)
@config_option
def wait(minutes: int, config_file: Path) -> None:
    """Wait until this node takes part in no job: no session moves data or has a drive or changer open.

    If one still does after --minutes, it is named, and the exit code is 1.

    Example: spanreel session wait --minutes 120
    """
    state = load(config_file).node.state
    deadline = time.monotonic() + minutes * MINUTE_S
    told = ""
    while busy := [one for one in _sessions(state) if _has_work(one)]:
        text = "; ".join(f"session {one['id']} of {one['peer']}: {_row(one)[-1]}" for one in busy)
        if time.monotonic() >= deadline:
            raise JobError(f"this node still takes part in a job after {minutes} minutes: {text}")
        if not told:
            click.echo(f"waiting: {text}", err=True)
            told = text
        time.sleep(POLL_S)
    click.echo("this node takes part in no job")


def _sessions(state: Path) -> list[dict[str, Any]]:
    return [one for answer in ask_all(state, Request("list")) for one in answer["sessions"]]


def _has_work(one: dict[str, Any]) -> bool:
    """Whether a session is a job's: a service is not idle, or a drive or changer is open."""
    return any(facts.get("state") != IDLE for facts in one["services"].values())


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
