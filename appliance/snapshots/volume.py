"""What can be frozen as a whole, and what comes of it: the contract of every kind of snapshot."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import NamedTuple

__all__ = ["DIRECTORY_FLAGS", "Found", "Frozen", "Kind", "SnapshotError", "Volume", "open_way"]

DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class SnapshotError(Exception):
    """There is no snapshot, or it cannot be dropped; the text, without local paths, is for people."""


class Frozen(ABC):
    """A snapshot that was made.

    `root` is the descriptor of its topmost directory.  `stub_inode` is the inode number of directories that
    stand for what the snapshot does not hold, None where there are none.
    """

    root: int
    stub_inode: int | None = None

    def open(self, way: Sequence[bytes], inode: int) -> int:
        """Open the directory at `way` below the root, which must be the one with that inode number.

        Raises SnapshotError: somebody moved it between the look and the snapshot.
        """
        try:
            descriptor = open_way(self.root, way)
        except OSError as error:
            raise SnapshotError(f"its directory is not in the snapshot: {error.strerror}") from error
        if os.fstat(descriptor).st_ino != inode:
            os.close(descriptor)
            raise SnapshotError("its directory was replaced while the snapshot was made")
        return descriptor

    @abstractmethod
    def drop(self) -> None:
        """Close `root` and remove the snapshot.  Raises SnapshotError."""


class Volume(ABC):
    """What is frozen as a whole, found and held ready; `key` is equal for the same one."""

    key: Hashable

    @abstractmethod
    def prepare(self) -> None:
        """Do all that takes long, such as flushing, so that `take` does not.  Raises SnapshotError."""

    @abstractmethod
    def take(self, name: str) -> Frozen:
        """Make a snapshot of that name.  Raises SnapshotError."""

    @abstractmethod
    def close(self) -> None:
        """Give up what was held ready; snapshots stay.  Safe to repeat."""


class Found(NamedTuple):
    """Where a directory lies: the names from the volume's root to it, and its inode number."""

    volume: Volume
    way: tuple[bytes, ...]
    inode: int


class Kind(ABC):
    """One way to make snapshots."""

    @abstractmethod
    def find(self, directory: int, exported: Iterable[bytes]) -> Found | None:
        """The volume of an open directory; None if it is not of this kind.

        `exported`: the local directories of everything that clients of this server see.  Raises SnapshotError
        where it is of this kind, and yet no snapshot can be made.
        """

    @abstractmethod
    def sweep(self, owner: str, is_live: Callable[[str], bool]) -> list[str]:
        """Remove the snapshots that `owner` made and does not know of any more; return their names.

        The name of each begins with `owner` and a dot.  Raises SnapshotError.
        """


def open_way(root: int, way: Iterable[bytes]) -> int:
    """Open a directory below another, name by name, following no link.  Raises OSError."""
    current = os.open(b".", DIRECTORY_FLAGS, dir_fd=root)
    for name in way:
        try:
            below = os.open(name, DIRECTORY_FLAGS, dir_fd=current)
        finally:
            os.close(current)
        current = below
    return current
