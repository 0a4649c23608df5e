"""A cluster in one process: two file servers, a connection server, and a stand-in for the mover."""

from __future__ import annotations

import contextlib
import os
import queue
import random
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from appliance import pki
from appliance.config import NodeConfig, load
from appliance.connection.role import ConnectionServerRole
from appliance.fileserver.role import FileServerRole
from appliance.gns.change import add_change, batch_change
from appliance.gns.client import send_change
from appliance.ndmp import dataconn
from appliance.ndmp import messages as m
from appliance.ndmp.client import Client
from appliance.ndmp.enums import ALL_ONES, DataHaltReason
from appliance.ndmp.types import Address, Name, Pval
from appliance.snapshots.volume import Kind

NODES = {"fs1": "127.79.0.11", "fs2": "127.79.0.12", "conn1": "127.79.0.21"}
ROLES = {"fs1": "file-server", "fs2": "file-server", "conn1": "connection-server"}
SECTION = {"file-server": "[file_server]\n", "connection-server": "[connection_server]\n"}
PASSWORD = "a test's password"
WAIT_S = 60
"""Nothing here takes a second; a hang is cut off long after."""

TOML = """
schema = 1
[node]
name = "{name}"
address = "{address}"
state = "{folder}/state"
[ndmp]
port = {dma_port}
accounts = "{folder}/accounts.toml"
[cluster]
port = {port}
authority = "{tls}/ca.pem"
certificate = "{tls}/node.pem"
key = "{tls}/node.key"
gns_writer = "fs1"
connection_server = "conn1"
feed = "{feed}"
"""


@dataclass
class Mover:
    """The media server's end of the channel: takes a backup in, or gives an image out."""

    connections: int = 0
    image: bytes = b""
    sent: int = 0
    reads: queue.SimpleQueue[m.NotifyDataReadPost | None] = field(default_factory=queue.SimpleQueue)
    _listener: socket.socket = field(default_factory=lambda: dataconn.listen("127.79.0.31"))

    @property
    def address(self) -> Address:
        return dataconn.local_address(self._listener)

    def take(self) -> threading.Thread:
        """Receive a backup in a thread."""
        return self._start(self._take)

    def give(self, image: bytes) -> threading.Thread:
        """Send an image in a thread."""
        self.image = image
        return self._start(self._give)

    def serve(self, image: bytes) -> threading.Thread:
        """Send those parts of an image that `reads` asks for, in a thread; beyond the image's end, close."""
        self.image = image
        return self._start(self._serve)

    def _start(self, target: object) -> threading.Thread:
        thread = threading.Thread(target=target, daemon=True)  # type: ignore[arg-type]
        thread.start()
        return thread

    def close(self) -> None:
        """Give up listening."""
        dataconn.shut(self._listener)
        self._listener.close()

    def _accept(self) -> socket.socket:
        stream, _ = self._listener.accept()
        self.connections += 1
        return stream

    def _take(self) -> None:
        with contextlib.suppress(OSError), self._accept() as stream:
            pieces = []
            while piece := stream.recv(1 << 20):
                pieces.append(piece)
            self.image = b"".join(pieces)

    def _give(self) -> None:
        with contextlib.suppress(OSError), self._accept() as stream:
            stream.sendall(self.image)
            stream.shutdown(socket.SHUT_WR)
            stream.recv(1)

    def _serve(self) -> None:
        with contextlib.suppress(OSError), self._accept() as stream:
            while (read := self.reads.get()) is not None:
                part = self.image[read.offset : read.offset + read.length]
                stream.sendall(part)
                self.sent += len(part)
                if len(part) < read.length:
                    return


@dataclass
class Dma:
    """A DMA's session with an entry server, and what it was told."""

    client: Client
    history: dict[bytes, int] = field(default_factory=dict)
    nodes: dict[bytes, int] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    files: list[m.LogFilePost] = field(default_factory=list)
    reads: list[m.NotifyDataReadPost] = field(default_factory=list)
    tree: list[m.FhAddDirPost | m.FhAddNodePost] = field(default_factory=list)
    on_read: Callable[[m.NotifyDataReadPost], None] = lambda _: None

    def await_halt(self) -> DataHaltReason:
        """Collect posts up to the halt."""
        while (post := self.client.posts.get(timeout=WAIT_S)) is not None:
            body = post.body()
            if isinstance(body, m.NotifyDataHaltedPost):
                return body.reason
            if isinstance(body, m.FhAddFilePost):
                for file in body.files:
                    self.history[file.names[0].path] = file.fh_info
                    self.nodes[file.names[0].path] = file.node
            elif isinstance(body, m.FhAddDirPost | m.FhAddNodePost):
                self.tree.append(body)
            elif isinstance(body, m.LogMessagePost):
                self.log.append(body.entry.decode())
            elif isinstance(body, m.LogFilePost):
                self.files.append(body)
            elif isinstance(body, m.NotifyDataReadPost):
                self.reads.append(body)
                self.on_read(body)
        raise AssertionError("the session ended before the halt")

    def env(self) -> dict[bytes, bytes]:
        """The environment after the halt."""
        return {
            pair.name: pair.value for pair in self.client.call(m.DataGetEnvRequest(), m.DataGetEnvReply).env
        }

    def state(self) -> m.DataGetStateReply:
        return self.client.call(m.DataGetStateRequest(), m.DataGetStateReply)


class Cluster:
    """The running cluster and its trees.

    `snapshots`: what [file_server] says of them; `kinds` of a file server are made, where that is not "off".
    """

    def __init__(self, folder: Path, feed: str, snapshots: str = "off") -> None:
        self.folder = folder
        self.feed = feed
        self.kinds: dict[str, Sequence[Kind]] = {}
        self.configs: dict[str, NodeConfig] = {}
        self.roles: dict[str, FileServerRole | ConnectionServerRole] = {}
        self._clients: list[Client] = []
        self._movers: list[Mover] = []
        pki.create_authority(folder / "ca")
        ports = _free_ports()
        for name, address in NODES.items():
            node = folder / name
            request = pki.parse_request(f"{name}={ROLES[name]}@{address}")
            tls = pki.issue(folder / "ca", folder / "tls", request)
            node.mkdir()
            accounts = node / "accounts.toml"
            accounts.touch(mode=0o600)
            accounts.write_text(f'dma = "{PASSWORD}"\n')
            values = {"name": name, "address": address, "folder": node, "tls": tls, "feed": feed}
            text = TOML.format(**values, dma_port=ports[0], port=ports[1])
            for peer, where in NODES.items():
                text += f'[[cluster.nodes]]\nname = "{peer}"\naddress = "{where}"\nport = {ports[1]}\n'
            text += SECTION[ROLES[name]]
            if name.startswith("fs"):
                text += f'snapshots = "{snapshots}"\n'
            (node / "spanreel.toml").write_text(text)
            self.configs[name] = load(node / "spanreel.toml")
        self.port = ports[0]

    def start(self) -> None:
        for name in self.configs:
            self.start_one(name)

    def start_one(self, name: str) -> None:
        config, kinds = self.configs[name], self.kinds.get(name)
        is_file_server = ROLES[name] == "file-server"
        role = FileServerRole(config, snapshots=kinds) if is_file_server else ConnectionServerRole(config)
        role.start()
        self.roles[name] = role

    def stop(self) -> None:
        for client in self._clients:
            client.close()
        for mover in self._movers:
            mover.close()
        for role in self.roles.values():
            role.stop()

    def local(self, node: str, name: str) -> Path:
        path = self.folder / node / "data" / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def add(self, *parts: tuple[str, str, str]) -> None:
        """Add junctions: (global path, owner, name of the local directory)."""
        changes = [add_change(os.fsencode(p), node, bytes(self.local(node, d))) for p, node, d in parts]
        send_change(self.configs["fs1"], batch_change(changes))

    def dma(self, entry: str) -> Dma:
        client = Client.connect((NODES[entry], self.port), entry)
        self._clients.append(client)
        client.login("dma", PASSWORD)
        return Dma(client)

    def mover(self) -> Mover:
        made = Mover()
        self._movers.append(made)
        return made

    def backup(
        self, entry: str, path: bytes = b"/", butype: bytes = b"tar", *more: tuple[bytes, bytes]
    ) -> tuple[Dma, Mover, DataHaltReason]:
        """A full backup through `entry`; `more` are variables of its environment."""
        dma, mover = self.dma(entry), self.mover()
        taking = mover.take()
        dma.client.do(m.DataConnectRequest(mover.address))
        env = (Pval(b"FILESYSTEM", path), Pval(b"HIST", b"y"), Pval(b"UNKNOWN", b"kept"))
        env += tuple(Pval(name, value) for name, value in more)
        dma.client.do(m.DataStartBackupRequest(butype, env))
        reason = dma.await_halt()
        taking.join(WAIT_S)
        return dma, mover, reason

    def restore(
        self, entry: str, image: bytes, *names: tuple[bytes, bytes], **env: bytes
    ) -> tuple[Dma, DataHaltReason]:
        """A restore through `entry` of (original path, destination)."""
        dma, mover = self.dma(entry), self.mover()
        giving = mover.give(image)
        dma.client.do(m.DataConnectRequest(mover.address))
        pairs = tuple(Pval(name.encode(), value) for name, value in env.items())
        nlist = tuple(Name(original, target) for original, target in names)
        dma.client.do(m.DataStartRecoverRequest(pairs, nlist, b"tar"))
        reason = dma.await_halt()
        giving.join(WAIT_S)
        assert dma.reads[:1] == [m.NotifyDataReadPost(0, ALL_ONES)]
        return dma, reason

    def start_direct(self, entry: str, image: bytes, *names: Name, **env: bytes) -> tuple[Dma, Mover]:
        """Start a restore by direct access; the DMA serves reads."""
        dma, mover = self.dma(entry), self.mover()
        mover.serve(image)
        dma.on_read = mover.reads.put
        dma.client.do(m.DataConnectRequest(mover.address))
        pairs = tuple(Pval(name.encode(), value) for name, value in {"DIRECT": b"y", **env}.items())
        dma.client.do(m.DataStartRecoverRequest(pairs, names, b"tar"))
        return dma, mover

    def direct(
        self, entry: str, image: bytes, *names: tuple[bytes, bytes, int], **env: bytes
    ) -> tuple[Dma, Mover, DataHaltReason]:
        """A restore by direct access of (original path, destination, fh_info), to its end.

        What holds for the reads of all of them is checked.
        """
        nlist = (Name(original, target, fh_info=at) for original, target, at in names)
        dma, mover = self.start_direct(entry, image, *nlist, **env)
        reason = dma.await_halt()
        mover.reads.put(None)
        offsets = [read.offset for read in dma.reads]
        assert offsets == sorted(offsets)
        assert all(read.length < ALL_ONES or not read.offset for read in dma.reads)
        return dma, mover, reason


def _free_ports() -> list[int]:
    """Two ports free on every address of the cluster, below those that the kernel gives out by itself."""
    found = []
    while len(found) < 2:
        port = random.randrange(15000, 30000)
        with contextlib.ExitStack() as held, contextlib.suppress(OSError):
            for address in NODES.values():
                held.enter_context(socket.create_server((address, port)))
            found.append(port)
    return found


@pytest.fixture(params=["token", "tls"])
def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Cluster]:
    """A running cluster, with each kind of feed."""
    made = Cluster(tmp_path, request.param)
    try:
        made.start()
        yield made
    finally:
        made.stop()
