"""Rows of the catalogue from the index that an image carries, when file history is not there any more."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from appliance.archive.errors import DamagedArchiveError
from appliance.archive.index import IndexEntry
from appliance.archive.kinds import Kind
from appliance.archive.member import Member
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

    def problem(self, path: bytes, text: str, /) -> None:
        """Keep what the image's problems are."""
        self.problem_count += 1
        if len(self.problems) < self.PROBLEMS_MAX:
            self.problems.append((path, text))

    def flush(self) -> None:
        """Enter what waits."""
        if self._batch:
            if self._catalogue is None:
                # Not durable on its own: the image's last, durable, commit makes all before it durable.
                self._catalogue = Catalogue(self._path, durable=False)
            with self._catalogue.transaction() as connection:
                connection.executemany(INSERT, self._batch)
            self._batch.clear()

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
