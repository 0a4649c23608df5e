"""Our DMA against ndmjob's servers: its tape and robot agents, its data agent.

Run by tests/integration/test_foreign_servers.py in a network namespace of its own.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.backupserver import backup, history, restore
from appliance.backupserver.jobs import Status
from tests.integration.foreign.support import PASSWORD, PORT, USER, backup_server, daemon
from tests.unit.cluster.conftest import NODES, Cluster
from tests.unit.cluster.conftest import PASSWORD as CLUSTER_PASSWORD
from tests.unit.mediaserver.support import Site

LIMIT = 9_000_000
"""Bytes on one of ndmjob's cartridges: a tree of 20 MB needs three."""


def fill(top: Path, seed: int, size: int) -> dict[str, bytes]:
    """Files of random bytes in a tree; what is in them."""
    rng = random.Random(seed)
    content = {}
    while size > 0:
        name = f"d{rng.randrange(5)}/f{len(content)}"
        data = rng.randbytes(rng.randrange(1, 1_500_000))
        size -= len(data)
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_bytes(data)
        content[name] = data
    return content


def content_of(top: Path) -> dict[str, bytes]:
    """What is in the files of a tree."""
    return {str(path.relative_to(top)): path.read_bytes() for path in top.rglob("*") if path.is_file()}


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Our file servers and connection server."""
    made = Cluster(tmp_path, "token")
    made.start()
    yield made
    made.stop()


def test_our_cluster_onto_ndmjobs_library(cluster: Cluster, tmp_path: Path) -> None:
    """Three cartridges by its robot, each labelled by us, and everything comes back from them."""
    cluster.add(("/a", "fs1", "a"), ("/a/b", "fs2", "b"), ("/back", "fs2", "back"))
    before = {
        "a": fill(cluster.local("fs1", "a"), 1, 11_000_000),
        "b": fill(cluster.local("fs2", "b"), 2, 9_000_000),
    }
    home = tmp_path / "dma"
    home.mkdir()
    with (
        daemon(home, tape_limit=LIMIT) as robot,
        backup_server(
            home,
            changer=("ROBOT", str(robot)),
            drive=("DRIVE0", str(robot / "drive0")),
            writable=("PTAG00XX", "PTAG01XX", "PTAG02XX", "PTAG03XX"),
            servers={
                "data": (NODES["fs2"], cluster.port, "dma", CLUSTER_PASSWORD),
                "media": ("127.0.0.1", PORT, USER, PASSWORD),
            },
        ) as (context, catalogue, said),
    ):
        job = backup.run(context, backup.Request((b"/a",), "data"))
        assert (job.status, len(job.media)) == (Status.COMPLETE, 3), said.getvalue()
        result = restore.run(context, restore.Request(job, (), b"/back", "overwrite", "data"))
        assert result.status is Status.COMPLETE, said.getvalue()
        assert all(history.lookup(catalogue, 1, path) is not None for path in (b"/", b"/b", b"/d0"))
    after = content_of(cluster.local("fs2", "back") / "a")
    whole = {**before["a"], **{f"b/{name}": data for name, data in before["b"].items()}}
    assert after == whole


def test_ndmjobs_files_onto_our_library(tmp_path: Path) -> None:
    """Its data agent's image and file history: one file is found in the catalogue, and comes back."""
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    before = fill(source, 3, 4_000_000)
    home = tmp_path / "dma"
    home.mkdir()
    site = Site(tmp_path / "library", capacity=64 << 20)
    try:
        with (
            daemon(home, tape_limit=LIMIT),
            backup_server(
                home,
                changer=("CHG1", "changer:CHG1"),
                drive=("DRV1", "drive:DRV1"),
                writable=("VTL001L5",),
                servers={
                    "data": ("127.0.0.1", PORT, USER, PASSWORD),
                    "media": (*site.server.address, "dma", "secret"),
                },
            ) as (context, catalogue, said),
        ):
            job = backup.run(context, backup.Request((bytes(source),), "data"))
            assert job.status is Status.COMPLETE, said.getvalue()
            name = min(before)
            one = bytes(source / name)
            assert history.lookup(catalogue, 1, b"/" + name.encode()) is not None
            result = restore.run(context, restore.Request(job, (one,), bytes(target), "overwrite", "data"))
            assert result.status is Status.COMPLETE, said.getvalue()
    finally:
        site.close()
    assert (target / Path(name).name).read_bytes() == before[name]
