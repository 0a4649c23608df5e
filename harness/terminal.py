"""A shell on a node at this terminal: OpenSSH, which knows terminals, with the keys that the lab trusts."""

from __future__ import annotations

import os
import shlex
import shutil
from pathlib import Path

from harness.errors import NotPossibleError
from harness.ssh import Ssh

# The name that the pinned keys stand under: addresses change, and come again in other labs.
_ALIAS = "spanreel-node"


def interactive(ssh: Ssh, address: tuple[str, int], known: Path) -> list[str]:
    """Return the command line of a shell on a node, in the environment of every other command there.

    `known` is written: the keys that the node may show.  Raises NotPossibleError without OpenSSH.
    """
    if shutil.which("ssh") is None:
        raise NotPossibleError("a shell on a node needs OpenSSH's client: apt-get install openssh-client")
    write_known(known, ssh.host_key)
    host, port = address
    options = {
        "HostKeyAlias": _ALIAS,
        "UserKnownHostsFile": str(known),
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "yes",
        "IdentitiesOnly": "yes",
        "LogLevel": "ERROR",
    }
    words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    here = ["ssh", "-F", "none", "-t", "-i", str(ssh.identity), "-p", str(port), *words]
    return [*here, f"{ssh.user}@{host}", "--", _there(ssh)]


def write_known(known: Path, keys: str) -> None:
    """Write host keys as OpenSSH reads them, replaced at once."""
    known.parent.mkdir(parents=True, exist_ok=True)
    part = known.with_name(f"{known.name}.{os.getpid()}")
    part.write_text("".join(f"{_ALIAS} {line}\n" for line in keys.splitlines()), encoding="ascii")
    part.replace(known)


def _there(ssh: Ssh) -> str:
    """What the node's shell runs: a shell of the user that commands have."""
    words = [*ssh.prefix, "env", *(f"{name}={value}" for name, value in ssh.environment.items())]
    return shlex.join([*words, "sh", "-c", 'exec "${SHELL:-/bin/sh}" -i'])
