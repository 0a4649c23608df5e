"""Atomic files and secrets."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from appliance import files
from appliance.errors import ConfigurationError, InfrastructureError
from appliance.files import check_secret, read_secret, replace_file


def test_replacing_a_file_leaves_nothing_else_behind(tmp_path: Path) -> None:
    """The new content is there with the mode asked for, and no temporary file."""
    target = tmp_path / "map.json"
    replace_file(target, b"old")
    replace_file(target, b"new", mode=0o600)
    assert target.read_bytes() == b"new"
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [target]


def test_a_failed_replacement_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the disk refuses, the old content stays, whole, and the error says which file."""
    target = tmp_path / "map.json"
    replace_file(target, b"old")

    def no_space(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(InfrastructureError, match=r"map\.json: No space left"):
        replace_file(target, b"new")
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_secret_of_mode_0600_is_read(tmp_path: Path) -> None:
    """The normal case."""
    secret = tmp_path / "password"
    replace_file(secret, b"hunter2\n", mode=0o600)
    check_secret(secret)
    assert read_secret(secret) == b"hunter2\n"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620])
def test_a_secret_that_others_reach_is_refused(tmp_path: Path, mode: int) -> None:
    """The error names the file, its mode, and the command that mends it."""
    secret = tmp_path / "password"
    replace_file(secret, b"hunter2", mode=mode)
    with pytest.raises(ConfigurationError, match=rf"{mode:04o}.*chmod 600 .*password"):
        read_secret(secret)


def test_what_is_no_plain_file_is_no_secret(tmp_path: Path) -> None:
    """A missing file, a directory, a FIFO and an oversized file are refused without hanging."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo, 0o600)
    huge = tmp_path / "huge"
    replace_file(huge, bytes(files.SECRET_SIZE_MAX + 1), mode=0o600)
    for path in (tmp_path / "missing", tmp_path, fifo, huge):
        with pytest.raises(ConfigurationError, match=str(path)):
            read_secret(path)
