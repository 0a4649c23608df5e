"""A keeper's end: nothing stays behind, whoever was at it."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
import structlog

from appliance.snapshots.keeper import Batch, Keeper, Place
from tests.unit.cluster.fake_snapshots import Copies


@pytest.fixture
def kind(tmp_path: Path) -> Copies:
    """A file system that copies."""
    return Copies(tmp_path / "copies", "fs1", [])


@pytest.fixture
def keeper(kind: Copies) -> Keeper:
    """A keeper that uses it."""
    return Keeper("fs1-test", [kind], structlog.get_logger())


def prepared(keeper: Keeper, tmp_path: Path) -> Batch:
    """A batch of one tree that is ready."""
    tree = tmp_path / "tree"
    tree.mkdir()
    local = os.fsencode(tree)
    return keeper.prepare("job", [Place(b"/a", "fileset", b"/a", local)], [local])


def test_close_waits_for_what_another_drops(kind: Copies, keeper: Keeper, tmp_path: Path) -> None:
    """A process that ends after it leaves no snapshot behind that was half dropped."""
    dropping, go_on = threading.Event(), threading.Event()

    def drop() -> None:
        dropping.set()
        assert go_on.wait(60)

    kind.in_drop = drop
    batch = prepared(keeper, tmp_path)
    assert batch.take() == {}
    dropper = threading.Thread(target=batch.close)
    dropper.start()
    assert dropping.wait(60)
    closer = threading.Thread(target=keeper.close)
    closer.start()
    closer.join(0.2)
    assert closer.is_alive()
    go_on.set()
    closer.join(60)
    assert kind.kept() == []
    dropper.join(60)


def test_close_drops_what_is_made_meanwhile(kind: Copies, keeper: Keeper, tmp_path: Path) -> None:
    """A file server that stops while a snapshot is made waits for it, and drops it."""
    closer = threading.Thread(target=keeper.close)

    def close(_: Path) -> None:
        closer.start()
        closer.join(0.2)
        assert closer.is_alive()

    kind.after_take = close
    prepared(keeper, tmp_path).take()
    closer.join(60)
    assert not closer.is_alive()
    assert kind.kept() == []


def test_nothing_is_made_after_close(kind: Copies, keeper: Keeper, tmp_path: Path) -> None:
    """Who asks is told why."""
    batch = prepared(keeper, tmp_path)
    keeper.close()
    assert batch.take() == {b"/a": "the file server is stopping"}
    assert kind.kept() == []
