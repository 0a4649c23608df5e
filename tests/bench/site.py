"""The whole path as processes on loopback: file server, connection server, media server with a library model.

Unlike the process lab there are no recording relays between them, and nothing but what a job needs.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from appliance import pki
from appliance.config import NodeConfig, load
from appliance.gns.change import add_change, batch_change
from appliance.gns.client import send_change
from appliance.ndmp.client import Client
from appliance.ndmp.endpoint import Received
from tests.bench.meters import Cost, Meters, with_usage
from tests.labrun import ROOT

ADDRESSES = {"fs1": "127.76.0.11", "conn1": "127.76.0.21", "media1": "127.76.0.31", "dma": "127.76.0.41"}
ROLES = {"fs1": "file-server", "conn1": "connection-server", "media1": "media-server"}
USER, PASSWORD = "bench", "of no secret"
CAPACITY = 12 << 30
SAVED, RESTORED = "/tree", "/restored"

COMMON = """schema = 1
[node]
name = "{name}"
address = "{address}"
state = "{folder}/state"
log = "warning"
"""
DMA_PORT = """[ndmp]
port = {ndmp}
accounts = "{folder}/accounts.toml"
"""
CLUSTER = """[cluster]
port = {cluster}
authority = "{tls}/ca.pem"
certificate = "{tls}/node.pem"
key = "{tls}/node.key"
gns_writer = "fs1"
connection_server = "conn1"
feed = "{feed}"
"""
LIBRARY = """[media_server]
[[media_server.libraries]]
transport = "model"
folder = "{folder}/library"
changer = "BENCHCHG"
drives = ["BENCHDRV"]
slots = ["BENCH1L5"]
writable = ["BENCH1L5"]
capacity = {capacity}
"""
DMA = """[backup_server]
catalogue = "{folder}/catalogue.sqlite"
entry = "fs1"
media = "media1"
changer = "BENCHCHG"
drives = ["BENCHDRV"]
writable = ["BENCH1L5"]
record_size = 262144
"""
SERVER = """[[backup_server.servers]]
name = "{name}"
address = "{address}"
port = {ndmp}
user = "{user}"
password_file = "{password}"
"""


class Site:
    """Configurations, and the processes that serve them."""

    def __init__(self, folder: Path, feed: str, trees: dict[str, Path]) -> None:
        """`feed` is token or tls; `trees` are local directories by their global paths."""
        self.folder = folder
        self._trees = trees
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self.ports = {"ndmp": _free_port(), "cluster": _free_port()}
        pki.create_authority(folder / "ca")
        self.password = folder / "password"
        _secret(self.password, PASSWORD)
        for name, address in ADDRESSES.items():
            self._configure(name, address, feed)

    def _configure(self, name: str, address: str, feed: str) -> None:
        home = self.folder / name
        home.mkdir()
        _secret(home / "accounts.toml", f'{USER} = "{PASSWORD}"\n')
        values: dict[str, Any] = {
            "name": name,
            "address": address,
            "folder": home,
            "feed": feed,
            **self.ports,
        }
        text = COMMON.format(**values)
        if name in ("fs1", "media1"):
            text += DMA_PORT.format(**values)
        if name != "media1":
            # The bench itself plays a file server that orders parts of another: it asks an owner directly.
            role = ROLES.get(name, "file-server")
            request = pki.parse_request(f"{name}={role}@{address}")
            text += CLUSTER.format(tls=pki.issue(self.folder / "ca", self.folder / "tls", request), **values)
            for peer in ADDRESSES:
                where = ADDRESSES[peer]
                text += (
                    f'[[cluster.nodes]]\nname = "{peer}"\naddress = "{where}"\nport = {values["cluster"]}\n'
                )
        text += {
            "fs1": "[file_server]\nnfs = false\n",
            "conn1": "[connection_server]\n",
            "media1": LIBRARY.format(capacity=CAPACITY, **values),
            "dma": DMA.format(**values),
        }[name]
        if name == "dma":
            for server in ("fs1", "media1"):
                text += SERVER.format(
                    name=server, address=ADDRESSES[server], user=USER, password=self.password, **self.ports
                )
        (home / "spanreel.toml").write_text(text)

    def config_of(self, name: str) -> Path:
        """A node's configuration file."""
        return self.folder / name / "spanreel.toml"

    def config(self, name: str) -> NodeConfig:
        """A node's configuration."""
        return load(self.config_of(name))

    def start(self) -> None:
        """Start all servers, and make the global name space."""
        for name, role in ROLES.items():
            words = [sys.executable, "-m", "appliance.cli", "serve", role]
            log = (self.folder / f"{name}.log").open("wb")
            self._processes[name] = subprocess.Popen(
                [*words, "--config", str(self.config_of(name))], stdout=subprocess.PIPE, stderr=log, cwd=ROOT
            )
        for name, process in self._processes.items():
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith(b"ready"), (name, (self.folder / f"{name}.log").read_text())
        places = [add_change(os.fsencode(path), "fs1", bytes(local)) for path, local in self._trees.items()]
        send_change(self.config("fs1"), batch_change(places))

    def stop(self) -> None:
        """End the servers."""
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            process.wait(30)

    def pids(self, *names: str) -> dict[str, int]:
        """Process numbers of servers, all unless named."""
        return {name: process.pid for name, process in self._processes.items() if not names or name in names}

    def job(self, *words: str) -> tuple[float, dict[str, Cost], dict[str, Any]]:
        """Run `spanreel WORDS` as the backup server; seconds, costs of all processes, what it says."""
        meters = Meters(self.pids())
        command = [sys.executable, "-m", "appliance.cli", *words, "--json", "--config"]
        wall, cost, said = with_usage([*command, str(self.config_of("dma"))], "dma", ROOT)
        return wall, {**meters.read(), "dma": cost}, json.loads(said)

    def client(self, name: str, on_post: Callable[[Received], None]) -> Client:
        """A DMA's session with a server."""
        client = Client.connect((ADDRESSES[name], self.ports["ndmp"]), name, on_post=on_post)
        client.login(USER, PASSWORD)
        return client


def _secret(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)


def _free_port() -> int:
    """A port that is free on all addresses, below those that the kernel gives out by itself."""
    while True:
        port = random.randrange(15000, 30000)
        with contextlib.ExitStack() as held, contextlib.suppress(OSError):
            for address in ADDRESSES.values():
                held.enter_context(socket.create_server((address, port)))
            return port


@contextlib.contextmanager
def site(folder: Path, feed: str, trees: dict[str, Path]) -> Iterator[Site]:
    """A running site."""
    folder.mkdir()
    made = Site(folder, feed, trees)
    try:
        made.start()
        yield made
    finally:
        made.stop()
