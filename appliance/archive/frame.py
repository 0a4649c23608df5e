r"""What stands around the parts of an image: the global header, the trailer, the end-of-archive.

All of it is in `g` headers with a single `comment` record, which GNU tar and bsdtar pass over without a
word.  A comment is one JSON document.  Names are bytes, JSON is not: each is given twice, `path` for people
(bytes that are not UTF-8, and backslashes, as ``\xNN``) and `path_base64`, which alone is read back.
"""

import base64
import binascii
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from appliance.archive.encode import check_job
from appliance.archive.errors import DamagedArchiveError
from appliance.archive.pax import global_record, record
from appliance.archive.ustar import BLOCK

__all__ = [
    "COMMENT_BYTES_MAX",
    "END_OF_ARCHIVE",
    "FORMAT_VERSION",
    "TRAILER_BYTES_MIN",
    "ImageHeader",
    "PartSummary",
    "global_header",
    "parse_global_header",
    "parse_trailer",
    "trailer",
]

FORMAT_VERSION = 1

END_OF_ARCHIVE = bytes(2 * BLOCK)  # POSIX: "at least two 512-byte logical records filled with binary zeros"

# bsdtar refuses a pax header over 1 MiB, and a tape error should cost little of the index.
COMMENT_BYTES_MAX = 512 * 1024

# A DMA answers a reader's first request, of 64 KiB, only if the image has as much (design.md, 2).
TRAILER_BYTES_MIN = 64 * 1024

_PRODUCT = "spanreel"
_JSON_ROOM = COMMENT_BYTES_MAX - 4096  # what the parts of one comment take; the rest is its frame


@dataclass(frozen=True)
class ImageHeader:
    """What the global header says: format version, job, and the global path the backup was made of."""

    version: int
    job: str
    root: bytes


@dataclass(frozen=True)
class PartSummary:
    """One owner's part: whose, its global path, where in the image, and how much (bytes, files)."""

    owner: str
    path: bytes
    offset: int
    bytes: int
    files: int


def _path_fields(key: str, path: bytes) -> dict[str, str]:
    """Return the two JSON fields of a path."""
    text = path.replace(b"\\", b"\\x5c").decode("utf-8", "backslashreplace")
    return {key: text, f"{key}_base64": base64.b64encode(path).decode()}


def _comment(kind: str, job: str, fields: dict[str, Any], length: int = 0) -> bytes:
    """Return a `g` header with a JSON comment, padded with blanks to at least `length` bytes of JSON."""
    document = {"format": _PRODUCT, "version": FORMAT_VERSION, "kind": kind, "job": job, **fields}
    text = json.dumps(document, separators=(",", ":")).encode().ljust(length)
    return global_record(
        b"./GlobalHead/spanreel-%b-%b" % (check_job(job), kind.encode()), record(b"comment", text)
    )


def global_header(job: str, root: bytes) -> bytes:
    """Return the first bytes of an image of the backup of global path `root`."""
    return _comment("image", job, _path_fields("root", root))


def _groups(parts: Sequence[PartSummary]) -> list[list[dict[str, Any]]]:
    """Return the parts as JSON fields, in groups that fit one comment each (one group at least)."""
    groups: list[list[dict[str, Any]]] = [[]]
    room = _JSON_ROOM
    for part in parts:
        fields = {
            "owner": part.owner,
            **_path_fields("path", part.path),
            "offset": part.offset,
            "bytes": part.bytes,
            "files": part.files,
        }
        size = len(json.dumps(fields)) + 1
        if size > room and groups[-1]:
            groups.append([])
            room = _JSON_ROOM
        groups[-1].append(fields)
        room -= size
    return groups


def trailer(job: str, parts: Sequence[PartSummary]) -> bytes:
    """Return the index of the parts, at least `TRAILER_BYTES_MIN` long, in comments of bounded size."""
    groups = _groups(parts)
    return b"".join(
        _comment(
            "index",
            job,
            {"number": number, "of": len(groups), "parts": group},
            TRAILER_BYTES_MIN if number == len(groups) else 0,
        )
        for number, group in enumerate(groups, 1)
    )


def _document(records: dict[bytes, bytes], offset: int) -> dict[str, Any] | None:
    """Return the JSON of a `g` header of ours, None for one of another program.

    Raises `DamagedArchiveError` (at `offset`) for a format version that this code does not know.
    """
    try:
        document = json.loads(records.get(b"comment", b""))
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict) or document.get("format") != _PRODUCT:
        return None
    if document.get("version") != FORMAT_VERSION:
        raise DamagedArchiveError(f"format version {document.get('version')!r} is not known here", offset)
    return document


def parse_global_header(records: dict[bytes, bytes], offset: int = 0) -> ImageHeader | None:
    """Return what a `g` header's records say, None if it is not the header of an image of ours.

    Raises `DamagedArchiveError` (at `offset`) for a header of ours that breaks the form.
    """
    document = _document(records, offset)
    if document is None or document.get("kind") != "image":
        return None
    try:
        root = base64.b64decode(document["root_base64"], validate=True)
        return ImageHeader(FORMAT_VERSION, str(document["job"]), root)
    except (KeyError, TypeError, ValueError, binascii.Error):
        raise DamagedArchiveError("the global header is malformed", offset) from None


def parse_trailer(records: dict[bytes, bytes], offset: int = 0) -> list[PartSummary] | None:
    """Return the parts one comment of the trailer lists, None if it is none.

    Raises `DamagedArchiveError` (at `offset`) for a comment of ours that breaks the form.
    """
    document = _document(records, offset)
    if document is None or document.get("kind") != "index":
        return None
    try:
        return [
            PartSummary(
                str(part["owner"]),
                base64.b64decode(part["path_base64"], validate=True),
                int(part["offset"]),
                int(part["bytes"]),
                int(part["files"]),
            )
            for part in document["parts"]
        ]
    except (KeyError, TypeError, ValueError, binascii.Error):
        raise DamagedArchiveError("the trailer is malformed", offset) from None
