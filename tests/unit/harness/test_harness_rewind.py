"""Where scenarios begin: prepared once, put back before each, and not even booted by the next run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from harness_support import FakeProvider, fast_topology

from harness import bringup, manifest
from harness import lab as labs
from harness.errors import InfrastructureError
from harness.events import Events
from harness.job.record import Run
from harness.providers.base import Provider
from harness.scenarios import rewind, runner
from harness.scenarios.stage import Stage
from harness.scenarios.table import Scenario


class Machines(FakeProvider):
    """A lab that rewinds and writes down what it did."""

    rewinds = True
    fails = False

    def made_of(self) -> dict[str, str]:
        return {"product": "one"}

    def keeping_bytes(self) -> int:
        if self.fails:
            raise InfrastructureError("no room")
        return 100

    def keep(self, folder: Path) -> None:
        did.append("save")

    def put_back(self, folder: Path) -> None:
        did.append("revert")


did: list[str] = []


@pytest.fixture(autouse=True)
def _stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Preparing a stage is one file and one job; nothing is mended or read."""

    def prepare(stage: Stage) -> None:
        did.append("prepare")
        entry = {"path_base64": "L2hvbWU=", "type": "directory"}
        stage.expected = manifest.keep({b"/home": entry}, stage.run.folder / stage.ORIGINALS)
        stage.baseline = "7"

    def up(provider: Provider, *, fresh: bool = False) -> None:
        did.append("cold" if fresh else "up")
        provider.lab.state = "ready"

    did.clear()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(Stage, "prepare", prepare)
    monkeypatch.setattr(runner, "mend", lambda _stage: None)
    monkeypatch.setattr(bringup, "up", up)


@pytest.fixture
def play(tmp_path: Path) -> Callable[..., Run]:
    """Runs two scenarios on a new lab object, as a command does, from off."""
    topology = fast_topology(tmp_path)

    def scenario(name: str) -> Scenario:
        def played(stage: Stage) -> None:
            did.append(name)
            assert (stage.baseline, list(stage.expected)) == ("7", [b"/home"])

        return Scenario(name, "", played)

    def run(
        kind: type[FakeProvider] = Machines, number: int = 1, *, state: str = "off", fresh: bool = False
    ) -> Run:
        lab = labs.create("unit", topology)
        lab.state = state
        provider = kind(topology, lab, Events())
        folder = lab.folder / f"run-{len([*lab.folder.iterdir()])}"
        folder.mkdir()
        made = Run(provider, folder)
        rewind.bring_up(provider, number, fresh=fresh)
        runner.play(made, [scenario("a"), scenario("b")], number)
        assert not [check for check in made.checks if check.status != "passed"]
        return made

    return run


def test_each_scenario_begins_with_the_same_lab(play: Callable[..., Run]) -> None:
    """The first finds it as it was prepared, the others as it was put back."""
    play()
    assert did == ["up", "prepare", "save", "a", "revert", "b"]


def test_the_next_run_neither_boots_nor_prepares(play: Callable[..., Run]) -> None:
    """With the same seed number; the lab is put back once for the first scenario, not twice."""
    play()
    did.clear()
    play()
    assert did == ["revert", "a", "revert", "b"]
    did.clear()
    play(state="ready")
    assert did == ["up", "revert", "a", "revert", "b"]


@pytest.mark.parametrize("changed", [{"number": 2}, {"fresh": True}])
def test_another_seed_or_a_fresh_lab_boots(play: Callable[..., Run], changed: dict[str, int]) -> None:
    """Another seed number, or what is wanted fresh, is prepared anew, and kept in the place of the old."""
    play()
    did.clear()
    play(**changed)
    assert did == ["cold" if "fresh" in changed else "up", "prepare", "save", "a", "revert", "b"]


def test_without_room_the_lab_is_mended(play: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that cannot keep a checkpoint plays all the same, and the report says so."""
    monkeypatch.setattr(Machines, "fails", True)
    made = play()
    assert did == ["up", "prepare", "a", "b"]
    assert any("mended, not put back: no room" in note for note in made.notes)


def test_processes_are_mended(play: Callable[..., Run]) -> None:
    """Where rewinding is not quicker, nothing is kept."""
    play(FakeProvider)
    assert did == ["up", "prepare", "a", "b"]
