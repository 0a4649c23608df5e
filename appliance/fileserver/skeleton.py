"""The directories in which the parts of one backup meet, and their node numbers.  Pure.

The entry server numbers them before any part is written: the backup root, every junction below it, and all
directories between, whoever owns them.  So each owner knows the number of the directory above its part, and
can list the junctions below it, without asking another; and the tree closes though an owner is missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from appliance.archive.part import Observer
from appliance.archive.structure import Structure
from appliance.gns.map import Part, ancestors, components

FIRST_NODE = 2
"""Node numbers start where those of a Unix file system do: the backup root's."""


class Skeleton:
    """The numbers of one backup of the global path `root` in `parts`."""

    def __init__(self, root: bytes, parts: Sequence[Part]) -> None:
        self._root = root
        tops = {part.path for part in parts}
        paths = {root}
        for part in parts:
            for path in ancestors(part.path):
                if path in paths:
                    break
                paths.add(path)
        ordered = sorted(paths, key=components)
        self._nodes = {path: number for number, path in enumerate(ordered, FIRST_NODE)}
        self._of_top: dict[bytes | None, dict[bytes, int]] = {top: {} for top in (None, *tops)}
        for path, number in self._nodes.items():
            above = [top for top in ancestors(path) if top in tops]
            # A junction is listed by the part above, too.
            holders: list[bytes | None] = [*above[: 1 + (path in tops)]]
            if not above or (above == [path] and path != root):
                holders.append(None)
            for top in holders:
                self._of_top[top][path] = number

    @property
    def next_node(self) -> int:
        """The first number that is free for the parts."""
        return FIRST_NODE + len(self._nodes)

    def nodes(self, top: bytes | None) -> Mapping[bytes, int]:
        """What the owner of the part at `top` must know: of its own directories, and of junctions in them.

        None: what the entry server must, which writes the directories that nobody owns.
        """
        return self._of_top[top]

    def parent(self, top: bytes) -> int:
        """The number of the directory above a part; its own at the backup root."""
        if top == self._root:
            return self._nodes[top]
        return self._nodes[top[: top.rindex(b"/")] or b"/"]

    def tell_missing(self, top: bytes, observer: Observer) -> None:
        """List the directories of a part that is skipped, as far as other parts hang on them."""
        structure = Structure(self._of_top[top])
        structure.tell(observer, top, self._nodes[top], self.parent(top))
