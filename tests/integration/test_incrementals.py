"""Incremental backups in the process lab: chains over several owners, and the tree of each day back."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.labrun import Lab
from tests.treechanges import change, snapshot

pytestmark = pytest.mark.process_lab

DAYS = 4
SAVED = ("/home", "/projects", "/projects/media", "/software")


@dataclass(frozen=True)
class Site:
    """A process lab, and the local directory of every part by its global path."""

    lab: Lab
    tops: dict[str, Path]

    def run(self, *words: str) -> Any:
        """The JSON that a command on the backup server prints."""
        done = self.lab.on("backup1", *words, "--json")
        assert done.code == 0, done.out + done.err
        return done.json()

    def refused(self, *words: str) -> str:
        """What a command says that must fail."""
        done = self.lab.on("backup1", *words)
        assert done.code != 0
        return done.err


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A process lab with a small tree in each part, for all tests: each saves paths of its own."""
    lab = Lab("process", "test-incremental", tmp_path_factory.mktemp("lab"))
    try:
        up = lab.lab("up")
        assert up.code == 0, up.out + up.err
        gns = lab.lab("info", "--json").json()["gns"]
        site = Site(lab, {part["global_path"]: Path(part["local_path"]) for part in gns})
        for path in SAVED:
            for name in ("a/b/c", "d/e", "f"):
                (site.tops[path] / name).mkdir(parents=True)
                (site.tops[path] / name / "file").write_text(f"{path} {name}")
        yield site
    finally:
        lab.lab("down")


def below(path: str, top: Path) -> dict[str, Any]:
    """What is below a directory, by names that begin with a path."""
    start = f"{path}/".lstrip("/")
    return {
        start + name: (*what, linked and start + linked) for name, (*what, linked) in snapshot(top).items()
    }


def the_day(site: Site) -> dict[str, Any]:
    """The tree of all parts, by global path."""
    return {name: what for path in SAVED for name, what in below(path, site.tops[path]).items()}


def restored(site: Site) -> dict[str, Any]:
    """What is below /restored, without the tops of parts."""
    found = below("", site.tops["/restored"]) | below("/home", site.tops["/restored/home"])
    return {name: what for name, what in found.items() if f"/{name}" not in site.tops}


def clear(site: Site) -> None:
    """Empty the directories that restores go to."""
    for path in ("/restored", "/restored/home"):
        for inner in site.tops[path].iterdir():
            shutil.rmtree(inner) if inner.is_dir() else inner.unlink()


def test_one_file_is_found_in_the_right_image(site: Site) -> None:
    """A file that did not change comes from the full backup, from a directory that was renamed since."""
    site.run("backup", "/projects")
    top = site.tops["/projects"]
    (top / "a").rename(top / "z")
    (top / "z/b/new").write_text("new")
    last = site.run("backup", "/projects", "--level", "1")
    done = site.run("restore", last["id"], "/projects/z/b/c/file", "--to", "/restored")
    assert done["status"] == "complete"
    assert (site.tops["/restored"] / "file").read_text() == "/projects a/b/c"
    gone = site.refused("restore", last["id"], "/projects/a", "--to", "/restored")
    assert "does not hold /projects/a" in gone
    listed = site.run("ls", last["id"], "/projects/z/b/c")
    assert [entry["path"] for entry in listed] == ["/projects/z/b/c/file"]


def test_nothing_that_was_made_since_is_removed(site: Site) -> None:
    """A restore in place brings back what is missing, and leaves alone what came later."""
    site.run("backup", "/home")
    top = site.tops["/home"]
    shutil.rmtree(top / "d")
    (top / "a/b/new").write_text("new")
    site.run("backup", "/home", "--level", "1")
    (top / "a/b/later").write_text("later")
    shutil.rmtree(top / "a/b/c")
    site.run("restore", "latest")
    assert sorted(path.name for path in (top / "a/b").iterdir()) == ["c", "later", "new"]
    assert not (top / "d").exists()


def test_a_level_without_a_base_is_refused(site: Site) -> None:
    """No base, no incremental backup: not in the catalogue, not with the file servers."""
    none = site.refused("backup", "/software", "--level", "1")
    assert "there is no complete backup of a level below 1 of /software" in none
    site.run("backup", "/software")
    for state in site.lab.state.rglob("dumps"):
        shutil.rmtree(state)
    lost = site.refused("backup", "/software", "--incremental")
    assert "no file server knows a backup of BASE_DATE" in lost


def test_every_day_of_a_chain_comes_back(site: Site) -> None:
    """Each day's changes make an incremental backup, through changing entries; and every day comes back."""
    random = Random(7)
    clear(site)
    days = []
    for day in range(DAYS):
        words = ("--incremental",) if day else ("--level", "0")
        job = site.run("backup", "/", "--exclude", "/restored", "--entry", f"fs{1 + day % 2}", *words)
        assert (job["status"], job["level"]) == ("complete", day)
        assert job["based_on"] == [before for before, _ in days[-1:]]
        days.append((job["id"], the_day(site)))
        for path in SAVED:
            for _ in range(random.randrange(1, 8)):
                change(site.tops[path], random)
    for job, tree in days:
        done = site.run("restore", job, "--to", "/restored")
        assert (done["status"], [one["result"] for one in done["names"]]) == ("complete", ["successful"])
        assert restored(site) == tree
        clear(site)
        listed = site.run("ls", job, "/", "--recursive")
        names = {entry["path"].lstrip("/") for entry in listed}
        assert set(tree) == {name for name in names if name and f"/{name}" not in site.tops}
