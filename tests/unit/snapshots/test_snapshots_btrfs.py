"""Snapshots of real btrfs subvolumes, in a file system that only the test sees."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import structlog

from appliance.snapshots.btrfs import PLACE, Btrfs
from appliance.snapshots.keeper import Batch, Keeper, Place, View
from tests.apart import SkippedError, apart, bind, enter_namespace, mount

JOB = "20261125T080000-0a1b2c3d"
FILESET = "0" * 32


def on_btrfs(folder: Path, work: Callable[[Path], Any]) -> Any:
    """Run `work` with the root of a btrfs of its own, in a process of its own."""

    def mounted() -> Any:
        enter_namespace()
        return work(mount("btrfs", folder))

    return apart(mounted)


def keeper(owner: str = "fs1-test") -> Keeper:
    """The snapshots of a file server."""
    return Keeper(owner, [Btrfs()], structlog.get_logger())


def place(directory: Path, path: bytes = b"/p") -> Place:
    """A fileset, all of which is wanted."""
    return Place(path, FILESET, path, bytes(directory))


def subvolume(path: Path) -> Path:
    """Make a subvolume."""
    done = subprocess.run(["btrfs", "subvolume", "create", str(path)], capture_output=True, check=False)
    if done.returncode:
        raise SkippedError("no subvolumes here")
    return path


def taken(keeps: Keeper, *places: Place, job: str = JOB) -> Batch:
    """Make snapshots, all of which must come to be."""
    batch = keeps.prepare(job, places, [each.local for each in places])
    batch.take()
    assert batch.refused == {}
    return batch


def seen(keeps: Keeper, path: bytes = b"/p", job: str = JOB) -> View:
    """A part in its snapshot, which must be there."""
    view = keeps.view(job, path, FILESET)
    assert view is not None
    return view


def kept(top: Path) -> list[str]:
    """The names of the snapshots there are."""
    folder = top / os.fsdecode(PLACE)
    return sorted(each.name for each in folder.iterdir()) if folder.exists() else []


@pytest.mark.parametrize("is_subvolume", [True, False], ids=["subvolume", "directory below one"])
def test_a_snapshot_is_of_that_moment(tmp_path: Path, is_subvolume: bool) -> None:
    """What is written or made afterwards is not in it; inodes and change times are as they were."""

    def work(top: Path) -> None:
        vol = subvolume(top / "vol")
        tree = vol if is_subvolume else vol / "deep" / "tree"
        (tree / "d").mkdir(parents=True)
        (tree / "d" / "f").write_text("before")
        before = (tree / "d" / "f").stat()
        keeps = keeper()
        batch = taken(keeps, place(tree))
        (tree / "d" / "f").write_text("after")
        (tree / "d" / "new").touch()
        view = seen(keeps)
        frozen = Path(f"/proc/self/fd/{view.root}/d")
        assert list(frozen.parent.iterdir()) == [frozen]
        assert [each.name for each in frozen.iterdir()] == ["f"]
        assert (frozen / "f").read_text() == "before"
        status = (frozen / "f").stat()
        assert (status.st_ino, status.st_ctime_ns) == (before.st_ino, before.st_ctime_ns)
        assert os.fstat(view.root).st_ctime_ns <= view.moment
        view.close()
        batch.close()
        assert kept(top) == []

    on_btrfs(tmp_path, work)


def test_no_snapshot_lies_in_what_clients_see(tmp_path: Path) -> None:
    """Nothing appears below the directory that is backed up and exported, not even a name."""

    def work(top: Path) -> None:
        tree = top / "tree"
        tree.mkdir()
        keeps = keeper()
        batch = taken(keeps, place(tree))
        assert list(tree.iterdir()) == []
        assert len(kept(top)) == 1
        assert (top / os.fsdecode(PLACE)).stat().st_mode & 0o777 == 0o700
        batch.close()

    on_btrfs(tmp_path, work)


def test_the_top_of_a_file_system_gets_none(tmp_path: Path) -> None:
    """Where clients see the only place that a snapshot could have, the part is refused, with what to do."""

    def work(top: Path) -> None:
        tree = top / "tree"
        tree.mkdir()
        places = [place(top), place(tree, b"/q")]
        batch = keeper().prepare(JOB, places, [bytes(top), bytes(tree)])
        assert sorted(batch.refused) == [b"/p", b"/q"]
        assert "a subvolume or directory below it" in batch.refused[b"/p"]
        batch.close()
        assert kept(top) == []

    on_btrfs(tmp_path, work)


def test_what_a_snapshot_does_not_hold_is_known(tmp_path: Path) -> None:
    """Subvolumes below are empty directories with the stub's inode; mounts are named by global paths."""

    def work(top: Path) -> None:
        tree = subvolume(top / "tree")
        (subvolume(tree / "inner") / "f").touch()
        (tree / "d" / "bound").mkdir(parents=True)
        (tmp_path / "other").mkdir()
        bind(tmp_path / "other", tree / "d" / "bound")
        keeps = keeper()
        batch = taken(keeps, place(tree))
        view = seen(keeps)
        assert os.stat("inner", dir_fd=view.root).st_ino == view.stub_inode
        assert view.mounted == frozenset([b"/p/d/bound"])
        view.close()
        batch.close()

    on_btrfs(tmp_path, work)


def test_a_part_in_a_subvolume_below_its_fileset_has_none(tmp_path: Path) -> None:
    """It is not in a snapshot of the fileset's, so it is read as it is; likewise what is mounted there."""

    def work(top: Path) -> None:
        tree = top / "tree"
        (tree / "d" / "bound").mkdir(parents=True)
        (subvolume(tree / "d" / "inner") / "deep").mkdir()
        (tmp_path / "other").mkdir()
        bind(tmp_path / "other", tree / "d" / "bound")
        paths = [b"/p/d/inner/deep", b"/p/d/inner", b"/p/d/bound", b"/p/d", b"/p/d/not-there"]
        places = [Place(path, FILESET, b"/p", bytes(tree)) for path in paths]
        batch = keeper().prepare(JOB, places, [])
        assert sorted(batch.refused) == sorted(paths[:3])
        assert "another file system or subvolume" in batch.refused[b"/p/d/inner"]
        batch.close()

    on_btrfs(tmp_path, work)


def test_parts_of_one_subvolume_share_a_snapshot(tmp_path: Path) -> None:
    """There is one for both, and it is dropped when the second of them was read."""

    def work(top: Path) -> None:
        for name in ("a", "b"):
            (top / name).mkdir()
        keeps = keeper()
        batch = taken(keeps, place(top / "a", b"/a"), place(top / "b", b"/b"))
        assert len(kept(top)) == 1
        seen(keeps, b"/a").close()
        assert keeps.view(JOB, b"/a", FILESET) is None
        assert len(kept(top)) == 1
        seen(keeps, b"/b").close()
        assert kept(top) == []
        batch.close()

    on_btrfs(tmp_path, work)


def test_another_fileset_at_that_path_is_not_in_it(tmp_path: Path) -> None:
    """A part that was replaced since is not taken for what the snapshot holds; it is read as it is."""

    def work(top: Path) -> None:
        (top / "tree").mkdir()
        keeps = keeper()
        batch = taken(keeps, place(top / "tree"))
        assert keeps.view(JOB, b"/p", "1" * 32) is None
        assert keeps.view("another", b"/p", FILESET) is None
        batch.close()

    on_btrfs(tmp_path, work)


def test_two_jobs_have_a_snapshot_each(tmp_path: Path) -> None:
    """Each reads its own moment, and the end of one leaves the other's."""

    def work(top: Path) -> None:
        tree = top / "tree"
        tree.mkdir()
        keeps = keeper()
        first = taken(keeps, place(tree))
        (tree / "f").touch()
        second = taken(keeps, place(tree), job="another")
        first.close()
        assert len(kept(top)) == 1
        view = seen(keeps, job="another")
        assert [each.name for each in Path(f"/proc/self/fd/{view.root}").iterdir()] == ["f"]
        view.close()
        second.close()

    on_btrfs(tmp_path, work)


def test_a_job_that_ends_leaves_its_readers_alone(tmp_path: Path) -> None:
    """A snapshot that is being read is dropped when the reader is done."""

    def work(top: Path) -> None:
        tree = top / "tree"
        tree.mkdir()
        (tree / "f").write_text("text")
        keeps = keeper()
        batch = taken(keeps, place(tree))
        view = seen(keeps)
        batch.close()
        assert Path(f"/proc/self/fd/{view.root}/f").read_text() == "text"
        assert len(kept(top)) == 1
        view.close()
        assert kept(top) == []

    on_btrfs(tmp_path, work)


def test_a_killed_process_leaves_nothing_for_long(tmp_path: Path) -> None:
    """After kill -9 the next process of that file server drops what is there; another's stays."""

    def work(top: Path) -> None:
        tree = top / "tree"
        tree.mkdir()
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            taken(keeper(), place(tree))
            os.write(writing, b"x")
            signal.pause()
        os.read(reading, 1)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        other = keeper("fs1-other")
        batch = taken(other, place(tree))
        assert len(kept(top)) == 2
        keeper().sweep()
        assert [name.partition(".")[0] for name in kept(top)] == ["fs1-other"]
        assert all(JOB in name for name in kept(top))
        batch.close()
        assert kept(top) == []

    on_btrfs(tmp_path, work)


def test_a_sweep_spares_what_is_in_use(tmp_path: Path) -> None:
    """The sweep of a running file server, before each job, drops no snapshot of its own jobs."""

    def work(top: Path) -> None:
        tree = top / "tree"
        tree.mkdir()
        keeps = keeper()
        batch = taken(keeps, place(tree))
        keeps.sweep()
        assert len(kept(top)) == 1
        batch.close()

    on_btrfs(tmp_path, work)


def test_a_read_only_file_system_refuses(tmp_path: Path) -> None:
    """The part is refused, and nothing makes the file system writable: the sweep neither."""

    def work(top: Path) -> None:
        (top / "tree").mkdir()
        done = subprocess.run(["mount", "-o", "remount,ro", str(top)], capture_output=True, check=False)
        if done.returncode:
            raise SkippedError("cannot be made read-only here")
        batch = keeper().prepare(JOB, [place(top / "tree")], [])
        assert batch.refused == {b"/p": "its file system is read-only"}
        with pytest.raises(OSError, match="Read-only"):
            (top / "tree" / "f").touch()

    on_btrfs(tmp_path, work)


def test_other_file_systems_have_none(tmp_path: Path) -> None:
    """A directory elsewhere is refused in plain words."""

    def work() -> dict[bytes, str]:
        enter_namespace()
        batch = keeper().prepare(JOB, [place(mount("tmpfs", tmp_path))], [])
        batch.close()
        return batch.refused

    assert apart(work) == {b"/p": "its file system has no snapshots"}
