"""What goes wrong for people: one clear line each, a non-zero exit, and a lab that stays usable."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.labrun import Finished, Lab

pytestmark = pytest.mark.process_lab


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A process lab that is up, with a little data and one complete backup."""
    made = Lab("process", "test-bad-input", tmp_path_factory.mktemp("state"))
    up = made.lab("up")
    assert up.code == 0, up.out + up.err
    try:
        (local(made, "/projects") / "file").write_bytes(bytes(3 << 20))
        done = made.on("backup1", "backup", "/")
        assert done.code == 0, done.err
        yield made
    finally:
        made.lab("down")


def local(lab: Lab, path: str) -> Path:
    """The local directory behind a global path."""
    parts = lab.lab("info", "--json").json()["gns"]
    return next(Path(part["local_path"]) for part in parts if part["global_path"] == path)


def assert_one_line(done: Finished, code: int, *words: str) -> None:
    """The last line names the trouble, the exit code its kind, and there is no traceback."""
    assert done.code == code, done.out + done.err
    assert "Traceback" not in done.out + done.err
    last = done.err.strip().splitlines()[-1]
    assert last.startswith("spanreel")
    for word in words:
        assert word in last


def assert_usable(lab: Lab) -> None:
    """A backup still completes."""
    assert lab.on("backup1", "backup", "/projects").code == 0


def test_an_unknown_global_path(lab: Lab) -> None:
    """A backup of a path that nobody owns fails and names it."""
    assert_one_line(lab.on("backup1", "backup", "/nowhere"), 1, "/nowhere")
    assert_usable(lab)


def test_a_path_that_is_not_in_the_job(lab: Lab) -> None:
    """A restore of what was not saved is a usage error that says where to look."""
    done = lab.on("backup1", "restore", "latest", "/nowhere", "--to", "/restored")
    assert_one_line(done, 2, "/nowhere", "spanreel ls")


def test_a_restore_to_where_nobody_owns_anything(lab: Lab) -> None:
    """A target without an owner is an error, and nothing is restored."""
    done = lab.on("backup1", "restore", "latest", "/", "--to", "/nobody")
    assert_one_line(done, 1, "/nobody")


def test_a_wrong_password(lab: Lab) -> None:
    """A DMA that is not let in is told so."""
    files = list((lab.state / "spanreel/labs" / lab.name / "nodes/backup1").rglob("*password*"))
    assert files
    before = {path: path.read_text() for path in files}
    try:
        for path in files:
            path.write_text("wrong")
        assert_one_line(lab.on("backup1", "backup", "/"), 2, "wrong user or password")
    finally:
        for path, text in before.items():
            path.write_text(text)
    assert_usable(lab)


def test_a_port_in_use(lab: Lab) -> None:
    """A second instance of a role says which address it could not have."""
    done = lab.on("fs2", "serve", "file-server")
    assert done.code == 3
    assert "Traceback" not in done.err


def test_no_cartridge_that_may_be_written(lab: Lab) -> None:
    """Without a usable cartridge the job fails before anything is touched, and says why."""
    config = next((lab.state / "spanreel/labs" / lab.name / "nodes/backup1").rglob("spanreel.toml"))
    text = config.read_text()
    try:
        lines = [line for line in text.splitlines() if not line.startswith("writable")]
        config.write_text("\n".join(lines))
        done = lab.on("backup1", "backup", "/")
        assert done.code in (1, 2, 3)
        assert_one_line(done, done.code, "cartridge")
    finally:
        config.write_text(text)
    assert_usable(lab)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: mounts a small file system")
def test_a_full_disk_on_the_restore_target(lab: Lab) -> None:
    """A restore onto a full disk names the files that did not fit, and is not called complete."""
    target = local(lab, "/restored")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", target], check=True)
    try:
        done = lab.on("backup1", "restore", "latest", "/projects", "--to", "/restored")
        assert done.code == 4
        assert "no space left" in done.out + done.err
        assert "Traceback" not in done.out + done.err
    finally:
        subprocess.run(["umount", target], check=True)
    assert_usable(lab)


def test_a_lab_that_is_not_up(lab: Lab) -> None:
    """`exec` on a lab that does not run says how to start it."""
    other = Lab("process", "test-never-up", lab.state)
    done = other.lab("exec", "fs1", "--", "true")
    assert done.code == 3
    assert "lab up" in done.err
