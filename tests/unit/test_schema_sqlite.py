from __future__ import annotations

import contextlib
import re
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance import schema_sqlite
from appliance.errors import ConfigurationError, InfrastructureError
from appliance.schema_sqlite import SqliteSchema, Upgraded, bring_up_to_date, number_of, script
from tests.labrun import ROOT

OLD = SqliteSchema("notebook", {1: script("CREATE TABLE note (text TEXT);")})
NEW = SqliteSchema(
    "notebook",
    {
        **OLD.steps,
        2: script("ALTER TABLE note ADD COLUMN author TEXT NOT NULL DEFAULT 'nobody';"),
        3: script("CREATE TABLE tag (note INTEGER, name TEXT);\nCREATE INDEX tag_name ON tag (name);"),
    },
    first=lambda connection: connection.execute("INSERT INTO note VALUES ('the first', 'me')") and None,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A notebook of schema 1 with one note."""
    made = tmp_path / "notes"
    with opened(made, OLD) as connection:
        connection.execute("INSERT INTO note VALUES ('kept')")
    return made


@contextlib.contextmanager
def opened(
    path: Path, schema: SqliteSchema, told: list[Upgraded] | None = None
) -> Iterator[sqlite3.Connection]:
    """An open notebook, brought up to date."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None, timeout=30)) as connection:
        bring_up_to_date(connection, path, schema, ([] if told is None else told).append)
        yield connection


def number(path: Path) -> int:
    """The schema number that stands in a file."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return number_of(connection)


def test_an_empty_file_gets_all_tables(tmp_path: Path) -> None:
    """A new file has the newest number and what it begins with; nothing is kept or told."""
    told: list[Upgraded] = []
    with opened(tmp_path / "new", NEW, told) as connection:
        assert connection.execute("SELECT * FROM note").fetchall() == [("the first", "me")]
        assert number_of(connection) == 3
    assert told == []
    assert [each.name for each in tmp_path.iterdir()] == ["new"]


def test_an_older_file_is_changed_after_a_copy(path: Path) -> None:
    """All steps run, what it held is there, the file as it was is kept and named."""
    told: list[Upgraded] = []
    for _ in range(2):
        with opened(path, NEW, told) as connection:
            assert connection.execute("SELECT * FROM note").fetchall() == [("kept", "nobody")]
    (done,) = told
    copy = path.with_name("notes.schema1")
    assert done == Upgraded("notebook", path, 1, 3, copy)
    assert str(copy) in str(done)
    with opened(copy, OLD) as kept:
        assert kept.execute("SELECT * FROM note").fetchall() == [("kept",)]


def test_a_newer_file_is_refused_as_it_is(path: Path) -> None:
    """Who goes back to an earlier release hears which numbers there are, and where the copy of then lies."""
    with opened(path, NEW):
        pass
    before = path.read_bytes()
    wanted = (
        rf"{path}: a newer Spanreel wrote this notebook: it has schema 3, and this one .* knows up to 1.*"
    )
    with pytest.raises(ConfigurationError, match=wanted + re.escape(f"{path}.schema1")), opened(path, OLD):
        pass
    assert path.read_bytes() == before


def test_a_database_of_another_program_is_left_alone(tmp_path: Path) -> None:
    """A wrong path does not add our tables to somebody's data."""
    path = tmp_path / "theirs"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE accounts (owner TEXT)")
    before = path.read_bytes()
    with pytest.raises(ConfigurationError, match="another program"), opened(path, NEW):
        pass
    assert path.read_bytes() == before


def test_a_file_in_use_by_an_earlier_release_is_not_changed(path: Path) -> None:
    """What runs on the old form ends first; the error names it."""
    in_use = SqliteSchema("notebook", NEW.steps, user=lambda _: "job 7")
    with pytest.raises(ConfigurationError, match="job 7 of an earlier Spanreel"), opened(path, in_use):
        pass
    assert number(path) == 1
    assert [each.name for each in path.parent.iterdir()] == ["notes"]


def test_a_step_that_fails_changes_nothing(path: Path) -> None:
    """All steps are one transaction: the number is the old one, and so are the tables."""
    broken = SqliteSchema("notebook", {**NEW.steps, 3: script("CREATE TABLE note (again TEXT);")})
    with pytest.raises(sqlite3.OperationalError), opened(path, broken):
        pass
    with opened(path, OLD) as connection:
        assert connection.execute("SELECT * FROM note").fetchall() == [("kept",)]


def test_no_room_for_the_copy_changes_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a copy nothing is changed; the error says what to do, and no half copy stays."""

    def full(_: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(schema_sqlite, "sync_directory", full)
    with pytest.raises(InfrastructureError, match=r"No space left.*make room"), opened(path, NEW):
        pass
    assert number(path) == 1
    assert not list(path.parent.glob(".*"))


KILLED = """
import os, pathlib, sqlite3, sys
from appliance import schema_sqlite
from appliance.schema_sqlite import SqliteSchema, bring_up_to_date, script
path, place = pathlib.Path(sys.argv[1]), sys.argv[2]
die = lambda *_: os.kill(os.getpid(), 9)
if place == "copying":
    schema_sqlite.sync_directory = die
add = script("ALTER TABLE note ADD COLUMN author TEXT NOT NULL DEFAULT 'nobody';")
tag = script("CREATE TABLE tag (note, name);")
steps = {1: add, 2: lambda c: (add(c), place == "changing" and die()), 3: tag}
connection = sqlite3.connect(path, isolation_level=None)
bring_up_to_date(connection, path, SqliteSchema("notebook", steps), die if place == "done" else print)
"""


@pytest.mark.parametrize(("place", "left"), [("copying", 1), ("changing", 1), ("done", 3)])
def test_a_killed_upgrade_is_none_or_a_whole_one(path: Path, place: str, left: int) -> None:
    """Killed while it copies, while it changes, or right behind: the next one to open the file goes on."""
    killed = subprocess.run([sys.executable, "-c", KILLED, path, place], cwd=ROOT, check=False)
    assert killed.returncode == -9
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert number_of(connection) == left
    with opened(path, NEW) as connection:
        assert connection.execute("SELECT * FROM note").fetchall() == [("kept", "nobody")]
    with opened(path.with_name("notes.schema1"), OLD) as kept:
        assert kept.execute("SELECT * FROM note").fetchall() == [("kept",)]


def test_a_second_upgrade_keeps_what_was_written_between(path: Path) -> None:
    """Who went back to the copy and worked on has that work in the copy of the next upgrade."""
    with opened(path, NEW):
        pass
    path.with_name("notes.schema1").replace(path)
    with opened(path, OLD) as connection:
        connection.execute("INSERT INTO note VALUES ('later')")
    kept = path.with_name("notes.schema1")
    kept.write_bytes(b"an older copy that somebody left")
    with opened(path, NEW):
        pass
    with opened(kept, OLD) as connection:
        assert connection.execute("SELECT text FROM note").fetchall() == [("kept",), ("later",)]


def test_of_many_that_open_an_older_file_one_changes_it(path: Path) -> None:
    """A role and commands that start together on an upgraded node do not trip over each other."""
    told: list[Upgraded] = []
    found: list[object] = []

    def open_it() -> None:
        with opened(path, NEW, told) as connection:
            found.append(connection.execute("SELECT * FROM note").fetchall())

    threads = [threading.Thread(target=open_it) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [[("kept", "nobody")]] * 8
    assert len(told) == 1
