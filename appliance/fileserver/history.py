"""File history: what the archive writer tells, as posts in either form, batched, while the backup runs.

In node form (draft-skardal-ndmpv4-04, 4.3.2) a directory's listing is a run of ADD_DIR entries, and a node's
ADD_NODE leaves after the run that lists it.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import repeat

from appliance.archive.kinds import Kind
from appliance.archive.part import Entry, Files
from appliance.archive.quick import ROW
from appliance.fileserver.environment import HistoryForm
from appliance.ndmp import messages as m
from appliance.ndmp.declare import CODES
from appliance.ndmp.enums import FileType, LogType
from appliance.ndmp.fhcoding import dir_entry, node_entry, post_body, regular_entries
from appliance.ndmp.session import Poster
from appliance.text import show_path

BATCH = 512
"""Entries in one message, and some more that come at once.  Filers send 4,096 (a filer's transcript); fewer
reach the catalogue sooner."""

_ADD_FILE, _ADD_DIR, _ADD_NODE = (
    CODES[post][1] for post in (m.FhAddFilePost, m.FhAddDirPost, m.FhAddNodePost)
)

FILE_TYPES = {
    Kind.DIRECTORY: FileType.DIR,
    Kind.FILE: FileType.REG,
    Kind.HARD_LINK: FileType.REG,
    Kind.SYMLINK: FileType.SLINK,
    Kind.FIFO: FileType.FIFO,
    Kind.CHARACTER_DEVICE: FileType.CSPEC,
    Kind.BLOCK_DEVICE: FileType.BSPEC,
}


class History:
    """The archive writer's observer: tells the DMA every name, its place in the image, and every problem."""

    def __init__(self, poster: Poster, form: HistoryForm) -> None:
        self._poster = poster
        self._form = form
        # Entries as they go on the wire.
        self._files: list[bytes] = []
        self._dirs: list[bytes] = []
        self._nodes: list[bytes] = []

    def listing(self, node: int, parent: int, names: Iterable[tuple[bytes, int]], /) -> None:
        """A directory is about to be written."""
        if self._form is not HistoryForm.NODE:
            return
        dirs = self._dirs
        dirs.append(dir_entry(b".", node, node))
        dirs.append(dir_entry(b"..", parent, node))
        for name, number in names:
            dirs.append(dir_entry(name, number, node))
            if len(dirs) >= BATCH:
                self._flush_dirs()

    def entry(self, entry: Entry, /) -> None:
        """One name is in the stream."""
        if self._form is HistoryForm.FILE:
            ftype = FILE_TYPES.get(entry.kind, FileType.OTHER)
            self._files.append(node_entry(ftype, entry.stat, entry.node, entry.offset, entry.path))
            if len(self._files) >= BATCH:
                self.flush()
        elif self._form is HistoryForm.NODE:
            self._node(entry)

    def _node(self, entry: Entry) -> None:
        if not entry.told:
            ftype = FILE_TYPES.get(entry.kind, FileType.OTHER)
            self._nodes.append(node_entry(ftype, entry.stat, entry.listed, entry.offset))
            if len(self._nodes) >= BATCH:
                self.flush()
        elif entry.listed != entry.node:
            self.problem(
                entry.path,
                "became another file while its directory was read; the file history shows the one before",
            )

    def files(self, files: Files, /) -> None:
        """Many names are in the stream."""
        rows = ROW.iter_unpack(files.rows)
        if self._form is HistoryForm.FILE:
            paths = [files.base + name for name in files.names]
            self._files += regular_entries(zip(paths, files.numbers, rows, strict=True))
        elif self._form is HistoryForm.NODE:
            self._nodes += regular_entries(zip(repeat(None), files.numbers, rows))
        if len(self._files) >= BATCH or len(self._nodes) >= BATCH:
            self.flush()

    def problem(self, path: bytes, text: str, /) -> None:
        """One name could not be saved as it is."""
        self._say(LogType.WARNING, path, text)

    def note(self, path: bytes, text: str, /) -> None:
        """Worth a line, and no problem."""
        self._say(LogType.NORMAL, path, text)

    def _say(self, kind: LogType, path: bytes, text: str) -> None:
        line = f"{show_path(path)}: {text}"
        self._poster.post(m.LogMessagePost(kind, 0, line.encode("utf-8", "backslashreplace")))

    def flush(self) -> None:
        """Send what waits: names before the nodes that they name."""
        self._flush_dirs()
        if self._nodes:
            self._poster.raw_post(_ADD_NODE, post_body(self._nodes))
            self._nodes.clear()
        if self._files:
            self._poster.raw_post(_ADD_FILE, post_body(self._files))
            self._files.clear()

    def _flush_dirs(self) -> None:
        if self._dirs:
            self._poster.raw_post(_ADD_DIR, post_body(self._dirs))
            self._dirs.clear()
