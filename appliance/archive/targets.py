"""Where a member goes: from its name to places beneath directory descriptors."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from appliance.archive.beneath import split_path
from appliance.archive.errors import ArchiveUsageError
from appliance.archive.lookup import SourceTable
from appliance.archive.member import Member

__all__ = ["Destination", "Target", "Targets", "relative_name"]


@dataclass(frozen=True)
class Target:
    """One entry of what is to be restored.

    `source`: path relative to the backup root (``b"/"`` is all of it); `root`: descriptor of the directory
    (of a fileset) that must never be left, not closed; `path`: where `source` appears, relative to `root`.
    Missing directories on the way to `path` are made; symbolic links on it are refused.

    `entry` numbers what was asked for: of several targets of one entry the longest source wins, and entries
    are independent of each other.

    `image_offset` is for one name of a linked file, whose data may stand under another name: what stands
    there (the name's fh_info) is restored to `path`, whatever it is called.
    """

    source: bytes
    root: int
    path: bytes
    image_offset: int | None = None
    entry: int = 0


class Destination(NamedTuple):
    """One place of a member: the number of its target, and its components beneath the target's root.

    `alias`: found by its offset, so that it is another name of the member's inode.
    """

    target: int
    components: list[bytes]
    alias: bool = False


class Targets:
    """Finds the destinations of members: for each entry the longest matching `source`; all targets of it."""

    def __init__(self, targets: Sequence[Target]) -> None:
        self._table = SourceTable(
            (target.entry, b"/".join(split_path(target.source)), number)
            for number, target in enumerate(targets)
        )
        self._of_offset: dict[int, list[int]] = {}
        self.paths = [split_path(target.path) for target in targets]
        for number, target in enumerate(targets):
            if target.image_offset is not None:
                self._of_offset.setdefault(target.image_offset, []).append(number)

    def find(self, relative: bytes) -> list[Destination]:
        """Return the destinations of a path relative to the backup root; empty if none was asked for."""
        return [self._below(source, number, relative) for source, number in self._table.find(relative)]

    def children(self, directory: bytes) -> Destination | None:
        """Return the destination of a directory's place if all names in it go there, and nowhere else.

        Nothing is asked for by its offset then, and the directory is not the backup root.
        """
        found = None if self._of_offset or not directory else self._table.children(directory)
        if not found or len(found) != 1:
            return None
        return self._below(*found[0], directory)

    def _below(self, source: bytes, number: int, relative: bytes) -> Destination:
        """The place of a path at or below a target's source."""
        rest = relative[len(source) :].strip(b"/")
        return Destination(number, self.paths[number] + (rest.split(b"/") if rest else []))

    def find_inode(self, relative: bytes, member: Member) -> list[Destination]:
        """Return the destinations of what may have several names: by its name, and by its offset."""
        found = self.find(relative)
        at = member.image_offset if self._of_offset else None
        if at is not None:
            by_offset = self._of_offset.get(at, ())
            named = {destination.target for destination in found}
            found += [Destination(n, self.paths[n], alias=True) for n in by_offset if n not in named]
        return found


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
