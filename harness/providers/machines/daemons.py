"""The daemons of a lab on its machines: one for a node's roles, and the relays before NDMP services."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from importlib import resources
from typing import TYPE_CHECKING, Any

from harness import guest
from harness.errors import CommandError, HarnessError, InfrastructureError
from harness.providers.machines import layout
from harness.topology import BACKUP_SERVER, FILE_SERVER, MEDIA_SERVER, Node

if TYPE_CHECKING:
    from harness.providers.machines.provider import MachinesProvider

# Python starts slowly on a busy machine; a drive that is asked for the first time takes its time, too.
READY_SECONDS = 120.0
# What the last lines of an ended daemon are, and what is kept of a log at most.
LOG_BYTES = 20_000_000
# Relays listen above the servers' own ports: 11000 plus the node's place in the topology.
RELAY_PORT_BASE = 11000


def start_roles(provider: MachinesProvider, node: Node) -> None:
    """(Re)start a node's roles and return when all listen; an error quotes their last words."""
    argv = ["spanreel", "serve", ",".join(node.served_roles), "--config", provider.paths(node).config]
    answer = _call(provider, node, "start", _name(node), argv, node.served_roles)
    _require_ready(provider, node, f"start {', '.join(node.served_roles)}", answer)


def stop_roles(provider: MachinesProvider, node: Node) -> None:
    """End a node's roles; nothing to end is fine."""
    if node.served_roles and provider.memory(node).get("claimed"):
        _call(provider, node, "stop", _name(node))


def roles_run(provider: MachinesProvider, node: Node) -> bool:
    """Return whether the daemon of a node runs."""
    return bool(_call(provider, node, "alive", _name(node))["state"] == "running")


def start_relays(provider: MachinesProvider) -> None:
    """Start a recording relay before every NDMP service, on the backup server's machine."""
    backup = provider.topology.only(BACKUP_SERVER)
    script = f"{layout.run(backup)}/relay.py"
    with provider.events.stepping(backup.name, "relays"):
        source = (resources.files("harness") / "relay.py").read_bytes()
        provider.run(backup, ["sh", "-c", 'mkdir -p "${1%/*}" && cat >"$1"', "sh", script], stdin=source)
        for node in _relayed(provider):
            listen = "{}:{}".format(*relay_address(provider, node))
            argv = ["python3", script, "--listen", listen]
            argv += ["--to", f"{node.address}:{provider.topology.ndmp_port}"]
            argv += ["--record", f"{layout.relay(backup)}/{node.name}"]
            if _call(provider, backup, "alive", _relay_name(backup, node))["state"] == "running":
                continue
            answer = _call(provider, backup, "start", _relay_name(backup, node), argv, ["relay"])
            _require_ready(provider, backup, f"relay to {node.name}", answer)


def relay_address(provider: MachinesProvider, node: Node) -> tuple[str, int]:
    """Return where the DMA finds a node's NDMP service."""
    place = provider.topology.nodes.index(node)
    return provider.topology.only(BACKUP_SERVER).address, RELAY_PORT_BASE + place


def fetch_recordings(provider: MachinesProvider) -> None:
    """Copy what the relays recorded to the lab's folder on this host."""
    backup = provider.topology.only(BACKUP_SERVER)
    target = provider.lab.folder / "relay"
    target.mkdir(exist_ok=True)
    with tempfile.TemporaryFile() as packed:
        argv = ["tar", "-cf", "-", "-C", layout.relay(backup), "."]
        code = provider.exec(backup, argv, stdin=None, stdout=packed, stderr=packed)
        if code != 0:
            raise CommandError(backup.name, argv, code)
        packed.seek(0)
        done = subprocess.run(
            ["tar", "-xf", "-", "--no-same-owner", "-C", str(target)],
            stdin=packed,
            capture_output=True,
            check=False,
        )
    if done.returncode != 0:
        raise CommandError("host", ["tar", "-xf", "-"], done.returncode, done.stderr)


def stop_all(provider: MachinesProvider, node: Node) -> None:
    """End every daemon of the lab on a machine."""
    stop_roles(provider, node)
    if node.has(BACKUP_SERVER):
        for other in _relayed(provider):
            _call(provider, node, "stop", _relay_name(node, other))


def journal_command(provider: MachinesProvider, node: Node) -> Sequence[str]:
    """Return the command that prints what a node's roles said."""
    if provider.memory(node).get("systemd"):
        return [
            "journalctl",
            "-q",
            "--output=short-iso-precise",
            "--no-pager",
            "-u",
            f"{_name(node)}.service",
        ]
    return ["tail", "-c", str(LOG_BYTES), f"{layout.run(node)}/{_name(node)}.log"]


def keep_words(provider: MachinesProvider, node: Node) -> None:
    """Keep what a node's roles said before its machine is left; it does not stop the leaving."""
    if not node.served_roles:
        return
    target = provider.lab.node_folder(node.name) / "roles.log"
    try:
        target.write_bytes(provider.run(node, journal_command(provider, node), check=False).stdout)
    except HarnessError as error:
        target.write_text(f"not kept: {error}\n", encoding="utf-8")


def _relayed(provider: MachinesProvider) -> list[Node]:
    """The nodes with an NDMP service."""
    return [node for node in provider.topology.nodes if node.has(FILE_SERVER) or node.has(MEDIA_SERVER)]


def _name(node: Node) -> str:
    """The daemon of a node's roles: named by what two labs cannot share."""
    return f"spanreel-lab-{node.address.replace('.', '-')}"


def _relay_name(backup: Node, node: Node) -> str:
    return f"{_name(backup)}-relay-{node.name}"


def _call(
    provider: MachinesProvider,
    node: Node,
    action: str,
    name: str,
    argv: Sequence[str] = (),
    ready: Sequence[str] = (),
) -> dict[str, Any]:
    """Ask the script on the machine."""
    argument = {
        "action": action,
        "name": name,
        "systemd": bool(provider.memory(node).get("systemd")),
        "folder": layout.run(node),
        "argv": list(argv),
        "environment": layout.environment(node, provider.lab),
        "ready": list(ready),
        "seconds": READY_SECONDS,
    }
    answer: dict[str, Any] = guest.call(provider, node, "daemon", argument)
    return answer


def _require_ready(provider: MachinesProvider, node: Node, step: str, answer: dict[str, Any]) -> None:
    """Raise with the daemon's last words if it does not listen."""
    if answer["state"] == "ready":
        return
    what = "ended" if answer["state"] == "ended" else f"is not ready after {READY_SECONDS:.0f} s"
    words = " | ".join(answer["said"]) or "it printed nothing"
    command = " ".join(journal_command(provider, node))
    raise InfrastructureError(
        f"{node.name}: {step}: {what}: {words}",
        hint=f"all of it: spanreel lab exec --lab {provider.lab.name} {node.name} -- {command}",
    )
