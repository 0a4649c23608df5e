"""Power: a machine is made paused, its console recorded, set going, and waited for."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import libvirt

from harness.errors import InfrastructureError
from harness.providers.libvirt.domain import Machine, domain_xml, network_xml
from harness.providers.libvirt.names import BRIDGE, NETWORK
from harness.ssh import Ssh

# Five machines cold on two emulated processors need half a minute; a busy CI host more.
BOOT_SECONDS = 300.0
_POLL_SECONDS = 0.3
# What the initrd and the kernel say when there is no point in waiting longer.
_FATAL_CONSOLE_LINES = ("spanreel-initrd: ", "Kernel panic - not syncing")


def ensure_network(connection: Any, address: str) -> None:
    """The lab's network, started if it is not there."""
    if NETWORK not in [network.name() for network in connection.listAllNetworks()]:
        connection.networkCreateXML(network_xml(NETWORK, BRIDGE, address))


def running(connection: Any) -> set[str]:
    """Names of the machines that run; one that is paused does not."""
    return {domain.name() for domain in connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_RUNNING)}


def all_names(connection: Any) -> list[str]:
    """Names of all machines, paused ones too."""
    return sorted(domain.name() for domain in connection.listAllDomains())


def create_paused(connection: Any, machine: Machine) -> str:
    """Make a machine whose processor stands still; return the device of its console."""
    try:
        domain = connection.createXML(domain_xml(machine, NETWORK), libvirt.VIR_DOMAIN_START_PAUSED)
    except libvirt.libvirtError as error:
        raise InfrastructureError(f"{machine.name}: cannot be started: {error}") from error
    return _console(domain)


def _console(domain: Any) -> str:
    console = ElementTree.fromstring(domain.XMLDesc()).find("./devices/serial/source")  # noqa: S314 - libvirt's own
    assert console is not None
    return str(console.attrib["path"])


def port(connection: Any, name: str) -> str:
    """Return the interface of the bridge that a running machine is at."""
    try:
        xml = connection.lookupByName(name).XMLDesc()
    except libvirt.libvirtError as error:
        raise InfrastructureError(f"{name}: is not there: {error}") from error
    target = ElementTree.fromstring(xml).find("./devices/interface/target")  # noqa: S314 - libvirt's own
    assert target is not None
    return str(target.attrib["dev"])


def suspend(connection: Any, names: Sequence[str]) -> None:
    """Have machines stand still, all within milliseconds; one that does already is fine."""
    for name in names:
        try:
            connection.lookupByName(name).suspend()
        except libvirt.libvirtError as error:
            raise InfrastructureError(f"{name}: cannot be paused: {error}") from error


def save(connection: Any, name: str, target: Path) -> None:
    """Write a machine's memory to a file and end the machine."""
    try:
        connection.lookupByName(name).save(str(target))
    except libvirt.libvirtError as error:
        raise InfrastructureError(f"{name}: its memory cannot be saved: {error}") from error


def restore_paused(connection: Any, name: str, source: Path) -> str:
    """Make a machine of its saved memory, standing still; return the device of its console."""
    try:
        connection.restoreFlags(str(source), None, libvirt.VIR_DOMAIN_SAVE_PAUSED)
        return _console(connection.lookupByName(name))
    except libvirt.libvirtError as error:
        raise InfrastructureError(
            f"{name}: cannot be restored: {error}", hint="boot cold: spanreel lab up --fresh"
        ) from error


def set_going(connection: Any, names: Sequence[str]) -> None:
    """Let machines run."""
    for name in names:
        connection.lookupByName(name).resume()


def destroy(connection: Any, names: Sequence[str]) -> None:
    """Switch machines off, hard, all at once: each takes its hypervisor a second or two."""

    def one(name: str) -> None:
        try:
            connection.lookupByName(name).destroy()
        except libvirt.libvirtError as error:
            # One that ended by itself in the meantime is what we want.
            if error.get_error_code() not in (libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_ERR_OPERATION_INVALID):
                raise InfrastructureError(f"{name}: cannot be switched off: {error}") from error

    if names:
        with ThreadPoolExecutor(max_workers=len(names)) as pool:
            list(pool.map(one, names))


def wait_for_ssh(
    ssh: Ssh,
    console: Path,
    offset: int,
    is_running: Callable[[], bool],
    is_cancelled: Callable[[], bool],
    progress: Callable[[str], None],
) -> None:
    """Return when the machine lets us in; fail at once when its console shows that it never will.

    `offset` is where this boot begins in the console log.
    """
    deadline = time.monotonic() + BOOT_SECONDS
    while True:
        try:
            ssh.connect(1.0).close()
            break
        except OSError:
            pass
        if is_cancelled():
            raise InfrastructureError(f"{ssh.node}: not waited for, another machine failed")
        last = _last_line(console, offset)
        fatal = next((word for word in _FATAL_CONSOLE_LINES if word in last), None)
        if fatal or not is_running() or time.monotonic() > deadline:
            what = (
                "does not boot"
                if fatal
                else "gave no SSH within its time"
                if is_running()
                else "switched off"
            )
            raise InfrastructureError(
                f"{ssh.node}: {what}: {last[-200:] or 'nothing on its console'}",
                hint=f"its console: {console}",
            )
        progress(last[-80:])
        time.sleep(_POLL_SECONDS)
    ssh.open(max(10.0, deadline - time.monotonic()))


def _last_line(console: Path, offset: int) -> str:
    try:
        with console.open("rb") as log:
            log.seek(offset)
            lines = log.read().decode("utf-8", "backslashreplace").splitlines()
    except FileNotFoundError:
        return ""
    for line in lines:
        if any(word in line for word in _FATAL_CONSOLE_LINES):
            return line
    # Without our own time stamp.
    return lines[-1].partition(" ")[2] if lines else ""


def console_sizes(logs: Mapping[str, Path]) -> dict[str, int]:
    """How long each console log is now."""
    return {name: log.stat().st_size if log.exists() else 0 for name, log in logs.items()}
