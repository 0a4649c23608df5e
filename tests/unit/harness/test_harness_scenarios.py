"""Scenarios: the table, and what the runner does with one that fails, cannot be played, or breaks the lab."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from harness_support import FakeProvider, fast_topology

from harness import lab as labs
from harness.checks.result import verdict
from harness.cli import lab
from harness.errors import CheckError, InfrastructureError, NotPossibleError, UsageError
from harness.events import Events
from harness.job.record import Run
from harness.report import write
from harness.scenarios import runner
from harness.scenarios.running import Running
from harness.scenarios.stage import Stage
from harness.scenarios.table import SCENARIOS, Scenario, chosen
from harness.scenarios.tape import TapeFaults, hold


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """A run on a lab of folders whose stage is prepared."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    topology = fast_topology(tmp_path)
    provider = FakeProvider(topology, labs.create("fake", topology), Events())
    provider.up()
    monkeypatch.setattr(Stage, "prepare", lambda stage: stage.expected.update({b"/home": {}}))
    folder = provider.lab.folder / "run"
    folder.mkdir()
    return Run(provider, folder)


def play(run: Run, action: Callable[[Stage], None]) -> list[tuple[str, str]]:
    """Run one scenario; return names and outcomes of its checks."""
    runner.play(run, [Scenario("trial", "tries", action)], 7)
    return [(check.name, check.status) for check in run.checks]


def test_scenarios_have_names_of_their_own() -> None:
    """No name is there twice, and each says what it does."""
    names = [scenario.name for scenario in SCENARIOS]
    assert len(set(names)) == len(names)
    assert all(scenario.what for scenario in SCENARIOS)


def test_every_node_is_harmed_in_backup_and_restore() -> None:
    """Each role is killed in both operations; each but the entry is cut off, loses power, has a bad link."""
    names = {scenario.name for scenario in SCENARIOS}
    for role in ("entry", "owner", "connection-server", "media-server"):
        assert {f"{role}-killed-in-backup", f"{role}-killed-in-restore"} <= names
    for role in ("owner", "connection-server", "media-server"):
        assert {f"{role}-cut-off", f"{role}-bad-link", f"{role}-power-cut"} <= names


def test_scenarios_are_chosen_by_name() -> None:
    """Names are looked up, `all` is all, and a misspelt one says where to look."""
    assert [item.name for item in chosen(["two-jobs", "clients-write"])] == ["clients-write", "two-jobs"]
    assert chosen(["all"]) == list(SCENARIOS)
    assert {item.name for item in chosen(["all"])} > {item.name for item in chosen(["quick"])}
    assert chosen([]) == []
    with pytest.raises(UsageError, match="no scenario 'two-job'"):
        chosen(["two-job"])


def test_what_passes_leaves_no_evidence(run: Run) -> None:
    """A scenario that passes is its checks and clean journals; nothing else is kept."""
    done = play(run, lambda stage: stage.run.check(verdict("holds", True, "it does")) and None)
    assert done == [("holds", "passed"), ("journals are clean", "passed")]
    assert {check.scenario for check in run.checks} == {"trial"}
    assert not (run.folder / "evidence").exists()


def test_what_fails_leaves_evidence_and_one_command(run: Run) -> None:
    """A failed check names its folder, in which one command repeats the run with its seed number."""

    def fail(stage: Stage) -> None:
        run.provider.consoles()["fs1"].write_text("level=info last words\n")
        raise CheckError("it did not")

    assert play(run, fail)[0] == ("trial", "failed")
    folder = run.folder / run.checks[0].evidence
    assert "--seed 7 --scenario trial" in (folder / "repro.txt").read_text()
    assert "last words" in (folder / "journals" / "fs1.log").read_text()
    assert (folder / "gns.json").exists()
    assert (folder / "sessions" / "fs2.json").exists()
    assert "evidence/trial" in write(run).read_text()


def test_a_traceback_in_a_journal_is_a_failure_of_its_own(run: Run) -> None:
    """Nothing else is wrong, but a node wrote a traceback: the run fails, and shows it."""

    def grumble(stage: Stage) -> None:
        text = "Traceback (most recent call last):\n  File ...\nKeyError: 'x'\n"
        run.provider.consoles()["conn1"].write_text(text)

    assert play(run, grumble) == [("journals are clean", "failed")]
    assert "KeyError" in run.checks[0].details[0]
    assert run.exit_code == 1


def test_what_was_written_before_is_not_counted(run: Run) -> None:
    """A traceback of an earlier scenario is not this one's."""
    run.provider.consoles()["conn1"].write_text("Traceback (most recent call last):\n")
    assert play(run, lambda stage: None) == [("journals are clean", "passed")]


def test_what_the_lab_cannot_do_is_left_out(run: Run) -> None:
    """A fault that this provider cannot bring about is left out with the reason, and fails nothing."""
    done = play(run, lambda stage: stage.provider.kill(stage.owner))
    assert done[0] == ("trial", "left-out")
    assert "cannot be killed" in run.checks[0].summary


def test_the_lab_is_mended_after_a_scenario(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a scenario leaves dead is started, and fault scripts are taken away."""
    started: list[str] = []
    (run.provider.lab.node_folder("media1") / "library").mkdir()
    monkeypatch.setattr(
        run.provider, "alive", lambda: {n.name: n.name != "fs2" for n in run.provider.topology.nodes}
    )
    monkeypatch.setattr(run.provider, "start", lambda node: started.append(node.name))

    def break_it(stage: Stage) -> None:
        stage.tape.set(hold("WRITE(6)", 3))
        raise InfrastructureError("the host is tired")

    assert play(run, break_it)[0] == ("trial", "error")
    assert started == ["fs2"]
    assert not list(run.provider.lab.folder.glob("nodes/*/library/faults.toml"))


def test_fault_scripts_say_which_command(run: Run) -> None:
    """A script has the fault as the library reads it; strikes are counted from when it was set."""
    library = run.provider.topology.libraries[0]
    folder = Path(run.provider.paths(run.provider.topology.node(library.node)).library)
    folder.mkdir(parents=True)
    (folder / "faults.log").write_text("D1 0a old\n")
    tape = TapeFaults(run.provider, library)
    tape.set(hold("READ(6)", 5, "D1"))
    assert '[[fault]]\ncommand = "READ(6)"\nnth = 5' in (folder / "faults.toml").read_text()
    with (folder / "faults.log").open("a") as log:
        log.write("D1 08 new\n")
    tape.wait(1, lambda: False)
    assert tape.struck() == ["D1 08 new"]
    with pytest.raises(InfrastructureError, match="before the job ended"):
        tape.wait(2, lambda: False)


def test_foreign_libraries_have_no_scripts(run: Run) -> None:
    """Only our own model has fault scripts."""
    from dataclasses import replace

    library = replace(run.provider.topology.libraries[0], transport="tgt")
    with pytest.raises(NotPossibleError, match="tgt"):
        TapeFaults(run.provider, library).set(hold("READ(6)", 1))


def test_a_command_runs_beside_us_and_says_how_it_ended(run: Run) -> None:
    """Exit code and last words of a command in the background."""
    node = run.provider.topology.node("fs1")
    done = Running(run.provider, node, ["sh", "-c", "echo words >&2; exit 5"], run.folder / "x")
    assert (done.wait(), done.said(), done.runs) == (5, "words", False)


def test_chance_is_a_function_of_the_seed_number(run: Run) -> None:
    """One number gives one sequence, for each scenario its own."""
    values = [
        Stage(run, number).chance(name).random() for number, name in ((1, "a"), (1, "a"), (2, "a"), (1, "b"))
    ]
    assert values[0] == values[1]
    assert len(set(values)) == 3


def test_scenarios_are_listed() -> None:
    """`spanreel lab scenarios` names them all; a dry run says what would run and does nothing."""
    listed = CliRunner().invoke(lab, ["scenarios"])
    assert all(scenario.name in listed.output for scenario in SCENARIOS)
    plan = CliRunner().invoke(lab, ["run", "--topology", "process", "--scenario", "two-jobs", "--dry-run"])
    assert plan.exit_code == 0, plan.output
    assert "two-jobs" in plan.output
