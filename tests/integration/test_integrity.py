"""Tapes that are checked, damaged, and all that is left: the process lab, with the product's own commands."""

from __future__ import annotations

import os
import random
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.labrun import Lab

pytestmark = pytest.mark.process_lab

MARK = random.Random(9).randbytes(4096)
"""Data that is found again on tape."""


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """A process lab with a few files on every owner."""
    made = Lab("process", "test-integrity", tmp_path)
    try:
        up = made.lab("up")
        assert up.code == 0, up.out + up.err
        for part in made.lab("info", "--json").json()["gns"]:
            top = Path(part["local_path"])
            (top / "sub").mkdir(parents=True, exist_ok=True)
            (top / "sub" / "file").write_text(part["global_path"])
            (top / "sub" / "link").hardlink_to(top / "sub" / "file")
        yield made
    finally:
        made.lab("down")


def spanreel(lab: Lab, *words: str, code: int = 0) -> Any:
    """The JSON that a command on the backup server prints."""
    done = lab.on("backup1", *words, "--json")
    assert done.code == code, done.out + done.err
    return done.json()


def parts(lab: Lab) -> dict[str, Path]:
    """Global path and local directory of every part."""
    return {part["global_path"]: Path(part["local_path"]) for part in lab.lab("info", "--json").json()["gns"]}


def catalogue(folder: Path) -> Path:
    """The lab's catalogue."""
    (found,) = folder.rglob("catalogue.sqlite")
    return found


def flip_on_tape(folder: Path) -> None:
    """Flip a bit in the data that holds MARK, on the cartridge that has it."""
    for path in folder.rglob("*.tape"):
        at = path.read_bytes().find(MARK)
        if at >= 0:
            descriptor = os.open(path, os.O_WRONLY)
            os.pwrite(descriptor, bytes([MARK[100] ^ 1]), at + 100)
            os.close(descriptor)
            return
    pytest.fail("the data is on no cartridge")


def rows(path: Path) -> list[tuple[Any, ...]]:
    """What a catalogue knows of names, read past the product."""
    with sqlite3.connect(path) as connection:
        return connection.execute(
            "SELECT job, parent, name, node, offset, type, mode, size, mtime, owner, grp"
            " FROM file JOIN image ON image.id = file.image ORDER BY job, parent, name"
        ).fetchall()


@pytest.mark.parametrize("kind", ["tar", "dump"])
def test_a_lost_catalogue_comes_back_from_tape(lab: Lab, tmp_path: Path, kind: str) -> None:
    """After verify, the catalogue is deleted and rebuilt: the same rows, and a file restores from it."""
    job = spanreel(lab, "backup", "/", "--type", kind)
    assert job["status"] == "complete"
    found = spanreel(lab, "verify", "latest")
    assert (found["status"], found["files"], found["messages"]) == ("complete", job["files"], [])
    path = catalogue(tmp_path)
    before = rows(path)
    assert lab.on("backup1", "catalogue", "rebuild").code == 2
    for each in path.parent.glob("catalogue.sqlite*"):
        each.unlink()
    back = spanreel(lab, "catalogue", "rebuild")
    assert (back["jobs"], back["files"], back["messages"]) == ([job["id"]], job["files"], [])
    assert rows(path) == before
    top, local = max(parts(lab).items())
    (local / "sub" / "file").unlink()
    (local / "sub" / "link").unlink()
    spanreel(lab, "restore", "latest", f"{top}/sub")
    assert (local / "sub" / "file").read_text() == top
    assert (local / "sub" / "file").samefile(local / "sub" / "link")


def test_a_flipped_bit_on_tape_is_found(lab: Lab, tmp_path: Path) -> None:
    """Verify names the file and ends with 4; restore brings everything, and names it as well."""
    top, local = max(parts(lab).items())
    (local / "sub" / "marked").write_bytes(MARK)
    spanreel(lab, "backup", "/")
    flip_on_tape(tmp_path)
    found = spanreel(lab, "verify", "latest", code=4)
    assert [message["path"] for message in found["messages"]] == [f"{top}/sub/marked"]
    assert found["damaged"] == 1
    back = spanreel(lab, "restore", "latest", code=4)
    assert back["problems"] == 1
    assert any(f"{top}/sub/marked: restored, but damaged" in each["text"] for each in back["messages"])
    assert (local / "sub" / "file").read_text() == top
