"""A foreign DMA, ndmjob, makes a full and an incremental backup and restores both."""

from __future__ import annotations

from tests.integration import test_ndmjob as ndmjob
from tests.integration.test_ndmjob import OKAY, Witness, comparable

pytestmark = ndmjob.pytestmark
witness = ndmjob.witness


def change(witness: Witness) -> None:
    """Rename, delete and add on every owner."""
    for path, local in witness.places():
        if path.startswith(b"/restored"):
            continue
        (local / "empty").rename(local / "moved")
        (local / "fifo").unlink()
        for name in local.glob("d*"):
            name.rename(local / "renamed")
        (local / "new").write_text("new")


def swap(witness: Witness, load: str) -> None:
    """Put the cartridge in the drive away, and another one in."""
    assert "Operation complete" in witness.robot("-o", "unload")
    assert "Operation complete" in witness.robot("-o", f"load={load}")


def test_a_level_and_the_chain_back(witness: Witness) -> None:
    """After renames and deletions on every owner, both images in order give exactly that day's tree."""
    first, second = (slot["address"] for slot in witness.info["tape"]["slots"][:2])
    said = witness.job("fs1", "-c", "-C", "/", "-I", "level0", "-E", "LEVEL=0")
    assert OKAY in said, said
    change(witness)
    day = comparable(witness.tree(b"/"))
    swap(witness, second)
    said = witness.job("fs2", "-c", "-C", "/", "-I", "level1", "-E", "LEVEL=1")
    assert OKAY in said, said
    witness.clear()
    swap(witness, first)
    for name in ("level0", "level1"):
        said = witness.job("fs1", "-x", "-C", "/restored", "-J", name, "-E", "EXTRACT=n")
        assert OKAY in said, said
        if name == "level0":
            swap(witness, second)
    assert comparable(witness.tree(b"/restored")) == day
