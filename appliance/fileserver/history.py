"""File history: what the archive writer tells, as posts in either form, batched, while the backup runs.

In node form (draft-skardal-ndmpv4-04, 4.3.2) a directory's listing is a run of ADD_DIR entries, and a node's
ADD_NODE leaves after the run that lists it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from appliance.archive.kinds import Kind
from appliance.archive.part import Entry
from appliance.fileserver.environment import HistoryForm
from appliance.ndmp import messages as m
from appliance.ndmp.enums import FileStatUnsupported, FileType, FsType, LogType
from appliance.ndmp.session import Poster
from appliance.ndmp.types import FileName, FileStat
from appliance.text import show_path

BATCH = 512
"""Entries in one message.  Filers send 4,096 (a filer's transcript); fewer reach the catalogue sooner."""

_U32_MAX = 0xFFFFFFFF

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
        self._files: list[m.FhFile] = []
        self._dirs: list[m.FhDir] = []
        self._nodes: list[m.FhNode] = []

    def listing(self, node: int, parent: int, names: Iterable[tuple[bytes, int]], /) -> None:
        """A directory is about to be written."""
        if self._form is not HistoryForm.NODE:
            return
        dirs = self._dirs
        dirs.append(m.FhDir((FileName(b"."),), node, node))
        dirs.append(m.FhDir((FileName(b".."),), parent, node))
        for name, number in names:
            dirs.append(m.FhDir((FileName(name),), number, node))
            if len(dirs) >= BATCH:
                self._flush_dirs()

    def entry(self, entry: Entry, /) -> None:
        """One name is in the stream."""
        if self._form is HistoryForm.FILE:
            file = m.FhFile((FileName(entry.path),), (file_stat(entry),), entry.node, entry.offset)
            self._files.append(file)
            if len(self._files) >= BATCH:
                self.flush()
        elif self._form is HistoryForm.NODE:
            self._node(entry)

    def _node(self, entry: Entry) -> None:
        if not entry.told:
            self._nodes.append(m.FhNode((file_stat(entry),), entry.listed, entry.offset))
            if len(self._nodes) >= BATCH:
                self.flush()
        elif entry.listed != entry.node:
            self.problem(
                entry.path,
                "became another file while its directory was read; the file history shows the one before",
            )

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
            self._poster.post(m.FhAddNodePost(tuple(self._nodes)))
            self._nodes.clear()
        if self._files:
            self._poster.post(m.FhAddFilePost(tuple(self._files)))
            self._files.clear()

    def _flush_dirs(self) -> None:
        if self._dirs:
            self._poster.post(m.FhAddDirPost(tuple(self._dirs)))
            self._dirs.clear()


def file_stat(entry: Entry) -> FileStat:
    """The attributes that file history carries: whole seconds, 32 bits, mode bits without the type."""
    status: os.stat_result = entry.stat
    return FileStat(
        int(FileStatUnsupported.ATIME | FileStatUnsupported.CTIME),
        FsType.UNIX,
        FILE_TYPES.get(entry.kind, FileType.OTHER),
        min(max(int(status.st_mtime), 0), _U32_MAX),
        0,
        0,
        status.st_uid & _U32_MAX,
        status.st_gid & _U32_MAX,
        status.st_mode & 0o7777,
        status.st_size,
        min(status.st_nlink, _U32_MAX),
    )
