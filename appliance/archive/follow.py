"""Following the list of a directory: first its moves, then the removal of what it does not name."""

import os
from collections.abc import Callable, Sequence

from appliance.archive.dumpdir import DUMPDIR_BYTES_MAX, Dumpdir, parse_dumpdir
from appliance.archive.errors import ArchiveUsageError, DamagedArchiveError
from appliance.archive.member import Member
from appliance.archive.reader import MemberReader
from appliance.archive.removal import purge
from appliance.archive.targets import Destination, Targets, relative_name
from appliance.archive.tree import Trees

__all__ = ["Follower", "read_dumpdir"]


def read_dumpdir(reader: MemberReader, member: Member) -> Dumpdir:
    """Return the list of a directory, the member that `reader` returned last.

    Raises `DamagedArchiveError` if it is malformed, or longer than a writer makes it.
    """
    if member.stored > DUMPDIR_BYTES_MAX:
        raise DamagedArchiveError(f"a directory's list of {member.stored} bytes", member.offset)
    return parse_dumpdir(b"".join(bytes(view) for view in reader.data()), member.offset)


Problem = Callable[[bytes, str, Sequence[Destination]], object]


class Follower:
    """Follows lists beneath the targets of one restore; `problem` is told what cannot be done."""

    def __init__(self, targets: Targets, trees: Trees, link_trees: Trees, problem: Problem) -> None:
        self._targets = targets
        self._trees = trees
        self._other_trees = link_trees
        self._problem = problem

    def follow(
        self, dumpdir: Dumpdir, path: bytes, root: bytes | None, destinations: Sequence[Destination]
    ) -> int:
        """Follow the list of the directory at `path`, which is at `destinations`; return how many names went.

        `root` is the backup's.  Raises `ArchiveUsageError` for a move out of it.
        """
        for source, target in dumpdir.moves:
            self._move(source, target, root or b"/")
        removed = 0
        for destination in destinations:

            def report(name: bytes, error: OSError, destination: Destination = destination) -> None:
                inner = path.rstrip(b"/") + b"/" + name
                self._problem(inner, f"not removed: {error.strerror}", [destination])

            try:
                directory = self._trees[destination.target].enter(destination.components, create=False)
                removed += purge(directory, dumpdir.names, report)
            except OSError as error:
                self._problem(path, f"what was deleted is not removed: {error.strerror}", [destination])
        return removed

    def _move(self, source: bytes, target: bytes, root: bytes) -> None:
        """Move a directory, at every place where it is restored before and after."""
        before = self._targets.find(_relative(source, root))
        after = self._targets.find(_relative(target, root))
        path = b"/" + _relative(source, root)
        if {one.target for one in before} != {one.target for one in after}:
            self._problem(path, "not moved: it came from, or goes, where this restore does not reach", before)
        for old in before:
            for new in (one for one in after if one.target == old.target):
                try:
                    self._rename(old, new)
                except OSError as error:
                    to = target.decode("utf-8", "backslashreplace")
                    self._problem(path, f"not moved to {to}: {error.strerror}", [old])

    def _rename(self, old: Destination, new: Destination) -> None:
        """Rename beneath one target.  Raises `OSError`."""
        if not old.components or not new.components:
            raise ArchiveUsageError("would move the root of its target")
        to = self._trees[new.target].enter(new.components[:-1], create=True)
        above = self._other_trees[old.target].enter(old.components[:-1], create=False)
        os.rename(old.components[-1], new.components[-1], src_dir_fd=above, dst_dir_fd=to)
        self._trees.forget()
        self._other_trees.forget()


def _relative(name: bytes, root: bytes) -> bytes:
    return relative_name(name.strip(b"/").removeprefix(b"./"), root)
