"""What the records on a cartridge say that are not image data.

    tape file 0      label: one record
    tape file 2k-1   header of a segment: one record
    tape file 2k     the segment: records of the image, each of record_size bytes

A file mark follows each.  Labels and headers are records of exactly 64 KiB, JSON padded with NULs: some
libraries read a record only when asked for its exact length (tape.md, fault 1), and `dd bs=64k` shows
them to people.
"""

from __future__ import annotations

import json
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any, Final, TypeVar

from appliance.text import path_from_json, path_json

RECORD_BYTES: Final = 64 << 10
"""Bytes of a label or header record."""

VERSION: Final = 1
"""Version of both; a reader refuses what is newer."""

LABEL_MAGIC: Final = "SPANREEL-LABEL"
HEADER_MAGIC: Final = "SPANREEL-SEGMENT"


class ForeignRecordError(Exception):
    """A record is no label or header of ours; the text says why."""


@dataclass(frozen=True)
class Label:
    """Tape file 0: whose cartridge this is."""

    barcode: str
    uuid: str
    catalogue: str
    pool: str
    written: str

    def record(self) -> bytes:
        """The record on tape."""
        return _record(LABEL_MAGIC, asdict(self))

    @classmethod
    def parse(cls, record: bytes) -> Label:
        """Read a record.  Raises ForeignRecordError."""
        return _build(cls, _document(LABEL_MAGIC, record))


@dataclass(frozen=True)
class Header:
    """The file before a segment: which part of which image follows."""

    catalogue: str
    job: str
    image: str
    image_number: int
    segment: int
    offset: int
    record_size: int
    level: int
    root: bytes
    barcode: str
    label: str
    written: str
    base: str = ""
    """The uuid of the image that an incremental one is based on."""

    def record(self) -> bytes:
        """The record on tape."""
        values = asdict(self)
        return _record(HEADER_MAGIC, {**values, **path_json(values.pop("root"), "root")})

    @classmethod
    def parse(cls, record: bytes) -> Header:
        """Read a record.  Raises ForeignRecordError."""
        document = _document(HEADER_MAGIC, record)
        try:
            root = path_from_json(document, "root")
        except ValueError as error:
            raise ForeignRecordError(f"a damaged header: {error}") from error
        document.pop("root_base64", None)
        return _build(cls, {**document, "root": root})


def _record(magic: str, values: dict[str, Any]) -> bytes:
    text = json.dumps({"magic": magic, "version": VERSION, **values}, indent=1).encode("ascii")
    assert len(text) < RECORD_BYTES, "paths are at most PATH_MAX, so a header always fits"
    return text.ljust(RECORD_BYTES, b"\0")


def _document(magic: str, record: bytes) -> dict[str, Any]:
    # The magic is looked for in the raw bytes first: a foreign record may be anything, of any size.
    if magic.encode() not in record[:100]:
        raise ForeignRecordError("data that is not ours")
    try:
        document = json.loads(record.rstrip(b"\0"))
    except ValueError as error:
        raise ForeignRecordError("a damaged label or header") from error
    if not isinstance(document, dict) or document.pop("magic", None) != magic:
        raise ForeignRecordError("data that is not ours")
    version = document.pop("version", None)
    if version != VERSION:
        raise ForeignRecordError(
            f"a label or header of version {version}, by a newer Spanreel; this one knows {VERSION}"
        )
    return document


Parsed = TypeVar("Parsed", Label, Header)


def _build(cls: type[Parsed], document: dict[str, Any]) -> Parsed:
    for field in fields(cls):
        if field.default is not MISSING and field.name not in document:
            continue  # of an earlier release
        kind = {"str": str, "int": int, "bytes": bytes}[str(field.type)]
        if not isinstance(document.get(field.name), kind):
            raise ForeignRecordError(f"a damaged label or header: {field.name} is missing or malformed")
    known = {field.name for field in fields(cls)}
    return cls(**{name: value for name, value in document.items() if name in known})
