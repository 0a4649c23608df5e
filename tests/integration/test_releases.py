"""Tapes and catalogues of earlier releases, brought back by a process lab of the present code."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.compare import OWNER_FIELDS, compare, move
from tests.labrun import Lab
from tests.releases import site
from tests.releases.stores import FULL, LATEST, TOP, TOPOLOGY, Stores, releases

pytestmark = pytest.mark.process_lab

IGNORED = {"extents", *(OWNER_FIELDS if os.geteuid() else ())}
RESTORED = b"/restored"


@pytest.fixture(params=releases())
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Stores:
    """The stores of each release."""
    return Stores.unpack(request.param, tmp_path / "stores")


@pytest.fixture
def lab(tmp_path: Path, stores: Stores) -> Iterator[Lab]:
    """A lab whose library holds the release's cartridges, and whose backup server its catalogue."""
    made = Lab(str(TOPOLOGY), "test-releases", tmp_path)
    try:
        up = made.lab("up")
        assert up.code == 0, up.out + up.err
        library = made.node_folder("media1") / "library"
        for path in (stores.folder / "tape").glob("REL*"):
            shutil.copyfile(path, library / path.name)
        shutil.copyfile(stores.folder / "catalogue.sqlite", forget(made))
        yield made
    finally:
        made.lab("down")


def forget(lab: Lab) -> Path:
    """Remove the lab's catalogue; return where it was."""
    folder = lab.node_folder("backup1") / "state"
    for each in folder.glob("catalogue.sqlite*"):
        each.unlink()
    return folder / "catalogue.sqlite"


def test_a_release_restores(lab: Lab, stores: Stores) -> None:
    """By its own catalogue, and by one rebuilt from its tape: each backup gives the tree of its day."""
    spanreel(lab, "verify", "1")
    for job, moment in (("1", FULL), ("latest", LATEST)):
        restore(lab, stores, job, moment)
    forget(lab)
    spanreel(lab, "catalogue", "rebuild")
    restore(lab, stores, "latest", LATEST)


def restore(lab: Lab, stores: Stores, job: str, moment: str) -> None:
    """Restore a job into an empty directory, and compare with what was there when it ran."""
    roots = {path: local for path, local in site.parts(lab).items() if path.startswith(RESTORED)}
    for local in roots.values():
        for path in local.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    spanreel(lab, "restore", job, TOP, "--to", RESTORED)
    expected = move(stores.tree(moment), TOP, RESTORED + TOP)
    found = site.describe(roots)
    found.pop(RESTORED)
    assert compare(expected, found, ignore=IGNORED).shown() == []


def spanreel(lab: Lab, *words: str | bytes) -> None:
    """Run a command on the backup server, which must end well."""
    done = lab.on("backup1", *words)
    assert done.code == 0, done.out + done.err
