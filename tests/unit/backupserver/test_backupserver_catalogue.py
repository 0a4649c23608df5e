from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import threading
from pathlib import Path

import pytest

from appliance.backupserver import jobs, media, process
from appliance.backupserver.catalogue import Catalogue, open_catalogue, schema, signed, unsigned
from appliance.backupserver.jobs import Status
from appliance.backupserver.leases import Leases, cartridge, drive, held
from appliance.errors import ConfigurationError, ExitCode, InfrastructureError


def dead_process() -> str:
    """The identity of a process that has ended."""
    with subprocess.Popen(["sleep", "60"]) as child:
        name = process.identity(child.pid)
        child.kill()
    return name


def test_migrations_are_numbered_without_gaps() -> None:
    """Schema numbers count from 1, so that "newer" is a comparison."""
    assert sorted(schema().steps) == list(range(1, schema().newest + 1))


def test_newer_schema_is_refused(tmp_path: Path) -> None:
    """A catalogue that a newer Spanreel wrote is left alone, with a line that says what to do."""
    path = tmp_path / "catalogue.sqlite"
    open_catalogue(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 999")
    connection.close()
    with pytest.raises(ConfigurationError, match=r"schema 999.*newer"):
        open_catalogue(path)


def test_an_older_schema_is_brought_up_to_date_after_a_copy(tmp_path: Path) -> None:
    """A catalogue of an earlier release keeps what it knows, and stays beside it as it was."""
    path = tmp_path / "c.sqlite"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as old:
        schema().steps[1](old)
        old.execute("INSERT INTO catalogue VALUES ('the one', 1.0)")
        old.execute("INSERT INTO job (status, paths, entry, level, started, process) VALUES"
                    " ('complete', x'2f00', 'fs1', 0, 1.0, '')")  # fmt: skip
        old.execute(
            "INSERT INTO image (job, number, uuid, root, record_size) VALUES (1, 1, 'u', x'2f', 1024)"
        )
        old.execute("PRAGMA user_version = 1")
    for _ in range(2):
        with open_catalogue(path) as catalogue:
            assert catalogue.uuid == "the one"
            assert [(image.level, image.base) for image in media.images(catalogue, 1)] == [(0, None)]
    with contextlib.closing(sqlite3.connect(tmp_path / "c.sqlite.schema1")) as kept:
        assert kept.execute("PRAGMA user_version").fetchone() == (1,)
        assert kept.execute("SELECT uuid FROM image").fetchall() == [("u",)]
    assert [each.name for each in tmp_path.glob(".c.sqlite*")] == []


def test_a_job_of_the_earlier_release_is_not_disturbed(tmp_path: Path) -> None:
    """A catalogue is brought up to date when no job of before runs any more; one that died does not count."""
    path = tmp_path / "c.sqlite"
    insert = "INSERT INTO job (status, paths, entry, level, started, process)"
    insert += " VALUES ('running', x'2f00', 'fs1', 0, 1, ?)"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as old:
        schema().steps[1](old)
        old.execute("INSERT INTO catalogue VALUES ('the one', 1.0)")
        old.execute(insert, (process.identity(),))
        old.execute("PRAGMA user_version = 1")
        with pytest.raises(ConfigurationError, match="job 1 of an earlier Spanreel"):
            open_catalogue(path)
        assert old.execute("PRAGMA user_version").fetchone() == (1,)
        old.execute("UPDATE job SET process = ?", (dead_process(),))
    with open_catalogue(path) as catalogue:
        assert jobs.get(catalogue, 1).status is Status.FAILED


def test_a_file_that_is_no_database_is_infrastructure(tmp_path: Path) -> None:
    """A wrong path is refused in one line, not with a traceback of SQLite."""
    path = tmp_path / "catalogue.sqlite"
    path.write_bytes(b"this is a text file, not a database" * 100)
    with pytest.raises(InfrastructureError, match="cannot use the catalogue"):
        open_catalogue(path)


def test_missing_directory_is_configuration(tmp_path: Path) -> None:
    """The error names the key to change."""
    with pytest.raises(ConfigurationError, match=r"backup_server\.catalogue"):
        open_catalogue(tmp_path / "missing" / "catalogue.sqlite")


def test_a_catalogue_keeps_its_identity(tmp_path: Path) -> None:
    """Labels name the catalogue, so its uuid must not change when it is opened again."""
    first = open_catalogue(tmp_path / "c")
    second = open_catalogue(tmp_path / "c")
    assert first.uuid == second.uuid
    first.close()
    second.close()


def test_two_first_starters_make_one_schema(tmp_path: Path) -> None:
    """A role and a command that start together on a new node do not trip over each other."""
    uuids: list[str] = []

    def open_it() -> None:
        with open_catalogue(tmp_path / "c") as opened:
            uuids.append(opened.uuid)

    threads = [threading.Thread(target=open_it) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(uuids) == 8
    assert len(set(uuids)) == 1


@pytest.mark.parametrize("number", [0, 1, 2**63 - 1, 2**63, 2**64 - 1])
def test_unsigned_numbers_survive(catalogue: Catalogue, number: int) -> None:
    """NDMP's 64 bits come back from SQLite as they went in, all ones too."""
    (back,) = catalogue.connection.execute("SELECT ?", (signed(number),)).fetchone()
    assert unsigned(back) == number


def test_a_job_lives_through_its_states(catalogue: Catalogue) -> None:
    """What `spanreel jobs` shows is what was entered."""
    number = jobs.create(catalogue, [b"/a", b"/\xff"], "fs1", 3)
    assert jobs.get(catalogue, number).status is Status.RUNNING
    jobs.count(catalogue, number, 10, 2**40, 2)
    jobs.finish(catalogue, number, Status.PROBLEMS)
    job = jobs.get(catalogue, number)
    assert (job.paths, job.entry, job.level) == ((b"/a", b"/\xff"), "fs1", 3)
    assert (job.files, job.bytes, job.problems) == (10, 2**40, 2)
    document = job.document()
    assert document["id"] == str(number)
    assert document["paths"][1] == "/\\xff"
    assert document["ended"].endswith("+00:00")


def test_latest_is_the_newest_that_ended_well(catalogue: Catalogue) -> None:
    """`latest` never means a job that failed after a good one."""
    good = jobs.create(catalogue, [b"/"], "fs1", 0)
    jobs.finish(catalogue, good, Status.INCOMPLETE)
    jobs.finish(catalogue, jobs.create(catalogue, [b"/"], "fs1", 0), Status.FAILED, "no tape")
    jobs.create(catalogue, [b"/"], "fs1", 0)
    assert jobs.find(catalogue, "latest").id == good


@pytest.mark.parametrize("word", ["latest", "7", "-1", "x", "", "²", "99999999999999999999"])
def test_a_job_that_is_not_there(catalogue: Catalogue, word: str) -> None:
    """Whatever people type, they get one line and exit code 2."""
    with pytest.raises(ConfigurationError) as caught:
        jobs.find(catalogue, word)
    assert caught.value.exit_code is ExitCode.USAGE


def test_a_dead_job_shows_as_failed(tmp_path: Path) -> None:
    """A job whose process died is failed, and what it leased is free, as soon as anybody looks."""
    path = tmp_path / "c"
    with open_catalogue(path) as catalogue:
        alive = jobs.create(catalogue, [b"/"], "fs1", 0)
        dead = jobs.create(catalogue, [b"/"], "fs1", 0)
        gone = dead_process()
        catalogue.connection.execute("UPDATE job SET process = ? WHERE id = ?", (gone, dead))
        catalogue.connection.execute("INSERT INTO lease VALUES ('drive:A', 'job 2', ?, 0)", (gone,))
        Leases(catalogue, "job 1").take(drive("B"))
    with open_catalogue(path) as catalogue:
        assert jobs.get(catalogue, alive).status is Status.RUNNING
        failed = jobs.get(catalogue, dead)
        assert failed.status is Status.FAILED
        assert "died" in failed.reason
        assert failed.ended is not None
        assert set(held(catalogue)) == {"drive:B"}


def test_identity_tells_a_used_again_pid_apart() -> None:
    """A pid that somebody else has now is not the process that had it."""
    own = process.identity()
    assert process.is_alive(own)
    assert not process.is_alive(own.rpartition("/")[0] + "/1")
    host, _, pid, start = own.split("/")
    assert not process.is_alive(f"{host}/an-earlier-boot/{pid}/{start}")
    assert not process.is_alive(dead_process())
    assert not process.is_alive("nonsense")


def test_one_holder_at_a_time(catalogue: Catalogue) -> None:
    """A second job is told who has the drive; after the release it gets it."""
    first, second = Leases(catalogue, "job 1"), Leases(catalogue, "job 2")
    assert first.take(drive("D1")) is None
    holder = second.take(drive("D1"))
    assert holder is not None
    assert "job 1" in str(holder)
    assert second.take(cartridge("C1")) is None
    first.release_all()
    assert second.take(drive("D1")) is None
    assert second.take(drive("D1")) is None, "taking twice is no conflict with oneself"


def test_a_stale_lease_is_taken_over(catalogue: Catalogue) -> None:
    """A drive whose holder was killed is free, without anybody cleaning up first."""
    catalogue.connection.execute("INSERT INTO lease VALUES ('drive:D1', 'job 1', ?, 0)", (dead_process(),))
    assert Leases(catalogue, "job 2").take(drive("D1")) is None
    assert held(catalogue)["drive:D1"].holder == "job 2"


def test_releasing_does_not_touch_others(catalogue: Catalogue) -> None:
    """A job that lost a race for a lease does not give the winner's away."""
    winner, loser = Leases(catalogue, "job 1"), Leases(catalogue, "job 2")
    winner.take(drive("D1"))
    loser.take(drive("D1"))
    loser.release_all()
    assert held(catalogue)["drive:D1"].holder == "job 1"


def test_a_segment_moves_the_end_of_its_cartridge(catalogue: Catalogue) -> None:
    """Until a segment's mark is written its cartridge's end is not certain; then it is behind it."""
    job = jobs.create(catalogue, [b"/"], "fs1", 0)
    image = media.add_image(catalogue, job, 1, b"/", 1024)
    media.add_medium(catalogue, "VTL001L5", "some-uuid")
    media.begin_segment(catalogue, image, 1, "VTL001L5", 2, 0)
    assert media.media(catalogue)["VTL001L5"].unfinished == 2
    assert media.media(catalogue)["VTL001L5"].last_file == 0
    media.end_segment(catalogue, image, 1, 4096)
    medium = media.media(catalogue)["VTL001L5"]
    assert (medium.unfinished, medium.last_file) == (None, 2)
    assert jobs.get(catalogue, job).media == (("VTL001L5", 2),)


def test_problem_lines_are_bounded(catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken disk that says the same ten million times does not fill the catalogue."""
    monkeypatch.setattr(jobs, "PROBLEM_LINES_MAX", 3)
    job = jobs.create(catalogue, [b"/"], "fs1", 0)
    jobs.add_problems(catalogue, job, [("error", b"1"), ("warning", b"2")])
    jobs.add_problems(catalogue, job, [("error", b"3"), ("error", b"4")])
    assert jobs.problems(catalogue, job) == [("error", b"1"), ("warning", b"2"), ("error", b"3")]
