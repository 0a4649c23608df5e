"""Direct access: what a restore's environment and nlist say about where in the image its names stand.

The table of parts is given to the DMA in the environment of the backup, one variable a part, and comes back
at the restore from a DMA that keeps to the draft (3.5.2.4); without it more is read, nothing is missed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote_from_bytes, unquote_to_bytes

from appliance.fileserver.plan import Wish, clean_path
from appliance.ndmp import extension as x
from appliance.ndmp.enums import ALL_ONES
from appliance.ndmp.errors import RefusalError
from appliance.paths import is_at_or_below

PART = b"SPANREEL_PART"
"""One part of the image: offset, length and global path with %XX, by single blanks.  The first is what the
entry server writes itself, at the backup root."""

PARTS_MAX = 512
"""More parts are not listed: ndmjob keeps 1,024 variables and does not count them."""

DIRECT = b"DIRECT"
RECURSIVE = b"RECURSIVE"


def is_yes(env: Mapping[bytes, Sequence[bytes]], name: bytes, default: bool) -> bool:
    """A variable that is y or n in one of its spellings (Y, yes, T, ...); another value means the default."""
    letter = (env.get(name) or (b"",))[-1][:1].lower()
    return letter in (b"y", b"t") if letter in (b"y", b"t", b"n", b"f") else default


def part_values(parts: Sequence[tuple[int, int, bytes]]) -> list[bytes]:
    """The table as values of `PART`: (offset, length, global path) each; empty when there are too many."""
    if len(parts) > PARTS_MAX:
        return []
    return [
        b"%d %d %s" % (offset, length, quote_from_bytes(path, safe="/").encode())
        for offset, length, path in parts
    ]


def parse_parts(values: Iterable[bytes], root: bytes) -> tuple[x.Stretch, ...]:
    """The reverse, with paths relative to the backup root; empty for a table that is damaged or foreign."""
    found = []
    for value in values:
        try:
            offset, length, quoted = value.split(b" ")
            path = clean_path(unquote_to_bytes(quoted))
            stretch = x.Stretch(int(offset), int(length), path[len(root.rstrip(b"/")) :] or b"/")
        except (ValueError, RefusalError):
            return ()
        bounds = 0 <= stretch.offset <= stretch.offset + stretch.length <= ALL_ONES
        if not bounds or not is_at_or_below(path, root):
            return ()
        found.append(stretch)
    return tuple(found)


@dataclass(frozen=True)
class Access:
    """How a restore reads the image: by `places`, or all of it when there are none."""

    recursive: bool = True
    root: bytes = b""
    places: tuple[x.Place, ...] = ()
    parts: tuple[x.Stretch, ...] = ()


def access(env: Mapping[bytes, Sequence[bytes]], wanted: Sequence[Wish]) -> Access:
    """What DIRECT, RECURSIVE and the nlist ask for.

    One name without fh_info makes it a scan of the whole image (draft, 3.5.2.4: all ones is "not known").
    """
    recursive = is_yes(env, RECURSIVE, default=True)
    given = (env.get(b"FILESYSTEM") or (b"",))[-1]
    root = clean_path(given) if given.startswith(b"/") else b""
    if not is_yes(env, DIRECT, default=False) or any(wish.fh_info == ALL_ONES for wish in wanted):
        return Access(recursive, root)
    places = tuple(x.Place(wish.fh_info, wish.source or b"/") for wish in wanted)
    if not root:
        return Access(recursive, places=places)
    return Access(recursive, root, places, parse_parts(env.get(PART, ()), root))
