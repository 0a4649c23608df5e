"""Scripts that make and change trees on nodes: one number gives one tree."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from harness.guest import change, seed_plain


def tree(folder: Path) -> dict[str, bytes | None]:
    """Names and contents below a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def make(folder: Path, number: int) -> dict[str, bytes | None]:
    """A tree that was filled and changed by one number."""
    root = {"local": str(folder), "files": [["x/a", 100], ["x/b", 0], ["c", 5000]]}
    assert seed_plain.main({"number": number, "roots": [root]}) == {"files": 3, "bytes": 5100}
    assert change.main({"number": number, "folder": str(folder), "steps": 60}) == {"steps": 60}
    return tree(folder)


def test_one_number_gives_one_tree(tmp_path: Path) -> None:
    """The same number makes the same names and contents, another one others."""
    first = make(tmp_path / "1", 7)
    assert make(tmp_path / "2", 7) == first
    assert make(tmp_path / "3", 8) != first


def test_changes_go_on_until_they_are_told_to_stop(tmp_path: Path) -> None:
    """With `until` a tree is changed beyond its steps, until the file is there; then the file is gone."""
    folder, until = tmp_path / "tree", tmp_path / "stop"
    folder.mkdir()
    done: list[dict[str, int]] = []
    argument = {"number": 1, "folder": str(folder), "steps": 3, "until": str(until)}
    thread = threading.Thread(target=lambda: done.append(change.main(argument)))
    thread.start()
    until.touch()
    thread.join(20)
    assert done[0]["steps"] >= 3
    assert not until.exists()


@pytest.mark.parametrize("number", range(5))
def test_no_directory_is_moved_into_itself(tmp_path: Path, number: int) -> None:
    """Whatever chance says, every step is one that a file system allows."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    change.main({"number": number, "folder": str(tmp_path), "steps": 300})
