"""Faults of a running library by a file in its folder."""

from __future__ import annotations

import threading
from pathlib import Path

from tape.model import LibraryModel, LibrarySpec
from tape.model.faults import CommandFault, FaultPlan, Wait
from tape.transport import ScsiStatus

SPEC = LibrarySpec("LIB1", ("DRV1",), ("SPR001L5",))
TEST_UNIT_READY = bytes(6)


def make(folder: Path) -> LibraryModel:
    """A library, its changer's first unit attention taken."""
    library = LibraryModel(folder, SPEC)
    with library.transport("LIB1") as changer:
        changer.execute(TEST_UNIT_READY)
    return library


def ready(library: LibraryModel) -> bool:
    """Whether the changer says that it is ready."""
    with library.transport("LIB1") as changer:
        return changer.execute(TEST_UNIT_READY).status == ScsiStatus.GOOD


def test_faults_come_and_go_with_the_file(tmp_path: Path) -> None:
    """A script that appears is in force from the next command on; without it the faults are gone."""
    library = make(tmp_path)
    script = tmp_path / "faults.toml"
    assert ready(library)
    script.write_text('[[fault]]\ndevice = "LIB1"\ntimes = 0\nsense = "stuck robot"\n')
    assert not ready(library)
    script.unlink()
    assert ready(library)
    assert (tmp_path / "faults.log").read_text().startswith("LIB1 00 ")
    library.close()


def test_a_broken_script_is_told_and_not_used(tmp_path: Path) -> None:
    """Nonsense is a line of the log, and the library goes on."""
    library = make(tmp_path)
    (tmp_path / "faults.toml").write_text("[[fault]]\nsense = 5\n")
    assert ready(library)
    assert "not used:" in (tmp_path / "faults.log").read_text()
    library.close()


def test_a_held_command_goes_on_when_the_script_goes(tmp_path: Path) -> None:
    """A command that waits is carried out as soon as its fault is taken away."""
    library = make(tmp_path)
    script = tmp_path / "faults.toml"
    script.write_text('[[fault]]\ndevice = "LIB1"\ndelay = 500.0\n')
    struck, answers = threading.Event(), list[bool]()
    before = library.faults.on_strike

    def told(*what: object) -> None:
        before(*what)  # type: ignore[arg-type]
        struck.set()

    library.faults.on_strike = told
    waiting = threading.Thread(target=lambda: answers.append(ready(library)))
    waiting.start()
    assert struck.wait(20)
    assert not answers
    script.unlink()
    waiting.join(20)
    assert answers == [True]
    library.close()


def test_replacing_faults_brings_devices_back() -> None:
    """A device that a fault took away is there again when the faults are replaced."""
    plan = FaultPlan([CommandFault(Wait(0.0))])
    plan.remove("DRV1")
    plan.replace(FaultPlan())
    assert not plan.is_gone("DRV1")


def test_faults_that_were_handed_over_stay(tmp_path: Path) -> None:
    """A library that was given its faults does not look at the folder."""
    (tmp_path / "faults.toml").write_text('[[fault]]\ntimes = 0\nsense = "stuck robot"\n')
    library = LibraryModel(tmp_path, SPEC, FaultPlan())
    with library.transport("LIB1") as changer:
        changer.execute(TEST_UNIT_READY)
        assert changer.execute(TEST_UNIT_READY).status == ScsiStatus.GOOD
    library.close()
