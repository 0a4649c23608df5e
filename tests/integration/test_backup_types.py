"""Both backup types with the product's own DMA, in the process lab: both list and restore the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.labrun import Lab

pytestmark = pytest.mark.process_lab


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """A process lab with a few files on every owner."""
    made = Lab("process", "test-types", tmp_path)
    try:
        up = made.lab("up")
        assert up.code == 0, up.out + up.err
        for part in made.lab("info", "--json").json()["gns"]:
            top = Path(part["local_path"])
            (top / "sub" / "dir").mkdir(parents=True, exist_ok=True)
            (top / "sub" / "file").write_text(part["global_path"])
            (top / "sub" / "dir" / "link").hardlink_to(top / "sub" / "file")
        yield made
    finally:
        made.lab("down")


def spanreel(lab: Lab, *words: str) -> Any:
    """The JSON that a command on the backup server prints."""
    done = lab.on("backup1", *words, "--json")
    assert done.code == 0, done.out + done.err
    return done.json()


def test_either_type_lists_and_restores_the_same(lab: Lab) -> None:
    """`ls -R` after tar and after dump agree in every field, and a linked file comes back by path."""
    listings = []
    for kind in ("tar", "dump"):
        job = spanreel(lab, "backup", "/", "--type", kind)
        assert job["status"] == "complete"
        listings.append(spanreel(lab, "ls", job["id"], "/", "--recursive"))
    assert listings[0] == listings[1]
    parts = {part["global_path"]: part for part in lab.lab("info", "--json").json()["gns"]}
    path, part = max(parts.items())
    lost = Path(part["local_path"]) / "sub"
    for each in (lost / "dir" / "link", lost / "file"):
        each.unlink()
    spanreel(lab, "restore", "latest", f"{path}/sub")
    assert (lost / "dir" / "link").read_text() == path
    assert (lost / "dir" / "link").samefile(lost / "file")
