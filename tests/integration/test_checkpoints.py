"""Checkpoints of the process lab with the real product: kept, harmed, put back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import topology as topologies
from tests.labrun import Finished, Lab

pytestmark = pytest.mark.process_lab

# Apart from other process labs on this machine.
SUBNET = "127.77.220."
ORIGINAL = "/projects"


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """A lab of its own with a small seed, down at first."""
    text = topologies.find("process").read_text().replace("127.77.0.", SUBNET)
    head, _, rest = text.partition("seed:")
    text = head + "seed: {number: 1, size_mib: 2, small_files: 50}\n" + rest.partition("\n")[2]
    path = tmp_path / "process.yaml"
    path.write_text(text)
    made = Lab(str(path), "kept", tmp_path / "state")
    try:
        yield made
    finally:
        made.lab("clean")


def good(done: Finished) -> Finished:
    """A command that must succeed."""
    assert done.code == 0, done.err + done.out
    return done


def checkpoint(lab: Lab, *words: str) -> Finished:
    """Run `spanreel lab checkpoint`."""
    return lab.spanreel("lab", "checkpoint", *words, "--lab", lab.name, timeout=300)


def seeded(lab: Lab) -> list[str]:
    """Every name below the parts of fs1, with what it holds."""
    where = next((lab.state / "spanreel" / "labs" / "kept" / "nodes" / "fs1").glob("data-*"))
    return sorted(
        f"{path.relative_to(where)} {path.lstat().st_size} {path.lstat().st_mtime_ns}"
        for path in where.rglob("*")
        if not path.is_dir()
    )


def test_a_lab_goes_back_to_what_it_was(lab: Lab) -> None:
    """Data, catalogue and cartridges go back together, while it runs and from off, and it works on."""
    good(lab.lab("up", "--to", "seeded"))
    originals = seeded(lab)
    assert len(originals) > 50
    assert [item["name"] for item in checkpoint(lab, "list", "--json").json()] == ["seeded"]

    good(lab.on("backup1", "backup", ORIGINAL, "--json"))
    good(checkpoint(lab, "save", "with-a-job"))
    job = good(lab.on("backup1", "backup", ORIGINAL, "--json")).json()["id"]
    good(lab.on("backup1", "restore", job, ORIGINAL, "--to", "/restored"))
    assert seeded(lab) != originals

    good(checkpoint(lab, "revert", "seeded"))
    assert seeded(lab) == originals
    assert lab.on("backup1", "jobs", "--json").json() == []

    # The catalogue's first job, and the cartridge that holds it.
    good(lab.lab("down"))
    good(checkpoint(lab, "revert", "with-a-job"))
    (first,) = lab.on("backup1", "jobs", "--json").json()
    good(lab.on("backup1", "restore", first["id"], ORIGINAL, "--to", "/restored"))
    good(lab.on("backup1", "backup", ORIGINAL, "--json"))


def test_a_checkpoint_of_another_topology_is_not_used(lab: Lab) -> None:
    """From off a state is put back, not made, but not that of a topology that has changed."""
    good(lab.lab("up", "--to", "seeded"))
    good(lab.lab("down"))
    again = good(lab.lab("up", "--to", "seeded"))
    assert "revert ok" in again.err
    assert "seed ok" not in again.err
    good(lab.lab("down"))
    Path(lab.topology).write_text(Path(lab.topology).read_text().replace("number: 1", "number: 2"))
    good(lab.lab("up", "--no-save"))
    (kept,) = checkpoint(lab, "list", "--json").json()
    assert (kept["name"], kept["changed"]) == ("seeded", ["seed"])
    refused = checkpoint(lab, "revert", "seeded")
    assert (refused.code, "changed since: seed" in refused.err) == (2, True)
    assert "removed: seeded" in good(checkpoint(lab, "prune")).out


def test_an_incremental_after_a_revert(lab: Lab) -> None:
    """Folders that were put back have other inodes: a later level must still be the whole truth."""
    good(lab.lab("up", "--to", "seeded", "--no-save"))
    good(lab.on("backup1", "backup", ORIGINAL, "--level", "0", "--json"))
    good(checkpoint(lab, "save", "full"))
    good(checkpoint(lab, "revert", "full"))
    where = next((lab.state / "spanreel" / "labs" / "kept" / "nodes" / "fs1").glob("data-*/projects"))
    (where / "new").write_text("written after the revert")
    job = good(lab.on("backup1", "backup", ORIGINAL, "--level", "1", "--json")).json()["id"]
    before = seeded(lab)
    (where / "new").unlink()
    good(lab.on("backup1", "restore", job, ORIGINAL, "--existing", "overwrite"))
    assert seeded(lab) == before
