"""What a job holds, as one tree of global paths over its images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from appliance.backupserver import history, media
from appliance.backupserver.catalogue import Catalogue
from appliance.backupserver.chain import Chain
from appliance.backupserver.history import Entry
from appliance.backupserver.jobs import Job
from appliance.backupserver.media import Image
from appliance.backupserver.nlist import relative
from appliance.ndmp.enums import FileType
from appliance.paths import is_at_or_below


def list_path(catalogue: Catalogue, job: Job, path: bytes, recursive: bool) -> Iterator[Entry] | None:
    """What a directory of the job holds, or the file itself; None when the job does not hold the path.

    A directory above the job's paths shows the way to them.
    """
    images = media.images(catalogue, job.id)
    for image in images:
        if is_at_or_below(path, image.root):
            return _within(catalogue, image, path, recursive)
    below = [image for image in images if is_at_or_below(image.root, path)]
    return _above(catalogue, below, path, recursive) if below else None


def _global(image: Image, entry: Entry) -> Entry:
    """An entry by its global path."""
    inner = b"" if entry.path == b"/" else entry.path
    return replace(entry, path=image.root.rstrip(b"/") + inner or b"/")


def _within(catalogue: Catalogue, image: Image, path: bytes, recursive: bool) -> Iterator[Entry] | None:
    inner = relative(path, image.root) or b"/"
    chain = Chain(catalogue, image)
    found = chain.find(inner)
    if found is None:
        return None
    if not found.is_directory:
        return iter((_global(image, replace(found.entry, path=inner)),))
    return (_global(image, one) for one in chain.list(inner, found, recursive=recursive))


def _above(catalogue: Catalogue, images: list[Image], path: bytes, recursive: bool) -> Iterator[Entry]:
    shown = set()
    for image in images:
        first = relative(image.root, path).split(b"/")[1]
        step = path.rstrip(b"/") + b"/" + first
        if step not in shown:
            shown.add(step)
            root = history.lookup(catalogue, image.id, b"/") if step == image.root else None
            yield Entry(step, type=FileType.DIR) if root is None else _global(image, root)
        if recursive:
            chain = Chain(catalogue, image)
            top = chain.find(b"/")
            if top is not None:
                yield from (_global(image, one) for one in chain.list(b"/", top, recursive=True))
