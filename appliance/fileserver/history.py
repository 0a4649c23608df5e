"""File history: entries of the archive writer as FH_ADD_FILE posts, batched, while the backup runs."""

from __future__ import annotations

import os

from appliance.archive.kinds import Kind
from appliance.archive.part import Entry
from appliance.ndmp import messages as m
from appliance.ndmp.enums import FileStatUnsupported, FileType, FsType, LogType
from appliance.ndmp.session import Poster
from appliance.ndmp.types import FileName, FileStat
from appliance.text import show_path

BATCH = 512
"""Entries in one message.  Filers send 4,096 (a filer's transcript); fewer reach the catalogue sooner."""

_U32_MAX = 0xFFFFFFFF

_TYPES = {
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

    def __init__(self, poster: Poster, enabled: bool) -> None:
        self._poster = poster
        self._enabled = enabled
        self._batch: list[m.FhFile] = []

    def entry(self, entry: Entry, /) -> None:
        """One name is in the stream."""
        if not self._enabled:
            return
        file = m.FhFile((FileName(entry.path),), (file_stat(entry),), entry.node, entry.offset)
        self._batch.append(file)
        if len(self._batch) >= BATCH:
            self.flush()

    def problem(self, path: bytes, text: str, /) -> None:
        """One name could not be saved as it is."""
        line = f"{show_path(path)}: {text}"
        self._poster.post(m.LogMessagePost(LogType.WARNING, 0, line.encode("utf-8", "backslashreplace")))

    def flush(self) -> None:
        """Send what waits."""
        if self._batch:
            self._poster.post(m.FhAddFilePost(tuple(self._batch)))
            self._batch.clear()


def file_stat(entry: Entry) -> FileStat:
    """The attributes that file history carries: whole seconds, 32 bits, mode bits without the type."""
    status: os.stat_result = entry.stat
    return FileStat(
        int(FileStatUnsupported.ATIME | FileStatUnsupported.CTIME),
        FsType.UNIX,
        _TYPES.get(entry.kind, FileType.OTHER),
        min(max(int(status.st_mtime), 0), _U32_MAX),
        0,
        0,
        status.st_uid & _U32_MAX,
        status.st_gid & _U32_MAX,
        status.st_mode & 0o7777,
        status.st_size,
        min(status.st_nlink, _U32_MAX),
    )
