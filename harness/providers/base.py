"""The contract between the lab and what its nodes are made of.

A provider knows how to make machines, run commands on them and remove them.  It knows nothing of
backups.  Life: `check` → `up` → `install` (per node) → `start` (per node) → … → `down`.  Every
method may be called from any thread; `up` may work on nodes in parallel.  A provider object made by
a later command from the same `LabState` finds everything an earlier one made.
"""

from __future__ import annotations

import subprocess
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from harness.errors import CommandError, InfrastructureError, NotPossibleError
from harness.events import Events
from harness.faults.link import Bad
from harness.lab import LabState
from harness.states import Memory
from harness.topology import Library, Node, Topology

if TYPE_CHECKING:
    from harness.checks.connections import Connection
    from harness.leases import Leases

# A command that says nothing about its length: long enough for a restore on emulated processors.
COMMAND_SECONDS = 3600.0
# What a machine of its own has kept since it was switched on.
JOURNAL = ("journalctl", "--boot", "--output=short-iso-precise", "--no-pager")


@dataclass(frozen=True)
class Result:
    """What a command left."""

    code: int
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        """Standard output as text."""
        return self.stdout.decode("utf-8", "backslashreplace")


@dataclass(frozen=True)
class NodePaths:
    """Where things lie on a node, as absolute paths there."""

    config: str
    accounts: str
    password: str
    tls: str
    state: str
    # Parent of the local roots; carries the lab's random token.
    data: str
    # Below it the NFS exports are built; "" where the node has no kernel NFS.
    exports: str
    # Folder of the in-process library; "" where the library is a device.
    library: str
    # Scratch space for checks, removed with the lab.
    scratch: str


@dataclass(frozen=True)
class NodeFile:
    """A file of a node's configuration.  Secrets are 0600 and belong to the product's user."""

    path: str
    content: bytes
    secret: bool = False


class Provider(ABC):
    """Makes and reaches the nodes of one lab."""

    def __init__(self, topology: Topology, lab: LabState, events: Events) -> None:
        self.topology = topology
        self.lab = lab
        self.events = events
        # Of the run that uses this object; `bringup.up` takes them.
        self.leases: Leases | None = None
        # What failed in this run is not tried again by the next who asks.
        self.troubles = Memory()
        # The checkpoint it was put back to last; who uses the lab then may forget it.
        self.put_back_to = ""

    # --- life -------------------------------------------------------------------------------

    @abstractmethod
    def check(self) -> None:
        """Raise one clear InfrastructureError if this host cannot carry the lab.

        Looks at tools, disk, memory and addresses before anything is made; changes nothing.
        """

    @property
    def has_libraries_before(self) -> bool:
        """Whether the libraries, and so their leases, are there without the lab."""
        return False

    def reach_libraries(self) -> None:
        """Before `up`, make the hosts of such libraries answer `exec`, so that leases can be taken."""
        raise InfrastructureError(f"the libraries of {self.topology.name} come with the lab")

    @abstractmethod
    def up(self) -> None:
        """Make the nodes: booted, reachable by `exec`, disks mounted, library attached.

        Product configuration is not there yet.  Data disks hold the empty folders
        `paths(node).data/DIR` of the node's junctions.  Idempotent: what runs already is kept.
        What it makes is recorded in `lab` before it is made, so that `down` after a crash finds it.
        """

    @abstractmethod
    def install(self, node: Node, files: Sequence[NodeFile]) -> None:
        """Write configuration files (parents are made), with owner and mode as NodeFile says."""

    @abstractmethod
    def start(self, node: Node) -> None:
        """(Re)start the node's served roles and return when they listen.

        If one ends or stays silent, the error quotes the last lines it wrote.
        """

    @abstractmethod
    def stop(self, node: Node) -> None:
        """End the node's served roles (the node stays reachable); nothing to end is fine."""

    @abstractmethod
    def down(self) -> None:
        """End everything this lab made that runs.  Works on half-made labs and twice.

        The lab's folder (logs, reports, captures) stays; `clean` removes it.
        """

    @abstractmethod
    def alive(self) -> Mapping[str, bool]:
        """For each node whether it runs now (for `info` and for `up` on a running lab)."""

    def give_up(self) -> None:  # noqa: B027 - where every wait has a limit of its own there is nothing to do
        """End what `up` and others wait for, from another thread: the time is over."""

    # --- checkpoints; a provider that keeps none says so by NotPossibleError -----------------------

    # Whether `put_back` takes seconds and mends everything, so that scenarios begin with it.
    rewinds = False

    def made_of(self) -> Mapping[str, str]:
        """Return what nodes come from, by name, besides the topology: each value changes when the thing does.

        A checkpoint is put back only while all of them are as they were when it was made.
        """
        raise NotPossibleError(f"the nodes of {self.topology.name} cannot be kept")

    def keeping_bytes(self) -> int:
        """Return what `keep` would write at most, in bytes."""
        raise NotPossibleError(f"the nodes of {self.topology.name} cannot be kept")

    def keep(self, folder: Path) -> None:
        """Write everything that nodes and libraries hold, of one moment, to an empty folder.

        The lab runs again when it returns, and also when it raises, if that is possible at all.
        """
        del folder
        raise NotPossibleError(f"the nodes of {self.topology.name} cannot be kept")

    def put_back(self, folder: Path) -> None:
        """Make nodes and libraries what they were at `keep`, whatever they are now; return when roles answer.

        Works from off and on half-made labs.  Drives are empty.  `folder` is only read.
        """
        del folder
        raise NotPossibleError(f"the nodes of {self.topology.name} cannot be kept")

    # --- harm, for scenarios; a provider that cannot do it says so by NotPossibleError -------------

    # How much longer than processes, whose clocks are made faster, nodes wait for peers that say nothing.
    patience = 1.0

    def kill(self, node: Node) -> None:
        """End the node's served roles at once, in the middle of whatever they do."""
        raise NotPossibleError(f"{node.name}: roles of this provider cannot be killed yet")

    def cut_power(self, node: Node) -> None:
        """Switch the machine off, hard: its peers hear nothing of it."""
        raise NotPossibleError(f"{node.name}: the power of this provider's nodes cannot be cut yet")

    def wrong_clock(self, node: Node, seconds: int) -> AbstractContextManager[None]:
        """Have a node's clock ahead by so many seconds, behind if negative, while the context is entered."""
        del seconds
        raise NotPossibleError(f"{node.name}: clocks of this provider's nodes cannot be set yet")

    def recover(self, node: Node) -> None:
        """After harm: return when the node serves again.  What serves is left alone."""
        if not self.alive()[node.name]:
            self.start(node)

    def bad_link(self, node: Node, bad: Bad) -> AbstractContextManager[None]:
        """Have a node's link to all others bad while the context is entered."""
        del bad
        raise NotPossibleError(f"{node.name}: links of this provider cannot be made bad yet")

    # --- reaching nodes ---------------------------------------------------------------------

    @abstractmethod
    def exec(
        self,
        node: Node,
        argv: Sequence[str],
        *,
        stdin: BinaryIO | None,
        stdout: BinaryIO,
        stderr: BinaryIO,
        timeout: float = COMMAND_SECONDS,
    ) -> int:
        """Run a command on a node, streaming; return its exit code.

        Runs as root where the provider has root there.  The environment has SPANREEL_CONFIG
        (the node's file), PATH with `spanreel` and `python3`, and LC_ALL=C.UTF-8.  argv is passed
        without interpretation by a shell.  `stdin=None` is an empty input.  Files and pipes with a
        descriptor are handed over directly where possible.  Raises InfrastructureError only when
        the node itself cannot be reached or the time is over (the command is then ended).
        """

    def run(
        self,
        node: Node,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        check: bool = True,
        timeout: float = COMMAND_SECONDS,
    ) -> Result:
        """Run a command and collect its output; with `check`, a non-zero code is CommandError."""
        from harness.streams import collect  # here: streams is of no use to implementors

        result = Result(
            *collect(
                lambda i, o, e: self.exec(node, argv, stdin=i, stdout=o, stderr=e, timeout=timeout), stdin
            )
        )
        if check and result.code != 0:
            raise CommandError(node.name, argv, result.code, result.stderr or result.stdout)
        return result

    @abstractmethod
    def put(self, node: Node, source: Path, target: str, *, mode: int = 0o644) -> None:
        """Copy a host file to a node; parents are made, an existing file is replaced."""

    @abstractmethod
    def get(self, node: Node, source: str, target: Path) -> None:
        """Copy a file of a node to the host."""

    @abstractmethod
    def paths(self, node: Node) -> NodePaths:
        """Where things lie on this node.  `data` contains `lab.token`."""

    def lease_folder(self, node: Node) -> str:
        """Where leases of a media server's libraries lie, for everybody who could use them."""
        return f"{self.paths(node).state}/leases"

    def journal_command(self, node: Node) -> Sequence[str] | None:
        """Return the command that prints what the node's roles said; None: the host has it already."""
        del node
        return JOURNAL if self.netns is not None else None

    @abstractmethod
    def consoles(self) -> Mapping[str, Path]:
        """For each node the host file in which its console (or log) is recorded."""

    def model_on_host(self, library: Library) -> Path | None:
        """Return the folder of a library of our own model that the host serves; None: it serves none."""
        del library
        return None

    def shell(self, node: Node) -> tuple[list[str], dict[str, str]]:
        """Return command line and environment of an interactive shell on a node, run at this terminal."""
        raise NotPossibleError(f"{node.name}: no shell", hint="spanreel lab exec NODE -- COMMAND")

    # --- the host side of the lab's network ---------------------------------------------------

    @property
    @abstractmethod
    def netns(self) -> str | None:
        """Name of the lab's network namespace, None if the lab lives in the host's own."""

    @property
    @abstractmethod
    def bridge(self) -> str | None:
        """Interface (inside `netns`) on which all traffic of the lab is seen; None: loopback."""

    @property
    def is_root(self) -> bool:
        """Whether commands on nodes run as root, so that owners and devices can be compared."""
        return True

    def host_argv(self, argv: Sequence[str]) -> list[str]:
        """Return the command line that runs `argv` on the host inside the lab's network."""
        return ["ip", "netns", "exec", self.netns, *argv] if self.netns else list(argv)

    def exec_host(
        self,
        argv: Sequence[str],
        *,
        stdin: BinaryIO | None = None,
        stdout: BinaryIO | None = None,
        stderr: BinaryIO | None = None,
    ) -> int:
        """Run a command of the host inside the lab's network; None inherits ours."""
        try:
            return subprocess.call(self.host_argv(argv), stdin=stdin, stdout=stdout, stderr=stderr)
        except OSError as error:
            raise InfrastructureError(f"host: cannot run {argv[0]}: {error.strerror}") from error

    def popen_host(self, argv: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
        """Start a long command of the host (a capture) inside the lab's network; output to `log`."""
        with log.open("ab") as file:
            try:
                return subprocess.Popen(
                    self.host_argv(argv), stdin=subprocess.DEVNULL, stdout=file, stderr=file
                )
            except OSError as error:
                raise InfrastructureError(f"host: cannot run {argv[0]}: {error.strerror}") from error

    def watched(self) -> AbstractContextManager[Callable[[], set[Connection]]] | None:
        """Watch the machines' own sockets while entered; None: they are seen on the host or on `bridge`."""
        return None

    def ndmp_recordings(self) -> list[Path]:
        """Return files with what the backup server's NDMP sessions carried, where there is no `bridge`."""
        return [path for path in (self.lab.folder / "relay").glob("*/*") if path.is_file()]

    # --- what follows from the above ----------------------------------------------------------

    def data_root(self, node: Node) -> str:
        """Parent of the node's local roots."""
        return self.paths(node).data

    def ndmp_reachable_at(self, node: Node) -> tuple[str, int]:
        """Where the DMA reaches this node's NDMP service; a provider may put a recorder between."""
        return node.address, self.topology.ndmp_port

    def serving(self) -> Iterable[Node]:
        """Return the nodes that run a daemon."""
        return (node for node in self.topology.nodes if node.served_roles)
