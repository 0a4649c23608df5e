"""A lab on disk: its folder, its lock, its state, so that the next command finds it.

$XDG_STATE_HOME/spanreel/labs/NAME/
    lock             held while a command changes the lab; names its holder
    state.json       what `LabState` remembers (0600: it holds the token)
    topology.yaml    the topology as it was at `up`
    events.jsonl     every progress event
    nodes/NODE/      console.log and, in the process lab, the node's whole disk
    secrets/         authority, passwords, keys (0700)
    runs/TIME/       manifests, captures, report.html, report.json of one `lab run`
"""

from __future__ import annotations

import fcntl
import ipaddress
import json
import os
import re
import secrets
import shutil
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from harness import topology as topologies
from harness.errors import InfrastructureError, LabBusyError, LabNotRunningError, UsageError
from harness.topology import Topology

# Lab names become names of network namespaces, libvirt domains and folders.
RUNS = "runs"
NAME_PATTERN = re.compile(r"[a-z][a-z0-9-]{0,30}")
# 96 bits: a search for the token finds it only where somebody leaked it.
TOKEN_BYTES = 12
# The third octet is one byte; the last values stay free for networks of the site.
SUBNET_CANDIDATES = 250


def state_home() -> Path:
    """`$XDG_STATE_HOME/spanreel`."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "spanreel"


def cache_home() -> Path:
    """`$XDG_CACHE_HOME/spanreel`: images, wheels; anything here can be made again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "spanreel"


@dataclass
class LabState:
    """What is remembered of a lab between commands.

    `state` is one of off, booted, ready, seeded.  `provider_data` belongs to the provider alone:
    JSON values, saved by `save()`.
    """

    name: str
    topology_name: str
    subnet: str
    token: str
    state: str = "off"
    created: str = ""
    # What nodes were made of at `up`, as `Provider.made_of` names it.
    made_of: dict[str, str] = field(default_factory=dict)
    provider_data: dict[str, Any] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """The lab's folder."""
        return lab_folder(self.name)

    @property
    def secrets(self) -> Path:
        """The folder of keys and passwords, made on first use."""
        return _private(self.folder / "secrets")

    def node_folder(self, node: str) -> Path:
        """Return the folder of one node on the host, made on first use."""
        folder = self.folder / "nodes" / node
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def save(self) -> None:
        """Write the state in one step: a crash leaves the old or the new file."""
        path = self.folder / "state.json"
        partial = path.with_suffix(".partial")
        with open(
            os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8"
        ) as file:
            json.dump(asdict(self), file, indent=2)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)

    def topology(self) -> Topology:
        """Return the topology as it was at `up`, in this lab's subnet."""
        return topologies.read(self.folder / "topology.yaml").with_subnet(self.subnet)


def lab_folder(name: str) -> Path:
    """Return the folder of a lab; a name that could leave it is refused."""
    if not NAME_PATTERN.fullmatch(name):
        raise UsageError(
            f"lab name {name!r} is not allowed", hint="a-z, 0-9 and -, at most 31, a letter first"
        )
    return state_home() / "labs" / name


def names() -> list[str]:
    """All labs that have a state on this host."""
    folder = state_home() / "labs"
    return sorted(item.parent.name for item in folder.glob("*/state.json"))


def load(name: str) -> LabState | None:
    """Return the state of a lab, None if there is none."""
    path = lab_folder(name) / "state.json"
    try:
        return LabState(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        hint = f"`spanreel lab clean --lab {name}` removes the lab"
        raise InfrastructureError(f"{path} is damaged: {error}", hint=hint) from error


def require(name: str) -> LabState:
    """Return the state of a lab that is up."""
    lab = load(name)
    if lab is None or lab.state == "off":
        raise LabNotRunningError(f"lab {name} is not running", hint=f"start it: spanreel lab up --lab {name}")
    return lab


def create(name: str, topology: Topology) -> LabState:
    """Make a lab's folder, token and subnet, or return the one there is.

    Call it with the lab's lock held.
    """
    existing = load(name)
    if existing is not None:
        if existing.topology_name != topology.name:
            raise UsageError(
                f"lab {name} was made from topology {existing.topology_name}, not {topology.name}",
                hint=f"take another --lab, or `spanreel lab clean --lab {name}`",
            )
        if existing.state == "off":  # nothing runs: the file may have changed since
            _copy_topology(topology, existing)
        return existing
    with _file_lock(state_home() / "subnets.lock", "allocating a subnet"):
        created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        lab = LabState(
            name,
            topology.name,
            topology.subnet
            if topology.provider == topologies.MACHINES
            else _free_subnet(topology, others_may_have_it=name == topology.name),
            secrets.token_hex(TOKEN_BYTES),
            created=created,
        )
        _private(lab.folder)
        _copy_topology(topology, lab)
        lab.save()
    return lab


def remove(name: str) -> None:
    """Delete a lab's folder, and thereby its name, token and subnet."""
    shutil.rmtree(lab_folder(name), ignore_errors=False)


def begin_anew(name: str) -> None:
    """Forget everything of a lab that is down, but its runs: the next `create` makes another of its name."""
    folder = lab_folder(name)
    # The state last: whatever ends us, what is left is still known to be a lab's.
    for path in sorted(folder.iterdir(), key=lambda path: path.name == "state.json"):
        if path.is_dir() and path.name != RUNS:
            shutil.rmtree(path)
        elif path.name not in (RUNS, "lock"):
            path.unlink()


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold a lab while it is changed.  The kernel lets go when the holder dies: never stale."""
    with _file_lock(_private(lab_folder(name)) / "lock", f"lab {name}"):
        yield


@contextmanager
def _file_lock(path: Path, what: str) -> Iterator[None]:
    """Hold an flock that names its holder in the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise LabBusyError(f"{what} is held by {holder}", hint="wait for it, or end it") from error
        file.truncate(0)
        since = time.strftime("%H:%M:%S")
        file.write(f"process {os.getpid()} ({' '.join(sys.argv)[:200]}) since {since}")
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)


def _free_subnet(topology: Topology, *, others_may_have_it: bool) -> str:
    """Return the wanted /24 or the next one that no lab of this user has.

    Other users' labs are not known by name, but their listeners are seen.  The lab named as its
    topology keeps the addresses that are written there, so that a port in use is told, not dodged.
    """
    wanted = topology.subnet
    taken = {lab.subnet for lab in map(load, names()) if lab is not None}
    base = ipaddress.IPv4Network(wanted)
    first = int(base.network_address) >> 8 & 0xFF
    prefix = int(base.network_address) & 0xFFFF0000
    for step in range(SUBNET_CANDIDATES):
        candidate = str(ipaddress.IPv4Network((prefix | (first + step) % SUBNET_CANDIDATES << 8, 24)))
        if candidate not in taken and (others_may_have_it or not _listened_on(topology, candidate)):
            return candidate
    raise InfrastructureError("no subnet is free", hint="remove labs: spanreel lab clean --lab NAME")


def _listened_on(topology: Topology, subnet: str) -> bool:
    """Whether somebody listens on a loopback address that the lab would have in `subnet`."""
    if not subnet.startswith("127."):
        return False
    for node in topology.with_subnet(subnet).nodes:
        with socket.socket() as probe:
            try:
                probe.bind((node.address, topology.ndmp_port))
            except OSError:
                return True
    return False


def _copy_topology(topology: Topology, lab: LabState) -> None:
    """Keep the topology with the lab."""
    target = lab.folder / "topology.yaml"
    if topology.file != target:
        shutil.copyfile(topology.file, target)


def _private(folder: Path) -> Path:
    """Make a folder only its user can enter."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    return folder
