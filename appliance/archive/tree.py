"""The directories of a restore target, entered one after another beneath its root."""

import os
from collections.abc import Callable

from appliance.archive.beneath import DIRECTORY_FLAGS

__all__ = ["Tree", "Trees"]

# As in the writer: deeper paths close the descriptors above and walk again when they come back.
OPEN_DIRECTORIES_MAX = 256

# Trees that stay open between members: neighbours in a stream need the same few, and a restore may have as
# many targets as a DMA has names to send.
OPEN_TREES_MAX = 16

# Directories that no member describes; the process's umask takes from it.
_IMPLIED_MODE = 0o755


class Tree:
    """A root and the way to the directory entered last, kept open: neighbours in a stream share it.

    No symbolic link is ever followed: each component is opened with O_NOFOLLOW relative to the one above.
    `fixed` is how many leading components belong to whoever named the target: nothing there is replaced.
    `replace()` tells whether what is no directory may be removed further down.
    """

    def __init__(self, root: int, fixed: int, replace: Callable[[], bool]) -> None:
        self._fixed = fixed
        self._replace = replace
        self._root = os.open(b".", DIRECTORY_FLAGS, dir_fd=root)
        self._names: list[bytes] = []
        self._descriptors: list[int | None] = []

    def close(self) -> None:
        """Close everything."""
        self._shrink(0)
        os.close(self._root)

    def forget(self) -> None:
        """Give up the way that is kept open: directories on it were moved."""
        self._shrink(0)

    def enter(self, components: list[bytes], create: bool) -> int:
        """Return a directory's descriptor, good until the next call.

        With `create`, missing directories are made, and what is no directory replaced where allowed.
        Raises `OSError`: ENOTDIR for a file or symbolic link on the way, ENOENT without `create`.
        """
        names = self._names
        if names != components:
            common = 0
            for ours, theirs in zip(names, components, strict=False):
                if ours != theirs:
                    break
                common += 1
            self._shrink(common)
        if self._descriptors and self._descriptors[-1] is None:
            self._shrink(0)
        current = self._descriptors[-1] if self._descriptors else self._root
        assert current is not None
        while len(names) < len(components):
            name = components[len(names)]
            current = self._step(current, name, create, len(names) >= self._fixed)
            names.append(name)
            self._descriptors.append(current)
            self._close_ancestor()
        return current

    def _shrink(self, length: int) -> None:
        """Go back up to `length` components."""
        for descriptor in self._descriptors[length:]:
            if descriptor is not None:
                os.close(descriptor)
        del self._descriptors[length:], self._names[length:]

    def _close_ancestor(self) -> None:
        """Keep the number of open directories within bounds."""
        if len(self._descriptors) > OPEN_DIRECTORIES_MAX:
            place = len(self._descriptors) - OPEN_DIRECTORIES_MAX - 1
            descriptor = self._descriptors[place]
            if descriptor is not None:
                os.close(descriptor)
                self._descriptors[place] = None

    def _step(self, parent: int, name: bytes, create: bool, replaceable: bool) -> int:
        """Open, or make, one directory."""
        try:
            return os.open(name, DIRECTORY_FLAGS, dir_fd=parent)
        except FileNotFoundError:
            if not create:
                raise
        except NotADirectoryError:
            if not (create and replaceable and self._replace()):
                raise
            os.unlink(name, dir_fd=parent)
        os.mkdir(name, _IMPLIED_MODE, dir_fd=parent)
        return os.open(name, DIRECTORY_FLAGS, dir_fd=parent)


class Trees:
    """The trees of many targets, by their numbers, opened when they are needed."""

    def __init__(self, make: Callable[[int], Tree]) -> None:
        self._make = make
        self._open: dict[int, Tree] = {}

    def __getitem__(self, number: int) -> Tree:
        """A target's tree, good until the next `trim`.  Raises `OSError`."""
        tree = self._open.pop(number, None)
        if tree is None:
            tree = self._make(number)
        # Last in, last out.
        self._open[number] = tree
        return tree

    def trim(self) -> None:
        """Close those that were not used for longest; called between members."""
        while len(self._open) > OPEN_TREES_MAX:
            self._open.pop(next(iter(self._open))).close()

    def forget(self) -> None:
        """Directories were moved: nothing that is open is sure to be where it was."""
        for tree in self._open.values():
            tree.forget()

    def close(self) -> None:
        """Close all."""
        while self._open:
            self._open.popitem()[1].close()
