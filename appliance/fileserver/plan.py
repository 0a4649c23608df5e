"""Who does what: the parts of a backup, and the routes of a restore, by one generation of the map.  Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from appliance.gns.map import GnsMap, PathNotFoundError
from appliance.ndmp.enums import ALL_ONES, ErrorCode
from appliance.ndmp.errors import RefusalError
from appliance.ndmp.types import Name
from appliance.paths import is_at_or_below
from appliance.text import show_path


def clean_path(path: bytes) -> bytes:
    """A global path as the map wants it: one leading slash, no empty or dot components.

    Raises RefusalError(ILLEGAL_ARGS) for one that is not absolute or has "..".
    """
    parts = [part for part in path.split(b"/") if part not in (b"", b".")]
    if not path.startswith(b"/") or b".." in parts or b"\0" in path:
        raise RefusalError(ErrorCode.ILLEGAL_ARGS, f"{show_path(path)} is no absolute global path")
    return b"/" + b"/".join(parts)


@dataclass(frozen=True)
class Wish:
    """One nlist entry: `source` relative to the backup root, b"" for all; `target` a global path.

    `fh_info` is where in the image the source's member stands, all ones when nobody knows.
    """

    original: bytes
    source: bytes
    target: bytes
    fh_info: int = ALL_ONES


@dataclass
class OwnerRoutes:
    """What one owner restores: (number of the wish, source, target) each."""

    owner: str
    routes: list[tuple[int, bytes, bytes]] = field(default_factory=list)


def wishes(names: Sequence[Name], fallback: bytes) -> list[Wish]:
    """Read an nlist (draft-skardal-ndmpv4-04, 3.5.2.4).

    An empty one, as ndmjob sends, means everything to `fallback`.  Raises RefusalError.
    """
    if not names:
        return [Wish(b"", b"", clean_path(fallback))]
    found = []
    for name in names:
        if b"/" in name.name or not name.destination_path:
            raise RefusalError(ErrorCode.ILLEGAL_ARGS, "a name holds a slash, or a destination is empty")
        target = name.destination_path + (b"/" + name.name if name.name else b"")
        source = clean_path(b"/" + name.original_path)
        target = clean_path(b"/" + target)
        found.append(Wish(name.original_path, source.rstrip(b"/"), target, name.fh_info))
    return found


def routes(gns: GnsMap, wanted: Sequence[Wish], *, recursive: bool = True) -> list[OwnerRoutes]:
    """Split wishes by the servers that own their targets today.

    A junction below a target takes what would lie below it, if anything is restored below (`recursive`).
    Raises RefusalError(FILE_NOT_FOUND) for a target that nobody owns.
    """
    owners: dict[str, OwnerRoutes] = {}
    for number, wish in enumerate(wanted):
        for owner, source, target in _routes_of(gns, wish, recursive):
            owners.setdefault(owner, OwnerRoutes(owner)).routes.append((number, source, target))
    return list(owners.values())


def _routes_of(gns: GnsMap, wish: Wish, recursive: bool) -> list[tuple[str, bytes, bytes]]:
    found = []
    try:
        junction = gns.resolve(wish.target).junction
        found.append((junction.owner, wish.source or b"/", wish.target))
    except PathNotFoundError as error:
        missing = str(error)
    for junction in gns.junctions if recursive else ():
        if junction.path != wish.target and is_at_or_below(junction.path, wish.target):
            below = junction.path[len(wish.target.rstrip(b"/")) :]
            found.append((junction.owner, wish.source + below, junction.path))
    if not found:
        raise RefusalError(ErrorCode.FILE_NOT_FOUND, missing)
    return found
