"""The process lab: needs no root, is up in seconds, keeps everything in the lab's folder.

    nodes/NODE/spanreel.toml, accounts.toml, tls/    configuration
    nodes/NODE/state/                                what would be /var/lib/spanreel
    nodes/NODE/data-TOKEN/                           local roots
    nodes/NODE/library/                              cartridges of the in-process library
    nodes/NODE/console.log                           everything the role printed
    bin/                                             `spanreel` of this tree, on the nodes' PATH

The DMA reaches NDMP servers through recording relays on the backup node's own address.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

from harness import product
from harness.copying import copy, remove, used
from harness.errors import InfrastructureError, TerminatedError
from harness.events import Events
from harness.faults.link import Bad, Ends, Link
from harness.image.cache import key_of, tree_parts
from harness.lab import LabState
from harness.providers.base import COMMAND_SECONDS, NodeFile, NodePaths, Provider
from harness.providers.process import processes
from harness.topology import BACKUP_SERVER, CONNECTION_SERVER, FILE_SERVER, MEDIA_SERVER, Node, Topology

MIB = 1024 * 1024
# Seed, image on tape, restored tree, extracted tree, restored parts, and room to breathe.
DISK_COPIES = 8
# An interpreter with the product's modules takes about 40 MiB; streams have buffers.
MEMORY_PER_NODE_MIB = 80
# Importing everything takes seconds, or tens of them if emulated.  One that ended is seen at once.
READY_SECONDS = 120.0
POLL_SECONDS = 0.02
# What a command interrupted by Ctrl-C is given to abort its job, which takes 10 s at most.
INTERRUPTED_SECONDS = 30.0
# Relays listen above the servers' own ports: 11000 plus the host part of the server's address.
RELAY_PORT_BASE = 11000
# What is quoted of a role that did not start: its own error is the last thing it printed.
LAST_LINES = 1


class ProcessProvider(Provider):
    """Runs each node's roles as one process group on this host."""

    def __init__(self, topology: Topology, lab: LabState, events: Events) -> None:
        super().__init__(topology, lab, events)
        # Nodes start in parallel, and the state file is one.
        self._remembering = threading.Lock()

    def check(self) -> None:
        """See that memory, disk and ports are there."""
        self.lab.folder.mkdir(parents=True, exist_ok=True)
        seed = self.topology.seed
        need = DISK_COPIES * seed.size_mib + seed.small_files * 4096 * DISK_COPIES // MIB
        free = shutil.disk_usage(self.lab.folder).free // MIB
        if free < need:
            raise InfrastructureError(
                f"{self.lab.folder}: {free} MiB free, the process lab needs {need}",
                hint="free some, or point XDG_STATE_HOME elsewhere",
            )
        memory = _available_memory_mib()
        wanted = MEMORY_PER_NODE_MIB * len(self.topology.nodes)
        if memory < wanted:
            raise InfrastructureError(f"{memory} MiB of memory available, the process lab needs {wanted}")
        running = self.alive()
        for name, address, port in self._ports():
            if not running.get(name, False):
                _check_port(name, address, port)

    def up(self) -> None:
        """Make the nodes' folders and start the relays."""
        self._make_programs()
        for node in self.topology.nodes:
            paths = self.paths(node)
            for folder in (paths.state, paths.scratch, paths.tls, *self._local_roots(node)):
                Path(folder).mkdir(parents=True, exist_ok=True)
            self.events.step(node.name, "folders", "done")
        for node in self._relayed():
            name = f"relay-{node.name}"
            if not self._alive(name):
                listen, record = self.ndmp_reachable_at(node), self.lab.folder / "relay" / node.name
                argv = [sys.executable, "-m", "harness.relay", "--listen", "{}:{}".format(*listen)]
                argv += ["--to", f"{node.address}:{self.topology.ndmp_port}", "--record", str(record)]
                log = self.lab.folder / f"{name}.log"
                self._spawn(name, argv, log)
                self._wait_ready(name, log, ["relay"], 0)

    def install(self, node: Node, files: Sequence[NodeFile]) -> None:
        """Write the node's configuration."""
        for item in files:
            path = Path(item.path)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if item.secret else 0o644)
            with open(descriptor, "wb") as file:
                file.write(item.content)
        self.events.step(node.name, "configuration", "done")

    def start(self, node: Node) -> None:
        """Start the node's served roles and wait until each says that it is ready."""
        self.stop(node)
        if not node.served_roles:
            return
        for port in self._node_ports(node):
            _check_port(node.name, node.address, port)
        log = self.consoles()[node.name]
        offset = log.stat().st_size if log.exists() else 0
        argv = product.argv("serve", ",".join(node.served_roles), "--config", self.paths(node).config)
        with self.events.stepping(node.name, "start"):
            self._spawn(node.name, argv, log, node)
            self._wait_ready(node.name, log, node.served_roles, offset)

    def stop(self, node: Node) -> None:
        """End the node's process."""
        self._stop(node.name)

    def kill(self, node: Node) -> None:
        """Kill the node's process."""
        process = self._process(node.name)
        if process is not None:
            processes.kill(process)

    @contextlib.contextmanager
    def bad_link(self, node: Node, bad: Bad) -> Iterator[None]:
        """Have the sockets of the node, and of whoever talks to it, lose packets."""
        with Link(iter(lambda: self._ends(node), None)).made(bad):
            yield

    def down(self) -> None:
        """End every process of the lab, relays last."""
        names = list(self.lab.provider_data.get("processes", {}))
        for name in sorted(names, key=lambda name: name.startswith("relay-")):
            self._stop(name)
            self.events.step(name, "stop", "done")

    def alive(self) -> Mapping[str, bool]:
        """Tell which nodes run; one without a daemon always does."""
        return {node.name: not node.served_roles or self._alive(node.name) for node in self.topology.nodes}

    # --- checkpoints: copies of the nodes' folders, taken while their roles are stopped ----------------

    def made_of(self) -> Mapping[str, str]:
        """Folders belong to the product that wrote them."""
        tree = Path(__file__).parents[3]
        return {"product": key_of(tree_parts(tree, "appliance", "tape")), "user": str(os.geteuid())}

    def keeping_bytes(self) -> int:
        """What the nodes' folders take."""
        return used(*(path for node in self.topology.nodes for path in self._kept_paths(node)))

    def keep(self, folder: Path) -> None:
        """Copy the nodes' folders; roles start again afterwards."""
        try:
            self._each(self.stop)
            for node in self.topology.nodes:
                (folder / node.name).mkdir()
                for path in self._kept_paths(node):
                    copy(path, folder / node.name / path.name)
        finally:
            self._each(self.start)

    def put_back(self, folder: Path) -> None:
        """Replace the nodes' folders by those of the copy; output of roles and relays goes on."""
        self._each(self.stop)
        for node in self.topology.nodes:
            for path in self._kept_paths(node):
                remove(path)
            for path in sorted((folder / node.name).iterdir()):
                copy(path, self.lab.node_folder(node.name) / path.name)
        self.up()
        self._each(self.start)

    def _kept_paths(self, node: Node) -> list[Path]:
        """Everything of a node but what it printed."""
        log = self.consoles()[node.name]
        return sorted(path for path in self.lab.node_folder(node.name).iterdir() if path != log)

    def _each(self, work: Callable[[Node], None]) -> None:
        """Do something with every node at once: starting an interpreter takes a second each."""
        with ThreadPoolExecutor(len(self.topology.nodes)) as pool:
            list(pool.map(work, self.topology.nodes))

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
        """Run a command here with the node's environment and folder."""
        try:
            child = subprocess.Popen(
                list(argv),
                stdin=subprocess.DEVNULL if stdin is None else stdin,
                stdout=stdout,
                stderr=stderr,
                env=self._environment(node),
                cwd=self.lab.node_folder(node.name),
            )
        except OSError as error:
            raise InfrastructureError(f"{node.name}: cannot run {argv[0]}: {error.strerror}") from error
        try:
            code = _wait(child, timeout)
        except subprocess.TimeoutExpired as error:
            raise InfrastructureError(f"{node.name}: {argv[0]} runs longer than {timeout:.0f} s") from error
        return 128 - code if code < 0 else code  # As a shell says: 128 plus the signal.

    def shell(self, node: Node) -> tuple[list[str], dict[str, str]]:
        """Run the user's shell here, in the node's folder and environment."""
        words = [
            "sh",
            "-c",
            'cd "$1" && exec "${SHELL:-/bin/sh}"',
            "sh",
            str(self.lab.node_folder(node.name)),
        ]
        return words, self._environment(node) | {"PS1": f"{node.name}$ "}

    def put(self, node: Node, source: Path, target: str, *, mode: int = 0o644) -> None:
        """Copy a file."""
        path = Path(target)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, path)
            path.chmod(mode)
        except OSError as error:
            raise InfrastructureError(f"{node.name}: cannot write {target}: {error.strerror}") from error

    def get(self, node: Node, source: str, target: Path) -> None:
        """Copy a file."""
        try:
            shutil.copyfile(source, target)
        except FileNotFoundError as error:
            raise InfrastructureError(f"{node.name}: {source} is not there") from error

    def paths(self, node: Node) -> NodePaths:
        """Everything lies in the node's folder."""
        folder = self.lab.node_folder(node.name)
        return NodePaths(
            config=str(folder / "spanreel.toml"),
            accounts=str(folder / "accounts.toml"),
            password=str(folder / "ndmp.password"),
            tls=str(folder / "tls"),
            state=str(folder / "state"),
            data=str(folder / f"data-{self.lab.token}"),
            exports="",
            library=str(folder / "library"),
            scratch=str(folder / "scratch"),
        )

    def consoles(self) -> Mapping[str, Path]:
        """Name each role's output."""
        return {node.name: self.lab.node_folder(node.name) / "console.log" for node in self.topology.nodes}

    @property
    def netns(self) -> str | None:
        """The host's own network."""
        return None

    @property
    def bridge(self) -> str | None:
        """There is none: all traffic is on loopback."""
        return None

    @property
    def is_root(self) -> bool:
        """Commands run as whoever runs the harness."""
        return os.geteuid() == 0

    def ndmp_reachable_at(self, node: Node) -> tuple[str, int]:
        """Point the DMA at the relay before this node's NDMP service."""
        backup = self.topology.only(BACKUP_SERVER)
        return backup.address, RELAY_PORT_BASE + int(node.address.rpartition(".")[2])

    # --- within ---------------------------------------------------------------------------------

    def _ends(self, node: Node) -> Ends:
        """Who is at which end of a node's link now; commands on the backup server are outside."""
        kept = self.lab.provider_data.get("processes", {})
        pids = {name: item["pid"] for name, item in kept.items() if self._alive(name)}
        front = f"relay-{node.name}"
        commands = {
            pid
            for other in self.topology.with_role(BACKUP_SERVER)
            for pid in processes.with_variable("SPANREEL_CONFIG", self.paths(other).config)
        }
        outside = {pid for name, pid in pids.items() if name not in (node.name, front)} | commands
        inside = [pid for name, pid in pids.items() if name == node.name]
        before = [pid for name, pid in pids.items() if name == front]
        return Ends(
            address=node.address,
            inside=tuple(inside),
            front=tuple(before),
            front_at=self.ndmp_reachable_at(node) if before else None,
            outside=tuple(sorted(outside - set(before) - set(inside))),
        )

    def _relayed(self) -> list[Node]:
        """The nodes with an NDMP service, if there is a backup server to watch."""
        if not self.topology.with_role(BACKUP_SERVER):
            return []
        return [node for node in self.topology.nodes if node.has(FILE_SERVER) or node.has(MEDIA_SERVER)]

    def _local_roots(self, node: Node) -> list[str]:
        """Folders of the node's junctions."""
        return [f"{self.paths(node).data}/{item.dir}" for item in self.topology.junctions(node.name)]

    def _node_ports(self, node: Node) -> list[int]:
        """Ports a node's roles listen on."""
        ports = []
        if node.has(FILE_SERVER) or node.has(MEDIA_SERVER):
            ports.append(self.topology.ndmp_port)
        if node.has(FILE_SERVER) or node.has(CONNECTION_SERVER):
            ports.append(self.topology.cluster_port)
        return ports

    def _ports(self) -> Iterator[tuple[str, str, int]]:
        """Every address this lab listens on: (process, address, port)."""
        for node in self.topology.nodes:
            for port in self._node_ports(node):
                yield node.name, node.address, port
        for node in self._relayed():
            if not self._alive(f"relay-{node.name}"):
                yield f"relay-{node.name}", *self.ndmp_reachable_at(node)

    def _environment(self, node: Node) -> dict[str, str]:
        """What a command on the node sees."""
        path = f"{self.lab.folder}/bin:{os.environ.get('PATH', '/usr/bin:/bin')}"
        tree = [str(Path(__file__).parents[3]), *filter(None, [os.environ.get("PYTHONPATH")])]
        return os.environ | {
            "PATH": path,
            "PYTHONPATH": os.pathsep.join(tree),
            "SPANREEL_CONFIG": self.paths(node).config,
            "LC_ALL": "C.UTF-8",
        }

    def _make_programs(self) -> None:
        """Put `spanreel` and `python3` of this tree and interpreter on the nodes' PATH, installed or not."""
        folder = self.lab.folder / "bin"
        folder.mkdir(exist_ok=True)
        for name, command in (("spanreel", product.argv()), ("python3", [sys.executable])):
            script = folder / name
            script.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n', encoding="utf-8")
            script.chmod(0o755)

    def _spawn(self, name: str, argv: Sequence[str], log: Path, node: Node | None = None) -> None:
        """Start a process and remember it at once."""
        environment = self._environment(node or self.topology.only(BACKUP_SERVER))
        folder = self.lab.node_folder(node.name) if node else self.lab.folder
        started = processes.spawn(argv, log, environment, folder)
        with self._remembering:
            self.lab.provider_data.setdefault("processes", {})[name] = started.to_json()
            self.lab.save()

    def _process(self, name: str) -> processes.Started | None:
        """What is remembered of a process."""
        kept = self.lab.provider_data.get("processes", {}).get(name)
        return processes.Started(**kept) if kept else None

    def _alive(self, name: str) -> bool:
        """Whether a process of the lab runs."""
        process = self._process(name)
        return process is not None and processes.alive(process)

    def _stop(self, name: str) -> None:
        """End one process and forget it."""
        process = self._process(name)
        if process is not None:
            processes.stop(process)
            with self._remembering:
                del self.lab.provider_data["processes"][name]
                self.lab.save()

    def _wait_ready(self, name: str, log: Path, roles: Sequence[str], offset: int) -> None:
        """Wait for one `ready ROLE ADDRESS:PORT` line of each role."""
        deadline = time.monotonic() + READY_SECONDS
        while True:
            running = self._alive(name)
            text = log.read_bytes()[offset:].decode("utf-8", "backslashreplace")
            lines = text.splitlines()
            if all(any(line.startswith(f"ready {role} ") for line in lines) for role in roles):
                return
            if not running or time.monotonic() > deadline:
                what = "did not start" if not running else f"is not ready after {READY_SECONDS:.0f} s"
                last = " | ".join(lines[-LAST_LINES:]) or "it printed nothing"
                raise InfrastructureError(f"{name} {what}: {last}", hint=f"its log: {log}")
            time.sleep(POLL_SECONDS)


def _wait(child: subprocess.Popen[bytes], timeout: float) -> int:
    """Wait for a command's end, and let it abort its job after Ctrl-C, which it got as we did.

    SIGTERM it did not get, so it is told.  Whatever ends the waiting, a second Ctrl-C for one, ends the
    command.
    """
    try:
        return child.wait(timeout)
    except KeyboardInterrupt as why:
        if isinstance(why, TerminatedError):
            child.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(INTERRUPTED_SECONDS)
        raise
    finally:
        if child.returncode is None:
            child.kill()
            child.wait()


def _check_port(name: str, address: str, port: int) -> None:
    """One clear line if somebody else listens there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            hint = f"see who: ss -ltnp 'sport = :{port}'; or choose another port in the topology"
            raise InfrastructureError(
                f"{name}: {address}:{port} cannot be used: {error.strerror}", hint=hint
            ) from error


def _available_memory_mib() -> int:
    """What the kernel would give without swapping."""
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) // 1024
    raise InfrastructureError("/proc/meminfo names no MemAvailable")
