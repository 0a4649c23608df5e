"""File history in node form: joined to paths, in whatever order it comes (draft-skardal-ndmpv4-04, 4.3.2)."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from backupserver_support import file, in_node_form, received
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.backupserver import history, jobs, media
from appliance.backupserver.catalogue import Catalogue, open_catalogue
from appliance.backupserver.history import Entry, HistoryWriter
from appliance.ndmp import messages as m
from appliance.ndmp.enums import FileType, FsType
from appliance.ndmp.messages.fh import FhDir, FhFile, FhNode
from appliance.ndmp.types import FileName, FileStat
from appliance.ndmp.xdr import Struct

DIRECTORY = FileStat(ftype=FileType.DIR, fattr=0o755)
CODES = {m.FhAddFilePost: 0x703, m.FhAddDirPost: 0x704, m.FhAddNodePost: 0x705}


def stored(catalogue: Catalogue, posts: Sequence[Struct]) -> tuple[int, HistoryWriter, list[bytes]]:
    """An image made of posts: its id, its writer, and the problems told."""
    job = jobs.create(catalogue, [b"/"], "fs1", 0)
    image = media.add_image(catalogue, job, 1, b"/", 1024)
    told: list[bytes] = []
    writer = HistoryWriter(catalogue.path, image.id, told.append)
    for post in posts:
        writer.put(received(post, CODES[type(post)]))
    writer.finish()
    return image.id, writer, told


def listing(catalogue: Catalogue, image: int) -> list[Entry]:
    """Everything, the root first."""
    root = history.lookup(catalogue, image, b"/")
    return [*([root] if root else []), *history.descendants(catalogue, image, b"/")]


def entry(name: bytes, node: int, parent: int) -> FhDir:
    """One name in a directory."""
    return FhDir((FileName(name),), node, parent)


def directory(node: int, parent: int, **names: int) -> list[FhDir]:
    """A directory as a server lists it."""
    inner = [entry(name.encode(), number, node) for name, number in names.items()]
    return [entry(b".", node, node), entry(b"..", parent, node), *inner]


def dirs(*listings: list[FhDir]) -> m.FhAddDirPost:
    """A post of whole listings."""
    return m.FhAddDirPost(tuple(each for one in listings for each in one))


def nodes(*numbers: int, stat: FileStat = DIRECTORY) -> m.FhAddNodePost:
    """A post of nodes, each with an offset of its own."""
    return m.FhAddNodePost(tuple(FhNode((stat,), number, number * 512) for number in numbers))


@st.composite
def trees(draw: st.DrawFn) -> list[FhFile]:
    """A tree: the root, then names in directories that came before."""
    count = draw(st.integers(0, 20))
    made = [file(b"/", DIRECTORY, draw(st.integers(0, 2**64 - 2)), 512)]
    tops, taken, numbers = [b""], {b"/"}, {made[0].node}
    for _ in range(count):
        name = draw(st.binary(min_size=1, max_size=3).filter(lambda n: b"/" not in n and b"\0" not in n))
        path = draw(st.sampled_from(tops)) + b"/" + name
        node = draw(st.integers(0, 2**64 - 2))
        if path in taken or name in (b".", b"..") or node in numbers:
            continue
        taken.add(path)
        numbers.add(node)
        is_directory = draw(st.booleans())
        if is_directory:
            tops.append(path)
        kind = FileType.DIR if is_directory else FileType.REG
        stat = FileStat(
            ftype=kind, size=draw(st.integers(0, 2**64 - 1)), mtime=draw(st.integers(0, 2**32 - 1))
        )
        made.append(file(path, stat, node, draw(st.integers(0, 2**64 - 1))))
    return made


def cut(draw: Callable[[st.SearchStrategy[int]], int], items: list[object], make: object) -> list[Struct]:
    """Posts of a few items each, in any order."""
    posts = []
    while items:
        size = draw(st.integers(1, len(items)))
        posts.append(make(tuple(items[:size])))  # type: ignore[operator]
        items = items[size:]
    return posts


@settings(max_examples=60, deadline=None)
@given(trees(), st.data())
def test_the_order_of_posts_does_not_matter(tree: list[FhFile], data: st.DataObject) -> None:
    """Names and nodes in any order and any batches give the listing that file form gives."""
    names, attributes = in_node_form(tree)
    names = data.draw(st.permutations(names))
    posts = cut(data.draw, list(names), m.FhAddDirPost) + cut(data.draw, list(attributes), m.FhAddNodePost)
    posts = data.draw(st.permutations(posts))
    with tempfile.TemporaryDirectory() as folder, open_catalogue(Path(folder) / "catalogue") as catalogue:
        by_path, _, _ = stored(catalogue, [m.FhAddFilePost(tuple(tree))])
        by_node, writer, told = stored(catalogue, posts)
        assert told == []
        assert listing(catalogue, by_node) == listing(catalogue, by_path)
        assert writer.rows == len(tree)
        assert [path.name for path in Path(folder).iterdir() if "history" in path.name] == []


def test_links_are_several_names_of_one_node(catalogue: Catalogue) -> None:
    """Each name of a linked file is found by path, with the node and the offset of its data."""
    image, writer, told = stored(
        catalogue,
        [dirs(directory(2, 2, a=3, d=4), directory(4, 2, b=3)), nodes(2, 4), nodes(3, stat=FileStat())],
    )
    found = [history.lookup(catalogue, image, path) for path in (b"/a", b"/d/b")]
    assert [(one.node, one.offset) for one in found if one] == [(3, 1536), (3, 1536)]
    assert (writer.rows, told) == (4, [])


def test_a_name_without_a_node_was_not_saved(catalogue: Catalogue) -> None:
    """Such names are not listed (rule 6), but what is saved below one is found by its path."""
    image, _, told = stored(
        catalogue, [dirs(directory(2, 2, gone=3, way=4), directory(4, 2, file=5)), nodes(2, 5)]
    )
    assert [one.path for one in listing(catalogue, image)] == [b"/", b"/way/file"]
    way = history.lookup(catalogue, image, b"/way")
    assert way is not None
    assert way.type is FileType.DIR
    assert history.lookup(catalogue, image, b"/gone") is None
    assert told == []


def test_names_that_hang_nowhere_are_told(catalogue: Catalogue) -> None:
    """What cannot be placed below the root is lost; the job says so, and how much."""
    image, _, told = stored(
        catalogue, [dirs(directory(2, 2, a=3), directory(7, 6, b=8, c=9)), nodes(2, 3, 8, 9)]
    )
    assert [one.path for one in listing(catalogue, image)] == [b"/", b"/a"]
    assert told == [b"file history was lost: 2 names are in no directory of the backup"]


def test_directories_that_contain_each_other_end(catalogue: Catalogue) -> None:
    """A server that sends a loop neither hangs the job nor fills the disk."""
    image, _, told = stored(
        catalogue, [dirs(directory(2, 2, a=3), directory(3, 2, b=4), directory(4, 3, a=3)), nodes(2, 3, 4)]
    )
    assert [one.path for one in listing(catalogue, image)] == [b"/", b"/a", b"/a/b", b"/a/b/a"]
    assert told == []


def test_a_root_that_does_not_say_so(catalogue: Catalogue) -> None:
    """A server whose root has another parent: the one directory that none holds is the root."""
    image, _, told = stored(catalogue, [dirs(directory(5, 2, a=6)), nodes(5, 6)])
    assert [one.path for one in listing(catalogue, image)] == [b"/", b"/a"]
    assert told == []


def test_no_root_at_all_is_told(catalogue: Catalogue) -> None:
    """Two trees and no root: nothing can be placed."""
    image, _, told = stored(catalogue, [dirs(directory(5, 2, a=6), directory(7, 2, b=8)), nodes(5, 6, 7, 8)])
    assert listing(catalogue, image) == []
    assert told == [b"file history was lost: it names no backup root"]


def test_of_several_names_the_unix_one_counts(catalogue: Catalogue) -> None:
    """Servers of several protocols send a name in each of their name spaces (4.3.1)."""
    both = FhDir((FileName(b"LONGNA~1", FsType.NT, b"X"), FileName(b"long name")), 3, 2)
    image, _, _ = stored(catalogue, [dirs([*directory(2, 2), both]), nodes(2, 3)])
    assert [one.path for one in listing(catalogue, image)] == [b"/", b"/long name"]


def test_names_that_are_no_names_are_left_out(catalogue: Catalogue) -> None:
    """A slash in a name would put it into another directory."""
    image, _, _ = stored(
        catalogue, [dirs([*directory(2, 2), entry(b"a/b", 3, 2), entry(b"", 4, 2)]), nodes(2, 3, 4)]
    )
    assert [one.path for one in listing(catalogue, image)] == [b"/"]


@pytest.mark.parametrize("size", [1, 3])
def test_the_catalogue_is_filled_in_pieces(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """Many short transactions hold everything that one long one would."""
    monkeypatch.setattr("appliance.backupserver.nodeform.JOIN_ROWS", size)
    listings = [directory(2, 2, **{f"d{i}": 10 + i for i in range(5)})]
    listings += [directory(10 + i, 2, **{f"f{k}": 100 + 10 * i + k for k in range(i)}) for i in range(5)]
    every = [each.node for one in listings for each in one]
    image, writer, _ = stored(catalogue, [dirs(*listings), nodes(*set(every))])
    assert len(listing(catalogue, image)) == writer.rows == 1 + 5 + 0 + 1 + 2 + 3 + 4
