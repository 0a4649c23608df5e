"""Checkpoints on disk: whole or absent, whatever happens; and when one no longer fits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from harness_support import fast_topology

from harness.checkpoints import record
from harness.checkpoints.record import Record
from harness.checkpoints.store import NODES, RECORD, SPARE_BYTES, Store
from harness.copying import copy, used
from harness.errors import InfrastructureError, UsageError
from harness.states import READY, SEEDED
from harness.topology import Seed

READY_RECORD = Record("ready", READY, {"image": "a"})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return Store(tmp_path / "checkpoints")


def fill(text: str) -> object:
    """Return what fills a checkpoint with one file."""

    def write(folder: Path) -> None:
        (folder / "disk").write_text(text)

    return write


def content(store: Store, name: str = "ready") -> str:
    """What lies in a checkpoint."""
    return (store.path(name) / NODES / "disk").read_text()


def test_what_was_made_is_found(store: Store, tmp_path: Path) -> None:
    """Everything that was said of a checkpoint, and its files, are there for the next command."""
    (tmp_path / "list").write_text("of files")
    wanted = replace(READY_RECORD, note={"job": "7"})
    made = store.make(wanted, fill("one"), {"originals": tmp_path / "list"})  # type: ignore[arg-type]
    found = Store(store.folder).find("ready")
    assert found == made
    assert (found.note, found.state, found.bytes > 0, found.made[:2]) == ({"job": "7"}, READY, True, "20")
    assert content(store) == "one"
    assert (store.path("ready") / "files" / "originals").read_text() == "of files"


def test_one_of_the_same_name_is_replaced(store: Store) -> None:
    """The new one counts, and nothing of the old one is left."""
    for text in ("one", "two"):
        store.make(READY_RECORD, fill(text))  # type: ignore[arg-type]
    assert content(store) == "two"
    assert [path.name for path in store.folder.iterdir()] == ["ready"]


class Died(BaseException):
    """The process ended."""


@pytest.mark.parametrize("error", [Died(), OSError(28, "No space left on device"), InfrastructureError("x")])
def test_one_that_is_half_made_is_none(store: Store, error: BaseException) -> None:
    """A failure within keeps the one before, and leaves no half."""
    store.make(READY_RECORD, fill("one"))  # type: ignore[arg-type]

    def fail(folder: Path) -> None:
        (folder / "disk").write_text("half")
        raise error

    with pytest.raises((Died, InfrastructureError)):
        store.make(READY_RECORD, fail)
    assert content(store) == "one"
    assert [path.name for path in store.folder.iterdir()] == ["ready"]


@pytest.mark.parametrize("crash", ["before its name", "between two names"])
def test_what_a_crash_leaves_is_taken_away(store: Store, crash: str) -> None:
    """What a killed process left has no name, is never listed, and goes with the next change."""
    store.make(READY_RECORD, fill("one"))  # type: ignore[arg-type]
    copy(store.path("ready"), store.folder / ".ready.partial")
    if crash == "between two names":
        store.path("ready").rename(store.folder / ".ready.old")
    listed = [item.name for item in store.all()]
    assert listed == ([] if crash == "between two names" else ["ready"])
    store.make(replace(READY_RECORD, name="other"), fill("two"))  # type: ignore[arg-type]
    assert {item.name for item in store.all()} == {*listed, "other"}
    assert not list(store.folder.glob(".*"))


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": 99}', '{"format": 1, "name": "x"}'])
def test_one_whose_record_is_damaged_is_none(store: Store, text: str) -> None:
    """It is not listed, stops nobody, and is pruned."""
    store.make(READY_RECORD, fill("one"))  # type: ignore[arg-type]
    (store.path("ready") / RECORD).write_text(text)
    assert store.find("ready") is None
    assert store.prune(lambda _: True) == ["ready"]
    assert not list(store.folder.iterdir())


def test_pruning_keeps_what_is_wanted_and_the_newest_within_a_size(store: Store) -> None:
    """First what nobody wants goes, then the oldest."""
    for index, name in enumerate(("first", "second", "third", "stale")):
        made = store.make(replace(READY_RECORD, name=name), fill("x" * 9000))  # type: ignore[arg-type]
        dated = replace(made, made=f"2026-01-0{index + 1}T00:00:00Z")
        (store.path(name) / RECORD).write_text(dated.to_json())
    size = store.all()[0].bytes
    assert store.prune(lambda item: item.name != "stale", 2 * size) == ["stale", "first"]
    assert [item.name for item in store.all()] == ["second", "third"]


def test_no_room_is_said_before_anything_is_done(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names what is free and what is needed; the lab itself keeps some room."""
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": SPARE_BYTES + 99})())
    store.require_room("ready", 99)
    with pytest.raises(InfrastructureError, match=r"ready: 1024 MiB free, it may need 1024.*prune"):
        store.require_room("ready", 100)


@pytest.mark.parametrize("name", ["", "../x", ".hidden", "Ready", "a/b", "x" * 40])
def test_a_name_that_leaves_the_folder_is_refused(store: Store, name: str) -> None:
    """Names become folders."""
    with pytest.raises(UsageError, match="cannot be called"):
        store.path(name)


def test_what_a_checkpoint_depends_on(tmp_path: Path) -> None:
    """Lab, topology, image, what was asked for; the seed only where there is one; not where the file lies."""
    topology = fast_topology(tmp_path)

    def made(state: str = READY, **changed: object) -> dict[str, str]:
        return record.made_of(
            replace(topology, **changed),  # type: ignore[arg-type]
            "token",
            state,
            {"image": "a"},
        )

    kept = made()
    assert record.differences(kept, made()) == []
    assert record.differences(kept, made(file=tmp_path / "elsewhere")) == []
    assert record.differences(kept, made(seed=Seed(number=9))) == []
    assert record.differences(kept, made(nodes=topology.nodes[1:])) == ["topology"]
    assert record.differences(kept, made(subnet="10.0.0.0/24")) == ["topology"]
    assert record.differences(made(SEEDED), made(SEEDED, seed=Seed(number=9))) == ["seed"]
    other = record.made_of(topology, "another", READY, {"image": "b", "new": "c"}, {"number": 1})
    assert record.differences(kept, other) == ["asked", "image", "lab", "new"]
    assert "token" not in str(kept.values())


def test_holes_and_second_names_take_no_room(tmp_path: Path) -> None:
    """The size is what the disk gives, and a copy keeps both."""
    folder = tmp_path / "tree"
    folder.mkdir()
    with (folder / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    (folder / "file").write_bytes(bytes(100_000))
    (folder / "link").hardlink_to(folder / "file")
    copy(folder, tmp_path / "copy")
    assert used(tmp_path / "copy") == used(folder) < 200_000
    assert (tmp_path / "copy" / "link").stat().st_nlink == 2
    with pytest.raises(InfrastructureError, match="cannot copy"):
        copy(tmp_path / "nothing", tmp_path / "target")
