r"""The index of a part: what was saved, where, and its checksum; in `g` comments among the members.

A comment's first line is JSON as in frame.py, with the offset of the first member it speaks of and how many
there are; then a line for each member, in the order of the stream::

    offset length checksum type node data-offset mode uid gid size mtime path

Offset and length are those of the member in the image, headers and padding included, and so is what the
checksum is made of.  `type` is the flag of the inode in ustar; a hard link has its target's, and its
`data-offset` is that of the member with the data.  `mode` is octal, `mtime` in nanoseconds, `path` global,
with ``\xNN`` for what is not printable UTF-8 and for the backslash.

A comment is written when there is enough for one, so the writer's memory, and that of who checks, is bounded.
"""

import functools
import re
from binascii import hexlify
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from appliance.archive.checksum import CHECKSUM_BYTES
from appliance.archive.errors import DamagedArchiveError
from appliance.archive.frame import COMMENT_BYTES_MAX, comment, parse_comment
from appliance.archive.kinds import FLAG_OF_KIND, KIND_OF_FLAG, Kind
from appliance.archive.stage import Stage

__all__ = ["Index", "IndexEntry", "IndexWriter", "parse_index"]

_KIND = "files"

# A path that takes more is left out, and read from the member itself: GNU tar stops at 4 KiB anyhow.
_PATH_BYTES_MAX = 64 * 1024
_NO_PATH = b"-"

# When a comment has so much it is written: one more line, its frame and its numbers still fit.
_LINES_BYTES = COMMENT_BYTES_MAX - _PATH_BYTES_MAX - 8192

_LINE = b"%d %d %b %b %d %d %o %d %d %d %d %b\n"
_DIGITS_MAX = 21  # a signed 64-bit number
_FIELDS = 12
_PLAIN = re.compile(rb"[^\x00-\x1f\x7f\\]*")
_ESCAPE = re.compile(rb"\\x([0-9a-f]{2})")
_UNSAFE = re.compile(rb"[\x00-\x1f\x7f\\]")


class IndexEntry(NamedTuple):
    """One member; `path` is empty where it was too long for the index."""

    offset: int
    length: int
    checksum: bytes
    kind: Kind
    node: int
    data_offset: int
    mode: int
    uid: int
    gid: int
    size: int
    mtime_ns: int
    path: bytes


@dataclass(frozen=True)
class Index:
    """One comment, of a format: the `total` members from `start` up to the index, each with a line of `body`.

    `intact`: the comment has the checksum that it was written with.  Lines are read when they are asked for:
    most of those that a restore meets only prove that all is well.
    """

    start: int
    total: int
    intact: bool
    body: bytes
    version: int

    @property
    def sound(self) -> bool:
        """Whether every byte of it is as it was written."""
        return self.intact and len(self.entries) == self.total == self.body.count(b"\n")

    @functools.cached_property
    def entries(self) -> list[IndexEntry]:
        """The members; where the index is not sound, those whose lines can be read."""
        return [entry for line in self.body.split(b"\n") if (entry := _entry(line)) is not None]

    def checksums(self) -> Iterator[tuple[int, bytes]]:
        """Yield offset and checksum, in digits, of each line; anything or nothing of one that is no entry."""
        for line in self.body.split(b"\n"):
            fields = line.split(b" ", 3)
            if len(fields) == 4 and fields[0].isdigit() and len(fields[0]) <= _DIGITS_MAX:
                yield int(fields[0]), fields[2]


def _hex(match: re.Match[bytes]) -> bytes:
    return b"\\x%02x" % match[0][0]


def escape(path: bytes) -> bytes:
    """Return a path as it stands in an index."""
    try:
        # What is neither a backslash nor unprintable, the common case, is told fastest by text.
        if path.decode().isprintable() and b"\\" not in path:
            return path
    except UnicodeDecodeError:
        text = path.replace(b"\\", b"\\x5c").decode("utf-8", "backslashreplace").encode()
        return re.sub(rb"[\x00-\x1f\x7f]", _hex, text)
    return path if _PLAIN.fullmatch(path) else _UNSAFE.sub(_hex, path)


def unescape(text: bytes) -> bytes:
    """Undo `escape`."""
    return _ESCAPE.sub(lambda match: bytes([int(match[1], 16)]), text) if b"\\" in text else text


class IndexWriter:
    """Gathers the entries of one part, and writes a comment whenever there is enough for one."""

    def __init__(self, job: str, stage: Stage, version: int) -> None:
        self._job = job
        self._version = version
        self._stage = stage
        self._start = stage.offset
        self._lines: list[bytes] = []
        self._count = 0
        self._bytes = 0

    def add(
        self,
        offset: int,
        length: int,
        digest: bytes,
        kind: Kind,
        node: int,
        data_offset: int,
        mode: int,
        uid: int,
        gid: int,
        size: int,
        mtime_ns: int,
        path: bytes,
    ) -> None:
        """Enter the member that was written last: the fields of an `IndexEntry`."""
        path = escape(path)
        shown = path if len(path) <= _PATH_BYTES_MAX else _NO_PATH
        line = _LINE % (
            offset,
            length,
            hexlify(digest),
            FLAG_OF_KIND.get(kind, b"0"),
            node,
            data_offset,
            mode,
            uid,
            gid,
            size,
            mtime_ns,
            shown,
        )
        self._lines.append(line)
        self._count += 1
        # A path that is left out counts all the same: whoever checks keeps it until the comment comes.
        self._bytes += len(line) - len(shown) - 1 + len(path)
        if self._bytes > _LINES_BYTES:
            self.flush()

    @property
    def room(self) -> int:
        """Bytes of lines that may still be gathered before a comment is written."""
        return _LINES_BYTES - self._bytes

    def add_lines(self, lines: bytes, count: int) -> None:
        """Enter members whose `count` lines are made already; all paths are in them.

        Only the last of them may exceed `room`.
        """
        self._lines.append(lines)
        self._count += count
        self._bytes += len(lines) - count
        if self._bytes > _LINES_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what is gathered."""
        if self._lines:
            offset = self._stage.offset
            fields = {"start": self._start, "count": self._count}
            lines = b"".join(self._lines)
            self._stage.put(comment(_KIND, self._job, offset, fields, lines, version=self._version))
            self._lines.clear()
            self._count = self._bytes = 0
        self._start = self._stage.offset


def parse_index(records: dict[bytes, bytes], offset: int) -> Index | None:
    """Return what a `g` header's records list, None if it is no index of a part.

    Raises `DamagedArchiveError` (at `offset`) where not even its first line can be read.
    """
    found = parse_comment(records, offset)
    if found is None or found.document.get("kind") != _KIND:
        return None
    start, count = found.document.get("start"), found.document.get("count")
    if not isinstance(start, int) or not isinstance(count, int):
        raise DamagedArchiveError("the index of a part is malformed", offset)
    return Index(start, count, found.sound, found.body, found.version)


def _entry(line: bytes) -> IndexEntry | None:
    """Read one line; None if it is malformed."""
    fields = line.split(b" ", _FIELDS - 1)
    if len(fields) != _FIELDS or max(map(len, fields[:2] + fields[4:11])) > _DIGITS_MAX:
        return None
    kind = KIND_OF_FLAG.get(fields[3])
    path = b"" if fields[11] == _NO_PATH else unescape(fields[11])
    try:
        digest = bytes.fromhex(fields[2].decode("ascii"))
        numbers = [int(fields[n], 8 if n == 6 else 10) for n in (0, 1, 4, 5, 6, 7, 8, 9, 10)]
    except ValueError:
        return None
    if kind is None or len(digest) != CHECKSUM_BYTES or min(numbers[:-1]) < 0:
        return None
    offset, length, node, data_offset, mode, uid, gid, size, mtime_ns = numbers
    return IndexEntry(offset, length, digest, kind, node, data_offset, mode, uid, gid, size, mtime_ns, path)
