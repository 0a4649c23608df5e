"""Our own DMA, a real media server and the cluster: a restore of little reads little, from the right tape."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import pytest

from appliance.backupserver import backup, restore
from appliance.backupserver.catalogue import Catalogue, open_catalogue
from appliance.backupserver.jobs import Job, Status
from appliance.backupserver.peers import Context
from appliance.backupserver.progress import Screen
from appliance.config import MediaServer, NodeConfig, parse
from appliance.connection.reads import FIRST_BYTES
from appliance.mediaserver.libraries import Libraries
from appliance.ndmp.enums import RecoveryStatus
from appliance.ndmp.server import NdmpServer
from appliance.ndmp.session import Accounts
from tests.unit.cluster.conftest import NODES, PASSWORD, Cluster
from tests.unit.mediaserver.support import media_setup

MEDIA = "127.79.0.31"
TOML = """
schema = 1
[node]
name = "backup1"
address = "127.79.0.41"
state = "{folder}"
[media_server]
[[media_server.libraries]]
transport = "model"
changer = "LIB1"
drives = ["DRV1"]
folder = "{folder}/library"
slots = ["T1", "T2", "T3", "T4"]
writable = ["T1", "T2", "T3", "T4"]
capacity = 16777216
[backup_server]
catalogue = "{folder}/catalogue.sqlite"
entry = "fs1"
media = "media1"
changer = "LIB1"
drives = ["DRV1"]
writable = ["T1", "T2", "T3", "T4"]
record_size = 65536
"""
SERVER = """
[[backup_server.servers]]
name = "{name}"
address = "{address}"
port = {port}
user = "dma"
password_file = "{folder}/password"
"""
PARTS = (
    ("/a", "fs1", "a"),
    ("/b", "fs2", "b"),
    ("/b/in", "fs1", "in"),
    ("/to", "fs1", "to"),
    ("/to/b", "fs2", "tob"),
)


@dataclass
class Site:
    """A backup server beside the cluster, with one job on three cartridges."""

    cluster: Cluster
    config: NodeConfig
    catalogue: Catalogue
    output: StringIO
    job: Job

    def restore(
        self, *paths: bytes, to: bytes | None = b"/to", existing: str = "overwrite"
    ) -> restore.Result:
        """Run a restore."""
        context = Context(self.config, self.catalogue, Screen(self.output))
        return restore.run(context, restore.Request(self.job, paths, to, existing, "fs1"))

    def top(self, node: str, name: str) -> Path:
        """A local directory."""
        return self.cluster.local(node, name)


def config_of(cluster: Cluster, folder: Path, port: int) -> NodeConfig:
    """The configuration of media server and backup server; the former's port is known late."""
    text = TOML.format(folder=folder)
    for name, address, at in (("fs1", NODES["fs1"], cluster.port), ("media1", MEDIA, port)):
        text += SERVER.format(name=name, address=address, port=at, folder=folder)
    return parse(text, folder)


def seed(cluster: Cluster) -> None:
    """Some 36 MiB over two owners, that no drive compresses, with links from one directory to another."""
    cluster.add(*PARTS)
    bits = random.Random(7)
    a, b, inner = (cluster.local(*place) for place in (("fs1", "a"), ("fs2", "b"), ("fs1", "in")))
    (a / "first").write_text("first")
    (a / "large").write_bytes(bits.randbytes(18 << 20))
    (b / "d").mkdir()
    (b / "d" / "small").write_text("small of fs2")
    (b / "d" / "middle").write_bytes(bits.randbytes(100_000))
    (b / "e").mkdir()
    (b / "e" / "large").write_bytes(bits.randbytes(18 << 20))
    os.link(b / "d" / "small", b / "e" / "link")
    os.link(b / "d" / "small", b / "e" / "other")
    (inner / "last").write_text("last of fs1")


@pytest.fixture
def site(cluster: Cluster, tmp_path: Path) -> Iterator[Site]:
    """A site whose job is done."""
    folder = tmp_path / "backup1"
    folder.mkdir()
    (folder / "password").write_text(PASSWORD + "\n")
    (folder / "password").chmod(0o600)
    libraries = Libraries.from_config(config_of(cluster, folder, 1).section(MediaServer).libraries)
    media = NdmpServer(
        (MEDIA, 0), media_setup(libraries, "media1", MEDIA), accounts=Accounts({"dma": PASSWORD})
    )
    media.start()
    config = config_of(cluster, folder, media.address[1])
    assert config.backup_server is not None
    seed(cluster)
    output = StringIO()
    try:
        with open_catalogue(config.backup_server.catalogue) as catalogue:
            job = backup.run(Context(config, catalogue, Screen(output)), backup.Request((b"/",), "fs1"))
            assert (job.status, len(job.media)) == (Status.COMPLETE, 3)
            yield Site(cluster, config, catalogue, output, job)
    finally:
        media.stop()
        libraries.close()


def loaded(site: Site) -> list[str]:
    """The cartridges that were loaded since the last call."""
    said = site.output.getvalue()
    site.output.seek(0)
    site.output.truncate()
    return [line.split()[1] for line in said.splitlines() if line.startswith("loading ")]


def test_a_single_file_costs_one_read(site: Site) -> None:
    """64 KiB of an image of 36 MiB, and no cartridge but its own."""
    loaded(site)
    result = site.restore(b"/b/in/last")
    assert (result.status, result.bytes) == (Status.COMPLETE, FIRST_BYTES)
    assert (site.top("fs1", "to") / "last").read_text() == "last of fs1"
    assert loaded(site) == []
    result = site.restore(b"/a/first", b"/b/in/last", to=b"/to/b")
    assert (result.status, result.bytes) == (Status.COMPLETE, 2 * FIRST_BYTES)
    assert loaded(site) == ["T1", "T3"]
    assert (site.top("fs2", "tob") / "first").read_text() == "first"


def test_a_directory_with_a_part_of_another_owner(site: Site) -> None:
    """The table of parts came back with the environment: what lies before the directory is not read."""
    result = site.restore(b"/b")
    assert result.status is Status.COMPLETE
    assert result.bytes < site.job.bytes - (16 << 20)
    there = site.top("fs2", "tob")
    assert (there / "e/large").read_bytes() == (site.top("fs2", "b") / "e/large").read_bytes()
    assert (there / "in" / "last").read_text() == "last of fs1"
    assert (there / "e/link").samefile(there / "d/small")


def test_a_file_that_spans_cartridges(site: Site) -> None:
    """The mover's pause at the end of one segment is answered with the next."""
    result = site.restore(b"/a/large")
    assert result.status is Status.COMPLETE
    assert (site.top("fs1", "to") / "large").read_bytes() == (site.top("fs1", "a") / "large").read_bytes()
    assert result.bytes < (18 << 20) + FIRST_BYTES


def test_links_whose_data_is_elsewhere_come_by_a_second_pass(site: Site) -> None:
    """A directory whose files are names of files outside it: whole, without a problem, and read by places."""
    result = site.restore(b"/b/e", to=b"/to")
    assert (result.status, result.problems, len(result.targets)) == (Status.COMPLETE, 0, 1)
    there = site.top("fs1", "to") / "e"
    assert (there / "link").read_text() == "small of fs2"
    assert (there / "link").samefile(there / "other")
    assert result.bytes < (18 << 20) + 4 * FIRST_BYTES


def test_links_over_two_owners_of_the_target(site: Site) -> None:
    """A whole restore where one owner today has the link and another the data: both have the data."""
    result = site.restore(b"/b/d", b"/b/e/link", b"/b/e/other", to=b"/to/b")
    assert result.status is Status.COMPLETE
    site.cluster.add(("/to/b2", "fs2", "b2"), ("/to/b2/b/e", "fs1", "b2e"))
    result = site.restore(to=b"/to/b2")
    assert (result.status, result.problems) == (Status.COMPLETE, 0)
    assert (site.top("fs2", "b2") / "b/d/small").read_text() == "small of fs2"
    assert (site.top("fs1", "b2e") / "link").read_text() == "small of fs2"
    assert (site.top("fs1", "b2e") / "link").samefile(site.top("fs1", "b2e") / "other")


def test_a_link_that_fails_in_the_second_pass_fails_its_directory(site: Site) -> None:
    """The name that was asked for has the worst result of both passes."""
    blocked = site.top("fs1", "to") / "e" / "link"
    (blocked / "full").mkdir(parents=True)
    result = site.restore(b"/b/e")
    assert result.status is Status.PROBLEMS
    assert list(result.targets.values()) == [RecoveryStatus.FAILED_IO_ERROR]
