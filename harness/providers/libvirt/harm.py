"""Harm to machines, for scenarios: roles killed, power cut, links made bad."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from harness import netns
from harness.errors import InfrastructureError, NotPossibleError
from harness.faults import bridge
from harness.faults.link import Bad
from harness.ssh import Ssh

NFT = "nft"
_CLOCK_SCRIPT = """\
set -e
hwclock --utc --hctosys
[ "$1" -eq 0 ] || date --utc --set="@$(($(date +%s) + $1))" >/dev/null
"""


def kill(ssh: Ssh, roles: Sequence[str]) -> None:
    """Kill roles; systemd starts them again, as it does where they serve people."""
    ssh.run(["systemctl", "kill", "--signal=SIGKILL", *(f"spanreel@{role}.service" for role in roles)])


def set_clock(ssh: Ssh, seconds: int) -> None:
    """Set a machine's clock ahead of the right time; behind, if negative."""
    ssh.run(["sh", "-c", _CLOCK_SCRIPT, "sh", str(seconds)])


@contextmanager
def bad_link(namespace: str, port: str, bad: Bad) -> Iterator[None]:
    """Have the link at a port of the namespace's bridge bad while entered.  Raises NotPossibleError."""
    _nft(namespace, bridge.made(port, bad))
    try:
        yield
    finally:
        _nft(namespace, bridge.mended(port))


def _nft(namespace: str, script: str) -> None:
    argv = netns.argv_inside(namespace, [NFT, "-f", "-"])
    done = subprocess.run(argv, input=script, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return
    said = " ".join(done.stderr.split())
    if f'exec of "{NFT}" failed' in said:
        raise NotPossibleError(
            "links are made bad by nftables, which is not installed: apt-get install nftables"
        )
    if "not supported" in said:
        raise NotPossibleError(f"this host's kernel filters no bridges: {said}")
    raise InfrastructureError(f"nft in {namespace} refuses: {said}")
