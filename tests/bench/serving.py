"""A media server in a process of its own, and images that go through its mover.

It imports nothing of the lab, so that it runs in a guest as well.
"""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import appliance
from appliance.backupserver.library import Library
from appliance.ndmp import dataconn
from appliance.ndmp import messages as m
from appliance.ndmp.client import Client
from appliance.ndmp.enums import ALL_ONES, MoverMode

WAIT_S = 300.0
PIECE = 256 << 10
"""The data server sends and receives so much at a time."""

_CONFIG = """
schema = 1
[node]
name = "media1"
address = "127.0.0.1"
state = "{folder}"
[ndmp]
port = {port}
accounts = "{folder}/accounts.toml"
[media_server]
{libraries}
"""


@contextmanager
def media_server(folder: Path, libraries: str) -> Iterator[Client]:
    """Serve these tables [[media_server.libraries]], and give a session that is logged in."""
    folder.mkdir()
    (folder / "accounts.toml").write_text('dma = "secret"\n')
    (folder / "accounts.toml").chmod(0o600)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config = folder / "media.toml"
    config.write_text(_CONFIG.format(folder=folder, port=port, libraries=libraries))
    command = [sys.executable, "-m", "appliance.cli", "serve", "media-server", "--config", str(config)]
    packages = Path(appliance.__file__).parents[1]
    log = (folder / "log").open("w")
    with (
        log,
        subprocess.Popen(command, cwd=packages, stdout=subprocess.PIPE, stderr=log, text=True) as served,
    ):
        assert served.stdout is not None
        try:
            if not any(line.startswith("ready media-server ") for line in served.stdout):
                raise RuntimeError((folder / "log").read_text())
            with Client.connect(("127.0.0.1", port)) as client:
                client.login("dma", "secret")
                yield client
        finally:
            served.terminate()


def load(client: Client, changer: str, barcode: str, drive: str) -> None:
    """Bring a cartridge into a drive."""
    Library(client, f"changer:{changer}".encode(), (drive,)).load(barcode, drive)


def write_image(client: Client, record: int, size: int) -> None:
    """Send an image of this many bytes to tape; the mover has halted when this returns."""

    def send(connection: socket.socket) -> None:
        piece = bytes(PIECE)
        for _ in range(size // PIECE):
            connection.sendall(piece)

    _stream(client, record, MoverMode.READ, send)


def read_image(client: Client, record: int, size: int) -> None:
    """Receive as much from tape."""

    def receive(connection: socket.socket) -> None:
        client.do(m.MoverReadRequest(0, size))
        buffer, left = bytearray(PIECE), size
        while left:
            got = connection.recv_into(buffer)
            assert got, "the image ended early"
            left -= got

    _stream(client, record, MoverMode.WRITE, receive)


def _stream(client: Client, record: int, mode: MoverMode, move: Callable[[socket.socket], None]) -> None:
    """One image, until the mover has halted."""
    client.do(m.MoverSetRecordSizeRequest(record))
    client.do(m.MoverSetWindowRequest(0, ALL_ONES))
    reply = client.call(m.MoverListenRequest(mode), m.MoverListenReply)
    with socket.create_connection(dataconn.endpoint_of(reply.connect_addr.tcp[0])) as connection:
        move(connection)
    while not isinstance(_next(client), m.NotifyMoverHaltedPost):
        pass
    client.do(m.MoverStopRequest())


def _next(client: Client) -> object:
    message = client.posts.get(timeout=WAIT_S)
    assert message is not None, "the media server is gone"
    return message.body()
