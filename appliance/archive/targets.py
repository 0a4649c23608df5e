"""Where a member goes: from its name to places beneath directory descriptors."""

from collections.abc import Sequence
from dataclasses import dataclass

from appliance.archive.beneath import split_path
from appliance.archive.errors import ArchiveUsageError
from appliance.archive.member import Member

__all__ = ["Destination", "Target", "Targets", "relative_name"]


@dataclass(frozen=True)
class Target:
    """One entry of what is to be restored.

    `source`: path relative to the backup root (``b"/"`` is all of it); `root`: descriptor of the directory
    (of a fileset) that must never be left, not closed; `path`: where `source` appears, relative to `root`.
    Missing directories on the way to `path` are made; symbolic links on it are refused.

    `image_offset` is for one name of a linked file, whose data may stand under another name: the file whose
    member stands there (the name's fh_info) is restored to `path`, whatever it is called.
    """

    source: bytes
    root: int
    path: bytes
    image_offset: int | None = None


@dataclass(frozen=True)
class Destination:
    """One place of a member: the number of its target, and its components beneath the target's root."""

    target: int
    components: list[bytes]


class Targets:
    """Finds the destinations of members: the longest matching `source` by component; all targets of it."""

    def __init__(self, targets: Sequence[Target]) -> None:
        self._of_source: dict[bytes, list[int]] = {}
        self._of_offset: dict[int, list[int]] = {}
        self.paths = [split_path(target.path) for target in targets]
        for number, target in enumerate(targets):
            self._of_source.setdefault(b"/".join(split_path(target.source)), []).append(number)
            if target.image_offset is not None:
                self._of_offset.setdefault(target.image_offset, []).append(number)
        # Neighbours in the stream share their directory, so one remembered look-up serves most of them.
        self._last: tuple[bytes, bytes] | None = None

    def find(self, relative: bytes) -> list[Destination]:
        """Return the destinations of a path relative to the backup root; empty if none was asked for."""
        source = self._source(relative)
        if source is None:
            return []
        rest = relative[len(source) :].strip(b"/")
        components = rest.split(b"/") if rest else []
        return [Destination(n, self.paths[n] + components) for n in self._of_source[source]]

    def find_file(self, relative: bytes, member: Member) -> list[Destination]:
        """Return the destinations of a regular file: those of its name, and those asked for by its offset."""
        found = self.find(relative)
        at = member.image_offset if self._of_offset else None
        if at is not None:
            by_offset = self._of_offset.get(at, ())
            found += [Destination(n, self.paths[n]) for n in by_offset if all(n != d.target for d in found)]
        return found

    def _source(self, relative: bytes) -> bytes | None:
        """Return the longest source that is `relative` or above it."""
        if relative in self._of_source:
            return relative
        directory = relative.rpartition(b"/")[0]
        if self._last is not None and self._last[0] == directory:
            return self._last[1]
        above = directory
        while above not in self._of_source:
            if not above:
                return None
            above = above.rpartition(b"/")[0]
        self._last = directory, above
        return above


def relative_name(name: bytes, backup_root: bytes) -> bytes:
    """Return a member's name relative to the backup root, in components joined by single slashes.

    Raises `ArchiveUsageError` for ``..``, NUL, and names that are not beneath the backup root.
    """
    if b".." in name or b"//" in name or b"/./" in name or name.endswith(b"/.") or b"\0" in name:
        name = b"/".join(split_path(name))
    root = backup_root.strip(b"/")
    if not root:
        return name
    if name == root:
        return b""
    if not name.startswith(root + b"/"):
        raise ArchiveUsageError("is not beneath the root of this backup")
    return name[len(root) + 1 :]
