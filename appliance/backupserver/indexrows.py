"""Rows of the catalogue from the index that an image carries, when file history is not there any more."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from appliance.archive.dumpdir import IN_ARCHIVE, Dumpdir
from appliance.archive.errors import DamagedArchiveError
from appliance.archive.index import IndexEntry
from appliance.archive.kinds import Kind
from appliance.archive.member import Member
from appliance.backupserver import media
from appliance.backupserver.catalogue import Catalogue, signed
from appliance.backupserver.history import BATCH_ROWS, INSERT, Row, split
from appliance.backupserver.media import Image
from appliance.backupserver.nlist import relative
from appliance.ndmp.enums import ALL_ONES, FileType
from appliance.paths import is_at_or_below

_U32_MAX: Final = 0xFFFFFFFF
_NANOSECONDS: Final = 1_000_000_000

_TYPES: Final = {
    Kind.DIRECTORY: FileType.DIR,
    Kind.FILE: FileType.REG,
    Kind.HARD_LINK: FileType.REG,
    Kind.SYMLINK: FileType.SLINK,
    Kind.FIFO: FileType.FIFO,
    Kind.CHARACTER_DEVICE: FileType.CSPEC,
    Kind.BLOCK_DEVICE: FileType.BSPEC,
}


# A directory's list says of its subdirectories only that they are there.
_FORGET_SAVED: Final = """
    DELETE FROM listed WHERE image = ? AND EXISTS (SELECT 1 FROM file WHERE file.image = listed.image
    AND file.parent = listed.parent AND file.name = listed.name)
"""


def origins(moves: Sequence[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Where directories were in the base, by where a list of moves, done in order, brings them."""
    found: dict[bytes, bytes] = {}
    for old, new in moves:
        came_from = _origin(found, old)
        inner = {at: was for at, was in found.items() if is_at_or_below(at, old)}
        for at in inner:
            del found[at]
        found |= {new + at[len(old) :]: was for at, was in inner.items()}
        found[new] = came_from
    return found


def _origin(found: dict[bytes, bytes], path: bytes) -> bytes:
    at = path
    while at:
        if at in found:
            return found[at] + path[len(at) :]
        at = at.rpartition(b"/")[0]
    return path


class IndexRows:
    """The verifier's observer that enters what it is told; made and used by one thread.

    `problem_count` and the first `PROBLEMS_MAX` of `problems` are of the image.
    """

    PROBLEMS_MAX: Final = 1000

    def __init__(self, catalogue: Path, image: Image) -> None:
        self.rows = 0
        self.problem_count = 0
        self.problems: list[tuple[bytes, str]] = []
        self._path = catalogue
        self._image = image
        self._catalogue: Catalogue | None = None
        self._batch: list[Row] = []
        self._listed: list[tuple[int, bytes, bytes]] = []
        self._moves: list[tuple[bytes, bytes]] = []

    def entry(self, entry: IndexEntry, is_whole: bool, /) -> None:
        """Enter a name; one whose data is damaged is told of besides."""
        del is_whole
        self._add(
            entry.path,
            entry.node,
            entry.data_offset,
            entry.kind,
            (entry.mode, entry.size, entry.mtime_ns, entry.uid, entry.gid),
        )

    def unlisted(self, member: Member, /) -> None:
        """Enter a name whose index is lost, with what its own headers say; nobody knows its node."""
        try:
            attributes = member.mode, member.size, member.mtime_ns, member.uid, member.gid
        except DamagedArchiveError:
            attributes = 0, member.size, 0, 0, 0
        offset = ALL_ONES if member.kind is Kind.HARD_LINK else member.offset
        self._add(b"/" + member.name, ALL_ONES, offset, member.kind, attributes)

    def directory(self, path: bytes, dumpdir: Dumpdir, /) -> None:
        """Keep what a directory of an incremental image holds, and what was moved since its base."""
        if not is_at_or_below(path, self._image.root):
            return
        inside = relative(path, self._image.root) or b"/"
        self._listed += [
            (self._image.id, inside, name) for name, letter in dumpdir.names.items() if letter != IN_ARCHIVE
        ]
        self._moves += [(b"/" + old, b"/" + new) for old, new in dumpdir.moves]
        if len(self._listed) >= BATCH_ROWS:
            self.flush()

    def problem(self, path: bytes, text: str, /) -> None:
        """Keep what the image's problems are."""
        self.problem_count += 1
        if len(self.problems) < self.PROBLEMS_MAX:
            self.problems.append((path, text))

    def finish(self) -> None:
        """Enter what waits, and what can be said only when all is known."""
        self.flush()
        if self._catalogue is not None and self._image.base is not None:
            moved = [
                (relative(new, self._image.root), relative(old, self._image.root))
                for new, old in origins(self._moves).items()
                if is_at_or_below(new, self._image.root) and is_at_or_below(old, self._image.root)
            ]
            media.set_moved(self._catalogue, self._image, moved)
            with self._catalogue.transaction() as connection:
                connection.execute(_FORGET_SAVED, (self._image.id,))

    def flush(self) -> None:
        """Enter what waits."""
        if self._batch or self._listed:
            if self._catalogue is None:
                # Not durable on its own: the image's last, durable, commit makes all before it durable.
                self._catalogue = Catalogue(self._path, durable=False)
            with self._catalogue.transaction() as connection:
                connection.executemany(INSERT, self._batch)
                connection.executemany("INSERT OR REPLACE INTO listed VALUES (?, ?, ?)", self._listed)
            self._batch.clear()
            self._listed.clear()

    def close(self) -> None:
        """Close the connection; in the thread that used it."""
        if self._catalogue is not None:
            self._catalogue.close()
            self._catalogue = None

    def _add(
        self, path: bytes, node: int, offset: int, kind: Kind, attributes: tuple[int, int, int, int, int]
    ) -> None:
        if not is_at_or_below(path, self._image.root):
            self.problem(path, "is not within what the image is of; left out")
            return
        mode, size, mtime_ns, uid, gid = attributes
        self._batch.append(
            (
                self._image.id,
                *split(relative(path, self._image.root) or b"/"),
                signed(node & ALL_ONES),
                signed(offset & ALL_ONES),
                int(_TYPES.get(kind, FileType.OTHER)),
                mode & 0o7777,
                signed(size & ALL_ONES),
                min(max(mtime_ns // _NANOSECONDS, 0), _U32_MAX),
                uid & _U32_MAX,
                gid & _U32_MAX,
            )
        )
        self.rows += 1
        if len(self._batch) >= BATCH_ROWS:
            self.flush()
