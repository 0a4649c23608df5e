"""Real images for the scripted file server, and tapes with damage on them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from dma_support import Site

from appliance.archive.frame import END_OF_ARCHIVE, PartSummary, global_header, trailer
from appliance.archive.part import Entry, Files, PartRequest
from appliance.archive.writer import write_part
from tape.model.cartridge import Cartridge
from tests.unit.entry_support import entries

RECORD = 262144


@dataclass
class Recorder:
    """The writer's observer."""

    entries: list[Entry] = field(default_factory=list)

    def listing(self, node: int, parent: int, names: Iterable[tuple[bytes, int]], /) -> None:
        """Of no use here."""

    def entry(self, entry: Entry, /) -> None:
        """Keep a name."""
        self.entries.append(entry)

    def files(self, files: Files, /) -> None:
        """Keep many."""
        self.entries.extend(entries(files))

    def problem(self, path: bytes, text: str, /) -> None:
        """The trees of these tests have none."""
        raise AssertionError(path, text)

    def note(self, path: bytes, text: str, /) -> None:
        """Likewise."""
        raise AssertionError(path, text)


def save(lab: Site, tree: Path, job: str = "job1") -> list[Entry]:
    """Have the scripted file server send an image of a tree; return the names in it."""
    seen, body = Recorder(), bytearray()
    head = global_header(job, b"/")
    root = os.open(tree, os.O_PATH | os.O_DIRECTORY)
    try:
        request = PartRequest(root=root, member_prefix=b"/", job=job, stream_offset=len(head))
        result = write_part(request, body.extend, seen, lambda: False)
    finally:
        os.close(root)
    parts = [PartSummary("fs1", b"/", len(head), result.bytes, result.files)]
    lab.script.image = head + body + trailer(job, parts, len(head) + len(body)) + END_OF_ARCHIVE
    lab.script.names = tuple(entry.path for entry in seen.entries)
    return seen.entries


def flip(lab: Site, barcode: str, offset: int, start: int = 0, file: int = 2) -> None:
    """Flip a bit of the byte at `offset` of the image whose segment from `start` is this tape file."""
    path = lab.folder / "library" / f"{barcode}.tape"
    cartridge = Cartridge(path)
    marks = [index for index in range(cartridge.count) if cartridge.is_filemark(index)]
    number, within = divmod(offset - start, RECORD)
    record = cartridge.read(marks[file - 1] + 1 + number, RECORD)
    cartridge.close()
    at = path.read_bytes().index(record) + within
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.pwrite(descriptor, bytes([record[within] ^ 4]), at)
    finally:
        os.close(descriptor)
