"""`spanreel serve`: run roles in the foreground."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Protocol

import click

from appliance import logs
from appliance.commands._options import config_option
from appliance.config import NodeConfig, load
from appliance.dmaport import DmaPort
from appliance.endsignals import EndSignals
from appliance.errors import ConfigurationError, InfrastructureError
from appliance.ndmp.sessions import Sessions
from appliance.roles import BACKUP_SERVER, CONNECTION_SERVER, FILE_SERVER, MEDIA_SERVER, ROLES
from appliance.sessionsocket import SessionSocket

SERVES_DMAS = frozenset({FILE_SERVER, MEDIA_SERVER})
"""Roles with services for DMAs."""


class Role(Protocol):
    """What `serve` runs."""

    def start(self) -> list[tuple[str, int]]:
        """Listen and work in threads; return the addresses listened on."""

    def stop(self) -> None:
        """End everything that was started."""


def make_role(name: str, config: NodeConfig, sessions: Sessions, port: DmaPort | None) -> Role:
    """Build a role; only its own modules are imported.  `port`: the DMAs', for roles that serve it."""
    if name == FILE_SERVER:
        from appliance.fileserver.role import FileServerRole

        return FileServerRole(config, sessions, port)
    if name == CONNECTION_SERVER:
        from appliance.connection.role import ConnectionServerRole

        return ConnectionServerRole(config, sessions)
    if name == MEDIA_SERVER:
        from appliance.mediaserver.role import MediaServerRole

        return MediaServerRole(config, sessions, port)
    assert name == BACKUP_SERVER, "checked by the command"
    from appliance.backupserver.role import BackupServerRole

    return BackupServerRole(config, sessions)


@click.command()
@click.argument("roles", metavar="ROLE[,ROLE...]")
@config_option
def serve(roles: str, config_file: Path) -> None:
    """Run roles in the foreground until SIGTERM or Ctrl-C.

    Each prints a line "ready ROLE ADDRESS:PORT" once it listens.

    \b
    Example:
      spanreel serve file-server --config /etc/spanreel/spanreel.toml
    """
    names = roles.split(",")
    for name in names:
        if name not in ROLES:
            raise ConfigurationError(f"{name!r} is no role; the roles are {', '.join(ROLES)}")
    if {FILE_SERVER, CONNECTION_SERVER} <= set(names):
        raise ConfigurationError(
            f"{FILE_SERVER} and {CONNECTION_SERVER} both serve the cluster's port: "
            "run each with a configuration of its own, and another [cluster] port"
        )
    loaded = load(config_file)
    logs.setup(loaded.node.log)
    ending = EndSignals()
    sessions = Sessions()
    with contextlib.ExitStack() as running:
        made = _make(names, loaded, sessions, running)
        addresses = {name: _start(name, loaded, role) for name, role in made.items()}
        _show(names, loaded, sessions, running)
        for name, where in addresses.items():
            for host, port in where or [(loaded.node.address, 0)]:
                click.echo(f"ready {name} {host}:{port}" if port else f"ready {name}")
        sys.stdout.flush()
        ending.wait()


def _show(names: list[str], config: NodeConfig, sessions: Sessions, running: contextlib.ExitStack) -> None:
    """Let people on the node see the sessions, and Prometheus the figures, until `running` is closed."""
    shown = SessionSocket(config.node.state, names, sessions)
    running.callback(shown.stop)
    shown.start()
    if config.node.metrics is not None:
        from appliance.metrics import MetricsServer

        running.callback(MetricsServer(config.node.metrics, sessions).stop)


def _make(
    names: list[str], config: NodeConfig, sessions: Sessions, running: contextlib.ExitStack
) -> dict[str, Role]:
    """All roles, before the first one listens: those that serve DMAs share a port, and its sessions."""
    config.check_roles(names)
    port = DmaPort(config, sessions) if SERVES_DMAS & set(names) else None
    roles = {}
    for name in names:
        roles[name] = make_role(name, config, sessions, port)
        running.callback(roles[name].stop)
    return roles


def _start(name: str, config: NodeConfig, role: Role) -> list[tuple[str, int]]:
    """Start a role, and return where it listens."""
    try:
        return role.start()
    except OSError as error:
        raise InfrastructureError(
            f"{name} on {config.node.name} cannot listen on {config.node.address}: {error.strerror}; "
            "is another instance running?"
        ) from error
