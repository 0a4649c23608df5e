"""The map of the global name space: which file server owns which part of the one tree.

A junction joins a directory of one file server to a global path.  Junctions nest: below fs1's
`/projects` may lie fs2's `/projects/media`.  The owner of a path is the junction with the longest match
by whole components, so `/projects2` has nothing to do with `/projects`.  Directories above all
junctions (the root, the way to a junction) belong to nobody.

Everything here is pure and immutable; `store.py` keeps maps, `codec.py` writes them down, `change.py`
applies changes that arrive as data.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Final

from appliance.errors import ConfigurationError, JobError
from appliance.paths import is_at_or_below
from appliance.roles import NODE_NAME
from appliance.text import show_path

# Linux's PATH_MAX without the final NUL, and NAME_MAX: a junction beyond them could not be mounted.
PATH_LENGTH_MAX: Final = 4095
NAME_LENGTH_MAX: Final = 255

# A map is held, sent and compared as a whole; a site has tens of junctions.  The bound keeps a wrong
# file or peer from filling memory.
JUNCTIONS_MAX: Final = 10_000

# Below this name file servers keep what clients reach only through referrals (see nfs_plan.py).
RESERVED_NAME: Final = b".spanreel"

# A part that moves is copied to a junction of this name first: clients and jobs do not see it.
MOVING_PREFIX: Final = b"/.moving-"

# Opaque and random, so that it tells clients and logs nothing: uuid4().hex.
FILESET_ID: Final = re.compile(r"[0-9a-f]{32}")


class MapError(ConfigurationError):
    """A junction, a path or a change that the map cannot take."""


class PathNotFoundError(JobError):
    """No file server owns anything at the path."""


def components(path: bytes) -> tuple[bytes, ...]:
    """Return the names in an absolute path; `/` has none.  Sorting by them is path order."""
    return tuple(name for name in path.split(b"/") if name)


def check_path(path: bytes, what: str) -> bytes:
    """Return `path` when it is absolute and normalised; else raise MapError naming `what` it was for."""
    if not path.startswith(b"/"):
        raise MapError(f"{what} {show_path(path)!r} is not absolute: it must begin with /")
    if b"\0" in path or len(path) > PATH_LENGTH_MAX:
        raise MapError(f"{what} {show_path(path[:64])!r}… has a NUL or more than {PATH_LENGTH_MAX} bytes")
    if path == b"/":
        return path
    for name in path[1:].split(b"/"):
        if name in (b"", b".", b"..") or len(name) > NAME_LENGTH_MAX:
            raise MapError(
                f"{what} {show_path(path)!r} is not normalised: no empty name, '.', '..', "
                f"trailing slash or name over {NAME_LENGTH_MAX} bytes is allowed"
            )
    return path


def join(top: bytes, relative: bytes) -> bytes:
    """Return the normalised path of `relative` (b"" for `top` itself) below the directory `top`."""
    if not relative:
        return top
    return top + relative if top == b"/" else top + b"/" + relative


def relative_to(path: bytes, top: bytes) -> bytes:
    """Return what of `path` lies below `top`; b"" when they are the same."""
    return path[len(top) :].lstrip(b"/")


def ancestors(path: bytes) -> Iterator[bytes]:
    """Yield `path` and every directory above it, deepest first, ending with `/`."""
    while path != b"/":
        yield path
        path = path[: path.rindex(b"/")] or b"/"
    yield b"/"


@dataclass(frozen=True, slots=True)
class Junction:
    """One part of the tree: `path` is global, `local` is the directory of `owner` that it shows.

    `fileset` stays the same when the part moves to another owner; `generation` is the map's at the
    junction's last change, so that a request made with an older map is recognised.
    """

    path: bytes
    owner: str
    local: bytes
    fileset: str
    generation: int

    @property
    def moving(self) -> bool:
        """Whether this is the new place of a part that is still being copied there."""
        return self.path.startswith(MOVING_PREFIX)

    def __post_init__(self) -> None:
        check_path(self.path, "global path")
        check_path(self.local, "local directory")
        if RESERVED_NAME in components(self.path)[:1]:
            raise MapError(f"global path {show_path(self.path)!r}: {RESERVED_NAME.decode()} is reserved")
        if not NODE_NAME.fullmatch(self.owner):
            raise MapError(f"owner {self.owner!r} is not a node name: a-z, 0-9 and - are allowed, up to 63")
        if not FILESET_ID.fullmatch(self.fileset):
            raise MapError(f"fileset {self.fileset!r} is not 32 hexadecimal digits")
        if self.generation < 0:
            raise MapError(f"generation {self.generation} of {show_path(self.path)!r} is negative")


@dataclass(frozen=True, slots=True)
class Resolution:
    """Who owns a path: the junction, and the rest of the path below it (b"" at the junction itself)."""

    junction: Junction
    relative: bytes

    @property
    def local(self) -> bytes:
        """The owner's local path; it must stay between the owner and its peers."""
        return join(self.junction.local, self.relative)


@dataclass(frozen=True, slots=True)
class Part:
    """One owner's share of a job: from `path` down, leaving out `skips`.

    `relative` is where `path` lies below the junction, b"" when the part is the whole fileset.
    """

    junction: Junction
    path: bytes
    relative: bytes
    skips: tuple[bytes, ...]

    @property
    def local(self) -> bytes:
        """The owner's local path of the part's top."""
        return join(self.junction.local, self.relative)


@dataclass(frozen=True)
class GnsMap:
    """One generation of the map; junctions are unique and in path order.

    Construction sorts and checks the junctions and raises MapError for what cannot be.
    """

    generation: int = 0
    junctions: tuple[Junction, ...] = ()

    def __post_init__(self) -> None:
        ordered = tuple(sorted(self.junctions, key=lambda junction: components(junction.path)))
        object.__setattr__(self, "junctions", ordered)
        _check_junctions(self.generation, ordered)

    @cached_property
    def _by_path(self) -> dict[bytes, Junction]:
        return {junction.path: junction for junction in self.junctions}

    @cached_property
    def _nested(self) -> dict[bytes, tuple[bytes, ...]]:
        nested: dict[bytes, tuple[bytes, ...]] = {}
        for junction in self.junctions:
            outer = self.enclosing(junction.path)
            if outer is not None:
                nested[outer.path] = (*nested.get(outer.path, ()), junction.path)
        return nested

    def at(self, path: bytes) -> Junction:
        """Return the junction at exactly `path`; raises PathNotFoundError."""
        try:
            return self._by_path[path]
        except KeyError:
            raise PathNotFoundError(
                f"no junction at {show_path(path)}; `spanreel gns ls` lists them"
            ) from None

    def resolve(self, path: bytes) -> Resolution:
        """Return who owns the normalised global `path`, by longest match of whole components.

        Raises PathNotFoundError when nobody does.
        """
        for directory in ancestors(path):
            junction = self._by_path.get(directory)
            if junction is not None:
                return Resolution(junction, relative_to(path, directory))
        raise PathNotFoundError(f"no file server owns {show_path(path)}; `spanreel gns ls` lists the parts")

    def enclosing(self, path: bytes) -> Junction | None:
        """Return the junction that owns the directory holding `path`, not looking at `path` itself."""
        if path == b"/":
            return None
        above = ancestors(path)
        next(above)
        return next((self._by_path[top] for top in above if top in self._by_path), None)

    def parts(self, path: bytes) -> list[Part]:
        """Return what a job on the normalised global `path` consists of, in path order.

        Every junction at or below `path` is a part; when `path` lies inside a junction, the piece of
        that one from `path` down comes first.  Raises PathNotFoundError when there is nothing.
        """
        found = [
            Part(junction, junction.path, b"", self.skips(junction))
            for junction in self.junctions
            if is_at_or_below(junction.path, path) and not junction.moving
        ]
        if path not in self._by_path:
            outer = self.enclosing(path)
            if outer is not None:
                skips = tuple(skip for skip in self.skips(outer) if is_at_or_below(skip, path))
                found.insert(0, Part(outer, path, relative_to(path, outer.path), skips))
        if not found:
            raise PathNotFoundError(
                f"no file server owns anything at {show_path(path)}; `spanreel gns ls` lists the parts"
            )
        return found

    def skips(self, junction: Junction) -> tuple[bytes, ...]:
        """Return the global paths of the junctions directly below `junction`, in path order."""
        return self._nested.get(junction.path, ())

    def unowned(self, path: bytes) -> list[bytes]:
        """Return the directories nobody owns at or below `path` that lead to a junction, in path order."""
        found = {
            directory
            for junction in self.junctions
            if self.enclosing(junction.path) is None
            for directory in ancestors(junction.path)
            if directory != junction.path and is_at_or_below(directory, path)
        }
        return sorted(found, key=components)

    def add(self, path: bytes, owner: str, local: bytes, fileset: str) -> GnsMap:
        """Return the next generation with a new junction; raises MapError when `path` has one."""
        if path in self._by_path:
            raise MapError(f"{show_path(path)} is a junction already, of {self._by_path[path].owner}")
        generation = self.generation + 1
        return GnsMap(generation, (*self.junctions, Junction(path, owner, local, fileset, generation)))

    def remove(self, path: bytes) -> GnsMap:
        """Return the next generation without the junction at `path`; raises PathNotFoundError."""
        gone = self.at(path)
        return GnsMap(self.generation + 1, tuple(each for each in self.junctions if each is not gone))

    def replace(self, path: bytes, owner: str, local: bytes) -> GnsMap:
        """Return the next generation with the same fileset at another owner or local directory."""
        without = self.remove(path)
        moved = Junction(path, owner, local, self.at(path).fileset, without.generation)
        return GnsMap(without.generation, (*without.junctions, moved))


def _check_junctions(generation: int, ordered: tuple[Junction, ...]) -> None:
    if len(ordered) > JUNCTIONS_MAX:
        raise MapError(f"the map has {len(ordered)} junctions; {JUNCTIONS_MAX} are allowed")
    for junction, follower in pairwise(ordered):
        if junction.path == follower.path:
            raise MapError(f"{show_path(junction.path)} has two junctions")
    if len({junction.fileset for junction in ordered}) != len(ordered):
        raise MapError("two junctions have the same fileset")
    if any(junction.generation > generation for junction in ordered):
        raise MapError("a junction is younger than its map")
    _check_local_directories(ordered)


def _check_local_directories(ordered: tuple[Junction, ...]) -> None:
    """Refuse two filesets of one owner in one local tree: files would have two global paths."""
    by_place = sorted(ordered, key=lambda junction: (junction.owner, components(junction.local)))
    # Sorted by components, a directory's descendants follow it directly, so neighbours tell.
    for outer, inner in pairwise(by_place):
        if outer.owner == inner.owner and is_at_or_below(inner.local, outer.local):
            raise MapError(
                f"{show_path(outer.path)} and {show_path(inner.path)} would show the same files: one's "
                f"local directory on {outer.owner} lies in the other's; give each a directory of its own"
            )
