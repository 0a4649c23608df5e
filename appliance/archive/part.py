"""What a part is asked for with, and what it tells while it is written."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from appliance.archive.formats import FORMAT
from appliance.archive.kinds import Kind
from appliance.archive.markers import NO_MARKERS, Markers

__all__ = ["Entry", "Files", "Frozen", "Observer", "PartRequest", "PartResult", "history_path"]


@dataclass(frozen=True)
class Frozen:
    """That what is read is a snapshot, and what it does not show of the tree that it was made of.

    - `moment`: nanoseconds of the clock, before it was made.  A file may have been written again since,
      within the same tick, so its change time is judged by this.
    - `mounted`: global paths where another file system began, or another directory was bound.
    - `stub_inode`: the inode number of directories that stand for subvolumes which it does not hold.
    """

    moment: int
    mounted: frozenset[bytes] = frozenset()
    stub_inode: int | None = None


@dataclass(frozen=True)
class PartRequest:
    """One part of an image: what to save, and where it stands in the image and the name space.

    - `root`: descriptor (O_PATH or O_DIRECTORY) of the fileset's root directory; not closed.
    - `member_prefix`: the global path of `root`, such as ``b"/projects"``.
    - `start`: what to save, a path relative to `root`; empty for all of it; a file is fine.
    - `skip`: global paths that are neither written nor entered: junctions, whose owners write them.
    - `exclude`, `files`: the values of EXCLUDE and FILES (selection.py).
    - `markers`: which marks of users are honoured (markers.py).
    - `backup_root`: the global path the backup is made of; file history paths are relative to it.
    - `stream_offset`, `node_base`, `parent_node`: offset in the image of the part's first byte, the first
      free node number, and the number of the directory above `start`, or of `start` itself at the top.
    - `nodes`: the numbers agreed with others (structure.py): of `start`, of the junctions in `skip` that are
      in the backup, and of the directories between.
    - `frozen`: set if `root` lies in a snapshot.
    - `version`: the format of the image.
    - `job`: the job's name, at most 56 letters, digits, '-', '_' and '.'.
    """

    root: int
    member_prefix: bytes
    job: str
    start: bytes = b""
    skip: frozenset[bytes] = frozenset()
    exclude: tuple[bytes, ...] = ()
    files: tuple[bytes, ...] = ()
    markers: Markers = NO_MARKERS
    backup_root: bytes = b"/"
    stream_offset: int = 0
    node_base: int = 2
    parent_node: int = 2
    nodes: Mapping[bytes, int] = field(default_factory=dict)
    frozen: Frozen | None = None
    version: int = FORMAT


@dataclass(frozen=True)
class PartResult:
    """How a part went: bytes written, names written, node numbers used, problems reported.

    `matched`: the indexes of the values of FILES that something in the part matched.
    """

    bytes: int
    files: int
    nodes: int
    problems: int
    matched: frozenset[int] = frozenset()


class Entry(NamedTuple):
    """One name for the file history.

    `path` is relative to the backup root, with a leading slash (the root itself is ``b"/"``), `name` its
    last component (empty for the root).  All names of an inode share `node` and `offset`: the offset in
    the image of the member that holds the data.  A named tuple, because one is made for each file.

    `listed` is the number that its directory's listing gave the name: `node`, unless the name came to be
    another inode's since.  `told`: an earlier entry had that number.
    """

    path: bytes
    name: bytes
    node: int
    parent: int
    offset: int
    stat: os.stat_result
    kind: Kind
    listed: int
    told: bool


class Files(NamedTuple):
    """Regular files of one directory and of one name each, next to each other in the stream.

    `base` is the directory's path as in `Entry`, with a slash at its end; `parent` its number.  `rows` has a
    `quick.ROW` for each of `names`.
    """

    base: bytes
    parent: int
    names: Sequence[bytes]
    numbers: Sequence[int]
    rows: bytes


class Observer(Protocol):
    """Told of each name and each problem, in the order of the stream, on the thread that writes it."""

    def listing(self, node: int, parent: int, names: Iterable[tuple[bytes, int]], /) -> None:
        """A directory's number, its parent's (its own at the backup root), names and numbers of all in it.

        Comes before the entries of the directory and of what is in it.  Not every name gets an entry: it may
        vanish, or turn out to be what cannot be saved.
        """

    def entry(self, entry: Entry, /) -> None:
        """A name is in the stream (its data may still be on its way)."""

    def files(self, files: Files, /) -> None:
        """Many names are in the stream, none of which was told before; instead of an `entry` for each."""

    def problem(self, path: bytes, text: str, /) -> None:
        """Something could not be saved as it is; `path` as in `Entry`, `text` one line for people."""

    def note(self, path: bytes, text: str, /) -> None:
        """What is worth a line, but is as it should be; it makes the job none with problems."""


def history_path(path: bytes, backup_root: bytes) -> bytes:
    """Return a global path relative to the backup root, with a leading slash."""
    return path if backup_root == b"/" else path[len(backup_root) :] or b"/"
