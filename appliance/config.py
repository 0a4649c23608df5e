"""A node's configuration: one TOML file, checked against the models here.

docs/architecture.md shows the whole file and `spanreel config ROLE --example` prints it commented.
Unknown keys are refused, because a misspelt key that is silently ignored costs a night.

This module imports pydantic: 0.1 s here, six times that in an emulated guest.  Commands that need no
configuration must not import it.
"""

from __future__ import annotations

import ipaddress
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Final, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    model_validator,
)

from appliance.config_access import Endpoint, NetworkList, PortRange, read_accounts
from appliance.config_errors import describe
from appliance.errors import ConfigurationError
from appliance.files import check_secret, read_secret
from appliance.ndmp.networks import ACCEPT_TIMEOUT_S, ANYWHERE, DataRules
from appliance.roles import BACKUP_SERVER, CONNECTION_SERVER, FILE_SERVER, MEDIA_SERVER, NODE_NAME
from appliance.schema import DocumentSchema

# A configuration is a few kilobytes; the bound keeps a wrong path from filling memory.
CONFIG_SIZE_MAX: Final = 1024 * 1024

# SSC counts the bytes of one record in 24 bits; half of that is the largest power of two.
RECORD_SIZE_MAX: Final = 8 * 1024 * 1024
RECORD_SIZE_DEFAULT: Final = 256 * 1024
# tar's block: a record holds whole blocks, or GNU tar could not read the tape by itself.
RECORD_SIZE_UNIT: Final = 512

# A model cartridge must hold its label, one record of the largest size and the marks around them.
MODEL_CAPACITY_MIN: Final = 16 * 1024 * 1024
MODEL_CAPACITY_DEFAULT: Final = 1024 * 1024 * 1024

SESSIONS_MAX: Final = 256
# A session is a thread and a socket; beyond this a process runs out of either.
SESSIONS_BOUND: Final = 16384
NDMP_PORT: Final = 10000
CLUSTER_PORT: Final = 10001


def _absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError("must be an absolute path")
    return path


def _ipv4(text: str) -> str:
    # NDMP version 4 carries the addresses of data connections in 32 bits.
    try:
        return str(ipaddress.IPv4Address(text))
    except ValueError:
        raise ValueError("must be an IPv4 address such as 10.77.0.11") from None


def _any_ip(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise ValueError("must be an IPv4 or IPv6 address such as 10.77.0.31 or fd00::31") from None


def _unique(values: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(values)) != len(values):
        raise ValueError("must not name the same thing twice")
    return values


def _export_client(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9*?.:/@_-]+", text):
        raise ValueError("must be a host, a network such as 10.77.0.0/24, or *")
    return text


AbsolutePath = Annotated[Path, AfterValidator(_absolute)]
Address = Annotated[str, AfterValidator(_ipv4)]
AnyAddress = Annotated[str, AfterValidator(_any_ip)]
Port = Annotated[int, Field(ge=1, le=65535)]
SessionsMax = Annotated[int, Field(ge=1, le=SESSIONS_BOUND)]
NodeName = Annotated[str, Field(pattern=f"^{NODE_NAME.pattern}$")]
# What INQUIRY and volume tags can hold: printable ASCII without blanks, at most 32 characters.
Label = Annotated[str, Field(pattern=r"^[!-~]{1,32}$")]
Labels = Annotated[tuple[Label, ...], AfterValidator(_unique)]
ExportClients = Annotated[tuple[Annotated[str, AfterValidator(_export_client)], ...], AfterValidator(_unique)]


class Section(BaseModel):
    """What all sections share: immutable, and no key that is not declared."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)


class Node(Section):
    """[node]: this machine."""

    name: NodeName
    address: Address
    state: AbsolutePath
    log: Literal["debug", "info", "warning", "error"] = "info"
    metrics: Endpoint | None = None


class DataConnections(Section):
    """Keys of sections whose roles make data connections on the word of a DMA."""

    data_networks: NetworkList = ANYWHERE
    data_ports: PortRange = None
    accept_timeout: Annotated[float, Field(gt=0)] = ACCEPT_TIMEOUT_S
    data_addresses: tuple[AnyAddress, ...] = ()

    @property
    def data_rules(self) -> DataRules:
        """Where data connections may come from, go to and listen."""
        return DataRules(self.data_networks, self.data_ports, self.accept_timeout, self.data_addresses)

    @property
    def has_ipv6(self) -> bool:
        """Whether data connections may use IPv6."""
        return any(":" in address for address in self.data_addresses)


class Ndmp(DataConnections):
    """[ndmp]: where DMAs reach this node, who may connect and log in, and where data connections go.

    `profile`: "strict" is the draft to the letter, "compat" takes what DMAs send that the draft forbids.
    """

    port: Port = NDMP_PORT
    accounts: AbsolutePath
    text: bool = False
    profile: Literal["compat", "strict"] = "compat"
    sessions_max: SessionsMax = SESSIONS_MAX
    allow: NetworkList = ANYWHERE

    @property
    def data_rules(self) -> DataRules:
        """As the base class; data connections stay where DMAs are unless `data_networks` says more."""
        networks = self.data_networks if "data_networks" in self.model_fields_set else self.allow
        return DataRules(networks, self.data_ports, self.accept_timeout, self.data_addresses)


class ClusterNode(Section):
    """[[cluster.nodes]]: one node this one talks to."""

    name: NodeName
    address: Address
    port: Port = CLUSTER_PORT


class Cluster(Section):
    """[cluster]: how nodes talk to each other."""

    port: Port = CLUSTER_PORT
    authority: AbsolutePath
    certificate: AbsolutePath
    key: AbsolutePath
    revoked: AbsolutePath | None = None
    sessions_max: SessionsMax = SESSIONS_MAX
    gns_writer: NodeName
    connection_server: NodeName
    feed: Literal["tls", "token"] = "tls"
    nodes: tuple[ClusterNode, ...] = ()

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        names = [node.name for node in self.nodes]
        if len(set(names)) != len(names):
            raise ValueError("nodes: two nodes have the same name")
        return self


class FileServer(Section):
    """[file_server]: what clients get, and what backups read.

    `clients` and `root_clients` go into the exports as they are; only the latter keep root's rights.
    `snapshots`: "auto" reads them where the file system can make them, "off" never, "required" nothing else.
    """

    nfs: bool = False
    export_root: AbsolutePath | None = None
    clients: ExportClients = ("*",)
    root_clients: ExportClients = ()
    snapshots: Literal["auto", "off", "required"] = "auto"

    @model_validator(mode="after")
    def _check_export_root(self) -> Self:
        if self.nfs and self.export_root is None:
            raise ValueError("export_root: must be given when nfs is true")
        return self


class ConnectionServer(DataConnections):
    """[connection_server]: where backup channels may go; feeds listen in `data_ports` too."""


class Library(Section):
    """[[media_server.libraries]]: one tape library this node drives, by serial numbers.

    `writable` are the barcodes that may be written, `readable` those besides that may be moved and read;
    `reserve`: whether drives are reserved against other hosts while they are open.
    """

    transport: Literal["sg", "model"]
    changer: Label
    drives: Annotated[Labels, Field(min_length=1)]
    writable: Labels = ()
    readable: Labels = ()
    reserve: bool = True
    folder: AbsolutePath | None = None
    slots: Labels = ()
    capacity: Annotated[int, Field(ge=MODEL_CAPACITY_MIN)] = MODEL_CAPACITY_DEFAULT

    @model_validator(mode="after")
    def _check_transport(self) -> Self:
        model_keys = {"folder", "slots", "capacity"} & self.model_fields_set
        if self.transport == "model" and self.folder is None:
            raise ValueError("folder: must be given when transport is 'model'")
        if self.transport == "sg" and model_keys:
            raise ValueError(f"{', '.join(sorted(model_keys))}: allowed only when transport is 'model'")
        return self


class MediaServer(Section):
    """[media_server]: the libraries this node drives."""

    libraries: tuple[Library, ...] = ()


class NdmpServer(Section):
    """[[backup_server.servers]]: how the DMA reaches one NDMP server."""

    name: NodeName
    address: Address
    port: Port = NDMP_PORT
    user: Annotated[str, Field(min_length=1)]
    password_file: AbsolutePath

    def password(self) -> str:
        """Return the password; raises ConfigurationError when the file is missing or not 0600."""
        return read_password(self.password_file)


class BackupServer(Section):
    """[backup_server]: catalogue, library and the NDMP servers of the DMA."""

    catalogue: AbsolutePath
    entry: NodeName
    media: NodeName
    changer: Label
    drives: Annotated[Labels, Field(min_length=1)]
    writable: Labels = ()
    record_size: Annotated[
        int, Field(ge=RECORD_SIZE_UNIT, le=RECORD_SIZE_MAX, multiple_of=RECORD_SIZE_UNIT)
    ] = RECORD_SIZE_DEFAULT
    devices: Mapping[Label, Annotated[str, Field(min_length=1)]] = {}
    servers: tuple[NdmpServer, ...]

    @model_validator(mode="after")
    def _check_devices(self) -> Self:
        strange = sorted(set(self.devices) - {self.changer, *self.drives})
        if strange:
            raise ValueError(f"devices: {', '.join(strange)}: neither the changer nor one of the drives")
        return self

    @model_validator(mode="after")
    def _check_servers(self) -> Self:
        names = [server.name for server in self.servers]
        if len(set(names)) != len(names):
            raise ValueError("servers: two servers have the same name")
        for key in ("entry", "media"):
            if getattr(self, key) not in names:
                raise ValueError(f"{key}: must be one of the servers: {', '.join(names)}")
        return self

    def device(self, serial: str) -> bytes:
        """The NDMP name of a device on the media server; Spanreel's own are named by kind and serial."""
        kind = "changer" if serial == self.changer else "drive"
        return os.fsencode(self.devices.get(serial) or f"{kind}:{serial}")

    def server(self, name: str) -> NdmpServer:
        """Return the server called `name`; raises ConfigurationError listing those there are."""
        return _named(self.servers, name, "[[backup_server.servers]]")


AnySection = TypeVar("AnySection", bound=Section)
Named = TypeVar("Named", ClusterNode, NdmpServer)


def _named(entries: Iterable[Named], name: str, where: str) -> Named:
    known = {entry.name: entry for entry in entries}
    if name not in known:
        raise ConfigurationError(f"{where} has no {name!r}; there are: {', '.join(known) or 'none'}")
    return known[name]


class NodeConfig(Section):
    """The whole file.  Sections are there or not; `section` gets one that a role cannot do without."""

    schema_number: Annotated[int, Field(alias="schema", strict=True)]
    node: Node
    ndmp: Ndmp | None = None
    cluster: Cluster | None = None
    file_server: FileServer | None = None
    connection_server: ConnectionServer | None = None
    media_server: MediaServer | None = None
    backup_server: BackupServer | None = None

    _source: Path = PrivateAttr(default=Path("configuration"))

    def model_post_init(self, context: object) -> None:
        """Remember the file that the validation's context names."""
        if isinstance(context, Path):
            self._source = context

    @property
    def source(self) -> Path:
        """The file this was read from."""
        return self._source

    @property
    def is_gns_writer(self) -> bool:
        """Whether this node holds the map's only writable copy."""
        return self.cluster is not None and self.cluster.gns_writer == self.node.name

    def section(self, kind: type[AnySection]) -> AnySection:
        """Return the section of the given model; raises ConfigurationError when the file has none."""
        for name in type(self).model_fields:
            found = getattr(self, name)
            if type(found) is kind:
                return found
        raise ConfigurationError(f"{self.source}: section [{_section_name(kind)}] is missing")

    def check_roles(self, roles: Iterable[str]) -> None:
        """Raise ConfigurationError unless the file has every section that `roles` need."""
        for role in roles:
            if role not in ROLE_SECTIONS:
                raise ConfigurationError(f"no role {role!r}; allowed: {', '.join(ROLE_SECTIONS)}")
            missing = [f"[{name}]" for name in ROLE_SECTIONS[role] if getattr(self, name) is None]
            if missing:
                raise ConfigurationError(
                    f"{self.source}: role {role} needs {', '.join(missing)}; "
                    f"`spanreel config {role} --example` shows them"
                )

    def check_secrets(self) -> None:
        """Raise ConfigurationError unless all secrets exist and only their owner can read them."""
        if self.ndmp is not None:
            read_accounts(self.ndmp.accounts)
        if self.cluster is not None:
            check_secret(self.cluster.key)
        for server in self.backup_server.servers if self.backup_server is not None else ():
            server.password()

    def peer(self, name: str) -> ClusterNode:
        """Return how to reach the cluster node `name`, this one included; raises ConfigurationError."""
        cluster = self.section(Cluster)
        own = ClusterNode(name=self.node.name, address=self.node.address, port=cluster.port)
        others = (node for node in cluster.nodes if node.name != own.name)
        return _named((own, *others), name, f"{self.source}: [[cluster.nodes]]")


# What a role cannot run without.  The DMA reaches file and media servers by plain NDMP and the
# connection server reaches the media server by an NDMP data connection, so neither of the servers
# of tapes is in the cluster.
ROLE_SECTIONS: Final[Mapping[str, tuple[str, ...]]] = {
    FILE_SERVER: ("ndmp", "cluster", "file_server"),
    CONNECTION_SERVER: ("cluster", "connection_server"),
    MEDIA_SERVER: ("ndmp", "media_server"),
    BACKUP_SERVER: ("backup_server",),
}


def _section_name(kind: type[Section]) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", kind.__name__).lower()


CONFIGURATION: Final = DocumentSchema("configuration", 1, {})
"""Files of earlier releases are read as if they were written today.  They are never written: their comments
are somebody's, and so is the file."""

NEWER_REMEDY: Final = (
    "install the newer release here, or write the file as `spanreel config ROLE --example` does"
)


def load(path: Path) -> NodeConfig:
    """Return the configuration in the TOML file `path`.

    Raises ConfigurationError naming file, key and what is allowed; secrets are not looked at.
    """
    return parse(_read(path), path)


def parse(text: str, source: Path) -> NodeConfig:
    """Return the configuration in `text`; errors name `source`.  Raises ConfigurationError."""
    try:
        document = tomllib.loads(text)
        if isinstance(document.get("schema"), int):
            document = CONFIGURATION.current(document, str(source), NEWER_REMEDY)
        return NodeConfig.model_validate(document, context=source)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{source}: not TOML: {error}") from error
    except ValidationError as error:
        raise ConfigurationError(f"{source}: {describe(error, NodeConfig)}") from error


def _read(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            content = stream.read(CONFIG_SIZE_MAX + 1)
        if len(content) > CONFIG_SIZE_MAX:
            raise ConfigurationError(f"{path}: larger than {CONFIG_SIZE_MAX} bytes; this is no configuration")
        return content.decode("utf-8")
    except OSError as error:
        raise ConfigurationError(
            f"{path}: cannot read the configuration: {error.strerror}; "
            "name another with --config, or make one with `spanreel config ROLE --example`"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path}: not UTF-8 text: {error}") from error


def read_password(path: Path) -> str:
    """Return the one line of a password file; raises ConfigurationError when it is not 0600 or empty."""
    password = _secret_text(path).rstrip("\r\n")
    if not password:
        raise ConfigurationError(f"{path}: the password is empty")
    return password


def _secret_text(path: Path) -> str:
    try:
        return read_secret(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path}: not UTF-8 text") from error
