"""The pytest plugin: a lab for those who ask, skips with reasons for those it cannot serve."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from harness_support import FakeProvider, fast_topology

from harness import bringup
from harness import lab as labs
from harness import session as sessions
from harness.events import Events
from harness.lab import LabState
from harness.pytest_plugin import missing

TESTS = """
import pytest

def test_folder(client_folder):
    client_folder.write("a", b"x")
    assert client_folder.read("a") == b"x"
    assert len(client_folder.manifest()) == 2
    client_folder.remove("a")
    assert len(client_folder.manifest()) == 1

def test_jobs(dma, nodes, library):
    assert dma.jobs() == []
    assert "fs1" in nodes
    assert library.changer == "C1"

@pytest.mark.needs(drives=9)
def test_many_drives(lab):
    raise AssertionError

@pytest.mark.needs(roles={"file-server": 2}, drives=1, faults=True)
def test_enough(lab):
    pass
"""


@pytest.fixture
def ups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was brought up and down; labs are made of folders."""
    done: list[str] = []

    def make(lab: LabState, events: Events | None = None) -> FakeProvider:
        return FakeProvider(lab.topology(), lab, events or Events())

    def bring_up(provider: FakeProvider) -> None:
        done.append("up")
        provider.up()

    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(sessions, "provider_of", make)
    monkeypatch.setattr(bringup, "up", bring_up)
    monkeypatch.setattr(bringup, "down", lambda provider: done.append("down"))
    return done


def test_a_session_has_one_lab(pytester: pytest.Pytester, tmp_path: Path, ups: list[str]) -> None:
    """Tests share one lab, which is ended; what it cannot serve is skipped with the reason."""
    topology = fast_topology(tmp_path)
    pytester.makepyfile(TESTS)
    result = pytester.runpytest_inprocess(
        "-p", "harness.pytest_plugin", "--lab-topology", str(topology.file), "-rs", "-p", "no:cacheprovider"
    )
    result.assert_outcomes(passed=3, skipped=1)
    result.stdout.fnmatch_lines(["*a library with 9 drives is needed, there are 1*"])
    assert ups == ["up", "down"]


def test_a_lab_that_nobody_asks_for_is_not_started(pytester: pytest.Pytester, ups: list[str]) -> None:
    """Tests without the fixtures run without a lab."""
    pytester.makepyfile("def test_nothing(): pass")
    pytester.runpytest_inprocess("-p", "harness.pytest_plugin").assert_outcomes(passed=1)
    assert ups == []


def test_what_a_topology_lacks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Roles, drives, scripted faults, root: each reason says what is needed and what is there."""
    topology = fast_topology(tmp_path)
    assert missing(topology, {"file-server": 2}, 1, faults=True) == []
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    lacks = missing(topology, {"file-server": 3}, 2, root=True)
    assert [reason.partition(" needed")[0] for reason in lacks] == [
        "3 nodes with the role file-server are",
        "a library with 2 drives is",
        "root is",
    ]


REVERTING = """
import pytest

pytestmark = pytest.mark.lab_revert

@pytest.mark.parametrize("number", [1, 2])
def test_folder_is_new(client_folder, lab, number):
    content = lab.lab.folder / "content"
    assert content.read_text() == "new"
    content.write_text("used")
    client_folder.write("a", b"x")

@pytest.mark.lab_revert("seeded")
def test_seeded(lab):
    assert (lab.lab.folder / "content").read_text() == "seed"
"""


class Kept(FakeProvider):
    """A lab of folders and one file, which is kept."""

    def made_of(self) -> dict[str, str]:
        return {"product": "one"}

    def keeping_bytes(self) -> int:
        return 100

    def keep(self, folder: Path) -> None:
        (folder / "content").write_text((self.lab.folder / "content").read_text())

    def put_back(self, folder: Path) -> None:
        (self.lab.folder / "content").write_text((folder / "content").read_text())


@pytest.fixture
def walked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which steps were walked; a lab is configured and seeded by writing its one file."""
    done: list[str] = []

    def make(lab: LabState, events: Events | None = None) -> Kept:
        return Kept(lab.topology(), lab, events or Events())

    def write(what: str, text: str) -> Callable[[Kept], None]:
        def step(provider: Kept) -> None:
            done.append(what)
            (provider.lab.folder / "content").write_text(text)

        return step

    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(sessions, "provider_of", make)
    monkeypatch.setattr(bringup, "_take_leases", lambda _provider: None)
    monkeypatch.setattr(bringup, "_boot", lambda _provider: done.append("boot"))
    monkeypatch.setattr(bringup, "_configure", write("configure", "new"))
    monkeypatch.setattr(bringup, "_seed", write("seed", "seed"))
    return done


def run(pytester: pytest.Pytester, topology: Path) -> pytest.RunResult:
    """Run the tests that want a lab put back."""
    pytester.makepyfile(REVERTING)
    arguments = ["-p", "harness.pytest_plugin", "--lab-topology", str(topology), "-p", "no:cacheprovider"]
    return pytester.runpytest_inprocess(*arguments)


def test_a_marked_test_has_the_lab_put_back(
    pytester: pytest.Pytester, tmp_path: Path, walked: list[str]
) -> None:
    """Each finds what was kept, whatever the one before did; the next session does not even boot."""
    topology = fast_topology(tmp_path).file
    for _ in range(2):
        run(pytester, topology).assert_outcomes(passed=3)
        assert walked == ["boot", "configure", "seed"]


def test_a_lab_in_use_is_not_taken_for_new(
    pytester: pytest.Pytester, tmp_path: Path, walked: list[str]
) -> None:
    """A lab that runs already may hold anything: without a checkpoint tests are told how to begin anew."""
    topology = fast_topology(tmp_path)
    lab = labs.create("pytest-fake", topology)
    lab.state = "ready"
    lab.save()
    result = run(pytester, topology.file)
    result.assert_outcomes(errors=3)
    result.stdout.fnmatch_lines(["*runs already, and has no checkpoint ready*lab down --lab pytest-fake*"])
    assert walked == []
