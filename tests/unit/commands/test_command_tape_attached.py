"""`spanreel tape` on a library of this machine: the model behind sg nodes that sysfs shows."""

from __future__ import annotations

import json

import pytest

from tape.model.faults import CartridgeFault
from tests.unit.commands.conftest import Machine


def test_only_listed_cartridges_and_drives_are_used(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    """Other cartridges stay where they are, other drives empty, and the first free one is one of ours."""
    assert machine.run("load", "BBB001L5") == 2
    assert "neither as writable nor as readable" in capsys.readouterr().err
    assert machine.run("load", "AAA001L5", "DRV0001") == 2
    assert "does not list drive DRV0001" in capsys.readouterr().err
    assert machine.run("move", "AAA001L5", "256") == 2
    assert machine.run("load", "AAA002L5") == 0
    assert "in drive DRV0002" in capsys.readouterr().out
    assert machine.run("label", "AAA002L5") == 2
    assert machine.run("unload", "AAA002L5") == 0
    assert machine.run("label", "AAA001L5") == 0
    assert machine.held == []


@pytest.mark.parametrize(
    "words", [("unload", "AAA001L5"), ("erase", "AAA001L5", "--force"), ("move", "257", "4096")]
)
def test_a_drive_in_use_is_left_alone(
    machine: Machine, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    """A media server that writes is not rewound, ejected or robbed by an operator's command."""
    assert machine.run("load", "AAA001L5") == 0
    machine.in_use.add("DRV0002")
    assert machine.run(*words) == 3
    assert "DRV0002 is in use" in capsys.readouterr().err
    assert machine.run("status", "--json") == 0
    assert json.loads(capsys.readouterr().out)[1]["state"] == "DRV0002 is in use"


def test_a_robot_in_use_may_be_looked_at(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    """What moves nothing needs no hold; what moves waits for whoever has the robot."""
    machine.in_use.add("LIB0001")
    assert machine.run("load", "AAA001L5") == 3
    assert "LIB0001 is in use" in capsys.readouterr().err
    assert machine.run("inventory") == 0


def test_two_cartridges_with_one_label_are_left_alone(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    """Which of them is the listed one cannot be known."""
    machine.model.faults.add(CartridgeFault("BBB001L5", shown_as="AAA001L5"))
    assert machine.run("erase", "AAA001L5", "--force") == 1
    assert "one label lies" in capsys.readouterr().err
