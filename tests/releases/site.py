"""The small tree that the tape of a release holds, with what an archive must be able to hold."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from harness import guest, manifest
from harness.manifest import Manifest
from tests.labrun import Lab

_HOUR_NS = 3600 * 10**9
_MOMENT_NS = 1_600_000_000_123_456_789


def parts(of: Lab) -> dict[bytes, Path]:
    """The local directory of each part, by its global path."""
    told = of.lab("info", "--json").json()["gns"]
    return {os.fsencode(each["global_path"]): Path(each["local_path"]) for each in told}


def fill(top: Path, below: Path) -> None:
    """Make the tree of the full backup: names, links, holes, attributes, and a part of another owner."""
    (top / "plain.txt").write_text("a file\n")
    (top / "empty").touch()
    (top / "empty directory").mkdir()
    raw = os.fsencode(top)
    for name in (b"new\nline", b"latin1-\xe9", b"n" * 255, b"-dash", b"\xf0\x9f\x93\xbc"):
        Path(os.fsdecode(raw + b"/" + name)).write_bytes(name)
    deep = top / "/".join(["a directory of a long name " + "x" * 60] * 4)
    deep.mkdir(parents=True)
    (deep / "deep").write_bytes(bytes(range(256)) * 40)
    (top / "hard").hardlink_to(top / "plain.txt")
    (top / "symbolic").symlink_to("plain.txt")
    (top / "dangling").symlink_to(b"nowhere \xff".decode(errors="surrogateescape"))
    os.mkfifo(top / "fifo", 0o640)
    with (top / "holes").open("wb") as file:
        file.truncate(1 << 20)
        file.seek(600 << 10)
        file.write(b"in the middle")
    os.setxattr(top / "plain.txt", "user.note", b"\x00\xffbinary")
    (top / "private").write_text("mine\n")
    (top / "private").chmod(0o4710)
    (below / "tape.mov").write_bytes(b"moving " * 3000)
    (below / "goes away").write_text("until the next backup\n")
    (below / "old name").mkdir()
    (below / "old name" / "stays").write_text("as it was\n")
    _age(top)
    _age(below)


def change(top: Path, below: Path) -> None:
    """What happens between the full backup and the incremental one."""
    (below / "goes away").unlink()
    (below / "old name").rename(below / "new name")
    (top / "plain.txt").write_text("a file, changed\n")
    (top / "added").write_text("new\n")


def _age(top: Path) -> None:
    """Give everything a time with nanoseconds of its own, the directories last."""
    for number, (folder, _, files) in enumerate(os.walk(top, topdown=False), 1):
        for place in [*(Path(folder) / name for name in files), Path(folder)]:
            moment = _MOMENT_NS + number * _HOUR_NS
            os.utime(place, ns=(moment, moment), follow_symlinks=False)


def describe(roots: dict[bytes, Path]) -> Manifest:
    """The manifest of a tree whose parts lie at `roots`, by the harness's own description."""
    named = {os.fsdecode(path): str(local) for path, local in roots.items()}
    argument = {
        "roots": [
            {"global": path, "local": local, "skip": [*named.keys() - {path}]}
            for path, local in named.items()
        ]
    }
    command = [sys.executable, "-", json.dumps(argument)]
    done = subprocess.run(command, input=guest.source("manifest"), capture_output=True, check=True)
    return manifest.parse(done.stdout)
