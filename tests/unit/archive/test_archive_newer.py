"""What a newer Spanreel wrote is named as that, not as damage."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from pathlib import Path

import pytest

from appliance.archive.errors import DamagedArchiveError
from appliance.archive.formats import FORMAT
from appliance.archive.frame import parse_comment
from appliance.archive.treestate import BaseState, NextState, StateError


@pytest.mark.parametrize(
    ("version", "said"),
    [
        (FORMAT + 1, "a newer Spanreel wrote this image, in format 3, .* knows 2; .* GNU tar"),
        ("x", "format version 'x' is not known here"),
    ],
)
def test_a_newer_image(version: object, said: str) -> None:
    """Whoever wants to restore it hears which format it has, and what can read it."""
    text = json.dumps({"format": "spanreel", "version": version, "kind": "image"}).encode()
    with pytest.raises(DamagedArchiveError, match=said):
        parse_comment({b"comment": text}, 0)


def test_a_newer_base(tmp_path: Path) -> None:
    """The numbers are named, without the place of the file, since a DMA reads the line."""
    path = tmp_path / "state"
    NextState(path).finish()
    BaseState(path).close()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 2")
    with pytest.raises(StateError, match=r"^the state of a backup has schema 2; this Spanreel knows 1$"):
        BaseState(path)
