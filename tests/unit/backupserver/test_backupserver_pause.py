"""`spanreel pause`: no job is harmed by it, and none begins meanwhile."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from dma_support import Site, site

from appliance.backupserver import leases, peers, process
from appliance.backupserver.catalogue import Catalogue
from appliance.backupserver.leases import Leases
from appliance.cli import run

DRIVES = [leases.drive("DRV1"), leases.drive("DRV2")]


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Site]:
    """A site with two drives, one of which its backup server uses."""
    with site(tmp_path) as made:
        yield made


def call(lab: Site, *arguments: str) -> int:
    """Run a command of the backup server."""
    return run([*arguments, "--config", str(lab.config_file)])


def test_jobs_wait_for_the_end_of_a_pause(
    lab: Site, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that would begin is told why and until when it waits, has no session meanwhile, and then runs."""
    monkeypatch.setattr(peers, "DRIVE_WAIT_S", 0.0)
    assert call(lab, "pause", "upgrade of fs1", "--minutes", "20") == 0
    assert "paused for 20 minutes: upgrade of fs1" in capsys.readouterr().out
    opened = []
    monkeypatch.setattr(peers, "connect", lambda *_: opened.append(1))
    assert call(lab, "backup", "/") == 1
    assert "drive:DRV1 is in use by upgrade of fs1 (until 20" in capsys.readouterr().err
    assert opened == []
    monkeypatch.undo()
    assert call(lab, "pause", "--end") == 0
    assert call(lab, "backup", "/") == 0
    assert call(lab, "pause", "--end") == 0
    assert "there was no pause" in capsys.readouterr().out


def test_a_running_job_is_waited_for(
    lab: Site, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pause begins when the last drive is free; who is waited for is told, once."""
    job = Leases(lab.catalogue, "job 7")
    assert job.take(leases.drive("DRV1")) is None
    looks: list[float] = []

    def look(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 2:
            job.release_all()

    monkeypatch.setattr(time, "sleep", look)
    assert call(lab, "pause", "upgrade") == 0
    assert len(looks) == 2
    assert capsys.readouterr().err.count("waiting: drive:DRV1 is in use by job 7 (pid ") == 1


def test_a_pause_that_finds_no_moment_leaves_everything_as_it_was(
    lab: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    """After --wait it says which job still runs, with exit code 1, and holds nothing."""
    job = Leases(lab.catalogue, "restore of job 3")
    assert job.take(leases.drive("DRV1")) is None
    assert call(lab, "pause", "upgrade", "--wait", "0") == 1
    assert "not paused, jobs still run after 0 minutes: drive:DRV1 is in use by restore of job 3" in (
        capsys.readouterr().err
    )
    assert [lease.holder for lease in leases.held(lab.catalogue).values()] == ["restore of job 3"]


def test_a_reason_or_an_end_is_wanted(lab: Site, capsys: pytest.CaptureFixture[str]) -> None:
    """A pause that nobody could explain is refused, and so is both at once."""
    for arguments in ((), ("why", "--end")):
        assert call(lab, "pause", *arguments) == 2
        assert "say why" in capsys.readouterr().err


def test_all_drives_are_taken_or_none(catalogue: Catalogue) -> None:
    """One drive in use keeps the others free: two pauses, or a pause and a job, never wait for each other."""
    until = time.time() + 600
    job = Leases(catalogue, "job 1")
    assert job.take(DRIVES[1]) is None
    assert [lease.holder for lease in leases.take_all(catalogue, DRIVES, "one", until)] == ["job 1"]
    assert set(leases.held(catalogue)) == {DRIVES[1]}
    job.release_all()
    assert leases.take_all(catalogue, DRIVES, "one", until) == []
    assert {lease.holder for lease in leases.take_all(catalogue, DRIVES, "two", until)} == {"one"}
    assert leases.release_timed(catalogue) == 2


def test_a_pause_is_over_by_itself(catalogue: Catalogue) -> None:
    """Whoever asked for it may be gone: when its time has come, drives are free, and rows are removed."""
    assert leases.take_all(catalogue, DRIVES, "upgrade", time.time() - 1) == []
    assert leases.held(catalogue) == {}
    assert Leases(catalogue, "job 1").take(DRIVES[0]) is None
    catalogue.reap()
    rows = catalogue.connection.execute("SELECT holder FROM lease").fetchall()
    assert [row["holder"] for row in rows] == ["job 1"]


def test_the_end_of_a_pause_takes_nothing_from_jobs(catalogue: Catalogue) -> None:
    """Only leases that are held for a time are given back."""
    assert Leases(catalogue, "job 1").take(DRIVES[0]) is None
    assert leases.take_all(catalogue, DRIVES[1:], "upgrade", time.time() + 60) == []
    assert leases.release_timed(catalogue) == 1
    assert set(leases.held(catalogue)) == {DRIVES[0]}


def test_holders_for_a_time_are_shown_with_its_end() -> None:
    """People read a time, not seconds since 1970."""
    assert process.show(process.until(0)).startswith("until 19")
