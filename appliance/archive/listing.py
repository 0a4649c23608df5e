"""Listing a directory: what of it is saved, under which numbers, and what its listing tells."""

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from appliance.archive.markers import CACHE_TAG, MarkedNames
from appliance.archive.members import PartStream
from appliance.archive.numbers import Numbers, Place, repeated
from appliance.archive.part import Observer, PartRequest, history_path
from appliance.archive.selection import Reach, Selection
from appliance.archive.structure import Structure

__all__ = ["Lister", "Name"]

_ENCODING = sys.getfilesystemencoding()
_ENCODING_ERRORS = sys.getfilesystemencodeerrors()


class Name(NamedTuple):
    """A name in a directory that is no directory."""

    name: bytes
    is_regular: bool
    inode: int  # as readdir(3) has it: a hint


class Lister:
    """Lists the directories of one part, and tells the observer."""

    def __init__(
        self, request: PartRequest, numbers: Numbers, members: PartStream, observer: Observer
    ) -> None:
        """Raises ArchiveUsageError for patterns that cannot be meant."""
        self.selection = Selection(request.exclude, request.files)
        # None: no name is looked at twice.
        self.marked = MarkedNames(request.markers) if request.markers else None
        self.is_complete = True
        self._backup_root = request.backup_root
        self._numbers = numbers
        self._members = members
        self._observer = observer
        self._structure = Structure(request.nodes)
        self._hidden: dict[bytes, set[bytes]] = {}
        for path in request.skip:
            above, _, name = path.rpartition(b"/")
            self._hidden.setdefault(above or b"/", set()).add(name)

    def agreed(self, path: bytes) -> int | None:
        """Return the number that was agreed on for a directory."""
        return self._structure.number(path)

    def is_whole(self, path: bytes) -> bool:
        """Return whether FILES selects all of a directory."""
        return self.selection.reach(self._relative(path)) is Reach.WHOLE

    def junctions(self, path: bytes) -> Iterable[bytes]:
        """Return the names in a directory under which the parts of others lie, or lead there."""
        return self._structure.children(path)

    def subdirectories(self, path: bytes, descriptor: int) -> list[bytes]:
        """Return the subdirectories that are selected; none where it cannot be listed."""
        relative = self._relative(path).rstrip(b"/") + b"/"
        hidden = self._hidden.get(path, ())
        found = []
        with contextlib.suppress(OSError), os.scandir(descriptor) as entries:
            for entry in entries:
                name = os.fsencode(entry.name)
                if name not in hidden and entry.is_dir(follow_symlinks=False):
                    found.append(name)
        selection = self.selection
        return [
            name
            for name in found
            if not selection.excludes(relative + name, name)
            and selection.reach(relative + name) is not Reach.NONE
        ]

    def tell_unread(self, path: bytes, parent_node: int) -> None:
        """List a directory that cannot be read, if it leads to a junction."""
        number = self._structure.number(path)
        if number is not None and self._structure.children(path):
            self._structure.tell(self._observer, path, number, parent_node)

    def names(self, path: bytes, descriptor: int, whole: bool) -> tuple[list[bytes], list[Name]]:
        """Return what is selected of a directory: its subdirectories, last first, and its other names.

        `is_complete` tells afterwards whether these are all.
        """
        self.is_complete = True
        below: list[bytes] = []
        others: list[Name] = []
        relative = self._relative(path).rstrip(b"/") + b"/"
        hidden = self._hidden.get(path, ())
        selection = self.selection
        excludes = selection.excludes if selection.has_excludes else None
        try:
            with os.scandir(descriptor) as entries:
                for entry in entries:
                    # As os.fsencode does, whose checks take longer than the encoding.
                    name = entry.name.encode(_ENCODING, _ENCODING_ERRORS)
                    if name in hidden or (excludes and excludes(relative + name, name)):
                        continue
                    is_directory = entry.is_dir(follow_symlinks=False)
                    if not whole:
                        reach = selection.reach(relative + name)
                        if reach is Reach.NONE or (reach is Reach.WAY and not is_directory):
                            continue
                    if is_directory:
                        below.append(name)
                    else:
                        others.append(Name(name, entry.is_file(follow_symlinks=False), entry.inode()))
        except OSError as error:
            self._members.problem(path, f"cannot be listed to its end: {error.strerror}")
            self.is_complete = False
        if self.marked is not None:
            below, others = _unmarked(self.marked, descriptor, below, others)
        below.sort(reverse=True)
        others.sort()
        return below, others

    def tell(
        self, path: bytes, place: Place, descriptor: int | None, below: list[bytes], others: list[Name]
    ) -> Sequence[int]:
        """Number all names of an open directory and tell the observer.

        Returns the numbers of `others`, and that from which `below` counts.  `descriptor` None: no member of
        a name in it follows, so that links need not have the number of their inode.
        """
        first = self._numbers.take(len(others) + len(below))
        agreed = self._structure.children(path)
        exceptions = {} if descriptor is None else self._known_numbers(descriptor, others, agreed, first)
        numbers: Sequence[int] = range(first, first + len(others) + 1)
        if exceptions:
            numbers = [exceptions.get(index, number) for index, number in enumerate(numbers)]

        def listed() -> Iterator[tuple[bytes, int]]:
            for other, number in zip(others, numbers, strict=False):
                yield other.name, number
            for number, name in enumerate(reversed(below), numbers[-1]):
                yield name, agreed.get(name, number)
            yield from ((name, agreed[name]) for name in unread if name in missing)

        directories = set(below) if agreed else set()
        unread = [name for name in agreed if name not in directories]
        missing = set(unread).difference(other.name for other in others) if unread else set()
        self._observer.listing(*place, listed())
        base = path.rstrip(b"/") + b"/"
        for name in unread:
            self.tell_unread(base + name, place.number)
        return numbers

    def _known_numbers(
        self, descriptor: int, others: list[Name], agreed: Mapping[bytes, int], first: int
    ) -> dict[int, int]:
        """Return, by index, the numbers of names that do not get a new one: links, and what was agreed on."""
        known = {index: agreed[other.name] for index, other in enumerate(others) if other.name in agreed}
        told = set()
        numbers: dict[tuple[int, int], int] = {}
        for index in sorted(self._maybe_links(descriptor, others).difference(known)):
            try:
                status = os.stat(others[index].name, dir_fd=descriptor, follow_symlinks=False)
            except OSError:
                continue  # it is told when the name is to be opened
            if status.st_nlink < 2:
                continue
            inode = status.st_dev, status.st_ino
            node = self._members.linked_node(*inode)
            if node is not None:
                told.add(node)
            else:
                node = numbers.setdefault(inode, first + index)
            if node != first + index:
                known[index] = node
        self._numbers.listed(frozenset(known.values()), told)
        return known

    def _maybe_links(self, descriptor: int, others: list[Name]) -> set[int]:
        """Return the indexes of names that may be links, by what the directory alone says of their inodes.

        Some file systems in user space give the same number to all.
        """
        found = repeated([other.inode for other in others])
        if self._members.has_links:
            device = os.fstat(descriptor).st_dev
            linked_node = self._members.linked_node
            found |= {i for i, other in enumerate(others) if linked_node(device, other.inode) is not None}
        return found

    def _relative(self, path: bytes) -> bytes:
        return history_path(path, self._backup_root)


def _unmarked(
    marked: MarkedNames, directory: int, below: list[bytes], others: list[Name]
) -> tuple[list[bytes], list[Name]]:
    """Return what of a directory's names is left when users' marks are honoured."""
    if marked.is_cache(directory):
        return [], [other for other in others if other.name == CACHE_TAG]
    return (
        [name for name in below if not marked.is_nodump(directory, name)],
        [other for other in others if not (other.is_regular and marked.is_nodump(directory, other.name))],
    )
