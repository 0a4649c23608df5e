"""How fast file history goes from the owner through the entry server into the DMA's catalogue."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path

from appliance.ndmp import messages as m
from appliance.ndmp.endpoint import Received
from tests.bench.dma import Dma
from tests.bench.figures import Figure
from tests.labrun import Lab

FILES = 50_000
PER_DIRECTORY = 500


def seed(local: Path) -> None:
    """Empty files: what takes time is their names."""
    for number in range(FILES // PER_DIRECTORY):
        folder = local / "names" / f"{number:03}"
        folder.mkdir(parents=True)
        for name in range(PER_DIRECTORY):
            (folder / f"file-{name:05}").touch()


def count(post: Received) -> int:
    """Entries of file history in a post."""
    body = post.body()
    if isinstance(body, m.FhAddFilePost):
        return len(body.files)
    if isinstance(body, m.FhAddDirPost):
        return len(body.dirs)
    return len(body.nodes) if isinstance(body, m.FhAddNodePost) else 0


def to_dma(dma: Dma, path: bytes) -> list[Figure]:
    """Entries a second as a DMA receives them, in both forms."""
    figures = []
    for form, name in ((b"n", "without file history"), (b"f", "file form"), (b"d", "node form")):
        counted = [0]
        dma.on_post = lambda post, counted=counted: counted.append(counted.pop() + count(post))
        seconds = dma.backup(path, form, lambda data, _: data.do(m.DataGetStateRequest()) and time.sleep(0.2))
        figures.append(Figure(f"{FILES} names, {name}", FILES / seconds / 1000, "k/s"))
        if counted[0]:
            figures.append(Figure(f"entries to the DMA, {name}", counted[0] / seconds / 1000, "k/s"))
    return figures


def to_catalogue(lab: Lab, path: str) -> list[Figure]:
    """Names a second by the backup server's own clock, with the entries in its catalogue at the end."""
    figures = []
    for entry, how in (("fs1", "asked of their owner"), ("fs2", "asked of another server")):
        done = lab.on("backup1", "backup", path, "--entry", entry, "--json")
        assert done.code == 0, done.err
        job = done.json()
        started, ended = (datetime.fromisoformat(job[key]) for key in ("started", "ended"))
        rate = job["files"] / (ended - started).total_seconds() / 1000
        figures.append(Figure(f"names into the catalogue, {how}", rate, "k/s", "100 k/s"))
    return figures
