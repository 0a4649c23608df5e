"""Incremental parts: what changed is saved, what is gone and moved is known, and GNU tar agrees."""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from appliance.archive import treestate
from appliance.archive.stage import Stage
from tests.treechanges import change as change_by_chance
from tests.unit.archive.archive_support import manifest
from tests.unit.archive.incremental_support import Chain, rotated


@pytest.fixture
def chain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Chain:
    """A small tree.  Its change times are trusted at once: tests do not wait for them to grow old."""
    monkeypatch.setattr(treestate, "SETTLED_NS", -(10**18))
    root, states = tmp_path / "tree", tmp_path / "states"
    states.mkdir()
    for name in ("a/sub/deep", "b", "c/d"):
        (root / name).mkdir(parents=True)
    for name in ("top", "a/one", "a/sub/two", "a/sub/deep/three", "b/four", "c/d/five"):
        (root / name).write_text(name)
    return Chain(root, states)


def test_of_an_unchanged_tree_nothing_but_its_top_is_written(chain: Chain) -> None:
    """Nothing is saved twice, and no file is opened to find out."""
    for path in (files := [path for path in chain.root.rglob("*") if path.is_file()]):
        os.utime(path, ns=(0, path.stat().st_mtime_ns))  # older than its last change: reading would show
    chain.save()
    chain.save()
    assert chain.saved() == [b"/"]
    assert not any(path.stat().st_atime_ns for path in files)


def test_a_change_is_saved_with_the_directories_above_it(chain: Chain) -> None:
    """A changed file brings the directories on the way to it, and nothing beside it."""
    chain.save()
    (chain.root / "a/sub/deep/three").write_text("changed")
    chain.save()
    assert chain.saved() == [b"/", b"/a", b"/a/sub", b"/a/sub/deep", b"/a/sub/deep/three"]


def test_a_name_too_young_to_be_trusted_is_saved_again(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file written twice within one tick of the clock is not taken for unchanged."""
    monkeypatch.setattr(treestate, "SETTLED_NS", 10**18)
    chain.save()
    chain.save()
    assert b"/a/one" in chain.saved()


def test_what_could_not_be_saved_is_tried_again(chain: Chain) -> None:
    """A name that is missing in the base image is not taken for unchanged, though it did not change."""
    chain.save(exclude=(b"/a/one",))
    chain.save()
    assert b"/a/one" in chain.saved()


def _check_both_ways_back(chain: Chain, tmp_path: Path) -> None:
    """All images in order give exactly the tree, by GNU tar and by us, without a word."""
    assert chain.restore_with_gnu_tar(tmp_path / "by-tar") == ""
    assert manifest(tmp_path / "by-tar") == manifest(chain.root)
    assert chain.restore(tmp_path / "by-us") == []
    assert manifest(tmp_path / "by-us") == manifest(chain.root)


def test_no_name_of_a_file_that_was_not_read_whole_counts_as_saved(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that cannot be read is tried again under all of its names, not only under the first."""
    (chain.root / "a/other").hardlink_to(chain.root / "a/one")
    with monkeypatch.context() as broken:

        def unreadable(*_: object) -> int:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        broken.setattr(Stage, "fill", unreadable)
        chain.save()
    chain.save()
    assert {b"/a/one", b"/a/other"} <= set(chain.saved())


def test_what_cannot_be_listed_is_not_removed_by_a_restore(
    chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A directory that the disk lists only in part has no list, by which a restore would remove the rest."""
    chain.save()
    (chain.root / "b/new").write_text("new")
    with monkeypatch.context() as broken:
        inode = (chain.root / "b").stat().st_ino
        scandir = os.scandir

        def cut_off(descriptor: int) -> object:
            if os.fstat(descriptor).st_ino == inode:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return scandir(descriptor)

        broken.setattr(os, "scandir", cut_off)
        chain.save()
    assert chain.seen[-1].problems == [(b"/b", "cannot be listed to its end: Input/output error")]
    chain.restore(tmp_path / "back")
    assert (tmp_path / "back/b/four").exists()


def _deleted(root: Path) -> None:
    (root / "a/one").unlink()
    shutil.rmtree(root / "c")


def _renamed_file(root: Path) -> None:
    (root / "a/one").rename(root / "b/uno")


def _renamed_directory(root: Path) -> None:
    (root / "a").rename(root / "z")


def _moved_deeper(root: Path) -> None:
    (root / "new").mkdir()
    (root / "a/sub").rename(root / "new/sub")


def _moved_and_its_parent_gone(root: Path) -> None:
    (root / "a/sub").rename(root / "x")
    shutil.rmtree(root / "a")
    (root / "x").rename(root / "a")


def _into_its_own_name(root: Path) -> None:
    (root / "a").rename(root / "aside")
    (root / "a").mkdir()
    (root / "aside").rename(root / "a/a")


def _swapped(root: Path) -> None:
    (root / "a").rename(root / "tmp")
    (root / "b").rename(root / "a")
    (root / "tmp").rename(root / "b")


def _parent_and_child_swapped(root: Path) -> None:
    (root / "a/sub").rename(root / "tmp")
    (root / "a").rename(root / "tmp/sub")
    (root / "tmp").rename(root / "a")


def _over_a_deleted_file(root: Path) -> None:
    (root / "top").unlink()
    (root / "a").rename(root / "top")


def _over_a_deleted_directory(root: Path) -> None:
    shutil.rmtree(root / "b")
    (root / "a").rename(root / "b")


def _below_a_deleted_file(root: Path) -> None:
    (root / "top").unlink()
    (root / "top/new").mkdir(parents=True)
    (root / "a").rename(root / "top/new/a")


def _changed_type(root: Path) -> None:
    (root / "top").unlink()
    (root / "top").mkdir()
    (root / "top/inside").write_text("x")
    shutil.rmtree(root / "b")
    (root / "b").symlink_to("a")


def _attributes_only(root: Path) -> None:
    (root / "a").chmod(0o700)
    os.utime(root / "b/four", ns=(1, 2))


def _renamed_twice_over(root: Path) -> None:
    (root / "a/sub").rename(root / "a/bus")
    (root / "a").rename(root / "c/a")
    (root / "c").rename(root / "k")


CHANGES: list[Callable[[Path], None]] = [
    _deleted,
    _renamed_file,
    _renamed_directory,
    _moved_deeper,
    _moved_and_its_parent_gone,
    _into_its_own_name,
    _swapped,
    _parent_and_child_swapped,
    _over_a_deleted_file,
    _over_a_deleted_directory,
    _below_a_deleted_file,
    _changed_type,
    _attributes_only,
    _renamed_twice_over,
]


@pytest.mark.parametrize("change", CHANGES)
def test_the_chain_gives_the_tree_of_that_day(
    chain: Chain, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    """The full archive and the incremental one, in order, give exactly the tree, by GNU tar and by us."""
    chain.save()
    change(chain.root)
    chain.save()
    _check_both_ways_back(chain, tmp_path)


def test_what_a_level_leaves_out_is_not_in_its_tree(chain: Chain, tmp_path: Path) -> None:
    """EXCLUDE may change between levels: a chain gives what its last level was asked for, all of it."""
    chain.save()
    chain.save(exclude=(b"/b",))
    assert chain.restore(tmp_path / "without") == []
    assert not (tmp_path / "without/b").exists()
    assert (tmp_path / "without/a/one").exists()
    chain.save()
    assert b"/b/four" in chain.saved()
    _check_both_ways_back(chain, tmp_path)


def test_no_file_of_a_renamed_directory_is_saved_again(chain: Chain) -> None:
    """A renamed directory costs its own entry, whatever it holds."""
    chain.save()
    _renamed_directory(chain.root)
    chain.save()
    assert chain.saved() == [b"/", b"/z"]


def test_snapshots_by_name_move_up_without_being_saved_again(chain: Chain, tmp_path: Path) -> None:
    """Rotating directories, of which the last goes, is a handful of moves: twice in a row."""
    names = [f"daily.{n}" for n in range(4)]
    for name in names:
        (chain.root / name).mkdir()
        (chain.root / name / name).write_text(name)
    chain.save()
    for _ in range(2):
        rotated(chain.root, names)
        chain.save()
        assert not [path for path in chain.saved() if path.count(b"/") == 2]
    _check_both_ways_back(chain, tmp_path)


@pytest.mark.parametrize("seed", range(60))
def test_any_sequence_of_changes_is_followed(chain: Chain, tmp_path: Path, seed: int) -> None:
    """Whatever is made, written, deleted and moved about between backups, the chain gives the last day."""
    random = Random(seed)
    chain.save()
    for _ in range(3):
        for _ in range(random.randrange(1, 12)):
            change_by_chance(chain.root, random)
        chain.save()
    _check_both_ways_back(chain, tmp_path)
