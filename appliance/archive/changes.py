"""What of a tree has changed since its base, directory by directory, while it is walked.

A name is unchanged if the base has it in the same directory, as the same inode, with the same change time
(stat(2), st_ctime): no file is opened to find out.  A directory is unchanged if it is so itself, and has the
names that the base has, all unchanged; then nothing of it is written.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from appliance.archive.dumpdir import DIRECTORY, IN_ARCHIVE, UNCHANGED, Dumpdir
from appliance.archive.moves import Moves, Open, Subdirectories, find_moves
from appliance.archive.treestate import (
    TOP,
    BaseState,
    Inode,
    NextState,
    Remembered,
    StateError,
    settled,
)

__all__ = ["Changes", "Look", "dumpdir_of"]


@dataclass
class Look:
    """One directory as it was found, beside what the base has of it (None: not there, or not at its place).

    `unchanged` are the names, no directories, that need not be saved; `saved` is filled while the others are.
    """

    inode: int
    parent: int
    name: bytes
    changed: int
    now: int
    known: Remembered | None
    is_changed: bool
    is_ours: bool
    unchanged: dict[bytes, Inode] = field(default_factory=dict)
    saved: dict[bytes, Inode] = field(default_factory=dict)

    def keep(self, name: bytes, inode: int, changed: int) -> None:
        """A name is in the stream, whole: its inode's number and change time."""
        self.saved[name] = Inode(inode, settled(changed, self.now))


class Changes:
    """Compares a part with its base, and keeps what it finds for the next one.

    `is_incremental`: directories are written with their lists.  Without a `base` all of the part is new.
    `following` None: nothing is kept.

    A base that turns out to be damaged is done without, and so is a state that cannot be kept: a backup is
    worth more than the next one's speed.  `failures` says so, in words for people.
    """

    def __init__(self, base: BaseState | None, following: NextState | None, *, is_incremental: bool) -> None:
        self.base = base
        self.moves = Moves()
        self.failures: list[str] = []
        self.is_incremental = is_incremental
        self._following = following

    def find_moves(self, top: int, subdirectories: Subdirectories, open_below: Open) -> None:
        """Find the directories that were moved since the base, before anything is written."""
        if self.base is not None:
            try:
                self.moves = find_moves(top, self.base, subdirectories, open_below)
            except StateError as error:
                self._lose_base(error)

    def _lose_base(self, error: StateError) -> None:
        if self.base is not None:
            self.base.close()
        self.base = None
        self.failures.append(f"{error}; what is left of the part is saved whole")

    def finish(self) -> bool:
        """All is written; whether its state is kept, whole."""
        if self._following is None:
            return False
        try:
            self._following.finish()
        except StateError as error:
            self._lose_following(error)
            return False
        return True

    def close(self) -> None:
        """Give everything back; without `finish` nothing is kept."""
        if self.base is not None:
            self.base.close()
        if self._following is not None:
            self._following.abandon()

    def _lose_following(self, error: StateError) -> None:
        if self._following is not None:
            self._following.abandon()
        self._following = None
        self.failures.append(f"{error}; the next incremental backup saves the part whole")

    def look(
        self,
        descriptor: int,
        status: os.stat_result,
        above: Look | None,
        path: bytes,
        listed: tuple[Sequence[bytes], Sequence[bytes]],
        *,
        is_ours: bool,
        now: int,
    ) -> Look:
        """Compare an open directory; `path` is relative to the part's top, `above` what it lies in.

        `listed`: the names in it that are directories, and the others.  `is_ours`: whether it is in the
        file system of the part.  `now`: when the look began (`time.time_ns`).
        """
        below, others = listed
        name = path.rpartition(b"/")[2]
        known = self._known(status.st_ino, above, name, path) if is_ours else None
        unchanged = {} if known is None else _unchanged(descriptor, known, others)
        is_changed = (
            known is None
            or known.changed != status.st_ctime_ns
            or len(unchanged) != len(others)
            or len(known.others) != len(others)
            or known.below != frozenset(below)
            or status.st_ino in self.moves.cluttered
        )
        parent = TOP if above is None else above.inode
        changed = settled(status.st_ctime_ns, now)
        return Look(status.st_ino, parent, name, changed, now, known, is_changed, is_ours, unchanged)

    def _known(self, inode: int, above: Look | None, name: bytes, path: bytes) -> Remembered | None:
        """What the base has of a directory, if its steps bring that to where the directory is."""
        try:
            known = None if self.base is None else self.base.directory(inode)
        except StateError as error:
            self._lose_base(error)
            return None
        if known is None:
            return None
        placed = self.moves.placed.get(inode)
        if placed is not None:
            return known if placed == path else None
        if above is None:
            return known if known.parent == TOP else None
        is_there = above.known is not None and (known.parent, known.name) == (above.inode, name)
        return known if is_there and inode not in self.moves.displaced else None

    def done(self, look: Look, below: Iterable[bytes]) -> None:
        """All of a directory but its subdirectories, `below`, is written."""
        if self._following is not None and look.is_ours:
            others = look.unchanged | look.saved
            kept = Remembered(look.inode, look.parent, look.name, look.changed, frozenset(below), others)
            try:
                self._following.add(kept)
            except StateError as error:
                self._lose_following(error)


def _unchanged(descriptor: int, known: Remembered, others: Sequence[bytes]) -> dict[bytes, Inode]:
    found = {}
    remembered = known.others
    for name in others:
        before = remembered.get(name)
        if before is None:
            continue
        try:
            status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
        except OSError:
            continue  # told when it is to be read
        if (status.st_ino, status.st_ctime_ns) == before:
            found[name] = before
    return found


def dumpdir_of(
    look: Look,
    below: Iterable[bytes],
    others: Iterable[bytes],
    junctions: Iterable[bytes],
    moves: Sequence[tuple[bytes, bytes]] = (),
) -> Dumpdir:
    """Return the list for the directory's member; `junctions` are parts of others that lie in it."""
    names = {name: UNCHANGED if name in look.unchanged else IN_ARCHIVE for name in others}
    names |= dict.fromkeys(below, DIRECTORY)
    names |= dict.fromkeys(junctions, DIRECTORY)
    return Dumpdir(names, moves)
