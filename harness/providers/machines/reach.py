"""From a machine somewhere to commands on it: power, waiting, SSH.

Every error names machine, step and remedy.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from harness.errors import HarnessError, InfrastructureError
from harness.providers.machines import hostkeys, power
from harness.ssh import Ssh
from harness.topology import Node

# A machine that is on answers at once; a busy one may take a moment.
CONNECT_SECONDS = 10.0
POLL_SECONDS = 1.0


def connect_to(node: Node) -> Callable[[float], socket.socket]:
    """Return what makes a TCP connection to the machine's SSH."""
    place = (hostkeys.address(node), node.ssh.port)
    return lambda timeout: socket.create_connection(place, timeout)


@contextmanager
def step(node: Node, name: str, remedy: str) -> Iterator[None]:
    """Have an error of this block name machine, step and remedy."""
    try:
        yield
    except InfrastructureError as error:
        said = error.message.removeprefix(f"{node.name}: ")
        raise InfrastructureError(f"{node.name}: {name}: {said}", hint=error.hint or remedy) from error


def reach(
    node: Node,
    ssh: Ssh,
    was_off: Callable[[], None],
    progress: Callable[[str], None],
    cancelled: threading.Event,
) -> None:
    """Have SSH let us in, switching the machine on if it is off and can be switched.

    `was_off` is called before it is switched on, so that a crash does not forget who did it.
    """
    switch = power.of(node)
    refused = _refusal(ssh)
    if refused is not None and switch is not None:
        was_off()
        with step(node, "power on", "see docs/machines.md, Power"):
            switch.on()
        progress("switched on")
        _wait(node, ssh, progress, cancelled)
    elif refused is not None:
        where = f"{hostkeys.address(node)}:{node.ssh.port}"
        raise InfrastructureError(
            f"{node.name}: reach it: nobody answers at {where}: {refused}",
            hint=f"switch it on, or give it `power` in the topology; {hostkeys.remedy(node)}",
        )
    with step(node, "SSH", hostkeys.remedy(node)):
        ssh.open(CONNECT_SECONDS)


def _refusal(ssh: Ssh) -> OSError | None:
    """Why nobody answers; None if somebody does."""
    try:
        ssh.connect(CONNECT_SECONDS).close()
    except OSError as error:
        return error
    return None


def _wait(node: Node, ssh: Ssh, progress: Callable[[str], None], cancelled: threading.Event) -> None:
    """Wait for a machine that boots."""
    deadline = time.monotonic() + node.machine.boot_seconds
    said = ""
    while True:
        try:
            ssh.connect(CONNECT_SECONDS).close()
            # Its key and our right to log in are looked at once it has booted: then they are final.
            ssh.open(CONNECT_SECONDS)
        except (OSError, HarnessError) as error:
            said = str(error)
        else:
            return
        if time.monotonic() > deadline:
            raise InfrastructureError(
                f"{node.name}: boot: no SSH {node.machine.boot_seconds} s after power on: {said}",
                hint=f"look at its console, or give it more `boot_seconds`; {hostkeys.remedy(node)}",
            )
        progress(f"boots: {said}"[:80])
        if cancelled.wait(POLL_SECONDS):
            raise InfrastructureError(f"{node.name}: boot: not waited for, another machine failed")
