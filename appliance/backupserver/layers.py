"""Which names of which images of a chain make the tree of one day, with nothing to be removed afterwards.

What an incremental image has of a directory comes by one name, that of the directory.  What was unchanged
comes from images before: the whole directory of then by one name too, if all that was in it is still there,
else name by name.  So a list grows with what was deleted, and not with the tree.
"""

from __future__ import annotations

from collections import defaultdict

from appliance.backupserver import history
from appliance.backupserver.chain import Chain, Found, name_of
from appliance.ndmp.types import Name


class Layers:
    """The names to restore, by depth in the chain.

    `overwrites`: whether what comes later replaces what is there; then a file that changed may come in its
    old form first.
    """

    def __init__(self, chain: Chain, *, overwrites: bool) -> None:
        self.names: dict[int, list[Name]] = defaultdict(list)
        self._chain = chain
        self._overwrites = overwrites

    def take(self, found: Found, target: bytes) -> None:
        """Have what was found restored to a global path."""
        waiting = [(found, target)]
        while waiting:
            found, target = waiting.pop()
            entry = found.entry
            original = b"" if entry.path == b"/" else entry.path
            self.names[found.depth].append(Name(original, target, node=entry.node, fh_info=entry.offset))
            if self._chain.holds(found):
                waiting += self._unchanged(found, target)

    def _unchanged(self, directory: Found, target: bytes) -> list[tuple[Found, bytes]]:
        """What was unchanged in a directory and below, as far as its image has the directories."""
        taken: list[tuple[Found, bytes]] = []
        waiting = [(directory, target)]
        while waiting:
            directory, target = waiting.pop()
            before = self._before(directory)
            new = None if before is None else self._new_in(before, directory, target)
            if before is not None and new is not None:
                taken.append((before, target))
                waiting += new
                continue
            for name in self._chain.listed(directory):
                found = self._chain.before(directory, name)
                if found is not None:
                    taken.append((found, history.join(target, name)))
            for entry in self._chain.saved(directory):
                below = Found(directory.depth, entry)
                if below.is_directory:
                    waiting.append((below, history.join(target, name_of(entry))))
        return taken

    def _before(self, directory: Found) -> Found | None:
        """The directory as an image before has it."""
        return self._chain.find(self._chain.origin(directory.depth, directory.path), directory.depth + 1)

    def _new_in(self, before: Found, now: Found, target: bytes) -> list[tuple[Found, bytes]] | None:
        """The directories that came into one, or below, since an image before; None if anything is gone."""
        new: list[tuple[Found, bytes]] = []
        waiting = [(before, now, target)]
        while waiting:
            before, now, target = waiting.pop()
            if not before.is_directory:
                return None
            saved = {name_of(entry): Found(now.depth, entry) for entry in self._chain.saved(now)}
            old = dict(self._chain.children(before))
            listed = set(self._chain.listed(now))
            if listed - old.keys() or old.keys() - listed - saved.keys():
                return None
            if any(self._chain.before(now, name) != old[name] for name in listed):
                return None
            for name, found in saved.items():
                inner = history.join(target, name)
                if name not in old:
                    if found.is_directory:
                        new.append((found, inner))
                elif found.is_directory and self._before(found) == old[name]:
                    waiting.append((old[name], found, inner))
                elif found.is_directory or old[name].is_directory or not self._overwrites:
                    return None
        return new
