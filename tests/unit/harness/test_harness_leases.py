"""Leases of libraries: two harnesses that know nothing of each other never hold one library at once."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from harness_support import FakeProvider, fast_topology

from harness import bringup, guest, leases
from harness import lab as labs
from harness.cli import lab as lab_command
from harness.errors import InfrastructureError, LabBusyError
from harness.events import Event, Events
from harness.guest import lease as script
from harness.leases import Leases
from harness.providers import registry
from harness.topology import Node


class Shared(FakeProvider):
    """A lab whose library is on a machine that other labs use, too."""

    folder = Path()

    def lease_folder(self, node: Node) -> str:
        return str(self.folder)

    @property
    def has_libraries_before(self) -> bool:
        return True

    def reach_libraries(self) -> None: ...


@pytest.fixture
def harnesses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Shared, Shared]:
    """The same topology on two harness hosts: two state folders, one media server."""
    monkeypatch.setattr(Shared, "folder", tmp_path / "media1" / "leases")
    made = []
    for host in ("one", "two"):
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / host))
        topology = fast_topology(tmp_path)
        made.append(Shared(topology, labs.create("unit", topology), Events()))
    one, two = made
    return one, two


def state(provider: Shared) -> dict[str, Any]:
    """What is kept of the library now."""
    ((_, record),) = leases.listed(provider)
    return record


def age(provider: Shared, seconds: float) -> None:
    """Let time pass for the library: everything that is kept was written earlier by as much."""
    path = provider.folder / "C1.json"
    kept = json.loads(path.read_text())
    if kept["lease"]:
        kept["lease"]["expires"] -= seconds
    for waiter in kept["waiting"]:
        waiter["asked"] -= seconds
    path.write_text(json.dumps(kept))


def test_who_comes_second_hears_who_holds_it(harnesses: tuple[Shared, Shared]) -> None:
    """Without waiting, the second run ends with holder, reason, time and place in the queue."""
    one, two = harnesses
    first = Leases(one, reason="nightly 17")
    first.take()
    with pytest.raises(LabBusyError, match=r"library C1 is held by .*lab unit.*nightly 17") as caught:
        Leases(two, wait=False).take()
    assert "position 1" in caught.value.hint
    assert state(two)["waiting"] == []
    first.release()
    second = Leases(two, wait=False)
    second.take()
    second.release()
    assert state(one)["lease"] is None
    second.take()
    assert state(one)["lease"]["owner"] == leases.owner_of(two.lab), "down and up again takes it again"
    second.release()
    assert state(one)["lease"] is None


def test_who_waits_gets_it_when_it_is_given_back(harnesses: tuple[Shared, Shared]) -> None:
    """The second run says its place in the queue and starts when the first has ended."""
    one, two = harnesses
    said: list[Event] = []
    two.events.subscribe(said.append)
    first, second = Leases(one), Leases(two)
    first.take()
    waits = threading.Event()

    def pause(_: float) -> bool:
        if not waits.is_set():
            assert [item["owner"] for item in state(two)["waiting"]] == [leases.owner_of(two.lab)]
            waits.set()
            first.release()
        return False

    second.pause = pause
    thread = threading.Thread(target=second.take)
    second._keep_renewing = lambda: None  # the test's own pause is no clock  # type: ignore[method-assign]
    thread.start()
    thread.join(60)
    assert waits.is_set()
    assert state(two)["lease"]["owner"] == leases.owner_of(two.lab)
    assert any("waits, position 1: held by" in event.detail for event in said)


def test_who_is_interrupted_leaves_the_queue(harnesses: tuple[Shared, Shared]) -> None:
    """Ctrl-C while waiting holds nobody up."""
    one, two = harnesses
    first, second = Leases(one), Leases(two)
    first.take()

    def interrupt(_: float) -> bool:
        assert len(state(two)["waiting"]) == 1
        raise KeyboardInterrupt

    second.pause = interrupt
    with pytest.raises(KeyboardInterrupt):
        second.take()
    assert state(two)["waiting"] == []
    first.release()


def test_the_queue_is_first_come_first_served(harnesses: tuple[Shared, Shared]) -> None:
    """Who asks later does not overtake who waits; who waits no longer loses his place."""
    one, _two = harnesses
    library = one.topology.libraries[0]
    words = {"reason": "r", "seconds": 60}
    assert not leases.ask(one, library, "release").granted
    wanted = {"library": "C1", "folder": str(one.folder), "action": "take", "holder": "h", **words}
    assert script.main({**wanted, "owner": "a"})["granted"]
    assert script.main({**wanted, "owner": "b"})["position"] == 1
    assert script.main({**wanted, "owner": "c"})["position"] == 2
    script.main({**wanted, "action": "release", "owner": "a"})
    assert script.main({**wanted, "owner": "c"}) | {"waiting": 0} == {
        "granted": False,
        "position": 2,
        "lease": None,
        "waiting": 0,
    }
    age(one, script.WAITER_SECONDS + 1)
    assert script.main({**wanted, "owner": "c"})["granted"]


def test_a_lease_of_a_dead_harness_runs_out(harnesses: tuple[Shared, Shared]) -> None:
    """A run that was killed gives nothing back; its lease ends by itself, and not before."""
    one, two = harnesses
    Leases(one)._take(one.topology.libraries[0])
    age(one, leases.LEASE_SECONDS - 60)
    with pytest.raises(LabBusyError):
        Leases(two, wait=False).take()
    age(one, 120)
    second = Leases(two, wait=False)
    second.take()
    second.release()


def test_a_living_run_renews_and_learns_of_a_loss(harnesses: tuple[Shared, Shared]) -> None:
    """Renewing puts the end off; once another run has it, the first one says that it lost it."""
    one, two = harnesses
    first = Leases(one)
    first.take()
    age(one, 600)
    first.renew()
    assert state(one)["lease"]["seconds_left"] > leases.LEASE_SECONDS - 60
    first.verify()
    age(one, leases.LEASE_SECONDS + 1)
    second = Leases(two, wait=False)
    second.take()
    first.renew()
    first.renew()
    with pytest.raises(InfrastructureError, match="lost the lease during the run: C1: held by") as caught:
        first.verify()
    assert str(caught.value).count("C1: held by") == 1
    first.release()
    assert state(two)["lease"]["owner"] == leases.owner_of(two.lab)
    second.release()


def test_many_takers_at_once_one_holder(tmp_path: Path) -> None:
    """Of processes that take at the same moment exactly one is told that it has the lease."""
    argument = {"folder": str(tmp_path / "new" / "leases"), "action": "take", "library": "C1"}
    argument |= {"holder": "h", "reason": "r", "seconds": 60}
    source = guest.source("lease").decode()
    running = [
        subprocess.Popen(
            [sys.executable, "-c", source, json.dumps({**argument, "owner": str(number)})],
            stdout=subprocess.PIPE,
        )
        for number in range(12)
    ]
    answers = [json.loads(process.communicate(timeout=60)[0]) for process in running]
    assert sum(answer["granted"] for answer in answers) == 1
    assert sorted(answer["position"] for answer in answers) == list(range(12))


def test_a_half_written_lease_changes_nothing(harnesses: tuple[Shared, Shared]) -> None:
    """A media server that restarts in the middle of a change keeps the lease as it was."""
    one, two = harnesses
    Leases(one)._take(one.topology.libraries[0])
    (one.folder / "C1.json.partial").write_text('{"lease": nu')
    with pytest.raises(LabBusyError):
        Leases(two, wait=False).take()


def test_bringing_a_lab_up_takes_the_lease_first(
    harnesses: tuple[Shared, Shared], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is made on machines whose library another run has."""
    one, two = harnesses
    first = Leases(one)
    first.take()
    two.leases = Leases(two, wait=False)
    touched: list[str] = []
    monkeypatch.setattr(two, "up", lambda: touched.append("up"))
    with pytest.raises(LabBusyError):
        bringup.up(two)
    assert touched == []
    first.release()


def test_by_hand(harnesses: tuple[Shared, Shared], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`take` keeps it after the command, runs of the lab share it, `release` ends it, others need --force."""
    one, _two = harnesses
    monkeypatch.setattr(registry, "make", Shared)

    def run(host: str, *words: str) -> str:
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / host))
        state = labs.load("unit")
        assert state is not None
        state.state = "ready"
        state.save()
        result = CliRunner().invoke(lab_command, ["lease", *words, "--lab", "unit"])
        assert "Traceback" not in result.output
        return f"{result.exit_code} {result.output}"

    assert run("one", "list").split() == ["0", "library", "on", "lease", "C1", "media1", "free"]
    assert run("one", "take", "--minutes", "120", "--reason", "cleaning").startswith("0 yours for 120")
    assert "(cleaning); runs out in 1" in run("two", "list")
    assert run("two", "take", "--no-wait").startswith("3 ")
    run_of_one = Leases(one)
    run_of_one.take()
    run_of_one.release()
    assert state(one)["lease"]["reason"] == "cleaning"
    assert state(one)["lease"]["expires"] - time.time() > 7000
    assert "not yours to give back: held by" in run("two", "release")
    assert json.loads(run("two", "list", "--json")[2:])[0]["lease"]["reason"] == "cleaning"
    assert "C1 is free" in run("two", "release", "--force")
    assert "nobody holds it" in run("one", "release")


def test_a_lease_of_a_newer_harness_is_left_alone(tmp_path: Path) -> None:
    """A harness host that was not upgraded does not read more, or less, into the file than it knows."""
    path = tmp_path / "LIB1.json"
    script.write(str(path), {"lease": None, "waiting": []})
    assert script.read(str(path)) == {"lease": None, "waiting": []}
    path.write_text(path.read_text().replace('"schema": 1', '"schema": 2'))
    before = path.read_bytes()
    with pytest.raises(SystemExit, match=r"LIB1.json: a newer Spanreel.*schema 2.*up to 1"):
        script.main({"folder": str(tmp_path), "action": "list"})
    assert path.read_bytes() == before


def test_a_lease_of_before_there_were_numbers_is_read(tmp_path: Path) -> None:
    """A file that the harness of an earlier day wrote has no number."""
    path = tmp_path / "LIB1.json"
    path.write_text('{"lease": null, "waiting": []}')
    assert script.read(str(path)) == {"lease": None, "waiting": []}
