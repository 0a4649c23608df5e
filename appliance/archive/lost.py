"""What a feed is told of files that tape does not give back any more.

The connection server reads on behind damage, and knows from the index what was lost.  It says so on the feed,
in a `g` comment of its own, which is on no tape: each path on a line as in an index; none, when the index is
lost as well.
"""

from collections.abc import Iterator, Sequence

from appliance.archive.formats import FIRST_FORMAT
from appliance.archive.frame import COMMENT_BYTES_MAX, comment, parse_comment
from appliance.archive.index import escape, unescape

__all__ = ["lost_headers", "parse_lost"]

_KIND = "lost"
_ROOM = COMMENT_BYTES_MAX - 4096


def lost_headers(job: str, paths: Sequence[bytes]) -> Iterator[bytes]:
    """Yield headers that name global paths; one that names none, if there are none."""
    lines: list[bytes] = []
    room = _ROOM
    for path in paths:
        line = escape(path) + b"\n"
        if len(line) > room and lines:
            yield comment(_KIND, job, 0, {}, b"".join(lines), version=FIRST_FORMAT)
            lines, room = [], _ROOM
        lines.append(line)
        room -= len(line)
    yield comment(_KIND, job, 0, {}, b"".join(lines), version=FIRST_FORMAT)


def parse_lost(records: dict[bytes, bytes], offset: int) -> list[bytes] | None:
    """Return the paths that a `g` header's records name, None if it is another header.

    Raises `DamagedArchiveError` (at `offset`) for a format version that this code does not know.
    """
    found = parse_comment(records, offset)
    if found is None or found.document.get("kind") != _KIND:
        return None
    return [unescape(line) for line in found.body.split(b"\n") if line]
