"""A foreign DMA, ndmjob, that fills several of our cartridges, and chooses its record size.

Cartridges hold 16 MiB here, so that a tree of some 50 MB needs four; ndmjob labels them, changes them
by the robot at end of medium, and reads them back in order.  Both trees are read here, as in test_ndmjob.py.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration import test_ndmjob as one_volume
from tests.integration.test_ndmjob import OKAY, RESTORED, Witness, comparable
from tests.labrun import Lab, apart

pytestmark = one_volume.pytestmark

LABELS = tuple(f"-mV{number}@{4096 + number}" for number in range(6))
BULK = 12_000_000


@pytest.fixture(scope="module")
def witness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Witness]:
    """A seeded process lab with small cartridges."""
    folder = tmp_path_factory.mktemp("volumes")
    small = Path(apart(folder, one_volume.SUBNET))
    text = small.read_text().replace("capacity_mib: 2048", "capacity_mib: 16")
    assert "capacity_mib: 16" in text
    small.write_text(text)
    lab = Lab(str(small), "test-volumes", folder / "state")
    try:
        up = lab.lab("up")
        assert up.code == 0, up.out + up.err
        made = Witness(lab.lab("info", "--json").json(), folder)
        made.seed()
        for number, (path, local) in enumerate(made.places()):
            if not path.startswith(RESTORED):
                (local / "bulk").write_bytes(random.Random(number).randbytes(BULK))
        yield made
    finally:
        lab.lab("down")


def job(witness: Witness, entry: str, blocks: int, *words: str) -> str:
    """A job with the robot; `blocks` of 512 bytes make a record."""
    media = witness.agent(witness.info["tape"]["node"])
    robot = ("-R", media, "-r", witness.info["tape"]["changer"]["ndmp_device"])
    agents = ("-D", witness.agent(entry), "-T", media, *robot, "-f", witness.drive)
    return witness.run("-v", *words, *agents, "-B", "tar", "-b", str(blocks))


def init_labels(witness: Witness) -> None:
    """Write ndmjob's labels to all cartridges."""
    media = witness.agent(witness.info["tape"]["node"])
    changer = witness.info["tape"]["changer"]["ndmp_device"]
    said = witness.run(
        "-v", "-o", "init-labels", "-T", media, "-R", media, "-r", changer, "-f", witness.drive, *LABELS
    )
    assert "Operation complete" in said, said


@pytest.mark.parametrize("blocks", [126, 199], ids=["63 KiB", "an odd size"])
def test_a_tree_over_several_cartridges(witness: Witness, blocks: int) -> None:
    """No byte is lost or doubled where one cartridge ends and the next begins, there and back."""
    witness.clear()
    init_labels(witness)
    index = f"volumes-{blocks}"
    said = job(witness, "fs1", blocks, "-c", "-C", "/", "-I", index, *LABELS)
    assert OKAY in said, said
    used = [line for line in (witness.folder / index).read_text().splitlines() if line.startswith("CM ")]
    assert len(used) >= 4, used
    witness.clear()
    said = job(witness, "fs2", blocks, "-x", "-C", "/restored", "-J", index)
    assert OKAY in said, said
    assert comparable(witness.tree(RESTORED)) == comparable(witness.tree(b"/"))


def test_a_drive_that_fails_once_is_asked_again(witness: Witness) -> None:
    """The mover's pause is a seek to ndmjob: it positions the tape and goes on, and nothing is lost."""
    witness.clear()
    init_labels(witness)
    said = job(witness, "fs1", 126, "-c", "-C", "/", "-I", "failing", *LABELS)
    assert OKAY in said, said
    serial = witness.drive.removeprefix("drive:")
    libraries = (witness.folder / "state/spanreel/labs/test-volumes/nodes").rglob("library.json")
    (library,) = (path for path in libraries if serial in path.read_text())
    script = library.with_name("faults.toml")
    # In the middle of the second cartridge, which holds some 260 records.
    script.write_text('[[fault]]\ncommand = "READ(6)"\nnth = 400\nsense = "hardware error"\n')
    try:
        said = job(witness, "fs2", 126, "-x", "-C", "/restored", "-J", "failing")
    finally:
        script.unlink()
    assert "HARDWARE ERROR" in said, said
    assert OKAY in said, said
    assert comparable(witness.tree(RESTORED)) == comparable(witness.tree(b"/"))


@pytest.mark.parametrize("blocks", [1, 20, 200], ids=["512 B", "10 KiB", "100 KiB"])
def test_any_record_size(witness: Witness, blocks: int) -> None:
    """From one block to what ndmjob can at most: the last record is padded, and nobody sees that."""
    media = witness.agent(witness.info["tape"]["node"])
    changer = witness.info["tape"]["changer"]["ndmp_device"]
    said = witness.run("-v", "-o", "load=4096", "-R", media, "-r", changer, "-T", media, "-f", witness.drive)
    assert "Operation complete" in said, said
    local = next(Path(local) for path, local in witness.places() if path == b"/home")
    (local / "bulk").unlink(missing_ok=True)
    agents = ("-D", witness.agent("fs2"), "-T", media, "-f", witness.drive, "-B", "tar", "-b", str(blocks))
    said = witness.run("-v", "-c", "-C", "/home", "-I", "size", *agents)
    assert OKAY in said, said
    witness.clear()
    said = witness.run("-v", "-x", "-C", "/restored/home", "-J", "size", *agents)
    assert OKAY in said, said
    after = {path: facts for path, facts in witness.tree(RESTORED + b"/home").items() if path}
    assert after == {path: facts for path, facts in witness.tree(b"/home").items() if path}
