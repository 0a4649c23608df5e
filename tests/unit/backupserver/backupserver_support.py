"""What several tests of the backup server share."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from appliance.backupserver import jobs, media
from appliance.backupserver.catalogue import Catalogue
from appliance.backupserver.history import HistoryWriter, split
from appliance.ndmp import messages as m
from appliance.ndmp.declare import Kind
from appliance.ndmp.endpoint import Received
from appliance.ndmp.enums import FileType
from appliance.ndmp.messages.fh import FhDir, FhFile, FhNode
from appliance.ndmp.types import FileName, FileStat
from appliance.ndmp.xdr import Struct

DIRECTORY = FileStat(ftype=FileType.DIR, fattr=0o755)


def received(body: Struct, code: int = 0x703) -> Received:
    """A post as it comes from the client."""
    return Received(1, code, Kind.POST, 0, 0, body.to_bytes())


def file(path: bytes, stat: FileStat = DIRECTORY, node: int = 1, offset: int = 0) -> FhFile:
    """One file of a post."""
    return FhFile((FileName(path),), (stat,), node, offset)


def in_node_form(files: Sequence[FhFile]) -> tuple[list[FhDir], list[FhNode]]:
    """The same history by directories and nodes; the first file is the backup root."""
    nodes = {one.names[0].path: one.node for one in files}
    directories = {b"/"} | {split(path)[0] for path in nodes if path != b"/"}
    dirs = []
    for top in sorted(directories):
        above = nodes[split(top)[0] or b"/"]
        dirs += [
            FhDir((FileName(b"."),), nodes[top], nodes[top]),
            FhDir((FileName(b".."),), above, nodes[top]),
        ]
        for path, node in nodes.items():
            parent, name = split(path)
            if parent == top:
                dirs.append(FhDir((FileName(name),), node, nodes[top]))
    attributes = {one.node: FhNode(one.stats, one.node, one.fh_info) for one in files}
    return dirs, list(attributes.values())


def store(catalogue: Catalogue, root: bytes, paths: list[bytes], job: int | None = None) -> media.Image:
    """An image with these directories."""
    job = job or jobs.create(catalogue, [root], "fs1", 0)
    number = len(media.images(catalogue, job)) + 1
    image = media.add_image(catalogue, job, number, root, 1024)
    writer = HistoryWriter(catalogue.path, image.id, lambda text: pytest.fail(text.decode()))
    writer.put(received(m.FhAddFilePost(tuple(file(path) for path in paths))))
    writer.finish()
    return image
