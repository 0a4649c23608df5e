"""A part that is read from a snapshot: what the snapshot does not show, and whose clock counts."""

from __future__ import annotations

import os
import time
from pathlib import Path

from archive_support import Recorder

from appliance.archive.changes import Changes
from appliance.archive.part import Frozen, PartRequest
from appliance.archive.treestate import SETTLED_NS, BaseState, NextState
from appliance.archive.writer import write_part

MOUNTED = "a mount point or subvolume; what is in it is not saved"


def save(root: Path, frozen: Frozen | None, changes: Changes | None = None) -> Recorder:
    """Write the tree at `root` as the part /p."""
    seen = Recorder()
    descriptor = os.open(root, os.O_RDONLY)
    try:
        request = PartRequest(descriptor, b"/p", "job", frozen=frozen)
        write_part(request, lambda _: None, seen, lambda: False, changes)
    finally:
        os.close(descriptor)
    return seen


def test_what_lies_under_a_mount_is_not_saved(tmp_path: Path) -> None:
    """Nobody sees it but a snapshot.  The directory is named as it is when the tree itself is read."""
    (tmp_path / "d" / "m").mkdir(parents=True)
    (tmp_path / "d" / "m" / "under").touch()
    seen = save(tmp_path, Frozen(time.time_ns(), frozenset([b"/p/d/m"])))
    assert [entry.path for entry in seen.entries] == [b"/p", b"/p/d", b"/p/d/m"]
    assert seen.problems == [(b"/p/d/m", MOUNTED)]


def test_a_stub_is_named_as_the_subvolume_that_it_stands_for(tmp_path: Path) -> None:
    """It is an empty directory with a telling number; without a word its files would be missing unnoticed."""
    (tmp_path / "stub").mkdir()
    inode = (tmp_path / "stub").stat().st_ino
    assert save(tmp_path, Frozen(time.time_ns(), stub_inode=inode)).problems == [(b"/p/stub", MOUNTED)]
    assert save(tmp_path, Frozen(time.time_ns())).problems == []


def test_change_times_are_judged_by_the_moment_of_the_snapshot(tmp_path: Path) -> None:
    """A file written just before the snapshot may be written again within its tick: it is saved next time.

    By the clock of the walk, which may come hours later, it would look old enough to be trusted.
    """
    tree, state = tmp_path / "tree", tmp_path / "state"
    tree.mkdir()
    (tree / "f").touch()
    changed = (tree / "f").stat().st_ctime_ns
    later = time.time_ns() + 10 * SETTLED_NS

    def again(moment: int) -> list[bytes]:
        """What an incremental backup saves whose base was read from a snapshot of that moment."""
        kept = Changes(None, NextState(state), is_incremental=False)
        save(tree, Frozen(moment), kept)
        assert kept.finish()
        kept.close()
        changes = Changes(BaseState(state), None, is_incremental=True)
        try:
            return [entry.path for entry in save(tree, Frozen(later), changes).entries]
        finally:
            changes.close()

    assert b"/p/f" in again(changed + 1)
    assert b"/p/f" not in again(later)


def test_a_directory_under_a_mount_is_no_place_to_move_to(tmp_path: Path) -> None:
    """A directory that was moved to where a mount hides it counts as deleted, as it does to clients."""
    tree, state = tmp_path / "tree", tmp_path / "state"
    (tree / "a").mkdir(parents=True)
    (tree / "m").mkdir()
    moment = time.time_ns() + 10 * SETTLED_NS
    kept = Changes(None, NextState(state), is_incremental=False)
    save(tree, Frozen(moment), kept)
    assert kept.finish()
    kept.close()
    (tree / "a").rename(tree / "m" / "a")
    changes = Changes(BaseState(state), None, is_incremental=True)
    seen = save(tree, Frozen(moment, frozenset([b"/p/m"])), changes)
    assert changes.moves.steps == []
    assert seen.problems == [(b"/p/m", MOUNTED)]
    changes.close()
