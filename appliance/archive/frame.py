r"""What stands around the parts of an image: the global header, the trailer, the end-of-archive.

All of it is in `g` headers with a single `comment` record, which GNU tar and bsdtar pass over without a
word.  The name of each holds job and offset in the image, as those of `x` headers do.  A comment's first line
is a JSON document, its last is a checksum of all before it; between them is what index.py says.  Names are
bytes, JSON is not: each is given twice, `path` for people (bytes that are not UTF-8, and backslashes, as
``\xNN``) and `path_base64`, which alone is read back.
"""

import base64
import binascii
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from appliance.archive.checksum import CHECKSUM_BYTES
from appliance.archive.encode import check_job
from appliance.archive.errors import DamagedArchiveError
from appliance.archive.formats import FIRST_FORMAT, FORMAT, algorithm_of, is_known
from appliance.archive.pax import global_record, header_origin, record
from appliance.archive.ustar import BLOCK

__all__ = [
    "COMMENT_BYTES_MAX",
    "END_OF_ARCHIVE",
    "TRAILER_BYTES_MIN",
    "Comment",
    "ImageHeader",
    "PartSummary",
    "comment",
    "global_header",
    "is_exact",
    "parse_comment",
    "parse_global_header",
    "parse_trailer",
    "stand_in_header",
    "trailer",
]

END_OF_ARCHIVE = bytes(2 * BLOCK)  # POSIX: "at least two 512-byte logical records filled with binary zeros"

# bsdtar refuses a pax header over 1 MiB, and a tape error should cost little of the index.
COMMENT_BYTES_MAX = 512 * 1024

# A DMA answers a reader's first request, of 64 KiB, only if the image has as much (design.md, 2).
TRAILER_BYTES_MIN = 64 * 1024

_PRODUCT = "spanreel"
_STAND_IN = "stand_in"
_TOKEN_END = 2**64 - 1
_NAME_BYTES = 100  # of a header's name field
_JSON_ROOM = COMMENT_BYTES_MAX - 4096  # what the parts of one comment take; the rest is its frame


@dataclass(frozen=True)
class ImageHeader:
    """What the global header says: format version, job, and the global path the backup was made of.

    `dump_date` is the token under which file servers may know the backup as a base, if any.  `is_stand_in`:
    it stands for a header that was not read, and the image may be of another format.
    """

    version: int
    job: str
    root: bytes
    dump_date: int | None = None
    is_stand_in: bool = False


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


class Comment(NamedTuple):
    """What a comment of ours says: its format, document and lines, and whether its checksum is right."""

    version: int
    document: dict[str, Any]
    body: bytes
    sound: bool


_SUM = b"checksum "
_SUM_BYTES = len(_SUM) + 2 * CHECKSUM_BYTES + 1  # with the digits and the end of the line


def comment(
    kind: str,
    job: str,
    offset: int,
    fields: dict[str, Any],
    body: bytes = b"",
    length: int = 0,
    *,
    version: int = FORMAT,
) -> bytes:
    """Return a `g` header that stands at `offset` in the image.

    `body` is whole lines.  The JSON is padded with blanks to at least `length` bytes.
    """
    document = {"format": _PRODUCT, "version": version, "kind": kind, "job": job, **fields}
    text = json.dumps(document, separators=(",", ":")).encode().ljust(length) + b"\n" + body
    return _assemble(check_job(job), offset, text + _sum_line(text, version))


def _assemble(job: bytes, offset: int, text: bytes) -> bytes:
    """Return a `g` header with `text` as its comment."""
    return global_record(b"./GlobalHead/spanreel-%b-%d" % (job, offset), record(b"comment", text))


def _sum_line(text: bytes, version: int) -> bytes:
    """Return the last line of a comment."""
    return b"%b%b\n" % (_SUM, algorithm_of(version).of(text).hex().encode())


def is_exact(raw: bytes, records: dict[bytes, bytes], offset: int) -> bool:
    """Whether a `g` header is, byte for byte, one that we wrote to stand at `offset`.

    Raises `DamagedArchiveError` (at `offset`) for a format version that this code does not know.
    """
    origin = header_origin(raw[:_NAME_BYTES].rstrip(b"\0"))
    found = parse_comment(records, offset)
    return (
        origin is not None
        and origin[1] == offset
        and found is not None
        and found.sound
        and raw == _assemble(*origin, records[b"comment"])
    )


def global_header(job: str, root: bytes, dump_date: int | None = None, *, version: int = FORMAT) -> bytes:
    """Return the first bytes of an image of the backup of global path `root`."""
    token = {} if dump_date is None else {"dump_date": dump_date}
    return comment("image", job, 0, {**_path_fields("root", root), **token}, version=version)


def stand_in_header(job: str, root: bytes) -> bytes:
    """Return what a feed has in the place of an image's header that was not read; on tape it never is."""
    fields = {**_path_fields("root", root), _STAND_IN: True}
    return comment("image", job, 0, fields, version=FIRST_FORMAT)


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


def trailer(job: str, parts: Sequence[PartSummary], offset: int, *, version: int = FORMAT) -> bytes:
    """Return the index of the parts, at least `TRAILER_BYTES_MIN` long, in comments of bounded size.

    It stands at `offset` in the image.
    """
    groups = _groups(parts)
    encoded = b""
    for number, group in enumerate(groups, 1):
        fields = {"number": number, "of": len(groups), "parts": group}
        length = TRAILER_BYTES_MIN if number == len(groups) else 0
        at = offset + len(encoded)
        encoded += comment("index", job, at, fields, length=length, version=version)
    return encoded


def parse_comment(records: dict[bytes, bytes], offset: int) -> Comment | None:
    """Return what a `g` header of ours says, None for one of another program.

    Raises `DamagedArchiveError` (at `offset`) for a format version that this code does not know.
    """
    text = records.get(b"comment", b"")
    first, _, rest = text.partition(b"\n")
    try:
        document = json.loads(first)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict) or document.get("format") != _PRODUCT:
        return None
    version: Any = document.get("version")
    if not is_known(version):
        what = f"format version {version!r} is not known here"
        if isinstance(version, int) and version > FORMAT:
            what = f"a newer Spanreel wrote this image, in format {version}, and this one knows {FORMAT}"
            what += "; restore with the newer one, or with GNU tar"
        raise DamagedArchiveError(what, offset)
    sound = text[-_SUM_BYTES:] == _sum_line(text[:-_SUM_BYTES], version)
    return Comment(version, document, rest[:-_SUM_BYTES], sound)


def _document(records: dict[bytes, bytes], offset: int) -> dict[str, Any] | None:
    """Return the JSON of a `g` header of ours, None for one of another program."""
    found = parse_comment(records, offset)
    return None if found is None else found.document


def parse_global_header(records: dict[bytes, bytes], offset: int = 0) -> ImageHeader | None:
    """Return what a `g` header's records say, None if it is not the header of an image of ours.

    Raises `DamagedArchiveError` (at `offset`) for a header of ours that breaks the form.
    """
    found = parse_comment(records, offset)
    if found is None or found.document.get("kind") != "image":
        return None
    document = found.document
    if not found.sound:
        raise DamagedArchiveError("the header of the image does not match its checksum", offset)
    try:
        root = base64.b64decode(document["root_base64"], validate=True)
        token = document.get("dump_date")
        dump_date = token if isinstance(token, int) and 0 < token < _TOKEN_END else None
        is_stand_in = document.get(_STAND_IN) is True
        return ImageHeader(found.version, str(document["job"]), root, dump_date, is_stand_in)
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
