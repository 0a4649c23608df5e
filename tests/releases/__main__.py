"""Make the stores of a release: `python -m tests.releases [NAME [CHECKOUT]]`.

NAME is the release's number, by default that of pyproject.toml; CHECKOUT is where its code lies, by default
here.  A process lab of that code makes a tree, saves it whole and then its changes, and what lies in its
nodes' folders is packed.  It writes tests/releases/NAME.tar.xz, and refuses to write it twice.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
import threading
import tomllib
from collections.abc import Sequence
from pathlib import Path

from harness import manifest
from tests.labrun import ROOT, Finished, Lab
from tests.releases import site, stores

# Stands in the map and in configurations, which must not name the machine they were made on.
STATE = Path(tempfile.gettempdir()) / "spanreel-release"
LAB = "release"
SETTLED_S = 3
BELOW = b"/projects/media"


class NotMadeError(Exception):
    """A step failed; the text says which, and what it printed."""


def main(arguments: Sequence[str]) -> int:
    """Make it; return an exit code."""
    if len(arguments) > 2 or any(word.startswith("-") for word in arguments):
        sys.stderr.write("usage: python -m tests.releases [NAME [CHECKOUT]]\n")
        return 2
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    name = arguments[0] if arguments else project["version"]
    code = Path(arguments[1]).resolve() if len(arguments) == 2 else ROOT
    if stores.archive(name).exists():
        sys.stderr.write(f"{stores.archive(name)} is there already; what a release wrote never changes\n")
        return 2
    try:
        STATE.mkdir(mode=0o700)
    except FileExistsError:
        sys.stderr.write(f"{STATE} is there already: another run, or one that was killed; remove it\n")
        return 2
    lab = Lab(str(stores.TOPOLOGY), LAB, STATE, code)
    try:
        make(lab, name)
    except NotMadeError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    finally:
        lab.lab("down")
        shutil.rmtree(STATE)
    return 0


def make(lab: Lab, name: str) -> None:
    """Run the lab and pack its stores.  Raises NotMadeError."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        _must(lab.lab("up"))
        roots = site.parts(lab)
        saved = {path: local for path, local in roots.items() if not path.startswith(b"/restored")}
        top, below = saved[stores.TOP], saved[BELOW]
        site.fill(top, below)
        manifest.keep(site.describe(saved), folder / f"{stores.FULL}.jsonl")
        # Change times that are too young count as changed again (appliance/archive/treestate.py, SETTLED_NS).
        threading.Event().wait(SETTLED_S)
        _must(lab.on("backup1", "backup", stores.TOP, timeout=60))
        site.change(top, below)
        incremental = lab.on("backup1", "backup", "--help").out.find("--incremental") >= 0
        _must(lab.on("backup1", "backup", stores.TOP, *["--incremental"] * incremental, timeout=60))
        manifest.keep(site.describe(saved), folder / f"{stores.LATEST}.jsonl")
        _gather(lab, folder)
        revision = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], cwd=lab.code, capture_output=True, text=True, check=False
        )
        about = f"Stores of Spanreel {name}, written by its own code, commit {revision.stdout.strip()}.\n"
        (folder / stores.ABOUT).write_text(about, encoding="ascii")
        _pack(folder, stores.archive(name))


def _must(done: Finished) -> None:
    if done.code:
        raise NotMadeError(done.out + done.err)


def _gather(lab: Lab, folder: Path) -> None:
    shutil.copytree(
        lab.node_folder("media1") / "library",
        folder / stores.TAPE,
        ignore=shutil.ignore_patterns("lock", "*.log"),
    )
    (catalogue,) = lab.node_folder("backup1").rglob(stores.CATALOGUE)
    with (
        contextlib.closing(sqlite3.connect(catalogue)) as source,
        contextlib.closing(sqlite3.connect(folder / stores.CATALOGUE)) as target,
    ):
        source.backup(target)
    (kept,) = lab.node_folder("fs1").rglob(stores.MAP)
    shutil.copyfile(kept, folder / stores.MAP)
    (folder / stores.CONFIGURATIONS).mkdir()
    for node in lab.node_folder("fs1").parent.iterdir():
        shutil.copyfile(node / "spanreel.toml", folder / stores.CONFIGURATIONS / f"{node.name}.toml")


def _pack(folder: Path, target: Path) -> None:
    unfinished = target.with_suffix(".new")
    with tarfile.open(unfinished, "w:xz", preset=9) as packed:
        for path in sorted(folder.rglob("*")):
            packed.add(path, path.relative_to(folder), recursive=False, filter=_nobody)
    unfinished.replace(target)
    sys.stderr.write(f"{target}: {target.stat().st_size} bytes\n")


def _nobody(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mtime = 0
    return member


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
