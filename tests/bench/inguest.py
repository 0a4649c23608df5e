"""Within a guest: ways to a tape drive beside each other, in records of the same size.  Prints JSON.

Argument: {"folder": DIR, "mib": N, "repeat": N, "records": [BYTES...],
           "libraries": [{"kind": K, "changer": SERIAL, "drive": SERIAL, "barcode": B}...]}

    dd            to and from the st driver
    pipe          the same with another dd at the other end of a pipe, as data comes from somewhere
    sg            SCSI commands through sg, one record each, in this process
    media server  a data connection on loopback through a media server, which uses sg, and back

All ways take their turns, as often as asked; MB/s of each turn.  What dd says of itself counts, which leaves
out how long it takes to start.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance.ndmp import messages as m
from appliance.ndmp.client import Client
from appliance.ndmp.enums import MtioOp, TapeOpenMode
from tape.drive import Drive
from tape.sg import SgTransport
from tests.bench import serving

DD_SECONDS = re.compile(r"copied, ([0-9.e+-]+) s")
READY_S = 60.0
LIBRARY = """
[[media_server.libraries]]
transport = "sg"
changer = "{changer}"
drives = ["{drive}"]
writable = ["{barcode}"]
"""

Turns = Iterator[tuple[str, str, float]]
"""Way, direction, seconds."""


@dataclass(frozen=True)
class Nodes:
    """How the kernel names a drive."""

    sg: str
    st: str


@dataclass(frozen=True)
class Amount:
    """What a turn moves."""

    record: int
    size: int

    @property
    def count(self) -> int:
        """Records."""
        return self.size // self.record


def main(asked: dict[str, Any]) -> None:
    """Measure everything."""
    for module in ("virtio_scsi", "sg", "st"):
        subprocess.run(["modprobe", module], check=True)
    subprocess.run(["udevadm", "settle"], check=True)
    rows = []
    tables = "".join(LIBRARY.format(**library) for library in asked["libraries"])
    with serving.media_server(Path(asked["folder"]) / "media", tables) as client:
        for library in asked["libraries"]:
            serving.load(client, library["changer"], library["barcode"], library["drive"])
            for record in asked["records"]:
                amount = Amount(record, asked["mib"] << 20)
                rows += _rows(client, library, amount, asked["repeat"])
    json.dump(rows, sys.stdout)


def _rows(client: Client, library: dict[str, str], amount: Amount, repeat: int) -> list[dict[str, Any]]:
    """One row for each way and direction."""
    nodes = _nodes(library["drive"])
    rates: dict[tuple[str, str], list[float]] = {}
    for _ in range(repeat):
        for turns in (_dd(nodes, amount), _sg(nodes, amount), _served(client, library["drive"], amount)):
            for way, direction, seconds in turns:
                rates.setdefault((way, direction), []).append(amount.size / seconds / 1e6)
    return [
        {
            "library": library["kind"],
            "record": amount.record,
            "way": way,
            "direction": direction,
            "rates": found,
        }
        for (way, direction), found in rates.items()
    ]


def _nodes(serial: str) -> Nodes:
    """The nodes of the drive with this serial number, as the kernel read it (page 0x80)."""
    for folder in Path("/sys/class/scsi_generic").iterdir():
        page = (folder / "device" / "vpd_pg80").read_bytes()[4:]
        if page.decode("ascii", "replace").strip("\0 ") == serial:
            tapes = [path.name for path in (folder / "device" / "scsi_tape").glob("nst*")]
            (plain,) = (name for name in tapes if name[3:].isdigit())
            return Nodes(f"/dev/{folder.name}", f"/dev/{plain}")
    raise RuntimeError(f"no drive {serial}")


def _dd(nodes: Nodes, amount: Amount) -> Turns:
    block = f"bs={amount.record}"
    much = ["dd", "if=/dev/zero", block, f"count={amount.count}"]
    _rewind(nodes)
    subprocess.run(["mt", "-f", nodes.st, "setblk", "0"], check=True)
    yield "dd", "write", _said([*much, f"of={nodes.st}"])
    _rewind(nodes)
    yield "dd", "read", _said(["dd", f"if={nodes.st}", "of=/dev/null", block])
    _rewind(nodes)
    with subprocess.Popen(much, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as source:
        yield "pipe", "write", _said(["dd", f"of={nodes.st}", block, "iflag=fullblock"], stdin=source.stdout)
    _rewind(nodes)
    sink = ["dd", "of=/dev/null", f"bs={serving.PIECE}"]
    with subprocess.Popen(sink, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as target:
        yield "pipe", "read", _said(["dd", f"if={nodes.st}", block], stdout=target.stdin)
        assert target.stdin is not None
        target.stdin.close()
    _rewind(nodes)


def _rewind(nodes: Nodes) -> None:
    # Others moved the tape since st saw it last; a rewind makes it forget what it believes.
    subprocess.run(["mt", "-f", nodes.st, "rewind"], check=True)


def _said(command: list[str], **streams: Any) -> float:
    """Run dd, and return the seconds that it says it took."""
    environment = {**os.environ, "LC_ALL": "C"}
    done = subprocess.run(command, check=True, stderr=subprocess.PIPE, text=True, env=environment, **streams)
    found = DD_SECONDS.search(done.stderr)
    assert found is not None, done.stderr
    return float(found[1])


def _sg(nodes: Nodes, amount: Amount) -> Turns:
    with Drive(SgTransport(nodes.sg)) as drive:
        drive.wait_ready(READY_S)
        drive.rewind()
        buffer = drive.transport.buffer(amount.record)
        yield "sg", "write", _timed(lambda: [drive.write(buffer) for _ in range(amount.count)])
        drive.write_filemarks(1)
        drive.rewind()
        yield "sg", "read", _timed(lambda: [drive.read_into(buffer) for _ in range(amount.count)])
        buffer.release()
        drive.rewind()


def _served(client: Client, serial: str, amount: Amount) -> Turns:
    client.do(m.TapeOpenRequest(f"drive:{serial}".encode(), TapeOpenMode.RDWR))
    client.do(m.TapeMtioRequest(MtioOp.REW, 1))
    yield (
        "media server",
        "write",
        _timed(lambda: serving.write_image(client, amount.record, amount.size)),
    )
    client.do(m.TapeMtioRequest(MtioOp.REW, 1))
    yield (
        "media server",
        "read",
        _timed(lambda: serving.read_image(client, amount.record, amount.size)),
    )
    client.do(m.TapeMtioRequest(MtioOp.REW, 1))
    client.do(m.TapeCloseRequest())


def _timed(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
