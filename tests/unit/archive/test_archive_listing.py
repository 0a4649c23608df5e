"""Listings: a directory's names and numbers are told before its members (draft, 4.3.2)."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
from archive_support import Recorder, part

from appliance.archive import writer
from appliance.archive.part import Entry
from appliance.archive.structure import Structure


class Meddler(Recorder):
    """A recorder that changes the tree once a directory's listing was told."""

    def __init__(self, action: Callable[[], object], at: int = 0) -> None:
        super().__init__()
        self._action = action
        self._at = at

    def listing(self, node: int, parent: int, names: Iterable[tuple[bytes, int]]) -> None:
        super().listing(node, parent, names)
        if len(self.listings) == self._at + 1:
            self._action()


def told(seen: Recorder) -> dict[bytes, tuple[int, int, bool]]:
    """Number of the inode, number in the listing, and whether that was told, of each path."""
    return {entry.path: (entry.node, entry.listed, entry.told) for entry in seen.entries}


def numbers(seen: Recorder) -> list[tuple[bytes, int]]:
    """Every name listed."""
    return [name for _, _, names in seen.listings for name in names]


def test_listings_number_what_entries_tell(tmp_path: Path) -> None:
    """Each entry has the number that its directory's listing gave it, told before it."""
    (tmp_path / "d" / "e").mkdir(parents=True)
    for name in ("f", "d/g", "d/e/h"):
        (tmp_path / name).touch()
    order: list[object] = []

    class Order(Recorder):
        def listing(self, node: int, parent: int, names: Iterable[tuple[bytes, int]]) -> None:
            order.append((node, parent, list(names)))

        def entry(self, entry: Entry) -> None:
            order.append(entry.path)

    part(tmp_path, Order(), node_base=10, parent_node=10)
    assert order == [
        (10, 10, [(b"f", 11), (b"d", 12)]), b"/", b"/f",
        (12, 10, [(b"g", 13), (b"e", 14)]), b"/d", b"/d/g",
        (14, 12, [(b"h", 15)]), b"/d/e", b"/d/e/h",
    ]  # fmt: skip


def test_links_have_one_number(tmp_path: Path) -> None:
    """Names of one inode, in one directory and in others, are listed under its number; it is told once."""
    (tmp_path / "d").mkdir()
    (tmp_path / "a").touch()
    for name in ("b", "d/c"):
        (tmp_path / name).hardlink_to(tmp_path / "a")
    seen = Recorder()
    part(tmp_path, seen)
    by_path = told(seen)
    assert {node for path, (node, _, _) in by_path.items() if path not in (b"/", b"/d")} == {3}
    assert [by_path[path][1:] for path in (b"/a", b"/b", b"/d/c")] == [(3, False), (3, True), (3, True)]
    assert [number for name, number in numbers(seen) if name in (b"a", b"b", b"c")] == [3, 3, 3]


def test_a_link_that_became_another_file(tmp_path: Path) -> None:
    """Two inodes never have one number, also when a name is replaced after it was listed."""
    (tmp_path / "a").touch()
    (tmp_path / "b").hardlink_to(tmp_path / "a")
    (tmp_path / "new").write_text("new")
    seen = Meddler(lambda: (tmp_path / "new").rename(tmp_path / "b"))
    part(tmp_path, seen)
    (node_a, listed_a, told_a), (node_b, listed_b, told_b) = told(seen)[b"/a"], told(seen)[b"/b"]
    assert (node_a, listed_a, told_a) == (listed_b, listed_b, False)
    assert node_b != node_a
    assert told_b


def test_a_first_name_that_vanished(tmp_path: Path) -> None:
    """The second name of a file whose first was removed meanwhile is told under the number listed."""
    (tmp_path / "a").touch()
    (tmp_path / "b").hardlink_to(tmp_path / "a")
    seen = Meddler((tmp_path / "a").unlink)
    part(tmp_path, seen)
    assert told(seen)[b"/b"] == (3, 3, False)
    assert b"/a" not in told(seen)


def test_a_file_that_became_a_link(tmp_path: Path) -> None:
    """A name that came to be a link of a file told before is told under its own number, too."""
    (tmp_path / "a").touch()
    (tmp_path / "c").hardlink_to(tmp_path / "a")
    (tmp_path / "b").touch()

    def relink() -> None:
        (tmp_path / "b").unlink()
        (tmp_path / "b").hardlink_to(tmp_path / "a")

    seen = Meddler(relink)
    part(tmp_path, seen)
    node, listed, was_told = told(seen)[b"/b"]
    assert (node, was_told) == (told(seen)[b"/a"][0], False)
    assert listed != node


@pytest.mark.parametrize("inode", [0, 0xFFFFFFFF, None])
def test_a_file_system_whose_directories_have_no_inodes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inode: int | None
) -> None:
    """Where readdir tells one inode for all names, or wrong ones, still no two files share a number."""
    (tmp_path / "a").touch()
    (tmp_path / "link").hardlink_to(tmp_path / "a")
    for name in ("b", "c"):
        (tmp_path / name).touch()
    scandir = os.scandir
    wrong = itertools.count(10**12)

    class WithoutInode:
        def __init__(self, entry: os.DirEntry[str]) -> None:
            self.name, self.is_dir, self.is_file = entry.name, entry.is_dir, entry.is_file

        def inode(self) -> int:
            return next(wrong) if inode is None else inode

    @contextlib.contextmanager
    def without_inodes(descriptor: int) -> Iterator[list[WithoutInode]]:
        with scandir(descriptor) as entries:
            yield [WithoutInode(entry) for entry in entries]

    monkeypatch.setattr(os, "scandir", without_inodes)
    seen = Recorder()
    part(tmp_path, seen)
    by_path = told(seen)
    assert by_path[b"/a"][0] == by_path[b"/link"][0]
    listed = {path: number for path, (_, number, _) in by_path.items() if path != b"/link"}
    assert len(set(listed.values())) == len(listed)
    assert all(node == number for path, (node, number, _) in by_path.items() if path != b"/link")
    # Every number listed is told of, the link's too, which may have one of its own.
    assert {number for _, number in numbers(seen)} <= {
        n for _, n, was_told in by_path.values() if not was_told
    }


def test_junctions_are_listed_where_they_lie(tmp_path: Path) -> None:
    """Junctions, and the way to them, have the numbers agreed on, be they in the file system or not."""
    (tmp_path / "way" / "there").mkdir(parents=True)
    (tmp_path / "way" / "there" / "hidden").touch()
    (tmp_path / "file").touch()
    agreed = {b"/p": 2, b"/p/way": 5, b"/p/way/there": 6, b"/p/none": 3, b"/p/none/here": 4}
    seen = Recorder()
    part(
        tmp_path,
        seen,
        member_prefix=b"/p",
        backup_root=b"/p",
        skip=frozenset([b"/p/way/there", b"/p/none/here"]),
        nodes=agreed,
        node_base=100,
    )
    assert seen.listings == [
        (2, 2, [(b"file", 100), (b"way", 5), (b"none", 3)]),
        (3, 2, [(b"here", 4)]),
        (5, 2, [(b"there", 6)]),
    ]
    assert [entry.path for entry in seen.entries] == [b"/", b"/file", b"/way"]


def test_a_way_that_cannot_be_read_is_listed(tmp_path: Path) -> None:
    """A directory that vanishes before it is entered is still listed where it leads to a junction."""
    (tmp_path / "way").mkdir()
    seen = Meddler((tmp_path / "way").rmdir)
    part(tmp_path, seen, skip=frozenset([b"/way/j"]), nodes={b"/": 2, b"/way": 3, b"/way/j": 4}, node_base=5)
    assert seen.listings == [(2, 2, [(b"way", 3)]), (3, 2, [(b"j", 4)])]
    assert seen.problems == [(b"/way", "vanished before it was read")]


def test_a_way_below_a_moved_directory_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is given up because its directory moved away is listed all the same."""
    monkeypatch.setattr(writer, "OPEN_DIRECTORIES_MAX", 2)
    (tmp_path / "a" / "b" / "c").mkdir(parents=True)
    (tmp_path / "a" / "way").mkdir()
    (tmp_path / "elsewhere").mkdir()

    def move() -> None:
        (tmp_path / "a" / "b" / "c").rename(tmp_path / "elsewhere" / "c")
        (tmp_path / "a" / "b").rename(tmp_path / "elsewhere" / "b")
        (tmp_path / "a").rename(tmp_path / "away")

    seen = Meddler(move, at=3)
    agreed = {b"/": 2, b"/a": 3, b"/a/way": 4, b"/a/way/j": 5}
    part(tmp_path, seen, skip=frozenset([b"/a/way/j"]), nodes=agreed, node_base=6)
    assert (4, 3, [(b"j", 5)]) in seen.listings


def test_a_junction_deeper_than_any_recursion(tmp_path: Path) -> None:
    """A way of two thousand missing directories, as long as a path may be, is listed to its end."""
    nodes = {b"/": 2} | {b"/d" * depth: 2 + depth for depth in range(1, 2000)}
    seen = Recorder()
    Structure(nodes).tell(seen, b"/", 2, 2)
    assert len(seen.listings) == 1999
    assert seen.listings[-1] == (2000, 1999, [(b"d", 2001)])


def test_only_what_is_selected_is_listed(tmp_path: Path) -> None:
    """Names that EXCLUDE leaves out, and that FILES does not select, appear in no listing."""
    (tmp_path / "d" / "e").mkdir(parents=True)
    for name in ("d/e/x", "d/e/skipped.o", "d/other", "top"):
        (tmp_path / name).touch()
    seen = Recorder()
    _, result = part(tmp_path, seen, files=(b"d/e", b"d/none"), exclude=(b"*.o",))
    assert [[name for name, _ in names] for _, _, names in seen.listings] == [[b"d"], [b"e"], [b"x"]]
    assert [entry.path for entry in seen.entries] == [b"/", b"/d", b"/d/e", b"/d/e/x"]
    assert result.matched == {0}
