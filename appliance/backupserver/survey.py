"""What is on a cartridge, by itself: its label, and the header of every segment.

Data is spaced over, which takes a drive seconds to minutes; nothing of the catalogue is needed.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from appliance.backupserver.labels import RECORD_BYTES, ForeignRecordError, Header, Label
from appliance.backupserver.shelf import DRIVE_FAILURES, Shelf
from appliance.errors import InfrastructureError, JobError
from appliance.ndmp.errors import ReplyError

_TROUBLES = (ReplyError, JobError, InfrastructureError)
"""What a drive that fails, or the way to another one, may end with."""


@dataclass(frozen=True)
class Found:
    """A segment: its header, and the tape file of its data.  `ended`: a file mark follows the data."""

    header: Header
    file: int
    ended: bool


@dataclass
class Contents:
    """What one cartridge holds.  `trouble`: why it could not be read to its end of data, else empty."""

    barcode: str
    label: Label
    segments: list[Found] = field(default_factory=list)
    last_file: int = 0
    trouble: str = ""


class UnreadableError(Exception):
    """No drive could read a cartridge's first record; the text says why not."""


def survey(shelf: Shelf, barcode: str) -> Contents:
    """Look through a cartridge, in another drive where the one at hand fails.

    Raises ForeignRecordError when it has no label of ours, JobError when it is not there or in use,
    UnreadableError when nobody knows.
    """
    shelf.open_for_reading(barcode)
    try:
        label = shelf.in_any_drive(barcode, lambda: _label(shelf))
    except _TROUBLES as error:
        raise UnreadableError(str(error)) from error
    contents = Contents(barcode, label)

    def look() -> None:
        nonlocal contents
        found = Contents(barcode, label)
        try:
            _segments(shelf, found)
        except (ForeignRecordError, *_TROUBLES):
            # Whatever a drive could read counts, even if the next one reads less.
            if len(found.segments) > len(contents.segments):
                contents = found
            raise
        contents = found

    try:
        shelf.in_any_drive(barcode, look)
    except (ForeignRecordError, *_TROUBLES) as error:
        contents.trouble = f"tape file {contents.last_file + 1} is no header of a segment: {error}"
    return contents


def _label(shelf: Shelf) -> Label:
    tape = shelf.tape
    tape.rewind()
    try:
        record = tape.read_record(RECORD_BYTES)
    except ReplyError as error:
        if error.code in DRIVE_FAILURES:
            raise
        # A record of another size, to media servers of other makes.
        raise ForeignRecordError(f"a first record that is no label ({error.code.name})") from error
    if record is None or tape.was_end(record):
        raise ForeignRecordError("nothing")
    return Label.parse(record)


def _segments(shelf: Shelf, contents: Contents) -> None:
    """Read one header after the other, from the first to the end of data."""
    tape = shelf.tape
    ended = tape.go_to_file(1)
    while ended:
        record = tape.read_record(RECORD_BYTES)
        if record is None or tape.was_end(record):
            return
        header = Header.parse(record)
        if not tape.next_file():
            return
        file = contents.last_file + 2
        ended = tape.next_file()
        contents.segments.append(Found(header, file, ended))
        if ended:
            contents.last_file = file
        else:
            contents.trouble = f"tape file {file} has no end: its job was cut short"
