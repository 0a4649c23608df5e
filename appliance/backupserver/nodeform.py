"""File history in node form: names and nodes come apart, in any order, and are joined to paths at the end.

Filers send all names of a backup first and all nodes when it ends; others send them directory by directory.
Both are collected in a scratch database beside the catalogue, whose file has no name any more once it is
open: whatever ends this process, its room is given back.  The catalogue gets the same rows as from file form,
so that nobody who looks a path up must know in which form it came.

A name whose node never comes was not saved (draft-skardal-ndmpv4-04, 4.3.2, rule 6).  Of a full backup it is
left out; of an incremental one it is kept apart, because it is in an image before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from appliance.backupserver.catalogue import CACHE_KIB, Catalogue, signed
from appliance.ndmp import messages as m
from appliance.ndmp.enums import FsType
from appliance.ndmp.fhcoding import DirEntry
from appliance.ndmp.types import FileName, FileStat

JOIN_ROWS: Final = 20_000
"""Rows of one transaction on the catalogue while it is joined, or those of one directory that has more: other
jobs wait for its end."""

PATH_BYTES_MAX: Final = 1 << 20
"""Directories of longer paths are not descended into; our archives hold none.  Every directory's path is
written out, so an endless chain would fill the disk."""

# In the order in which both kinds of server send it, nearly; so it grows at its end.
_ENTRY = """
    CREATE TABLE scratch.entry (parent INTEGER, name BLOB, node INTEGER, PRIMARY KEY (parent, name))
    WITHOUT ROWID
"""

_NODE = """
    CREATE TABLE scratch.node (node INTEGER PRIMARY KEY, offset INTEGER, type INTEGER, mode INTEGER,
    size INTEGER, mtime INTEGER, owner INTEGER, grp INTEGER)
"""

_DIRECTORY = "CREATE TABLE scratch.directory (node INTEGER PRIMARY KEY, path BLOB, depth INTEGER)"

_DEPTH = "CREATE INDEX scratch.directory_depth ON directory (depth)"

# A node is entered once: directories that contain themselves, which no file system has, end here.
_DESCEND = """
    INSERT OR IGNORE INTO scratch.directory
    SELECT entry.node,
           CAST(CASE WHEN above.path = x'2f' THEN x'2f' ELSE above.path || x'2f' END || entry.name AS BLOB),
           above.depth + 1
    FROM scratch.directory AS above JOIN scratch.entry AS entry ON entry.parent = above.node
    WHERE above.depth = ? AND length(above.path) < ?
    AND EXISTS (SELECT 1 FROM scratch.entry AS inner WHERE inner.parent = entry.node)
"""

_ORDER = """
    CREATE TABLE scratch.ordered AS
    SELECT path, node, (SELECT count(*) FROM scratch.entry WHERE parent = directory.node) AS names
    FROM scratch.directory ORDER BY path
"""

_BATCHES = """
    SELECT min(place), max(place) FROM
    (SELECT rowid AS place, sum(names) OVER (ORDER BY rowid) / ? AS batch FROM scratch.ordered) GROUP BY batch
"""

_JOIN = """
    INSERT OR REPLACE INTO file
    SELECT ?, ordered.path, entry.name, entry.node, offset, type, mode, size, mtime, owner, grp
    FROM scratch.ordered CROSS JOIN scratch.entry ON entry.parent = ordered.node
    JOIN scratch.node ON node.node = entry.node
    WHERE ordered.rowid BETWEEN ? AND ?
"""

_JOIN_LISTED = """
    INSERT OR REPLACE INTO listed
    SELECT ?, ordered.path, entry.name
    FROM scratch.ordered CROSS JOIN scratch.entry ON entry.parent = ordered.node
    WHERE ordered.rowid BETWEEN ? AND ?
    AND NOT EXISTS (SELECT 1 FROM scratch.node WHERE node.node = entry.node)
"""

_JOIN_ROOT = """
    INSERT OR REPLACE INTO file
    SELECT ?, x'', x'', node, offset, type, mode, size, mtime, owner, grp FROM scratch.node WHERE node = ?
"""

# Where no ".." says it: the only directory that no other one holds.
_GUESS_ROOT = """
    SELECT DISTINCT parent FROM scratch.entry
    WHERE parent NOT IN (SELECT node FROM scratch.entry) LIMIT 2
"""

_NO_STAT = FileStat()

EntryRow = tuple[int, bytes, int]
NodeRow = tuple[int, int, int, int, int, int, int, int]


def unix_name(names: Iterable[FileName]) -> bytes:
    """The name in the UNIX name space, else the first; empty where there is none."""
    first = b""
    for name in names:
        if name.fs_type is FsType.UNIX:
            return name.path
        first = first or name.path
    return first


class NodeForm:
    """What came of one image.  Used by one thread, with its own connection to the catalogue."""

    def __init__(self, catalogue: Catalogue, image: int, *, is_incremental: bool = False) -> None:
        """Raises sqlite3.Error, OSError."""
        self._is_incremental = is_incremental
        self._catalogue = catalogue
        self._connection = catalogue.connection
        self._image = image
        self._entries: list[EntryRow] = []
        self._nodes: list[NodeRow] = []
        self._root: int | None = None
        self._open(catalogue.path.with_name(f".{catalogue.path.name}.history-{image}"))

    def _open(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        execute = self._connection.execute
        execute("ATTACH DATABASE ? AS scratch", (str(path),))
        execute("PRAGMA scratch.journal_mode = OFF")
        execute("PRAGMA scratch.synchronous = OFF")
        execute(f"PRAGMA scratch.cache_size = -{CACHE_KIB}")
        for statement in (_ENTRY, _NODE, _DIRECTORY, _DEPTH):
            execute(statement)
        path.unlink()

    def add(self, dirs: Iterable[DirEntry], nodes: Iterable[NodeRow]) -> None:
        """Take names and nodes; numbers of 64 bits have signs."""
        append = self._entries.append
        for name, node, parent in dirs:
            if name == b"..":
                # Rule 3: only the backup root is its own parent.
                if node == parent:
                    self._root = node
            elif name != b"." and name and b"/" not in name:
                append((parent, name, node))
        self._nodes += nodes

    def add_dirs(self, post: m.FhAddDirPost) -> int:
        """Take names; return how many rows wait now."""
        entries = ((unix_name(entry.names), signed(entry.node), signed(entry.parent)) for entry in post.dirs)
        self.add(entries, ())
        return self.waiting

    def add_nodes(self, post: m.FhAddNodePost) -> int:
        """Take nodes; return how many rows wait now."""
        append = self._nodes.append
        for node in post.nodes:
            stat = node.stats[0] if node.stats else _NO_STAT
            append(
                (
                    signed(node.node),
                    signed(node.fh_info),
                    int(stat.ftype),
                    stat.fattr,
                    signed(stat.size),
                    stat.mtime,
                    stat.owner,
                    stat.group,
                )
            )
        return self.waiting

    @property
    def waiting(self) -> int:
        """How many rows wait to be stored."""
        return len(self._entries) + len(self._nodes)

    def flush(self) -> int:
        """Store what waits, and return how many nodes that were."""
        count = len(self._nodes)
        # Deferred, so that the catalogue itself is not locked.
        self._connection.execute("BEGIN")
        self._connection.executemany("INSERT OR REPLACE INTO scratch.entry VALUES (?, ?, ?)", self._entries)
        self._connection.executemany(
            "INSERT OR REPLACE INTO scratch.node VALUES (?, ?, ?, ?, ?, ?, ?, ?)", self._nodes
        )
        self._connection.execute("COMMIT")
        self._entries, self._nodes = [], []
        return count

    def join(self, problem: Callable[[str], None]) -> int:
        """Enter everything in the catalogue by path; return how many rows that made.

        `problem` is told of names that have no place in the tree.
        """
        self.flush()
        root = self._find_root()
        if root is None:
            problem("file history was lost: it names no backup root")
            return 0
        self._find_directories(root)
        execute = self._connection.execute
        with self._catalogue.transaction():
            rows = execute(_JOIN_ROOT, (self._image, root)).rowcount
        for first, last in execute(_BATCHES, (JOIN_ROWS,)).fetchall():
            with self._catalogue.transaction():
                rows += execute(_JOIN, (self._image, first, last)).rowcount
                if self._is_incremental:
                    execute(_JOIN_LISTED, (self._image, first, last))
        (placed,) = execute("SELECT total(names) FROM scratch.ordered").fetchone()
        (named,) = execute("SELECT count(*) FROM scratch.entry").fetchone()
        if placed < named:
            problem(f"file history was lost: {named - int(placed)} names are in no directory of the backup")
        return rows

    def _find_root(self) -> int | None:
        if self._root is not None:
            return self._root
        found = self._connection.execute(_GUESS_ROOT).fetchall()
        return found[0][0] if len(found) == 1 else None

    def _find_directories(self, root: int) -> None:
        """Give every directory its path, level by level from the root."""
        execute = self._connection.execute
        execute("BEGIN")
        execute("INSERT INTO scratch.directory VALUES (?, x'2f', 0)", (root,))
        depth = 0
        while execute(_DESCEND, (depth, PATH_BYTES_MAX)).rowcount > 0:
            depth += 1
        execute(_ORDER)
        execute("COMMIT")
