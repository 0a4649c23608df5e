"""History, known issues, nights: what is remembered, and what is said of it."""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner
from harness_support import FakeProvider, fast_topology

from harness import known_issues
from harness import lab as labs
from harness import topology as topologies
from harness.checks.journal import Allowed, complaints, judge
from harness.checks.result import CheckResult, Status, error, left_out, verdict
from harness.cli import lab
from harness.commands import nightly
from harness.commands.nightly import worst
from harness.errors import InfrastructureError, TopologyError
from harness.events import Events
from harness.history import questions, store
from harness.job.record import Phase, Run
from harness.known_issues import KnownIssue
from harness.night import page
from harness.night.clusters import clusters, normal
from harness.night.prune import Kept, prune, runs, victims
from harness.night.trends import trends
from harness.report import junit
from harness.report.data import collect

TODAY = date(2026, 11, 25)


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def make_run(
    tmp_path: Path, outcomes: dict[str, Status], started: float = 1000.0, seconds: float = 2.0
) -> Run:
    """A run with these checks of one scenario."""
    topology = fast_topology(tmp_path)
    provider = FakeProvider(topology, labs.create("fake", topology), Events())
    run = Run(provider, tmp_path / "run", started=started, scenario="trial", number=3)
    run.folder.mkdir(exist_ok=True)
    run.phases.append(Phase("trial", 0.0, seconds, 0))
    for name, status in outcomes.items():
        run.check(CheckResult(name, status, f"{name} on fs1 says {status}"))
    return run


def enter(tmp_path: Path, history: Sequence[dict[str, Status]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs one after the other, each of a revision and a night of its own."""
    for index, outcomes in enumerate(history):
        monkeypatch.setattr(store, "commit", lambda index=index: f"rev{index}")
        store.keep(make_run(tmp_path, outcomes, 1000.0 + index, 2.0 + index), f"night {index}")


def test_since_when_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A check that fails now: the first bad revision of this row, and the last good one before it."""
    enter(tmp_path, [{"a": "failed"}, {"a": "passed"}, {"a": "failed"}, {"a": "error"}], monkeypatch)
    with store.opened() as history:
        (found,) = questions.standings(history)
    assert found.outcomes == ("failed", "passed", "failed", "error")
    assert found.since == ("rev2", 1002.0)
    assert found.last_good == "rev1"
    assert (found.bad, found.flakes, found.changed) == (True, True, "")


def test_what_changed_since_the_run_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Broken, mended, new, and nothing."""
    first: dict[str, Status] = {"a": "passed", "b": "failed", "d": "passed"}
    last: dict[str, Status] = {"a": "failed", "b": "passed", "c": "passed", "d": "passed"}
    enter(tmp_path, [first, last], monkeypatch)
    with store.opened() as history:
        found = {each.name: each.changed for each in questions.standings(history)}
        text = page.mail(history, "night 1", "night.html")
    assert found == {"a": "broken", "b": "mended", "c": "new", "d": ""}
    assert text.splitlines()[0] == "Spanreel night 1: 1 of 4 checks fail"
    assert "mended: 1" in text


def test_the_page_of_a_night_loads_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One page has what broke, since when, what is alike, and a line for each phase; nothing is loaded."""
    enter(tmp_path, [{"a": "passed", "b": "passed"}, {"a": "failed", "b": "failed"}], monkeypatch)
    with store.opened() as history:
        text = page.render(history, "night 1")
    assert all(word in text for word in ("Broken", "rev1", "good at", "rev0", "<polyline", "2 fail"))
    assert not re.search(r"(src|href)=.https?:", text)


def test_history_answers_in_the_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`spanreel lab history` shows a mark a run and since when it fails; --bad only what fails or flakes."""
    enter(tmp_path, [{"a": "passed", "b": "passed"}, {"a": "failed", "b": "passed"}], monkeypatch)
    shown = CliRunner().invoke(lab, ["history", "trial: *"], env={"COLUMNS": "150"})
    assert "+F" in shown.output
    assert "rev1, good at rev0" in shown.output
    assert "trial: b" in shown.output
    assert "trial: b" not in CliRunner().invoke(lab, ["history", "--bad"]).output
    assert '"flakes": false' in CliRunner().invoke(lab, ["history", "--json"]).output


def test_a_newer_history_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of a newer release is left alone."""
    enter(tmp_path, [{"a": "passed"}], monkeypatch)
    with store.opened() as history:
        history.execute("PRAGMA user_version = 99")
    with pytest.raises(InfrastructureError, match=r"schema 99, .*up to 1;"), store.opened():
        pass


def test_an_older_history_is_brought_up_to_date(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of before stay known, the file as it was is beside it; a step that fails changes nothing."""
    enter(tmp_path, [{"a": "passed"}], monkeypatch)
    add = "ALTER TABLE run ADD COLUMN host TEXT NOT NULL DEFAULT 'here'"
    monkeypatch.setattr(store, "STEPS", {**store.STEPS, 2: add, 3: add})
    with pytest.raises(InfrastructureError, match="duplicate column"), store.opened():
        pass
    monkeypatch.setattr(store, "STEPS", {**store.STEPS, 3: "CREATE TABLE host (name TEXT)"})
    for _ in range(2):
        with store.opened() as history:
            assert [row["host"] for row in history.execute("SELECT host FROM run")] == ["here"]
    with contextlib.closing(sqlite3.connect(store.path().with_name("history.sqlite.schema1"))) as kept:
        assert kept.execute("PRAGMA user_version").fetchone() == (1,)
        assert kept.execute("SELECT count(*) FROM run").fetchone() == (1,)


def test_known_issues_excuse_what_they_name_until_their_day(tmp_path: Path) -> None:
    """A failed check that matches is known; another, an error, or one after the day, is what it was."""
    issue = KnownIssue("trial: a*", re.compile("says"), "issue 3", date(2026, 11, 25))
    bad = CheckResult("a1", "failed", "fs1 says no", scenario="trial")
    assert known_issues.judge(bad, [issue], TODAY).status == "known"
    assert known_issues.judge(bad, [issue], TODAY).summary.startswith("issue 3: ")
    assert known_issues.judge(bad, [issue], date(2026, 11, 26)).status == "failed"
    for other in (
        CheckResult("b", "failed", "fs1 says no", scenario="trial"),
        CheckResult("a1", "failed", "fs1 is silent", scenario="trial"),
        CheckResult("a1", "error", "fs1 says no", scenario="trial"),
    ):
        assert known_issues.judge(other, [issue], TODAY) == other
    assert [check.status for check in known_issues.expired([issue], date(2026, 11, 26))] == ["failed"]
    assert known_issues.expired([issue], TODAY) == []


def test_files_of_known_issues_are_checked(tmp_path: Path) -> None:
    """The shipped file is good; a bad day or pattern is named with its line."""
    known_issues.read(known_issues.shipped())
    path = tmp_path / "known.yaml"
    entry = 'schema: 1\nissues:\n  - {check: "a: b", pattern: "PATTERN", ticket: "issue 1", expires: "DAY"}\n'
    path.write_text(entry.replace("PATTERN", "x").replace("DAY", "2026-12-01"))
    assert [issue.expires for issue in known_issues.read(path)] == [date(2026, 12, 1)]
    for pattern, day in (("(", "2026-12-01"), ("x", "2026-13-01"), ("x", "soon")):
        path.write_text(entry.replace("PATTERN", pattern).replace("DAY", day))
        with pytest.raises(TopologyError, match=r"known\.yaml:3: issues\[0\]"):
            known_issues.read(path)


def test_a_known_issue_does_not_fail_a_run(tmp_path: Path) -> None:
    """Exit codes: known alone 0, an infrastructure error 3, a failure of the product 1 in any case."""
    assert make_run(tmp_path, {"a": "known"}).exit_code == 0
    assert make_run(tmp_path, {"a": "known", "b": "error"}).exit_code == 3
    assert make_run(tmp_path, {"a": "failed", "b": "error"}).exit_code == 1
    assert worst([0, 3, 1]) == 1
    assert worst([0, 3]) == 3
    assert worst([]) == 0


def test_journals_that_complain() -> None:
    """A traceback, an oops and an internal error are complaints; NDMP's halt reason of that name is none."""
    text = "level=info fine\nTraceback (most recent call last):\n  x\nValueError: 1\nreason=INTERNAL_ERROR\n"
    assert complaints(text) == [text.partition("fine\n")[2].rstrip("\n")]
    assert len(complaints("spanreel: internal error: KeyError\nkernel: Oops: 0000 [#1]\n")) == 2
    assert complaints("x Traceback (most recent call last):", [Allowed(re.compile("^x"), "a test")]) == []
    assert judge({})[0].status == "error"
    assert judge({"fs1": []})[0].status == "passed"


def test_junit_has_every_check(tmp_path: Path) -> None:
    """Each check is a test case with its outcome; what XML cannot hold is replaced."""
    run = make_run(tmp_path, {"good": "passed", "bad\x00": "failed", "odd": "error", "known": "known"})
    run.check(left_out("out", "no root"))
    run.check(verdict("two", False, "x < y"))
    run.check(error("three", "gone"))
    suite = ElementTree.fromstring(junit.render(collect(run)))[0]
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors"), suite.get("skipped")) == (
        "7",
        "2",
        "2",
        "2",
    )
    assert {case.get("classname") for case in suite} == {"trial"}


def test_failures_that_are_alike_are_one_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers, addresses, nodes, cartridges and paths do not tell failures apart."""
    one = normal("fs1: 127.77.0.11:10000 lost SPR001L5 after 12 s at /home/x/y")
    assert one == normal("fs2: 127.77.1.12:10001 lost SPR014L5 after 9.5 s at /projects/a")
    enter(tmp_path, [{"a": "failed", "b": "passed"}], monkeypatch)
    with store.opened() as history:
        assert [len(cluster.members) for cluster in clusters(questions.standings(history))] == [1]


def test_trends_need_two_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line is drawn from two runs on, with the newest value, and its distance from the median of many."""
    enter(tmp_path, [{"a": "passed"}], monkeypatch)
    with store.opened() as history:
        assert trends(history, "night 0") == []
    enter(tmp_path, [{"a": "passed"}, {"a": "passed"}], monkeypatch)
    with store.opened() as history:
        (line,) = trends(history, "night 1")
        assert trends(history, "a night without runs") == []
    assert (line.name, line.latest, line.change) == ("trial", "3.0 s", "3 runs")
    assert len(line.points.split()) == 3
    enter(tmp_path, [{"a": "passed"}] * 6, monkeypatch)
    with store.opened() as history:
        (line,) = trends(history, "night 5")
    assert (line.latest, line.change) == ("7.0 s", "+133 % against the median of 9 runs")


def test_old_and_large_evidence_goes(tmp_path: Path) -> None:
    """What is too old goes, then the oldest until the rest is small enough; the newest run stays."""
    kept = [Kept(Path(str(age)), age, 10) for age in (1.0, 5.0, 40.0, 3.0)]
    assert [item.age_days for item in victims(kept, 30, 20)] == [40.0, 5.0]
    assert victims(kept, 50, 100) == []
    for name in ("1", "2"):
        folder = labs.state_home() / "labs" / "one" / "runs" / name
        folder.mkdir(parents=True)
        (folder / "file").write_bytes(bytes(100))
    assert [item.bytes for item in runs()] == [100]
    assert [item.path.name for item in prune(30, 0)] == ["1"]
    assert runs() == []


def test_seconds_of_the_last_time_are_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan can say how long a scenario took."""
    assert store.last_seconds("fake") == {}
    enter(tmp_path, [{"a": "passed"}, {"a": "passed"}], monkeypatch)
    assert store.last_seconds("fake")["trial"] == 3.0


def test_a_night_is_a_page_and_files_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Main job and scenarios run once each, again after an error of the infrastructure; all attempts stay."""
    statuses: list[Status] = ["error", "passed", "failed"]

    def perform(*_: object) -> tuple[Run, Path, bool]:
        run = make_run(tmp_path, {"a": statuses.pop(0)})
        return run, run.folder, False

    monkeypatch.setattr(nightly, "perform", perform)
    done = CliRunner().invoke(lab, ["nightly", "--topology", "process", "--scenario", "two-jobs"])
    assert done.exit_code == 1, done.output
    (folder,) = (labs.state_home() / "nights").iterdir()
    names = {path.name for path in folder.iterdir()}
    assert {"night.html", "mail.txt", "checks.jsonl"} <= names
    assert sum(name.startswith("junit-") for name in names) == 3
    assert len((folder / "checks.jsonl").read_text().splitlines()) == 3
    assert "1 of 1 checks fail" in done.output


def test_a_night_begins_with_an_empty_lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an earlier night wrote is gone when the next begins: cartridges never fill up.  Its runs stay."""
    name = nightly.night_lab("process")
    before = labs.create(name, topologies.read(topologies.find("process")))
    for path in ("nodes/media1/library/SPR101L5.tape", "runs/1/report.html"):
        (before.folder / path).parent.mkdir(parents=True)
        (before.folder / path).touch()
    there: list[bool] = []

    def perform(*_: object) -> tuple[Run, Path, bool]:
        there.append((before.folder / "nodes").exists())
        run = make_run(tmp_path, {"a": "passed"})
        return run, run.folder, False

    monkeypatch.setattr(nightly, "perform", perform)
    done = CliRunner().invoke(lab, ["nightly", "--topology", "process", "--scenario", "two-jobs"])
    assert done.exit_code == 0, done.output
    assert there == [False, False]
    assert (before.folder / "runs/1/report.html").exists()
    assert labs.load(name) is None


def test_a_night_that_is_broken_off_leaves_its_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What had been found by then is told, as on any other morning."""
    runs_before_the_end = [make_run(tmp_path, {"a": "failed"})]

    def perform(*_: object) -> tuple[Run, Path, bool]:
        if not runs_before_the_end:
            raise KeyboardInterrupt
        run = runs_before_the_end.pop()
        return run, run.folder, False

    monkeypatch.setattr(nightly, "perform", perform)
    done = CliRunner().invoke(lab, ["nightly", "--topology", "process", "--scenario", "two-jobs"])
    assert done.exit_code != 0
    (folder,) = (labs.state_home() / "nights").iterdir()
    html = (folder / "night.html").read_text()
    assert "trial: a" in html
    assert "broken off" in html
    assert "broken off; until then 1 of 1 checks fail" in (folder / "mail.txt").read_text()
