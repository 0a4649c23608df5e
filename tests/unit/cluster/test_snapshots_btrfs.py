"""A whole cluster on a real btrfs: full and incremental backups, each from snapshots of its own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from appliance.archive import treestate
from appliance.gns.client import move
from appliance.ndmp.enums import DataHaltReason
from appliance.snapshots.btrfs import PLACE
from tests.apart import SkippedError, apart, enter_namespace, mount
from tests.unit.cluster.conftest import Cluster, Dma

PARTS = (("/projects", "fs1", "p"), ("/projects/media", "fs1", "m"), ("/home", "fs2", "h"))


def in_cluster(folder: Path, work: Callable[[Cluster, Path], Any]) -> Any:
    """Run `work` with a cluster whose parts lie on a btrfs, and the root of that.

    /projects is a subvolume; the others are plain directories.
    """

    def run() -> Any:
        enter_namespace()
        top = mount("btrfs", folder)
        cluster = Cluster(top, "token", "required")
        cluster.start()
        try:
            (top / "fs1" / "data").mkdir(parents=True)
            command = ["btrfs", "subvolume", "create", str(top / "fs1/data/p")]
            if subprocess.run(command, capture_output=True, check=False).returncode:
                raise SkippedError("no subvolumes here")
            cluster.add(*PARTS)
            for owner, name in (("fs1", "p/d/one"), ("fs1", "m/d/two"), ("fs2", "h/d/three")):
                file = top / owner / "data" / name
                file.parent.mkdir(exist_ok=True)
                file.write_text(name)
                os.link(file, file.with_suffix(".link"))
            return work(cluster, top)
        finally:
            cluster.stop()

    return apart(run)


def save(cluster: Cluster, entry: str, **more: bytes) -> Dma:
    """A backup of everything, all from snapshots that are gone afterwards."""
    dma, _, reason = cluster.backup(entry, b"/", b"tar", *((k.encode(), v) for k, v in more.items()))
    assert reason is DataHaltReason.SUCCESSFUL
    (line,) = dma.log
    assert line.startswith("read from snapshots made within ")
    assert line.endswith(" ms: /home, /projects, /projects/media")
    assert list((cluster.folder / os.fsdecode(PLACE)).iterdir()) == []
    return dma


def test_an_incremental_backup_of_another_snapshot_saves_what_changed(tmp_path: Path) -> None:
    """Inode numbers and change times are those of the tree: unchanged files are not read, others are."""

    def work(cluster: Cluster, top: Path) -> tuple[set[bytes], set[bytes], set[bytes]]:
        treestate.SETTLED_NS = -(10**18)  # as if what was written had been there for long
        full = save(cluster, "fs1")
        idle = save(cluster, "fs2", LEVEL=b"1")
        (top / "fs1/data/p/d/new").touch()
        (top / "fs2/data/h/d").rename(top / "fs2/data/h/moved")
        changed = save(cluster, "fs1", LEVEL=b"1")
        return set(full.history), set(idle.history), set(changed.history)

    full, idle, changed = in_cluster(tmp_path, work)
    assert {b"/projects/d/one", b"/projects/d/one.link", b"/projects/media/d/two", b"/home/d/three"} <= full
    assert idle == {b"/", b"/projects", b"/projects/media", b"/home"}
    assert changed == {*idle, b"/projects/d", b"/projects/d/new", b"/home/moved"}


def test_a_subvolume_below_a_part_is_named(tmp_path: Path) -> None:
    """The snapshot has an empty directory in its place; the job says so, as it does without snapshots."""

    def work(cluster: Cluster, top: Path) -> tuple[list[str], bytes]:
        inner = top / "fs1/data/p/inner"
        subprocess.run(["btrfs", "subvolume", "create", str(inner)], capture_output=True, check=True)
        (inner / "f").touch()
        dma, _, reason = cluster.backup("fs1")
        assert reason is DataHaltReason.SUCCESSFUL
        assert b"/projects/inner/f" not in dma.history
        return dma.log, dma.env()[b"SPANREEL_STATUS"]

    log, status = in_cluster(tmp_path, work)
    assert "/projects/inner: a mount point or subvolume; what is in it is not saved" in log
    assert status == b"problems"


def test_a_part_moves_without_a_snapshot(tmp_path: Path) -> None:
    """A move is no backup: it goes on where snapshots are required."""

    def work(cluster: Cluster, top: Path) -> str:
        move(cluster.configs["fs1"], b"/home", "fs1", bytes(top / "fs1/data/home"))
        return (top / "fs1/data/home/d/three").read_text()

    assert in_cluster(tmp_path, work) == "h/d/three"
