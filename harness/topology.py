"""The topology file: what a lab is made of, as frozen dataclasses.

The shape is fixed by `schema/topology.schema.json`; what a schema cannot say (addresses within the
subnet, owners that exist) is checked here.  Every error names file, line and field.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any

from harness import virtualtape
from harness.errors import TopologyError, UsageError
from harness.yamlfile import Document, load

FILE_SERVER = "file-server"
CONNECTION_SERVER = "connection-server"
MEDIA_SERVER = "media-server"
BACKUP_SERVER = "backup-server"
CLIENT = "client"
# Roles that `spanreel serve` runs as a daemon.  A backup server's jobs run in the foreground.
SERVED_ROLES = frozenset({FILE_SERVER, CONNECTION_SERVER, MEDIA_SERVER})

# The library model in the media server's process, and as an iSCSI target on the host.
PROCESS_MODEL = "model"
MODEL_TARGET = "iscsi-model"
# Drives and changers of the media server's own, by its kernel's sg driver.
HARDWARE = "sg"

# mhvtl in the media server's kernel, from packages that the operator supplies.
MHVTL = "mhvtl"

# What a virtual machine boots: Debian as its installer leaves it, instead of the appliance image.
PLAIN = "debian"
APPLIANCE = "appliance"

# A library of another make, as an iSCSI target on the host.
TGT = "tgt"
# Libraries of our own, with fault scripts.
OWN_MODELS = frozenset({PROCESS_MODEL, MODEL_TARGET})
ON_THE_HOST = frozenset({MODEL_TARGET, TGT})
# Libraries that, where a lab's machines are its own, are nobody's but the lab's.
MADE_BY_THE_LAB = ON_THE_HOST | {MHVTL}

# The provider of machines that exist already: their addresses are what they are.
MACHINES = "machines"
# Labs of other providers are moved to another third octet.
SUBNET_PREFIX = 24

# Where restores go; left out of seed and comparison.
RESTORED = "/restored"


@dataclass(frozen=True)
class Disk:
    """A data disk of a node."""

    name: str
    size_gib: int
    filesystem: str
    mount: str


@dataclass(frozen=True)
class Ssh:
    """How SSH reaches a node; the provider fills what is left out.

    `address` is where SSH is, if not at the node's own address (a management network).  A machine that
    exists already must show `host_key` (one public key a line) or what stands in `known_hosts`.
    """

    user: str = "root"
    port: int = 22
    identity: str = ""
    address: str = ""
    host_key: str = ""
    known_hosts: str = ""
    sudo: bool = False


@dataclass(frozen=True)
class ConsoleSpec:
    """Where a node's serial console is; without a target the provider makes one."""

    kind: str
    target: str = ""
    baud: int = 115200


@dataclass(frozen=True)
class Power:
    """How a node is switched on and off.

    By commands (`on`, `off`, `cycle`), as a libvirt domain (`domain` at `uri`), or by IPMI (`host`, `user`,
    `password_file`).
    """

    kind: str
    on: str = ""
    off: str = ""
    cycle: str = ""
    uri: str = "qemu:///system"
    domain: str = ""
    host: str = ""
    user: str = ""
    password_file: str = ""


@dataclass(frozen=True)
class Machine:
    """What the provider `machines` may do on a machine, and where: all folders are the machine's own.

    Everything of a lab lies in one folder below `base`, but the local roots if `data`, and the scratch space
    if `scratch`, name a larger disk.  `leases` is the same for all labs that share the machine.
    """

    base: str = "/var/lib/spanreel-lab"
    data: str = ""
    scratch: str = ""
    leases: str = "/var/lib/spanreel-lab-leases"
    product: str = "deploy"
    bin: str = ""
    service: str = "auto"
    boot_seconds: int = 300


@dataclass(frozen=True)
class Node:
    """One machine (or process) of the lab."""

    name: str
    roles: tuple[str, ...]
    address: str
    memory_mib: int = 512
    cpus: int = 1
    disks: tuple[Disk, ...] = ()
    image: str = APPLIANCE
    ssh: Ssh = field(default_factory=Ssh)
    console: ConsoleSpec | None = None
    power: Power | None = None
    machine: Machine = field(default_factory=Machine)

    def has(self, role: str) -> bool:
        """Whether the node has this role."""
        return role in self.roles

    @property
    def served_roles(self) -> tuple[str, ...]:
        """The roles that run as daemons on this node."""
        return tuple(role for role in self.roles if role in SERVED_ROLES)


@dataclass(frozen=True)
class Junction:
    """One part of the global name space; `dir` is below the owner's data root."""

    path: str
    owner: str
    dir: str


@dataclass(frozen=True)
class Library:
    """A tape library and what may be done with it.

    mhvtl is installed from `packages` (files of this host) or `repository` (a line of sources.list(5)).
    """

    node: str
    transport: str
    changer: str
    drives: tuple[str, ...]
    slots: tuple[str, ...]
    writable: tuple[str, ...]
    first_slot: int = 4096
    capacity_mib: int = 2048
    packages: tuple[str, ...] = ()
    repository: str = ""


@dataclass(frozen=True)
class Seed:
    """What the main job writes on the owners."""

    number: int = 1
    size_mib: int = 30
    small_files: int = 2000


@dataclass(frozen=True)
class Topology:
    """A whole lab."""

    name: str
    provider: str
    subnet: str
    nodes: tuple[Node, ...]
    gns: tuple[Junction, ...]
    libraries: tuple[Library, ...]
    ndmp_port: int = 10000
    cluster_port: int = 10001
    seed: Seed = field(default_factory=Seed)
    file: Path = Path()

    def node(self, name: str) -> Node:
        """Return the node of this name; a usage error names those there are."""
        for node in self.nodes:
            if node.name == name:
                return node
        known = ", ".join(node.name for node in self.nodes)
        raise UsageError(f"no node {name!r} in topology {self.name}", hint=f"nodes: {known}")

    def with_role(self, role: str) -> tuple[Node, ...]:
        """All nodes with this role, in file order."""
        return tuple(node for node in self.nodes if node.has(role))

    def only(self, role: str) -> Node:
        """Return the one node that the main job uses for this role: the first."""
        found = self.with_role(role)
        if not found:
            raise UsageError(f"{self.file}: no node has the role {role}, which this command needs")
        return found[0]

    def junctions(self, owner: str) -> tuple[Junction, ...]:
        """Return the parts that `owner` holds."""
        return tuple(junction for junction in self.gns if junction.owner == owner)

    def with_subnet(self, subnet: str) -> Topology:
        """Return the same lab in another /24: every node keeps its host part."""
        if subnet == self.subnet:
            return self
        network = ipaddress.IPv4Network(subnet)
        nodes = tuple(
            replace(node, address=str(network[int(ipaddress.IPv4Address(node.address)) & 0xFF]))
            for node in self.nodes
        )
        return replace(self, subnet=subnet, nodes=nodes)


def shipped() -> list[str]:
    """Names of the topologies that come with the harness."""
    folder = resources.files("harness") / "topologies"
    return sorted(item.name.removesuffix(".yaml") for item in folder.iterdir() if item.name.endswith(".yaml"))


def find(name_or_file: str) -> Path:
    """Return the file that `--topology NAME|FILE` means."""
    folder = Path(str(resources.files("harness") / "topologies"))
    named = folder / f"{name_or_file}.yaml"
    if "/" not in name_or_file and named.is_file():
        return named
    path = Path(name_or_file)
    if path.is_file():
        return path
    raise UsageError(
        f"no topology {name_or_file!r}: neither a shipped one nor a file",
        hint=f"shipped: {', '.join(shipped())}",
    )


def read(path: Path) -> Topology:
    """Read and check one topology file."""
    document = load(path, "topology.schema.json")
    topology = _build(document.data, path)
    _check(topology, document)
    return topology


def _build(data: dict[str, Any], path: Path) -> Topology:
    """Dataclasses of data that the schema has accepted."""
    plain = {
        key: data[key] for key in ("name", "provider", "subnet", "ndmp_port", "cluster_port") if key in data
    }
    return Topology(
        **plain,
        nodes=tuple(_node(item) for item in data["nodes"]),
        gns=tuple(Junction(**item) for item in data["gns"]),
        libraries=tuple(_library(item) for item in data["libraries"]),
        seed=Seed(**data.get("seed", {})),
        file=path,
    )


def _node(item: dict[str, Any]) -> Node:
    """One node."""
    rest = {key: item[key] for key in ("memory_mib", "cpus", "image") if key in item}
    return Node(
        name=item["name"],
        roles=tuple(item["roles"]),
        address=item["address"],
        disks=tuple(Disk(**disk) for disk in item.get("disks", [])),
        ssh=Ssh(**item.get("ssh", {})),
        console=ConsoleSpec(**item["console"]) if "console" in item else None,
        power=Power(**item["power"]) if "power" in item else None,
        machine=Machine(**item.get("machine", {})),
        **rest,
    )


def _library(item: dict[str, Any]) -> Library:
    """One library."""
    lists = {key: tuple(item.get(key, ())) for key in ("drives", "slots", "writable", "packages")}
    first_slot = virtualtape.FIRST_SLOT if item["transport"] == MHVTL else Library.first_slot
    return Library(**{"first_slot": first_slot, **item, **lists})


def _check(topology: Topology, document: Document) -> None:
    """Check what the schema cannot say."""
    try:
        network = ipaddress.IPv4Network(topology.subnet)
    except ValueError as error:
        raise document.error(["subnet"], str(error)) from error
    if topology.provider == MACHINES:
        _check_machines(topology, document)
    elif network.prefixlen != SUBNET_PREFIX:
        raise document.error(["subnet"], f"a /{SUBNET_PREFIX} is wanted for the provider {topology.provider}")
    _check_nodes(topology, network, document)
    _check_unique([junction.path for junction in topology.gns], "gns", "path", document)
    for index, junction in enumerate(topology.gns):
        _check_node_role(topology, junction.owner, FILE_SERVER, ["gns", index, "owner"], document)
    for index, library in enumerate(topology.libraries):
        _check_node_role(topology, library.node, MEDIA_SERVER, ["libraries", index, "node"], document)
        only_libvirt = ON_THE_HOST if topology.provider == MACHINES else {MODEL_TARGET}
        if library.transport in only_libvirt and topology.provider != "libvirt":
            message = f"{library.transport} is for the provider libvirt; this lab's is {topology.provider}"
            raise document.error(["libraries", index, "transport"], message)
        unknown = set(library.writable) - set(library.slots)
        if unknown:
            message = f"{', '.join(sorted(unknown))}: not in slots"
            raise document.error(["libraries", index, "writable"], message)
        _check_virtual(topology, index, library, document)


def _check_virtual(topology: Topology, index: int, library: Library, document: Document) -> None:
    """Check what mhvtl needs: a kernel that takes its module, and what it can show itself as."""
    where: list[str | int] = ["libraries", index]
    if library.transport != MHVTL:
        if library.packages or library.repository:
            what = "packages" if library.packages else "repository"
            raise document.error([*where, what], f"only for the transport {MHVTL}")
        return
    if topology.provider == "process" or (
        topology.provider == "libvirt" and topology.node(library.node).image != PLAIN
    ):
        raise document.error(
            [*where, "transport"],
            f"{MHVTL} wants a module in the kernel of {library.node}",
            hint=f"a virtual machine with `image: {PLAIN}`, or the provider {MACHINES}",
        )
    if found := virtualtape.problem(library):
        raise document.error([*where, found[0]], found[1])
    for number, package in enumerate(library.packages):
        if not package.startswith(("/", "~")):
            raise document.error([*where, "packages", number], f"{package}: an absolute path is wanted")


def _check_machines(topology: Topology, document: Document) -> None:
    """Check what only machines that exist already need: pinned host keys, files of this host, consoles."""
    for index, node in enumerate(topology.nodes):
        where: list[str | int] = ["nodes", index]
        if not node.ssh.host_key and not node.ssh.known_hosts:
            hint = (
                "`ssh-keyscan ADDRESS` prints keys; compare them with the machine's own before you write them"
            )
            raise document.error(
                [*where, "ssh"], "no host_key and no known_hosts: nobody is trusted", hint=hint
            )
        for key in ("identity", "known_hosts"):
            value: str = getattr(node.ssh, key)
            # The lab keeps a copy of this file elsewhere, so a relative name would mean another file there.
            if value and not value.startswith(("/", "~")):
                raise document.error([*where, "ssh", key], f"{value}: an absolute path is wanted")
        if node.console is not None and not node.console.target:
            raise document.error([*where, "console"], "a target is wanted: /dev/ttyUSB0, HOST:PORT")


def _check_nodes(topology: Topology, network: ipaddress.IPv4Network, document: Document) -> None:
    """Check for unique names and addresses, all of them hosts of the subnet."""
    _check_unique([node.name for node in topology.nodes], "nodes", "name", document)
    _check_unique([node.address for node in topology.nodes], "nodes", "address", document)
    for index, node in enumerate(topology.nodes):
        if node.image == PLAIN and topology.provider != "libvirt":
            message = f"{PLAIN} is for the provider libvirt; this lab's is {topology.provider}"
            raise document.error(["nodes", index, "image"], message)
        where: list[str | int] = ["nodes", index, "address"]
        try:
            inside = ipaddress.IPv4Address(node.address) in network
        except ValueError as error:
            raise document.error(where, str(error)) from error
        if not inside:
            raise document.error(where, f"{node.address} is outside the subnet {topology.subnet}")


def _check_unique(values: Sequence[str], section: str, key: str, document: Document) -> None:
    """No value twice; the error points at the second one."""
    for index, value in enumerate(values):
        if value in values[:index]:
            raise document.error([section, index, key], f"{value} is there twice")


def _check_node_role(
    topology: Topology, name: str, role: str, where: list[str | int], document: Document
) -> None:
    """`name` is a node with `role`."""
    candidates = [node.name for node in topology.with_role(role)]
    if name not in candidates:
        raise document.error(
            where, f"{name} is no {role}", hint=f"{role}s: {', '.join(candidates) or 'none'}"
        )


__all__ = [
    "Disk",
    "Junction",
    "Library",
    "Node",
    "Seed",
    "Topology",
    "TopologyError",
    "find",
    "read",
    "shipped",
]
