"""The host keys a machine may show: written in the topology, or known on this host.  No other is trusted."""

from __future__ import annotations

import base64
import binascii
from pathlib import Path

import paramiko

from harness.errors import UsageError
from harness.topology import Node

SSH_PORT = 22


def address(node: Node) -> str:
    """Return where SSH reaches the machine."""
    return node.ssh.address or node.address


def pinned(node: Node) -> str:
    """Return the public keys that the machine may show, one a line."""
    if node.ssh.host_key:
        return "\n".join(_checked(node, line) for line in node.ssh.host_key.splitlines() if line.strip())
    return "\n".join(_known(node))


def identity(node: Node) -> Path:
    """Return our private key for a machine.  Raises UsageError if there is none."""
    wanted = Path(node.ssh.identity or "~/.ssh/id_ed25519").expanduser()
    if not wanted.is_file():
        raise UsageError(
            f"{node.name}: there is no private key {wanted}",
            hint=f"name one (ssh: identity:), or make it: ssh-keygen -t ed25519 -f {wanted}",
        )
    return wanted


def remedy(node: Node) -> str:
    """Return the command with which a person sees for himself what is wrong with SSH."""
    port = f" -p {node.ssh.port}" if node.ssh.port != SSH_PORT else ""
    key = f" -i {node.ssh.identity}" if node.ssh.identity else ""
    return f"try it: ssh{port}{key} {node.ssh.user}@{address(node)} true"


def _known(node: Node) -> list[str]:
    """The keys of a machine in its known_hosts file, hashed names too."""
    path = Path(node.ssh.known_hosts).expanduser()
    try:
        hosts = paramiko.HostKeys(str(path))
    except (OSError, paramiko.SSHException) as error:
        raise UsageError(f"{node.name}: cannot read {path}: {error}") from error
    host = address(node)
    name = host if node.ssh.port == SSH_PORT else f"[{host}]:{node.ssh.port}"
    keys = hosts.lookup(name)
    if not keys:
        raise UsageError(
            f"{node.name}: {path} has no key of {name}",
            hint=f"connect once by hand and compare the key with the machine's own; {remedy(node)}",
        )
    return [f"{kind} {key.get_base64()}" for kind, key in keys.items()]


def _checked(node: Node, line: str) -> str:
    """A key of the topology that can be one."""
    words = line.split()
    try:
        paramiko.PKey.from_type_string(words[0], base64.b64decode(words[1], validate=True))
    except (IndexError, binascii.Error, ValueError, paramiko.SSHException) as error:
        raise UsageError(f"{node.name}: ssh: host_key is no public key: {line[:60]}") from error
    return line
