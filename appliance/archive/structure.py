"""The directories of a backup that lead from one owner's part to another's, and their node numbers.

Numbers are agreed before any part is written: an owner lists the junctions below its part in the directories
that hold them, and the owner of a junction names the directory above, though neither asks the other.
"""

from collections.abc import Mapping

from appliance.archive.part import Observer

__all__ = ["Structure"]


class Structure:
    """Global path and number of every such directory that one part has to do with."""

    def __init__(self, nodes: Mapping[bytes, int]) -> None:
        self._nodes = nodes
        self._children: dict[bytes, dict[bytes, int]] = {}
        for path, number in nodes.items():
            above, _, name = path.rpartition(b"/")
            if name:
                self._children.setdefault(above or b"/", {})[name] = number

    def number(self, path: bytes) -> int | None:
        """The number kept for a path."""
        return self._nodes.get(path)

    def children(self, path: bytes) -> Mapping[bytes, int]:
        """Name and number of what a directory must list, be it there or not."""
        return self._children.get(path, {})

    def tell(self, observer: Observer, path: bytes, number: int, parent: int) -> None:
        """List a directory that nobody can read, and those below it, so that the tree still closes."""
        waiting = [(path, number, parent)]
        while waiting:
            path, number, parent = waiting.pop()
            children = self.children(path)
            observer.listing(number, parent, children.items())
            base = path.rstrip(b"/") + b"/"
            waiting += [
                (base + name, below, number)
                for name, below in children.items()
                if base + name in self._children
            ]
