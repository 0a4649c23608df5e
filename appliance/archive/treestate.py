"""What a tree was like when it was saved: the base that the next incremental backup compares with.

One SQLite file for one part of one backup.  A row is a directory by its inode number: where it was, and the
names in it with inode number and change time each.  Times are compared for being equal only, and come from
the file system's own host, so no two clocks are ever compared.

A time that was too young when it was seen is kept as 0, which none is equal to: a file written twice within
one tick of the kernel's clock would look unchanged otherwise.
"""

import os
import sqlite3
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from struct import Struct
from typing import NamedTuple

__all__ = ["BASE_VERSION", "SETTLED_NS", "BaseState", "Inode", "NextState", "Remembered", "StateError"]

BASE_VERSION = 1

SETTLED_NS = 2_000_000_000
"""A change time younger than this may still be that of the next change: FAT's ticks take two seconds."""

TOP = 0
"""The number that stands for the directory above the part."""

_SIGN = 1 << 63
_MODULUS = 1 << 64
_ENTRY = Struct("<QqB")
_CACHE_KIB = 16 << 10

_SCHEMA = """
CREATE TABLE directory (inode INTEGER PRIMARY KEY, parent INTEGER NOT NULL, name BLOB NOT NULL,
    changed INTEGER NOT NULL, below BLOB NOT NULL, others BLOB NOT NULL)
"""


class StateError(Exception):
    """A base cannot be read or kept: its file is damaged, of another version, or the disk is full."""


class Inode(NamedTuple):
    """Inode number and change time (nanoseconds; 0: not to be trusted)."""

    number: int
    changed: int


class Remembered(NamedTuple):
    """A directory of the base: `others` are all names that are no directories, `below` those that are."""

    inode: int
    parent: int
    name: bytes
    changed: int
    below: frozenset[bytes]
    others: Mapping[bytes, Inode]


def why(error: Exception) -> str:
    """What an error says, without the path of a file: a DMA reads it, and sees no local paths."""
    return (error.strerror or "an error of the disk") if isinstance(error, OSError) else str(error)


def settled(changed: int, now: int) -> int:
    """Return a change time as it is kept; `now` was before the inode was looked at (both nanoseconds)."""
    return changed if changed < now - SETTLED_NS else 0


def _signed(number: int) -> int:
    return number - _MODULUS if number >= _SIGN else number


def _pack(others: Iterable[tuple[bytes, Inode]]) -> bytes:
    return zlib.compress(
        b"".join(_ENTRY.pack(inode.number, inode.changed, len(name)) + name for name, inode in others), 1
    )


def _unpack(blob: bytes) -> dict[bytes, Inode]:
    data = zlib.decompress(blob)
    found = {}
    position = 0
    while position < len(data):
        number, changed, length = _ENTRY.unpack_from(data, position)
        start = position + _ENTRY.size
        position = start + length
        found[data[start:position]] = Inode(number, changed)
    return found


class BaseState:
    """A base that is read.  Every method raises `StateError` for a damaged file."""

    def __init__(self, path: Path) -> None:
        try:
            self._connection = sqlite3.connect(f"file:{_quoted(path)}?mode=ro", uri=True)
            self._connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
            (version,) = self._connection.execute("PRAGMA user_version").fetchone()
        except sqlite3.Error as error:
            raise StateError(f"the state of a backup cannot be read: {why(error)}") from error
        if version != BASE_VERSION:
            self._connection.close()
            raise StateError(
                f"the state of a backup has schema {version}; this Spanreel knows {BASE_VERSION}"
            )

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def directory(self, inode: int) -> Remembered | None:
        """Return what is remembered of a directory, by its inode number."""
        return self._one("inode = ?", (_signed(inode),))

    def child(self, parent: int, name: bytes) -> Remembered | None:
        """Return the directory of that name in another one."""
        return self._one("parent = ? AND name = ?", (_signed(parent), name))

    def _one(self, where: str, values: tuple[object, ...]) -> Remembered | None:
        query = f"SELECT inode, parent, name, changed, below, others FROM directory WHERE {where}"  # noqa: S608
        try:
            row = self._connection.execute(query, values).fetchone()
            if row is None:
                return None
            below = frozenset(row[4].split(b"/")) if row[4] else frozenset()
            return Remembered(row[0] % _MODULUS, row[1] % _MODULUS, row[2], row[3], below, _unpack(row[5]))
        except (sqlite3.Error, zlib.error, ValueError) as error:
            raise StateError(f"the state of a backup is damaged: {why(error)}") from error


class NextState:
    """A base in the making; it counts once `finish` was called.  Raises `StateError`, as its methods do."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._is_finished = False
        try:
            path.unlink(missing_ok=True)
            self._connection = sqlite3.connect(path, isolation_level=None)
            for statement in (
                "PRAGMA journal_mode = OFF",
                "PRAGMA synchronous = OFF",
                f"PRAGMA cache_size = -{_CACHE_KIB}",
                f"PRAGMA user_version = {BASE_VERSION}",
                _SCHEMA,
                "BEGIN",
            ):
                self._connection.execute(statement)
        except (sqlite3.Error, OSError) as error:
            raise StateError(f"the state of a backup cannot be kept: {why(error)}") from error

    def add(self, directory: Remembered) -> None:
        """Keep a directory."""
        row = (
            _signed(directory.inode),
            _signed(directory.parent),
            directory.name,
            directory.changed,
            b"/".join(sorted(directory.below)),
            _pack(directory.others.items()),
        )
        try:
            self._connection.execute("INSERT OR REPLACE INTO directory VALUES (?, ?, ?, ?, ?, ?)", row)
        except sqlite3.Error as error:
            raise StateError(f"the state of a backup cannot be kept: {why(error)}") from error

    def finish(self) -> None:
        """Make the file whole, and durable."""
        try:
            self._connection.execute("CREATE INDEX place ON directory (parent, name)")
            self._connection.execute("COMMIT")
            self._connection.close()
            descriptor = os.open(self._path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            self._is_finished = True
        except (sqlite3.Error, OSError) as error:
            self.abandon()
            raise StateError(f"the state of a backup cannot be kept: {why(error)}") from error

    def abandon(self) -> None:
        """Give it up, and its file, unless it was finished.  Safe to repeat."""
        self._connection.close()
        if not self._is_finished:
            self._path.unlink(missing_ok=True)


def _quoted(path: Path) -> str:
    return str(path).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
