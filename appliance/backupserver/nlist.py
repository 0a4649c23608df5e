"""Which names of which images a restore asks for, and where each goes.

original_path is relative to the image's root and begins with "/", "" is everything; destination_path
is the full global path of what is restored, `name` stays empty (draft-skardal-ndmpv4-04, 3.5.10).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from appliance.backupserver import history, media
from appliance.backupserver.catalogue import Catalogue
from appliance.backupserver.chain import Chain
from appliance.backupserver.jobs import Job
from appliance.backupserver.layers import Layers
from appliance.backupserver.media import Image
from appliance.errors import ConfigurationError
from appliance.ndmp.enums import ALL_ONES
from appliance.ndmp.types import Name
from appliance.paths import is_at_or_below
from appliance.text import show_path

NAMES_SHOWN_MAX = 5
"""Missing paths named in one line of error."""


PART_NAMES_MAX = 50_000
"""Names of one request: 10 MiB or so of a message, which may have 64."""


@dataclass(frozen=True)
class Part:
    """What is restored from one image: names, and for each the global path that was asked to be made.

    Several names may be for one such path: what an incremental image does not have is in images before.
    """

    image: Image
    names: tuple[Name, ...]
    targets: tuple[bytes, ...]

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


def plan(
    catalogue: Catalogue, job: Job, paths: Sequence[bytes], to: bytes | None, *, overwrites: bool = True
) -> list[Part]:
    """The parts of a restore in their order, one or more for each image that holds something asked for.

    No paths mean all that the job was asked to back up.  `overwrites`: what comes later replaces what is
    there; the oldest image comes first then, else the newest.  Raises ConfigurationError naming the paths
    that the job does not hold, or a base that the catalogue does not.
    """
    chains = [Chain(catalogue, image) for image in media.images(catalogue, job.id)]
    parts: list[list[Part]] = [[] for _ in chains]
    missing = []
    for path in paths or [chain.images[0].root for chain in chains]:
        found = False
        for number, chain in enumerate(chains):
            wanted = _wanted(chain, path, to)
            if wanted is not None:
                parts[number] += _parts(chain, *wanted, overwrites=overwrites)
                found = True
        if not found:
            missing.append(path)
    if missing:
        listed = ", ".join(show_path(path) for path in missing[:NAMES_SHOWN_MAX])
        more = f" and {len(missing) - NAMES_SHOWN_MAX} more" if len(missing) > NAMES_SHOWN_MAX else ""
        raise ConfigurationError(
            f"job {job.id} does not hold {listed}{more}: `spanreel ls {job.id}` shows it"
        )
    return [part for those in parts for part in _joined(those, overwrites=overwrites)]


def _wanted(chain: Chain, path: bytes, to: bytes | None) -> tuple[bytes, bytes] | None:
    """What a chain holds of a global path, from its root, and where that goes; None when it holds nothing."""
    root = chain.images[0].root
    if is_at_or_below(root, path):
        return b"/", destination(root, path, to)
    if not is_at_or_below(path, root) or chain.find(relative(path, root)) is None:
        return None
    return relative(path, root), destination(path, path, to)


def _parts(chain: Chain, path: bytes, target: bytes, *, overwrites: bool) -> list[Part]:
    """What makes one path, image by image."""
    if path == b"/" and chain.is_single:
        # All of an image needs no file history, which a server may not have sent.
        return [Part(chain.images[0], (Name(b"", target),), (target,))]
    found = chain.find(path)
    if found is None:
        raise ConfigurationError(
            f"job {chain.images[0].job} has no file history, without which what it is based on cannot be "
            "found: restore that job, and then this one by naming its paths"
        )
    layers = Layers(chain, overwrites=overwrites)
    layers.take(found, target)
    return [
        Part(chain.images[depth], tuple(names), (target,) * len(names))
        for depth, names in layers.names.items()
    ]


def _joined(parts: Sequence[Part], *, overwrites: bool) -> list[Part]:
    """One part an image, in the order in which images are restored; more where there are too many names."""
    images = sorted({part.image.id: part.image for part in parts}.values(), key=lambda image: image.id)
    joined = []
    for image in images if overwrites else reversed(images):
        names = [name for part in parts if part.image == image for name in part.names]
        targets = [target for part in parts if part.image == image for target in part.targets]
        joined += [
            Part(image, tuple(names[n : n + PART_NAMES_MAX]), tuple(targets[n : n + PART_NAMES_MAX]))
            for n in range(0, len(names), PART_NAMES_MAX)
        ]
    return joined


def second_pass(catalogue: Catalogue, part: Part, links: Sequence[bytes]) -> tuple[Part, list[bytes]]:
    """The names of a second pass, for links whose data was not among what `part` restored.

    The fh_info of each is the place of the member with the data, which is restored under the link's name.
    Also returned are the links that the catalogue does not know.
    """
    names: list[Name] = []
    targets: list[bytes] = []
    unknown: list[bytes] = []
    for link in dict.fromkeys(links):
        entry = history.lookup(catalogue, part.image.id, link)
        if entry is None or entry.offset == ALL_ONES:
            unknown.append(link)
            continue
        for name, made in zip(part.names, part.targets, strict=True):
            top = name.original_path or b"/"
            if is_at_or_below(link, top):
                target = name.destination_path.rstrip(b"/") + relative(link, top)
                names.append(Name(link, target, node=entry.node, fh_info=entry.offset))
                targets.append(made)
    return Part(part.image, tuple(names), tuple(targets)), unknown
