"""File history: from posts into the catalogue, and back out by path.

Paths are bytes from the backup root and begin with "/"; "/" is the root itself.  A row holds the path
of its directory and its name, so that a directory is one range of the primary key and a subtree two.
"""

from __future__ import annotations

import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from appliance.backupserver.catalogue import Catalogue, signed, unsigned
from appliance.backupserver.nodeform import NodeForm, unix_name
from appliance.errors import InfrastructureError
from appliance.ndmp import messages as m
from appliance.ndmp.declare import CODES
from appliance.ndmp.endpoint import Received
from appliance.ndmp.enums import ALL_ONES, FileType
from appliance.ndmp.errors import NdmpError
from appliance.ndmp.fhcoding import FileEntry, dir_entries, file_entries, node_entries
from appliance.ndmp.types import FileStat

QUEUE_POSTS: Final = 64
"""Posts that wait for the writer, some 100 KiB each.  When it is full the reader waits, and TCP makes the
data server wait: memory does not grow with the number of files."""

BATCH_ROWS: Final = 20_000
"""Rows of one transaction: large enough that its fsync costs nothing, well below a second of work."""

BATCH_AGE_S: Final = 1.0
"""A row waits no longer than this for its transaction, so that `spanreel jobs` shows a living count."""

Row = tuple[int, bytes, bytes, int, int, int, int, int, int, int, int]

_ADD_FILE, _ADD_DIR, _ADD_NODE = (
    CODES[post][1] for post in (m.FhAddFilePost, m.FhAddDirPost, m.FhAddNodePost)
)

INSERT = "INSERT OR REPLACE INTO file VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_NO_STAT = FileStat()


@dataclass(frozen=True)
class Entry:
    """One name in an image; `path` begins at the backup root."""

    path: bytes
    node: int = ALL_ONES
    offset: int = ALL_ONES
    type: FileType = FileType.OTHER
    mode: int = 0
    size: int = 0
    mtime: int = 0
    owner: int = 0
    group: int = 0


def split(path: bytes) -> tuple[bytes, bytes]:
    """A path as directory and name: "/a/b" is "/a" and "b", "/a" is "/" and "a", "/" is "" and ""."""
    if path == b"/":
        return b"", b""
    parent, _, name = path.rpartition(b"/")
    return parent or b"/", name


def join(parent: bytes, name: bytes) -> bytes:
    """The reverse of `split`."""
    if not parent:
        return b"/"
    return (b"" if parent == b"/" else parent) + b"/" + name


def rows_of(image: int, post: m.FhAddFilePost) -> Iterator[Row]:
    """The rows of one post.  Entries without a UNIX name in absolute form are left out."""
    for file in post.files:
        name = unix_name(file.names)
        if not name.startswith(b"/"):
            continue
        stat = file.stats[0] if file.stats else _NO_STAT
        yield (
            image,
            *split(b"/" + name.strip(b"/")),
            signed(file.node),
            signed(file.fh_info),
            int(stat.ftype),
            stat.fattr,
            signed(stat.size),
            stat.mtime,
            stat.owner,
            stat.group,
        )


def plain_rows(image: int, entries: Iterable[FileEntry]) -> Iterator[Row]:
    """As `rows_of`, of entries that were decoded directly."""
    for entry in entries:
        path = entry[0]
        if path[:1] == b"/":
            parent, _, name = path.rpartition(b"/")
            if not name or path[:2] == b"//":
                parent, name = split(b"/" + path.strip(b"/"))
            yield (image, parent or b"/" if name else b"", name, *entry[1:])


class HistoryWriter:
    """Takes posts as they come and inserts them from one thread, with a connection of its own.

    `put` may be called from the thread that reads the control connection.  `problem` is told, once, what
    the server sent that cannot be stored.
    """

    def __init__(
        self,
        catalogue: Path,
        image: int,
        problem: Callable[[bytes], None],
        *,
        is_incremental: bool = False,
    ) -> None:
        """`is_incremental`: names that are not saved are kept, too."""
        self.rows = 0
        self._is_incremental = is_incremental
        self._path = catalogue
        self._image = image
        self._problem = problem
        self._told = False
        self._failure: Exception | None = None
        self._ended = False
        self._nodes: NodeForm | None = None
        self._joined = 0
        self._queue: queue.Queue[Received | None] = queue.Queue(QUEUE_POSTS)
        self._thread = threading.Thread(target=self._run, name="file-history", daemon=True)
        self._thread.start()

    def put(self, post: Received) -> None:
        """Take one file history post; waits while the writer is behind."""
        self._queue.put(post)

    def finish(self) -> None:
        """Wait until everything is stored.  Raises InfrastructureError when something could not be."""
        self._queue.put(None)
        self._thread.join()
        if self._failure is not None:
            raise InfrastructureError(f"cannot store the file history in {self._path}: {self._failure}")

    def _run(self) -> None:
        try:
            # Not durable on its own: the job's last, durable, commit makes all before it durable.
            with Catalogue(self._path, durable=False) as catalogue:
                self._store(catalogue)
        except (sqlite3.Error, OSError, InfrastructureError) as error:
            self._failure = error
            self._drain()

    def _drain(self) -> None:
        """Go on taking posts, or the reader would wait for ever."""
        while not self._ended:
            self._ended = self._queue.get() is None

    def _store(self, catalogue: Catalogue) -> None:
        batch: list[Row] = []
        waiting = 0
        due = time.monotonic() + BATCH_AGE_S
        while not self._ended:
            try:
                post = self._queue.get(timeout=max(0.0, due - time.monotonic()) if waiting else None)
            except queue.Empty:
                post = None
            else:
                self._ended = post is None
            if post is not None:
                if not waiting:
                    due = time.monotonic() + BATCH_AGE_S
                waiting = self._take(catalogue, post, batch)
            if waiting and (self._ended or waiting >= BATCH_ROWS or time.monotonic() >= due):
                self._insert(catalogue, batch)
                batch.clear()
                waiting = 0
        if self._nodes is not None:
            self.rows += self._nodes.join(self._tell) - self._joined

    def _insert(self, catalogue: Catalogue, batch: list[Row]) -> None:
        if batch:
            with catalogue.transaction() as connection:
                connection.executemany(INSERT, batch)
        self.rows += len(batch)
        if self._nodes is not None:
            # Until names and nodes are joined nodes are counted, which is but the links less.
            count = self._nodes.flush()
            self._joined += count
            self.rows += count

    def _take(self, catalogue: Catalogue, post: Received, batch: list[Row]) -> int:
        """Decode one post; return how many rows wait now."""
        if not post.error and self._take_plain(catalogue, post, batch):
            return len(batch) + (self._nodes.waiting if self._nodes is not None else 0)
        try:
            body = post.body()
        except NdmpError as error:
            self._tell_once(f"file history was lost: {error}")
            return len(batch)
        if isinstance(body, m.FhAddFilePost):
            batch.extend(rows_of(self._image, body))
            return len(batch)
        nodes = self._node_form(catalogue)
        if isinstance(body, m.FhAddDirPost):
            return len(batch) + nodes.add_dirs(body)
        assert isinstance(body, m.FhAddNodePost), "events.py hands on history only"
        return len(batch) + nodes.add_nodes(body)

    def _node_form(self, catalogue: Catalogue) -> NodeForm:
        if self._nodes is None:
            self._nodes = NodeForm(catalogue, self._image, is_incremental=self._is_incremental)
        return self._nodes

    def _take_plain(self, catalogue: Catalogue, post: Received, batch: list[Row]) -> bool:
        """Take a post as servers on UNIX send it; false if it is another one, or broken."""
        if post.code == _ADD_FILE:
            files = file_entries(post.raw)
            if files is None:
                return False
            batch.extend(plain_rows(self._image, files))
            return True
        dirs = dir_entries(post.raw) if post.code == _ADD_DIR else None
        nodes = node_entries(post.raw) if post.code == _ADD_NODE else None
        if dirs is None and nodes is None:
            return False
        self._node_form(catalogue).add(dirs or (), nodes or ())
        return True

    def _tell_once(self, text: str) -> None:
        if not self._told:
            self._told = True
            self._tell(text)

    def _tell(self, text: str) -> None:
        self._problem(text.encode())


def _entry(row: sqlite3.Row) -> Entry:
    return Entry(
        join(row["parent"], row["name"]),
        unsigned(row["node"]),
        unsigned(row["offset"]),
        FileType(row["type"]),
        row["mode"],
        unsigned(row["size"]),
        row["mtime"],
        row["owner"],
        row["grp"],
    )


def lookup(catalogue: Catalogue, image: int, path: bytes) -> Entry | None:
    """The entry of one path.

    A directory that has no row of its own, because the server does not report the way to a changed file,
    is found by what is in it.
    """
    entry = exact(catalogue, image, path)
    if entry is not None:
        return entry
    within = next(descendants(catalogue, image, path), None)
    return None if within is None else Entry(path, type=FileType.DIR)


def exact(catalogue: Catalogue, image: int, path: bytes) -> Entry | None:
    """The entry of one path, if it has a row of its own."""
    row = catalogue.connection.execute(
        "SELECT * FROM file WHERE image = ? AND parent = ? AND name = ?", (image, *split(path))
    ).fetchone()
    return None if row is None else _entry(row)


def listed(catalogue: Catalogue, image: int, directory: bytes) -> Iterator[bytes]:
    """The names that a directory of an incremental image has and that are not saved there, by name."""
    for row in catalogue.connection.execute(
        "SELECT name FROM listed WHERE image = ? AND parent = ? ORDER BY name", (image, directory)
    ):
        yield row["name"]


def is_listed(catalogue: Catalogue, image: int, path: bytes) -> bool:
    """Whether an incremental image knows a name, saved or not."""
    if exact(catalogue, image, path) is not None:
        return True
    row = catalogue.connection.execute(
        "SELECT 1 FROM listed WHERE image = ? AND parent = ? AND name = ?", (image, *split(path))
    ).fetchone()
    return row is not None


def children(catalogue: Catalogue, image: int, directory: bytes) -> Iterator[Entry]:
    """What lies directly in a directory, by name."""
    for row in catalogue.connection.execute(
        "SELECT * FROM file WHERE image = ? AND parent = ? ORDER BY name", (image, directory)
    ):
        yield _entry(row)


def descendants(catalogue: Catalogue, image: int, directory: bytes) -> Iterator[Entry]:
    """What lies in a directory and below: first its own entries, then directory by directory, bytewise."""
    yield from children(catalogue, image, directory)
    # "/" is the byte before "0": the paths of all directories below "/a" lie between "/a/" and "/a0".
    stem = directory.rstrip(b"/")
    for row in catalogue.connection.execute(
        "SELECT * FROM file WHERE image = ? AND parent > ? AND parent < ? ORDER BY parent, name",
        (image, stem + b"/", stem + b"0"),
    ):
        yield _entry(row)


def count(catalogue: Catalogue, image: int) -> int:
    """How many names the catalogue holds of an image."""
    found: int = catalogue.connection.execute(
        "SELECT count(*) FROM file WHERE image = ?", (image,)
    ).fetchone()[0]
    return found
