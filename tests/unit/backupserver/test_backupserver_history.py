from __future__ import annotations

import threading

import pytest
from backupserver_support import file, received, store

from appliance.backupserver import history, jobs, media
from appliance.backupserver.catalogue import Catalogue
from appliance.backupserver.history import HistoryWriter, join, split
from appliance.backupserver.listing import list_path
from appliance.ndmp import messages as m
from appliance.ndmp.declare import Kind
from appliance.ndmp.endpoint import Received
from appliance.ndmp.enums import ALL_ONES, FileType
from appliance.ndmp.fhcoding import file_entries
from appliance.ndmp.types import FileStat


@pytest.mark.parametrize("path", [b"/", b"/a", b"/a/b", b"/a/\xff\x80", b"/a b/ "])
def test_split_and_join_are_inverse(path: bytes) -> None:
    """No name is changed by being stored as directory and name."""
    assert join(*split(path)) == path


def test_what_was_posted_is_found(catalogue: Catalogue) -> None:
    """Node, fh_info and status come back bit by bit, by path."""
    job = jobs.create(catalogue, [b"/"], "fs1", 0)
    image = media.add_image(catalogue, job, 1, b"/", 1024)
    writer = HistoryWriter(catalogue.path, image.id, lambda text: pytest.fail(text.decode()))
    stat = FileStat(0, ftype=FileType.REG, mtime=5, owner=6, group=7, fattr=0o4755, size=2**63 + 1)
    writer.put(received(m.FhAddFilePost((file(b"/d/\xff", stat, 2**64 - 2, ALL_ONES),))))
    writer.finish()
    entry = history.lookup(catalogue, image.id, b"/d/\xff")
    assert entry is not None
    assert (entry.node, entry.offset, entry.size) == (2**64 - 2, ALL_ONES, 2**63 + 1)
    assert (entry.type, entry.mode, entry.mtime, entry.owner, entry.group) == (FileType.REG, 0o4755, 5, 6, 7)
    assert writer.rows == 1


def test_a_name_posted_again_is_one_row(catalogue: Catalogue) -> None:
    """A server that repeats a name, as after a file that changed while it was read, makes no duplicate."""
    image = store(catalogue, b"/", [b"/a", b"/a"])
    assert history.count(catalogue, image.id) == 1


def test_children_and_descendants(catalogue: Catalogue) -> None:
    """Neighbours that merely begin with the same letters are not in a directory."""
    paths = [b"/", b"/a", b"/a!", b"/a/x", b"/a/x/y", b"/a0", b"/ab/c", b"/a/\xff"]
    image = store(catalogue, b"/", paths).id
    assert {one.path for one in history.children(catalogue, image, b"/a")} == {b"/a/x", b"/a/\xff"}
    below = [one.path for one in history.descendants(catalogue, image, b"/a")]
    assert sorted(below) == [b"/a/x", b"/a/x/y", b"/a/\xff"]
    every = [one.path for one in history.descendants(catalogue, image, b"/")]
    assert sorted(every) == sorted(set(paths) - {b"/"})


def test_a_directory_without_a_row_is_found(catalogue: Catalogue) -> None:
    """A server need not report the directories above a changed file."""
    image = store(catalogue, b"/", [b"/a/b/c"]).id
    entry = history.lookup(catalogue, image, b"/a")
    assert entry is not None
    assert (entry.type, entry.offset) == (FileType.DIR, ALL_ONES)
    assert history.lookup(catalogue, image, b"/a/b/c/d") is None


def test_history_that_cannot_be_read_is_told_once(catalogue: Catalogue) -> None:
    """A server that sends what is no file history makes one problem of the job, not thousands."""
    job = jobs.create(catalogue, [b"/"], "fs1", 0)
    image = media.add_image(catalogue, job, 1, b"/", 1024)
    told: list[bytes] = []
    writer = HistoryWriter(catalogue.path, image.id, told.append)
    for code in (0x703, 0x704, 0x705):
        writer.put(Received(1, code, Kind.POST, 0, 0, b"broken"))
    writer.finish()
    assert len(told) == 1
    assert b"file history was lost" in told[0]


def test_many_posts_are_all_stored(catalogue: Catalogue) -> None:
    """Nothing is lost between batches, and the queue's bound does not deadlock a fast reader."""
    job = jobs.create(catalogue, [b"/"], "fs1", 0)
    image = media.add_image(catalogue, job, 1, b"/", 1024)
    writer = HistoryWriter(catalogue.path, image.id, lambda text: pytest.fail(text.decode()))
    for block in range(300):
        names = tuple(file(b"/d%d/f%d" % (block % 7, block * 100 + i)) for i in range(100))
        writer.put(received(m.FhAddFilePost(names)))
    writer.finish()
    assert writer.rows == 30_000
    assert history.count(catalogue, image.id) == 30_000


def test_a_catalogue_that_fails_does_not_hang_the_reader(catalogue: Catalogue) -> None:
    """The reading thread goes on although the history cannot be stored, and the job is told why."""
    writer = HistoryWriter(catalogue.path, 4711, lambda _: None)  # no such image: the foreign key refuses it
    done = threading.Event()

    def read() -> None:
        for _ in range(history.QUEUE_POSTS * 3):
            writer.put(received(m.FhAddFilePost((file(b"/a"),))))
        done.set()

    threading.Thread(target=read, daemon=True).start()
    assert done.wait(30)
    with pytest.raises(Exception, match="cannot store the file history"):
        writer.finish()


def listed(catalogue: Catalogue, job: int, path: bytes, recursive: bool = False) -> list[bytes] | None:
    """The global paths that `ls` shows."""
    entries = list_path(catalogue, jobs.get(catalogue, job), path, recursive)
    return None if entries is None else [entry.path for entry in entries]


def test_listing_speaks_global_paths(catalogue: Catalogue) -> None:
    """`ls` shows the global name space, whatever the roots of the images are."""
    job = jobs.create(catalogue, [b"/p/one", b"/q"], "fs1", 0)
    store(catalogue, b"/p/one", [b"/", b"/a", b"/a/b"], job)
    store(catalogue, b"/q", [b"/", b"/c"], job)
    assert listed(catalogue, job, b"/") == [b"/p", b"/q"]
    assert listed(catalogue, job, b"/p") == [b"/p/one"]
    assert listed(catalogue, job, b"/p/one") == [b"/p/one/a"]
    assert listed(catalogue, job, b"/p/one", recursive=True) == [b"/p/one/a", b"/p/one/a/b"]
    assert listed(catalogue, job, b"/", recursive=True) == [
        b"/p", b"/p/one/a", b"/p/one/a/b", b"/q", b"/q/c",
    ]  # fmt: skip
    assert listed(catalogue, job, b"/nowhere") is None
    assert listed(catalogue, job, b"/p/one/nowhere") is None


@pytest.mark.parametrize(
    "path", [b"/", b"//", b"/a", b"/a/", b"//a", b"/a/b", b"/a/b//", b"a", b"", b"/a//b"]
)
def test_paths_in_any_spelling_are_one_row(path: bytes) -> None:
    """What is decoded directly becomes the row that the declared message becomes, slashes and all."""
    post = m.FhAddFilePost((file(path),))
    entries = file_entries(post.to_bytes())
    assert entries is not None
    assert list(history.plain_rows(7, entries)) == list(history.rows_of(7, post))
