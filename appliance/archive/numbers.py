"""Node numbers: given when a directory is listed, so that its listing can be told before its members.

A name's inode is known by then.  What is opened later may be another one; these numbers notice it, so that no
two inodes are told of under one number.
"""

from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Numbers", "Place"]


class Place(NamedTuple):
    """Where a name stands: its number in the listing, and the directory's number."""

    number: int
    parent: int


class Numbers:
    """Counts from `base`.  `used` is how many numbers were given."""

    def __init__(self, base: int) -> None:
        self._base = base
        self._next = base
        # Of the directory that is being written: numbers that several names have, and those told already.
        self._shared: frozenset[int] = frozenset()
        self._told: set[int] = set()

    @property
    def used(self) -> int:
        """How many numbers were given."""
        return self._next - self._base

    def take(self, count: int = 1) -> int:
        """Return the first of `count` new numbers in a row."""
        first = self._next
        self._next = first + count
        return first

    def listed(self, shared: frozenset[int], told: set[int]) -> None:
        """Begin a directory: numbers of more than one name, and those of inodes told of elsewhere before."""
        self._shared = shared
        self._told = told

    def meet(self, number: int) -> bool:
        """Return whether an inode was told of under `number` already; it is from now on."""
        if number not in self._shared:
            return False
        if number in self._told:
            return True
        self._told.add(number)
        return False


def repeated(inodes: Sequence[int]) -> set[int]:
    """Return the indexes of all inode numbers that occur more than once."""
    first: dict[int, int] = {}
    found = set()
    for index, inode in enumerate(inodes):
        earlier = first.setdefault(inode, index)
        if earlier != index:
            found |= {earlier, index}
    return found
