"""The tree of one day from several images: an incremental one, its base, and so on down to a full one.

An incremental image has a directory whole: either all names in it are known, saved or unchanged, or nothing
in it or below has changed, and it has no row.  So the newest image that has a directory says what was in it;
what is unchanged there is in an image before, at the place where it was then (`media.moved`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from appliance.backupserver import history, media
from appliance.backupserver.catalogue import Catalogue
from appliance.backupserver.history import Entry
from appliance.backupserver.media import Image
from appliance.errors import ConfigurationError
from appliance.ndmp.enums import FileType
from appliance.text import show_path


@dataclass(frozen=True)
class Found:
    """A path of that day: the image that has it, by its depth in the chain, and its entry there."""

    depth: int
    entry: Entry

    @property
    def path(self) -> bytes:
        """Where it is in that image."""
        return self.entry.path

    @property
    def is_directory(self) -> bool:
        """Whether it has names in it."""
        return self.entry.type is FileType.DIR


class Chain:
    """An image and all that it is based on.  Paths are those of file history: from the backup root."""

    def __init__(self, catalogue: Catalogue, image: Image) -> None:
        """Raises ConfigurationError if the catalogue does not have all of them."""
        self._catalogue = catalogue
        self.images = [image]
        while self.images[-1].base is not None:
            base = media.base_of(catalogue, self.images[-1])
            if base is None or base in self.images:
                raise ConfigurationError(
                    f"job {image.job} is incremental, and the backup of {show_path(image.root)} that it is "
                    "based on is not in the catalogue: `spanreel catalogue rebuild` reads it from tape"
                )
            self.images.append(base)
        self._moved = [media.moved(catalogue, one) for one in self.images]

    @property
    def is_single(self) -> bool:
        """Whether there is one image, which has everything."""
        return len(self.images) == 1

    def find(self, path: bytes, depth: int = 0) -> Found | None:
        """What was at a path when the image at `depth` was made; None if nothing was."""
        while True:
            image = self.images[depth].id
            if depth == len(self.images) - 1:
                entry = history.lookup(self._catalogue, image, path)
            else:
                entry = history.exact(self._catalogue, image, path)
            if entry is not None:
                return Found(depth, entry)
            if depth == len(self.images) - 1 or self._is_gone(image, path):
                return None
            path, depth = self.origin(depth, path), depth + 1

    def _is_gone(self, image: int, path: bytes) -> bool:
        """Whether the nearest directory above a path that an image has does not list the way there."""
        while path != b"/":
            above = history.split(path)[0]
            directory = history.exact(self._catalogue, image, above)
            if directory is not None:
                return not history.is_listed(self._catalogue, image, path)
            path = above
        return False

    def origin(self, depth: int, path: bytes) -> bytes:
        """Where a path that the image at `depth` does not have is in the image before."""
        moved = self._moved[depth]
        at = path
        while moved:
            if at in moved:
                return (moved[at].rstrip(b"/") + path[len(at) :]) or b"/"
            if at == b"/":
                break
            at = history.split(at)[0] or b"/"
        return path

    def holds(self, found: Found) -> bool:
        """Whether the image of a directory has its list, so that it says what is in it."""
        return found.is_directory and found.depth < len(self.images) - 1

    def saved(self, found: Found) -> Iterator[Entry]:
        """What a directory's own image has of what is in it."""
        return history.children(self._catalogue, self.images[found.depth].id, found.path)

    def listed(self, found: Found) -> Iterator[bytes]:
        """The names in a directory that its own image does not have: they are in one before."""
        return history.listed(self._catalogue, self.images[found.depth].id, found.path)

    def before(self, found: Found, name: bytes) -> Found | None:
        """What an image before has under a name of `listed`."""
        return self.find(self.origin(found.depth, history.join(found.path, name)), found.depth + 1)

    def children(self, directory: Found) -> Iterator[tuple[bytes, Found]]:
        """Name and place of all that was in a directory, by name."""
        if not self.holds(directory):
            for entry in self.saved(directory):
                yield name_of(entry), Found(directory.depth, entry)
            return
        everything = {name_of(entry): Found(directory.depth, entry) for entry in self.saved(directory)}
        for name in self.listed(directory):
            found = self.before(directory, name)
            if found is not None:
                everything[name] = found
        yield from sorted(everything.items(), key=lambda each: each[0])

    def list(self, path: bytes, directory: Found, *, recursive: bool) -> Iterator[Entry]:
        """What was in a directory, by paths of that day; if `recursive` what was below it, too."""
        if recursive:
            yield from self._descendants(path, directory)
            return
        for name, child in self.children(directory):
            yield replace(child.entry, path=history.join(path, name))

    def _descendants(self, path: bytes, directory: Found) -> Iterator[Entry]:
        if self.is_single:
            yield from history.descendants(self._catalogue, self.images[0].id, path)
            return
        waiting = [(path, directory)]
        while waiting:
            above, found = waiting.pop()
            below = []
            for name, child in self.children(found):
                inner = history.join(above, name)
                yield replace(child.entry, path=inner)
                if child.is_directory:
                    below.append((inner, child))
            waiting += reversed(below)


def name_of(entry: Entry) -> bytes:
    """The last component of an entry's path."""
    return history.split(entry.path)[1]
