"""What the way to tape costs without a guest: the library model on tmpfs, against plain dd onto that tmpfs.

    dd            writes and reads a file in records of the same size: what memory and kernel give
    drive         SCSI commands to the model, one record each, in one process
    mover         a data connection on loopback through a media server of its own to the model, and back

dd on the st driver needs SCSI devices, so a guest or real drives: docs/tape-libraries.md.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from appliance.backupserver.library import Library
from appliance.ndmp import dataconn
from appliance.ndmp import messages as m
from appliance.ndmp.client import Client
from appliance.ndmp.enums import ALL_ONES, MoverMode, MtioOp, TapeOpenMode
from tape.changer import Changer
from tape.drive import Drive
from tape.elements import ElementKind
from tape.model import LibraryModel, LibrarySpec
from tests.bench.figures import Figure
from tests.labrun import ROOT

RECORD = 256 << 10
SIZE_MIB = 512
RECORDS = SIZE_MIB * (1 << 20) // RECORD
WAIT_S = 300.0
AIM = "faster than any drive"

CONFIG = """
schema = 1
[node]
name = "media1"
address = "127.0.0.1"
state = "{folder}"
[ndmp]
port = {port}
accounts = "{folder}/accounts.toml"
[media_server]
[[media_server.libraries]]
transport = "model"
changer = "LIB1"
drives = ["DRV1"]
writable = ["T1"]
folder = "{folder}/library"
slots = ["T1"]
capacity = {capacity}
"""


def run(folder: Path) -> list[Figure]:
    """Everything, in `folder`, which is best on a tmpfs."""
    base = _dd(folder / "dd.out")
    figures = []
    for name, rates in (("drive", _drive(folder / "drive")), ("mover", _mover(folder / "mover"))):
        for direction in ("write", "read"):
            ratio = rates[direction] / base[direction]
            figures.append(
                Figure(f"tape {direction}, {name} to the model", rates[direction], "MB/s", AIM, ratio)
            )
    for direction, rate in base.items():
        figures.append(Figure(f"dd {direction} of a file, {RECORD >> 10} KiB", rate, "MB/s", ratio=1.0))
    return figures


def _rate(action: Callable[[], object]) -> float:
    """MB/s of an action that moves SIZE_MIB."""
    started = time.perf_counter()
    action()
    return SIZE_MIB * (1 << 20) / (time.perf_counter() - started) / 1e6


def _dd(file: Path) -> dict[str, float]:
    def dd(source: str, target: str) -> None:
        command = ["dd", f"if={source}", f"of={target}", f"bs={RECORD}", f"count={RECORDS}"]
        subprocess.run(command, check=True, capture_output=True)

    rates = {
        "write": _rate(lambda: dd("/dev/zero", str(file))),
        "read": _rate(lambda: dd(str(file), "/dev/null")),
    }
    file.unlink()
    return rates


def _drive(folder: Path) -> dict[str, float]:
    spec = LibrarySpec("LIB1", ("DRV1",), ("T1",), capacity_bytes=4 * SIZE_MIB << 20)
    model = LibraryModel(folder, spec)
    with Changer(model.transport("LIB1")) as changer:
        changer.move(spec.addresses(ElementKind.SLOT)[0], spec.addresses(ElementKind.DRIVE)[0])
    with Drive(model.transport("DRV1")) as drive:
        drive.wait_ready(WAIT_S)
        buffer = drive.transport.buffer(RECORD)

        def write() -> None:
            for _ in range(RECORDS):
                drive.write(buffer)
            drive.write_filemarks(1)

        def read() -> None:
            for _ in range(RECORDS):
                drive.read_into(buffer)

        rates = {"write": _rate(write)}
        drive.rewind()
        rates["read"] = _rate(read)
    model.close()
    (folder / "T1.tape").unlink()
    return rates


@contextmanager
def _media_server(folder: Path) -> Iterator[Client]:
    """A media server in a process of its own, and a session with it that has the cartridge in the drive."""
    folder.mkdir()
    (folder / "accounts.toml").write_text('dma = "secret"\n')
    (folder / "accounts.toml").chmod(0o600)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config = folder / "media.toml"
    config.write_text(CONFIG.format(folder=folder, port=port, capacity=4 * SIZE_MIB << 20))
    command = [sys.executable, "-m", "appliance.cli", "serve", "media-server", "--config", str(config)]
    log = (folder / "log").open("w")
    with log, subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=log, text=True) as process:
        assert process.stdout is not None
        assert any(line.startswith("ready media-server ") for line in process.stdout)
        with Client.connect(("127.0.0.1", port)) as client:
            client.login("dma", "secret")
            Library(client, b"changer:LIB1", ("DRV1",)).load("T1", "DRV1")
            client.do(m.TapeOpenRequest(b"drive:DRV1", TapeOpenMode.RDWR))
            yield client
        process.terminate()


def _mover(folder: Path) -> dict[str, float]:
    with _media_server(folder) as client:
        rates = {"write": _rate(lambda: _stream(client, MoverMode.READ, _send))}
        client.do(m.TapeMtioRequest(MtioOp.REW, 1))
        rates["read"] = _rate(lambda: _stream(client, MoverMode.WRITE, _receive))
    return rates


def _stream(client: Client, mode: MoverMode, move: Callable[[Client, socket.socket], None]) -> None:
    """One image, until the mover has halted."""
    client.do(m.MoverSetRecordSizeRequest(RECORD))
    client.do(m.MoverSetWindowRequest(0, ALL_ONES))
    reply = client.call(m.MoverListenRequest(mode), m.MoverListenReply)
    with socket.create_connection(dataconn.endpoint_of(reply.connect_addr.tcp[0])) as connection:
        move(client, connection)
    while not isinstance(_next(client), m.NotifyMoverHaltedPost):
        pass
    client.do(m.MoverStopRequest())


def _next(client: Client) -> object:
    message = client.posts.get(timeout=WAIT_S)
    assert message is not None, "the media server is gone"
    return message.body()


def _send(_client: Client, connection: socket.socket) -> None:
    record = bytes(RECORD)
    for _ in range(RECORDS):
        connection.sendall(record)


def _receive(client: Client, connection: socket.socket) -> None:
    client.do(m.MoverReadRequest(0, SIZE_MIB << 20))
    buffer, left = bytearray(RECORD), SIZE_MIB << 20
    while left:
        got = connection.recv_into(buffer)
        assert got, "the image ended early"
        left -= got
