"""What the way to tape costs in a guest, on sg devices of a real kernel: beside dd on st, same libraries.

One small machine, its drives behind our library model and tgt (`guest.yaml`); none of the lab's roles runs
in it.  `inguest.py` is sent there and measures.  Where the host has no KVM all is emulated, Python too.
"""

from __future__ import annotations

import io
import json
import statistics
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness import topology as topologies
from tests.bench.figures import Figure
from tests.labrun import ROOT, Finished, Lab

TOPOLOGY = Path(__file__).with_name("guest.yaml")
NODE = "media1"
FOLDER = "/run/spanreel-bench"
PACKAGES = "/opt/spanreel/current/lib"
SENT = ("tests/__init__.py", "tests/bench/__init__.py", "tests/bench/serving.py", "tests/bench/inguest.py")
RECORDS = (64 << 10, 256 << 10)
SIZE_MIB = 96
AIM = "1.0: dd on st, at a pipe"
RIVALS = {"sg": "dd", "pipe": "dd", "media server": "pipe"}
"""Whom each way is compared with: what comes from a connection with what comes from a pipe."""
WAY_OF_DATA = "media server"
"""What is to be no slower than its rival.  Single commands, `sg`, are not how data goes."""


class GuestError(Exception):
    """No machine, or it did not do what it was to do; the text says why."""


def run(folder: Path, repeat: int) -> list[Figure]:
    """Everything; the lab's files, cartridges among them, lie in `folder`."""
    lab = Lab(str(TOPOLOGY), "bench-guest", folder)
    try:
        _well(lab.lab("up", "--to", "booted", "--no-save", timeout=1800), "no guest")
        _well(lab.lab("exec", NODE, "--", "mkdir", FOLDER), "no folder")
        _well(lab.lab("exec", NODE, "--", "tar", "-x", "-C", FOLDER, stdin=sent()), "nothing could be sent")
        words = ("env", f"PYTHONPATH={PACKAGES}:{FOLDER}", "python3", "-m", "tests.bench.inguest")
        argument = json.dumps(asked(repeat))
        done = _well(lab.lab("exec", NODE, "--", *words, argument, timeout=3600), "not measured")
        return figures(done.json())
    finally:
        lab.lab("down")


def _well(done: Finished, what: str) -> Finished:
    if done.code:
        raise GuestError(f"{what} (exit code {done.code}): {done.err.strip()}")
    return done


def sent() -> bytes:
    """The measuring code, as a tar archive: the product is there, the tests are not."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name in SENT:
            archive.add(ROOT / name, name)
    return made.getvalue()


def asked(repeat: int) -> dict[str, Any]:
    """The argument of `inguest`."""
    libraries = [
        {
            "kind": library.transport,
            "changer": library.changer,
            "drive": library.drives[0],
            "barcode": library.slots[0],
        }
        for library in topologies.read(TOPOLOGY).libraries
    ]
    return {
        "folder": FOLDER,
        "mib": SIZE_MIB,
        "repeat": repeat,
        "records": RECORDS,
        "libraries": libraries,
    }


def figures(rows: Sequence[dict[str, Any]]) -> list[Figure]:
    """Medians, with the ratio to the rival of the same library, record size and direction."""
    rates = {
        (row["library"], row["record"], row["direction"], row["way"]): statistics.median(row["rates"])
        for row in rows
    }
    found = []
    for (library, record, direction, way), rate in rates.items():
        rival = RIVALS.get(way)
        ratio = rate / rates[library, record, direction, rival] if rival else 1.0
        what = f"{library} {direction} {record >> 10} KiB, {way}"
        found.append(Figure(what, rate, "MB/s", AIM if way == WAY_OF_DATA else "", ratio))
    return found
