"""Which names of which images a restore asks for, and where each goes.

original_path is relative to the image's root and begins with "/", "" is everything; destination_path
is the full global path of what is restored, `name` stays empty (draft-skardal-ndmpv4-04, 3.5.10).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from appliance.backupserver import history, media
from appliance.backupserver.catalogue import Catalogue
from appliance.backupserver.jobs import Job
from appliance.backupserver.media import Image
from appliance.errors import ConfigurationError
from appliance.ndmp.enums import ALL_ONES
from appliance.ndmp.types import Name
from appliance.paths import is_at_or_below
from appliance.text import show_path

NAMES_SHOWN_MAX = 5
"""Missing paths named in one line of error."""


@dataclass(frozen=True)
class Part:
    """What is restored from one image."""

    image: Image
    names: tuple[Name, ...]

    @property
    def first_place(self) -> int | None:
        """Where in the image the first of the names stands; None when that of one is not known."""
        places = [name.fh_info for name in self.names]
        return None if ALL_ONES in places else min(places)


def relative(path: bytes, directory: bytes) -> bytes:
    """The rest of `path` below `directory`: "" or a path that begins with "/"."""
    return path[len(directory.rstrip(b"/")) :] if path != directory else b""


def parent_of(path: bytes) -> bytes:
    """The directory that holds `path`; of "/" that is "/"."""
    return history.split(path)[0] or b"/"


def destination(target: bytes, asked: bytes, to: bytes | None) -> bytes:
    """Where `target`, which is `asked` or lies below it, goes.

    Without a directory `to` it goes where it was; with one, the last component of `asked` appears in it.
    """
    if to is None:
        return target
    return to.rstrip(b"/") + relative(target, parent_of(asked)) or b"/"


def plan(catalogue: Catalogue, job: Job, paths: Sequence[bytes], to: bytes | None) -> list[Part]:
    """The parts of a restore, one for each image that holds something asked for.

    No paths mean all that the job was asked to back up.  Raises ConfigurationError naming the paths that
    the job does not hold.
    """
    images = media.images(catalogue, job.id)
    wanted: dict[int, list[Name]] = {image.id: [] for image in images}
    missing = []
    for path in paths or [image.root for image in images]:
        found = False
        for image in images:
            name = _name(catalogue, image, path, to)
            if name is not None:
                wanted[image.id].append(name)
                found = True
        if not found:
            missing.append(path)
    if missing:
        listed = ", ".join(show_path(path) for path in missing[:NAMES_SHOWN_MAX])
        more = f" and {len(missing) - NAMES_SHOWN_MAX} more" if len(missing) > NAMES_SHOWN_MAX else ""
        raise ConfigurationError(
            f"job {job.id} does not hold {listed}{more}: `spanreel ls {job.id}` shows it"
        )
    return [Part(image, tuple(wanted[image.id])) for image in images if wanted[image.id]]


def _name(catalogue: Catalogue, image: Image, path: bytes, to: bytes | None) -> Name | None:
    """The nlist entry for what `image` holds of `path`; None when it holds nothing of it."""
    if is_at_or_below(image.root, path):
        return Name(b"", destination(image.root, path, to))
    if not is_at_or_below(path, image.root):
        return None
    original = relative(path, image.root)
    entry = history.lookup(catalogue, image.id, original)
    if entry is None:
        return None
    return Name(original, destination(path, path, to), node=entry.node, fh_info=entry.offset)


def second_pass(catalogue: Catalogue, part: Part, links: Sequence[bytes]) -> tuple[Part, list[bytes]]:
    """The names of a second pass, for links whose data was not among what `part` restored.

    The fh_info of each is the place of the member with the data, which is restored under the link's name.
    Also returned are the links that the catalogue does not know.
    """
    names: list[Name] = []
    unknown: list[bytes] = []
    for link in dict.fromkeys(links):
        entry = history.lookup(catalogue, part.image.id, link)
        if entry is None or entry.offset == ALL_ONES:
            unknown.append(link)
            continue
        for name in part.names:
            top = name.original_path or b"/"
            if is_at_or_below(link, top):
                target = name.destination_path.rstrip(b"/") + relative(link, top)
                names.append(Name(link, target, node=entry.node, fh_info=entry.offset))
    return Part(part.image, tuple(names)), unknown
