"""`spanreel tape check`: the checks with one cartridge, and what they may touch."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tape.commands import SPACE_6
from tape.model.faults import CommandFault
from tape.sense import Sense
from tape.testing import CHANGER_CHECKS, DRIVE_CHECKS
from tests.unit.commands.conftest import Machine

ONE_SLOT_LISTED = 'readable = ["AAA002L5"]'


def findings(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """What `--json` printed."""
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return found


def cartridges(machine: Machine, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What lies where, in the order of elements."""
    assert machine.run("inventory", "--json") == 0
    return [element["cartridge"] for element in json.loads(capsys.readouterr().out)]


def test_every_check_is_made_and_all_is_as_before(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    """The listed drive and the changer pass; the cartridge is back in its slot, blank; nothing is held."""
    before = cartridges(machine, capsys)
    assert machine.run("check", "AAA001L5", "--kind", "model", "--json") == 0
    found = findings(capsys)
    assert {finding["device"] for finding in found} == {"DRV0002", "LIB0001"}
    assert len(found) == len(DRIVE_CHECKS) + len(CHANGER_CHECKS)
    assert {finding["outcome"] for finding in found} == {"passed"}
    assert cartridges(machine, capsys) == before
    assert machine.run("label", "AAA001L5") == 0, "a cartridge that is not blank would be refused"
    assert machine.held == []


def test_what_holds_something_is_not_overwritten_unasked(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    """A label stays without --force, and the message says how to go on."""
    assert machine.run("label", "AAA001L5") == 0
    assert machine.run("check", "AAA001L5", "--kind", "model") == 1
    assert "`spanreel tape check AAA001L5 --force` destroys that" in capsys.readouterr().err
    assert machine.run("label", "AAA001L5") == 1
    assert machine.run("check", "AAA001L5", "--kind", "model", "--force") == 0
    assert machine.run("label", "AAA001L5") == 0


def test_the_first_drive_being_full_saves_no_cartridge_from_the_question(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    """A full drive is skipped and said so, and the next one still asks before it overwrites."""
    machine.config.write_text(
        machine.config.read_text().replace('drives = ["DRV0002"]', 'drives = ["DRV0001", "DRV0002"]')
    )
    assert machine.run("label", "AAA001L5") == 0
    assert machine.run("load", "AAA002L5", "DRV0001") == 0
    assert machine.run("check", "AAA001L5", "--kind", "model") == 1
    assert "destroys that" in capsys.readouterr().err
    assert machine.run("check", "AAA001L5", "--kind", "model", "--force", "--json") == 0
    assert findings(capsys)[0]["why"] == "AAA002L5 is in it"


def test_cartridges_that_are_not_listed_do_not_move(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    """Checks that would carry one are left out, with the reason."""
    machine.config.write_text(machine.config.read_text().replace(ONE_SLOT_LISTED, ""))
    assert machine.run("check", "AAA001L5", "--kind", "model", "--json") == 0
    skipped = {finding["check"]: finding["why"] for finding in findings(capsys) if finding["why"]}
    assert set(skipped) == {"move_and_back", "empty_source", "full_destination"}
    assert "lists AAA002L5 of library LIB0001 neither" in skipped["move_and_back"]
    assert machine.run("check", "AAA002L5", "--kind", "model") == 2


def test_a_broken_promise_is_told_and_fails(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 1, the promise on its line, and the cartridge still goes back."""
    before = cartridges(machine, capsys)
    machine.model.faults.add(CommandFault(Sense(5, 0x20), "DRV0002", opcode=SPACE_6.opcode, times=0))
    assert machine.run("check", "AAA001L5", "--kind", "model") == 1
    said = capsys.readouterr()
    assert "failed" in said.out
    assert "checks failed" in said.err
    assert cartridges(machine, capsys) == before


def test_a_kind_skips_what_it_is_known_not_to_do(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    """The reason is on the line."""
    assert machine.run("check", "AAA001L5", "--kind", "tgt") == 0
    assert "cannot LOCATE: 05/20/00: the command is not there" in capsys.readouterr().out
