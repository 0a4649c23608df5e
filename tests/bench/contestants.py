"""Who saves and restores the trees: we, by either kind of feed; tar through a pipe; ndmjob.

Each gets a tree and an empty folder on the same tmpfs, and says what each thing it did took.  What a restore
brought is counted; what is in it is for the tests to judge.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from tests.bench import streams
from tests.bench.meters import Cost, Run, pipeline
from tests.bench.site import RESTORED, SAVED, site
from tests.bench.trees import Tree, measure
from tests.integration.foreign.support import NDMJOB
from tests.labrun import ROOT

Contestant = Callable[[Tree, Path, Path], Iterator[Run]]
"""Given a tree, where it is, and a folder."""


def _tar(name: str, *options: str) -> Contestant:
    """`tar | cat` and `tar | tar`."""

    def run(tree: Tree, top: Path, folder: Path) -> Iterator[Run]:
        words = ["tar", *options, *(["-S"] if tree.sparse else []), "-C", str(top), "-cf", "-", "."]
        wall, costs = pipeline([("tar", words), ("cat", ["cat"])])
        yield Run(tree.name, "backup", name, wall, costs)
        out = folder / "out"
        out.mkdir()
        back = ["tar", *options, "-C", str(out), "-xpf", "-"]
        wall, costs = pipeline([("tar", words), ("tar -x", back)])
        _check(top, out)
        yield Run(tree.name, "restore", name, wall, costs)

    return run


def ndmjob(tree: Tree, top: Path, folder: Path) -> Iterator[Run]:
    """Data, mover and tape agents of ndmjob over TCP; nothing where it cannot run."""
    if not NDMJOB.exists() or os.geteuid() != 0:
        return
    out = folder / "out"
    out.mkdir()
    script = ["-m", "tests.bench.ndmjob", str(top), str(out), str(folder), "y" if tree.sparse else "n"]
    done = subprocess.run(
        ["unshare", "--net", sys.executable, *script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    _check(top, out)
    for what, found in json.loads(done.stdout).items():
        costs = {name: Cost(**cost) for name, cost in found["costs"].items()}
        yield Run(tree.name, what, "ndmjob", found["wall"], costs)


def _ours(feed: str) -> Contestant:
    def run(tree: Tree, top: Path, folder: Path) -> Iterator[Run]:
        out = folder / "out"
        out.mkdir()
        with site(folder / "site", feed, {SAVED: top, RESTORED: out}) as made:
            wall, costs, said = made.job("backup", SAVED)
            assert said["status"] == "complete", said
            yield Run(tree.name, "backup", feed, wall, costs)
            wall, costs, said = made.job("restore", "latest", "--to", RESTORED)
            assert said["status"] == "complete", said
            _check(top, out / SAVED.lstrip("/"))
            yield Run(tree.name, "restore", feed, wall, costs)

    return run


def hop(tree: Tree, top: Path, folder: Path) -> Iterator[Run]:
    """The file server's stream with and without the connection server."""
    with site(folder / "site", "token", {SAVED: top}) as made:
        wall, costs = streams.straight(made)
        yield Run(tree.name, "stream", "owner", wall, costs)
        wall, costs = streams.through_connection_server(made)
        yield Run(tree.name, "stream", "owner+conn", wall, costs)


CONTESTANTS: dict[str, Contestant] = {
    "tar": _tar("tar"),
    # Saves what we save, but for checksums.
    "tar-acls": _tar("tar-acls", "--format=posix", "--xattrs", "--acls"),
    "ndmjob": ndmjob,
    "token": _ours("token"),
    "tls": _ours("tls"),
    "hop": hop,
}


def _check(top: Path, out: Path) -> None:
    """Hold a restore against its original: names, and bytes in files."""
    restored, original = measure(out), measure(top)
    if restored != original:
        raise RuntimeError(f"restored {restored} names and bytes of {original}")


def contest(trees: list[Tree], names: list[str], folder: Path, repeat: int) -> Iterator[Run]:
    """Every contestant with every tree, `repeat` times; the trees are made one at a time."""
    for tree in trees:
        top = folder / tree.name
        top.mkdir()
        tree.make(top)
        for _ in range(repeat):
            for name in names:
                place = folder / "work"
                place.mkdir()
                yield from CONTESTANTS[name](tree, top, place)
                shutil.rmtree(place)
        shutil.rmtree(top)
    with suppress(OSError):
        (folder / "work").rmdir()
