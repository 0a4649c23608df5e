"""Proof: what is on tape extracts with GNU tar, without the product, to the same tree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness import guest, manifest, parts
from harness.checks.result import CheckResult, error, verdict
from harness.compare import move, without
from harness.manifest import Manifest
from harness.nodeconfig import RECORD_SIZE
from harness.providers.base import Provider
from harness.topology import PROCESS_MODEL, RESTORED, Library, Node

# With root everything comes back; without it tar could not give files away or set what only root may.
TAR_ROOT = [
    "--numeric-owner",
    "--same-owner",
    "--preserve-permissions",
    "--acls",
    "--xattrs",
    "--xattrs-include=*",
]
TAR_USER = ["--no-same-owner", "--preserve-permissions", "--acls", "--xattrs", "--xattrs-include=user.*"]
# The seed has files of the year 1969 and of 2255; tar would remark on each.
TAR_COMMON = ["--warning=no-timestamp", "--read-full-records"]


@dataclass(frozen=True)
class TapeFile:
    """Where a segment of an image lies: cartridge, and number of the tape file on it."""

    barcode: str
    file: int


@dataclass(frozen=True)
class Extraction:
    """What came off the tape."""

    bytes: int
    hits: int
    problem: str
    tree: Manifest


def extract(provider: Provider, library: Library, files: Sequence[TapeFile]) -> Extraction:
    """Read an image on the media server by foreign tools and describe what tar makes of it.

    An image that spans cartridges is the concatenation of its segments.
    """
    node = provider.topology.node(library.node)
    folder = f"{provider.paths(node).scratch}/extracted"
    provider.run(node, ["rm", "-rf", folder])
    offline = library.transport != PROCESS_MODEL
    if offline:
        provider.stop(node)
    try:
        answer = guest.call(provider, node, "extract", _argument(provider, library, node, files, folder))
    finally:
        if offline:
            provider.start(node)
    tree = manifest.take_roots(provider, node, [{"global": "/", "local": folder, "skip": []}])
    provider.run(node, ["rm", "-rf", folder])
    return Extraction(answer["bytes"], answer["hits"], judge(answer), comparable(provider, tree))


def judge(answer: dict[str, Any]) -> str:
    """Return what went wrong, "" if nothing did."""
    if answer["dump"]["code"] != 0:
        return f"reading the tape ended with {answer['dump']['code']}: {answer['dump']['said'].strip()}"
    if answer["bytes"] == 0:
        return "the tape file is empty"
    if answer["tar"]["code"] != 0:
        return f"GNU tar ended with {answer['tar']['code']}: {answer['tar']['said'].strip()}"
    return ""


def extracts(name: str, extraction: Extraction) -> CheckResult:
    """Pass if tar took the whole image without complaint."""
    summary = (
        extraction.problem or f"GNU tar extracted {len(extraction.tree)} names from {extraction.bytes} bytes"
    )
    return verdict(name, not extraction.problem, summary)


def no_local_root(name: str, extraction: Extraction) -> CheckResult:
    """Pass if the token is nowhere in the image: member names, headers, index."""
    if extraction.bytes == 0:
        return error(name, "no image was read")
    summary = f"the token occurs {extraction.hits} times in {extraction.bytes} bytes of the image"
    return verdict(name, extraction.hits == 0, summary)


def comparable(provider: Provider, tree: Manifest) -> Manifest:
    """Return the extracted tree without what the original's manifest leaves out.

    That is the place of restores, and directories nobody owns (the root, the way to a junction).
    """
    tops = [item.path for item in parts.originals(provider)]
    moved = without(move(tree, b"/", b""), RESTORED.encode())
    return {path: entry for path, entry in moved.items() if any(_below(path, top.encode()) for top in tops)}


def _below(path: bytes, top: bytes) -> bool:
    """Whether a path lies at or below another."""
    return path == top or path.startswith(top + b"/")


def _argument(
    provider: Provider, library: Library, node: Node, files: Sequence[TapeFile], folder: str
) -> dict[str, Any]:
    """The argument of `guest/extract.py`."""
    dumps = [_dump(provider, library, node, item) for item in files]
    options = (TAR_ROOT if provider.is_root else TAR_USER) + TAR_COMMON
    return {"dumps": dumps, "folder": folder, "tar": options, "needle": provider.lab.token}


def _dump(provider: Provider, library: Library, node: Node, item: TapeFile) -> list[str]:
    """The command that writes one tape file to its standard output."""
    if library.transport == PROCESS_MODEL:
        cartridges = provider.paths(node).library
        return ["python3", "-m", "tape.model", cartridges, item.barcode, str(item.file)]
    wanted = {
        "changer": library.changer,
        "drives": library.drives,
        "barcode": item.barcode,
        "file": item.file,
        "record": RECORD_SIZE,
    }
    return ["python3", "-c", guest.source("tape_dump").decode(), guest.encode(wanted)]
