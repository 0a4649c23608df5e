"""What earlier releases left behind is read by this one: tests/releases/, made by their own code."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
import tomllib
from pathlib import Path

import pytest

from appliance import config
from appliance.backupserver import jobs, media
from appliance.backupserver.catalogue import open_catalogue, schema
from appliance.gns.store import MapStore
from harness.compare import OWNER_FIELDS, compare
from tape.model.reader import dump
from tests.labrun import ROOT
from tests.releases import site
from tests.releases.stores import FULL, TOP, Stores, archive, releases

CARTRIDGE = "REL001L5"
IMAGE_FILE = 2
"""The tape file of the full backup's image: docs/tape-format.md."""

UNPACKED = {"extents", *(OWNER_FIELDS if os.geteuid() else ())}
"""Where a file has holes is up to the file system below, and owners are root's to give."""


@pytest.fixture(params=releases())
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Stores:
    """The stores of each release."""
    return Stores.unpack(request.param, tmp_path / "stores")


def test_this_release_is_kept() -> None:
    """A release number is taken only with what that release writes: `python -m tests.releases` makes it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert archive(project["version"]).exists(), "docs/upgrade.md, Making a release"


def test_the_kept_stores_have_every_schema_of_the_catalogue(tmp_path: Path) -> None:
    """No step of a migration is without a catalogue that the code before it really wrote."""
    found = set()
    for release in releases():
        kept = Stores.unpack(release, tmp_path / release)
        with contextlib.closing(sqlite3.connect(kept.folder / "catalogue.sqlite")) as connection:
            found |= {connection.execute("PRAGMA user_version").fetchone()[0]}
    assert found == set(schema().steps)


def test_gnu_tar_reads_the_tape(stores: Stores, tmp_path: Path) -> None:
    """Whatever becomes of this product, the tape of a release is a pax archive."""
    tree = tmp_path / "tree"
    tree.mkdir()
    command = ["tar", "--extract", "--preserve-permissions", "--xattrs", "--xattrs-include=*", "--file=-"]
    image = b"".join(dump(stores.folder / "tape", CARTRIDGE, IMAGE_FILE))
    done = subprocess.run(command, cwd=tree, input=image, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    found = site.describe({TOP: tree / TOP.decode().lstrip("/")})
    assert compare(stores.tree(FULL), found, ignore=UNPACKED).shown() == []


def test_the_catalogue_is_brought_up_to_date(stores: Stores) -> None:
    """Jobs, cartridges and names are known as before, and an older catalogue stays beside it as it was."""
    path = stores.folder / "catalogue.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as before:
        (number,) = before.execute("PRAGMA user_version").fetchone()
        names = before.execute("SELECT count(*) FROM file").fetchall()
        identity = before.execute("SELECT uuid FROM catalogue").fetchone()[0]
    with open_catalogue(path) as catalogue:
        assert catalogue.uuid == identity
        assert catalogue.connection.execute("PRAGMA user_version").fetchone()[0] == schema().newest
        assert [tuple(row) for row in catalogue.connection.execute("SELECT count(*) FROM file")] == names
        found = {job.id: job.status for job in jobs.list_all(catalogue)}
        assert found == dict.fromkeys((1, 2), jobs.Status.COMPLETE)
        (medium,) = media.media(catalogue).values()
        assert (medium.barcode, medium.last_file, medium.unfinished) == (CARTRIDGE, 4, None)
    assert path.with_name(f"catalogue.sqlite.schema{number}").exists() == (number < schema().newest)


def test_the_map_is_read(stores: Stores, tmp_path: Path) -> None:
    """The namespace of a file server that is upgraded is what it was."""
    (tmp_path / "state" / "gns").mkdir(parents=True)
    shutil.copyfile(stores.folder / "map.json", tmp_path / "state" / "gns" / "map.json")
    with MapStore(tmp_path / "state") as store:
        found = store.load()
    owners = {junction.path: junction.owner for junction in found.junctions}
    assert (owners[TOP], owners[b"/projects/media"]) == ("fs1", "fs2")


def test_the_configurations_are_read(stores: Stores) -> None:
    """No release takes away a key, or gives it another meaning, without a new schema number."""
    read = [config.load(path) for path in sorted((stores.folder / "config").iterdir())]
    assert [each.node.name for each in read] == ["backup1", "conn1", "fs1", "fs2", "media1"]
