"""Directories that were moved since the base, and in which order to move them again.

They are found by their inode numbers before anything is written, because the list of moves stands in the
first member of a part.  Only directories that changed are listed; what is in the others is remembered.

An inode number may have been given to another directory since.  Then the list moves the old one there all
the same, and what follows is right by itself: names are judged against what the moved one held.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from appliance.archive.dumpdir import MOVES_MAX
from appliance.archive.treestate import TOP, BaseState, Remembered, StateError

__all__ = ["DEPTH_MAX", "Moves", "find_moves"]

DEPTH_MAX = 200
"""Directories deeper than this are not looked for: each level costs a descriptor while it is searched.  A
directory that is moved there is saved whole again."""

_ABOVE_MAX = 1 << 16
"""Directories above one.  A tree that was moved about while its state was taken may hold itself there."""

_PARKED = b".spanreel-moved-%d"

Subdirectories = Callable[[bytes, int], list[bytes]]
Open = Callable[[bytes, int], int]


@dataclass
class Moves:
    """What was moved: paths are relative to the part's top, without slashes around them.

    - `steps`: (from, to), in order, each true of the tree as the steps before left it.
    - `origins`: new path and path in the base of each directory that the steps bring to its place.
    - `placed`: the same by inode number: where each directory of the base is now, if it was moved.
    - `displaced`: directories that had to make way and did not get anywhere: saved again if they are there.
    - `cluttered`: directories into which others were put; they must be written, so that these are removed.
    """

    steps: list[tuple[bytes, bytes]] = field(default_factory=list)
    origins: list[tuple[bytes, bytes]] = field(default_factory=list)
    placed: dict[int, bytes] = field(default_factory=dict)
    displaced: set[int] = field(default_factory=set)
    cluttered: set[int] = field(default_factory=set)


class _Found(NamedTuple):
    """A directory of the base that is somewhere else now: its path, and the inodes above it from the top."""

    base: Remembered
    path: bytes
    above: tuple[int, ...]


def find_moves(top: int, base: BaseState, subdirectories: Subdirectories, open_below: Open) -> Moves:
    """Return what was moved below the open directory `top`.

    `subdirectories(path, descriptor)` lists the directories in one that are saved, `open_below(name,
    descriptor)` opens one; it is closed here.  What cannot be read is
    passed over here, and told when it is to be written.  Raises `StateError`.
    """
    remembered = base.directory(os.fstat(top).st_ino)
    if remembered is None or remembered.parent != TOP:
        return Moves()  # another tree: nothing of it is where the base had it
    planner = _Planner(base, remembered)
    for found in _search(top, base, subdirectories, open_below):
        if len(planner.moves.steps) < MOVES_MAX - 2:
            planner.add(found)
        else:
            planner.moves.displaced.add(found.base.inode)
    return planner.moves


def _search(top: int, base: BaseState, subdirectories: Subdirectories, open_below: Open) -> list[_Found]:
    """Walk the tree, parents first, and return the directories whose place has changed.

    What is bound to a second place (mount(8), --bind) has not moved if it is at its own place, too.
    """
    found: list[_Found] = []
    in_place: set[int] = set()
    device = os.fstat(top).st_dev

    def visit(descriptor: int, path: bytes, name: bytes, above: tuple[int, ...]) -> None:
        status = os.fstat(descriptor)
        if status.st_dev != device:
            return
        known = base.directory(status.st_ino)
        parent = above[-1] if above else TOP
        if known is not None and (known.parent, known.name) == (parent, name):
            in_place.add(status.st_ino)
        elif known is not None and above:
            found.append(_Found(known, path, above))
        is_unchanged = known is not None and known.changed == status.st_ctime_ns
        names = sorted(known.below) if known and is_unchanged else sorted(subdirectories(path, descriptor))
        if len(above) >= DEPTH_MAX:
            return
        for below in names:
            try:
                child = open_below(below, descriptor)
            except OSError:
                continue
            try:
                visit(child, path + b"/" + below if path else below, below, (*above, status.st_ino))
            finally:
                os.close(child)

    visit(top, b"", b"", ())
    return [one for one in found if one.base.inode not in in_place]


class _Planner:
    """Turns moves that were found, parents first, into steps."""

    def __init__(self, base: BaseState, top: Remembered) -> None:
        self.moves = Moves()
        self._base = base
        self._top = top
        # Of every directory of the base that was moved or made way: where it is as of the last step.
        self._now: dict[int, bytes] = {}
        self._gone: set[tuple[int, bytes]] = set()  # files of the base that made way
        self._parked = 0

    def add(self, found: _Found) -> None:
        """Bring a directory to its place, if it is not there already."""
        inode = found.base.inode
        source = self._place(inode)
        if source is None:
            self.moves.displaced.add(inode)
            return
        way = self._make_way(found, source)
        if way != found.path:
            self.moves.steps.append((way, found.path))
        self._now[inode] = found.path
        self.moves.displaced.discard(inode)
        self.moves.placed[inode] = found.path
        self.moves.origins.append((found.path, self._origin(inode)))

    def _place(self, inode: int) -> bytes | None:
        """Where a directory of the base is as of the last step; None if the base does not say."""
        names: list[bytes] = []
        for known in self._above(inode):
            if known is None:
                return None
            if known.inode in self._now:
                return b"/".join([self._now[known.inode], *reversed(names)])
            if known.parent != TOP:
                names.append(known.name)
        return b"/".join(reversed(names))

    def _origin(self, inode: int) -> bytes:
        names = [known.name for known in self._above(inode) if known is not None and known.parent != TOP]
        return b"/".join(reversed(names))

    def _above(self, inode: int) -> Iterator[Remembered | None]:
        """A directory of the base and those above it, up to the top; None at last where one is not known."""
        for _ in range(_ABOVE_MAX):
            known = self._base.directory(inode)
            yield known
            if known is None or known.parent == TOP:
                return
            inode = known.parent
        raise StateError("the state of a backup is damaged: directories hold each other")

    def _make_way(self, found: _Found, source: bytes) -> bytes:
        """Put what is in the way into the directory that comes; return where that one is then."""
        names = found.path.split(b"/")
        # The first directory above it that the base does not have there is new, and so is all below.
        for depth, inode in enumerate(found.above):
            above = b"/".join(names[:depth])
            known = self._base.directory(inode)
            if known is None or self._place(inode) != above:
                return source  # what stood in the way of the new directory was dealt with one level up
            target = b"/".join(names[: depth + 1])
            is_last = depth == len(found.above) - 1
            if target == source:
                return source if is_last else self._get_out(found.base, source)
            is_new = is_last or self._place(found.above[depth + 1]) != target
            if is_new and self._is_taken(known, names[depth]):
                return self._park(found, source, known, names[depth], target)
        return source

    def _is_taken(self, directory: Remembered, name: bytes) -> bool:
        """Whether something of the base still has a name in a directory."""
        if name in directory.others:
            return (directory.inode, name) not in self._gone
        if name in directory.below:
            child = self._base.child(directory.inode, name)
            return child is not None and child.inode not in self._now
        return False

    def _park(self, found: _Found, source: bytes, directory: Remembered, name: bytes, target: bytes) -> bytes:
        """Move what is at `target` into the directory that comes, which then loses it as not listed."""
        if source.startswith(target + b"/"):
            source = self._get_out(found.base, source)
        shelter = source + b"/" + self._free_name(found.base)
        self.moves.steps.append((target, shelter))
        self.moves.cluttered.add(found.base.inode)
        child = self._base.child(directory.inode, name) if name in directory.below else None
        if child is None:
            self._gone.add((directory.inode, name))
        else:
            # It goes along with the directory that comes; what is in it is found through it.
            self._now[child.inode] = found.path + shelter[len(source) :]
            self.moves.displaced.add(child.inode)
        return source

    def _get_out(self, directory: Remembered, source: bytes) -> bytes:
        """Bring a directory out of what it is in itself, to the top; return where it is then."""
        outside = self._free_name(self._top)
        self.moves.steps.append((source, outside))
        self._now[directory.inode] = outside
        return outside

    def _free_name(self, directory: Remembered) -> bytes:
        """Return a name that the base does not have in a directory, and that was not given before."""
        while True:
            self._parked += 1
            name = _PARKED % self._parked
            if name not in directory.others and name not in directory.below:
                return name
