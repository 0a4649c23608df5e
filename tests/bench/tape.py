"""What the way to tape costs without a guest: the library model on tmpfs, against plain dd onto that tmpfs.

    dd            writes and reads a file in records of the same size: what memory and kernel give
    drive         SCSI commands to the model, one record each, in one process
    mover         a data connection on loopback through a media server of its own to the model, and back

dd on the st driver needs SCSI devices: `guest.py`.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from appliance.ndmp import messages as m
from appliance.ndmp.enums import MtioOp, TapeOpenMode
from tape.changer import Changer
from tape.drive import Drive
from tape.elements import ElementKind
from tape.model import LibraryModel, LibrarySpec
from tests.bench.figures import Figure
from tests.bench.serving import load, media_server, read_image, write_image

RECORD = 256 << 10
SIZE_MIB = 512
RECORDS = SIZE_MIB * (1 << 20) // RECORD
WAIT_S = 300.0
AIM = "faster than any drive"

LIBRARY = """
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


def _mover(folder: Path) -> dict[str, float]:
    table = LIBRARY.format(folder=folder, capacity=4 * SIZE_MIB << 20)
    size = SIZE_MIB << 20
    with media_server(folder, table) as client:
        load(client, "LIB1", "T1", "DRV1")
        client.do(m.TapeOpenRequest(b"drive:DRV1", TapeOpenMode.RDWR))
        rates = {"write": _rate(lambda: write_image(client, RECORD, size))}
        client.do(m.TapeMtioRequest(MtioOp.REW, 1))
        rates["read"] = _rate(lambda: read_image(client, RECORD, size))
    return rates
