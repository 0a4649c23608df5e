"""What the main job makes of the answers of mtx, mt, sg3-utils and GNU tar."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness_support import FakeProvider, new_lab

from harness.checks.tapeback import TapeFile
from harness.checks.tapetools import Seen, conforms, judge
from harness.guest.tape_tools import elements
from harness.providers.base import Result
from harness.topology import Library

FILE = TapeFile("AAA001L5", 2)
JOB = {"files": 7, "media": [{"barcode": "AAA001L5", "file": 2}]}
LIBRARY = Library("media1", "tgt", "LIB0001", ("DRV0001",), ("AAA001L5", "AAA002L5"), ("AAA001L5",))
MTX = """  Storage Changer /dev/sg3:1 Drives, 3 Slots ( 1 Import/Export )
Data Transfer Element 0:Empty
      Storage Element 1:Full :VolumeTag=AAA001L5
      Storage Element 2:Full :VolumeTag=AAA002L5
      Storage Element 3 IMPORT/EXPORT:Empty
"""
INQUIRY = """standard INQUIRY:
 Vendor identification: HP
 Product identification: Ultrium 5-SCSI
 Product revision level: Z61W
"""
STATUS = """SCSI 2 tape drive:
File number=2, block number=0, partition=0.
General status bits on (81010000):
 EOF ONLINE IM_REP_EN
"""
NO_ANSWER = ("sg_luns", "sg_logs", "sg_logs TapeAlert", "sg_read_attr", "sg_persist")


def said(text: str = "", code: int = 0) -> dict[str, Any]:
    """What one tool left."""
    return {"command": "a tool /dev/sg1", "code": code, "said": text}


def place(address: int, kind: str, barcode: str | None) -> dict[str, Any]:
    """An element as `spanreel tape inventory --json` has it."""
    return {"element": address, "kind": kind, "full": barcode is not None, "cartridge": barcode}


@pytest.fixture
def seen() -> Seen:
    """A library on which everybody agrees."""
    questions = {
        "sg_inq identification": said(),
        "sg_turs": said(),
        **{name: said("no", 9) for name in NO_ANSWER},
    }
    cartridge = {
        "load": said(),
        "questions": questions,
        "status": said(STATUS),
        "tar": said(),
        "names": 7,
        "unload": said(),
    }
    drive = {"sg_inq": said(INQUIRY), "sg_inq serial": said("  Unit serial number: DRV0001\n")}
    tools = {"elements": elements(MTX), "drives": {"DRV0001": drive}, "cartridge": cartridge}
    ours = [place(256, "drive", None), place(4097, "slot", "AAA002L5"), place(4096, "slot", "AAA001L5")]
    device = {"serial": "DRV0001", "vendor": "HP", "product": "Ultrium 5-SCSI", "revision": "Z61W"}
    return Seen(LIBRARY, [*ours, place(768, "port", None), place(1, "arm", None)], [device], tools)


def test_agreement_passes(seen: Seen) -> None:
    """Five checks, and what the library has no answer to is said with the reason."""
    found = list(judge(seen, FILE, JOB))
    assert [result.status for result in found] == ["passed"] * 5
    assert "sg_persist: no persistent reservations" in found[2].summary


def _swap(seen: Seen) -> None:
    seen.tools["elements"]["slot"].reverse()


def _empty(seen: Seen) -> None:
    seen.tools["elements"] = elements("")
    seen.elements.clear()


def _rename(seen: Seen) -> None:
    seen.devices[0]["revision"] = "Z61X"


def _fail(seen: Seen) -> None:
    seen.tools["cartridge"]["questions"]["sg_turs"]["code"] = 2


def _answer(seen: Seen) -> None:
    seen.tools["cartridge"]["questions"]["sg_luns"]["code"] = 0


def _miss(seen: Seen) -> None:
    seen.tools["cartridge"]["status"]["said"] = STATUS.replace("number=2", "number=1")


def _stay(seen: Seen) -> None:
    seen.tools["cartridge"]["unload"]["code"] = 1


def _lose(seen: Seen) -> None:
    seen.tools["cartridge"]["names"] = 6


def _complain(seen: Seen) -> None:
    seen.tools["cartridge"]["tar"]["code"] = 2


@pytest.mark.parametrize(
    ("change", "failing"),
    [
        (_swap, 0),
        (_empty, 0),
        (_rename, 1),
        (_fail, 2),
        (_answer, 2),
        (_miss, 3),
        (_stay, 3),
        (_lose, 4),
        (_complain, 4),
    ],
)
def test_each_difference_fails_its_check(seen: Seen, change: Callable[[Seen], None], failing: int) -> None:
    """One wrong answer fails the check that is about it, and no other."""
    changed = copy.deepcopy(seen)
    change(changed)
    found = list(judge(changed, FILE, JOB))
    assert [index for index, result in enumerate(found) if result.status != "passed"] == [failing]


def test_a_cartridge_that_could_not_be_read_passes_nothing(seen: Seen) -> None:
    """Not looking is no proof."""
    seen.tools["cartridge"] = {"load": said("the robot is stuck", 1)}
    statuses = [result.status for result in judge(seen, FILE, JOB)]
    assert statuses == ["passed", "passed", "failed", "failed", "failed"]
    del seen.tools["cartridge"]
    assert [result.status for result in judge(seen, FILE, JOB)] == statuses


def test_a_job_of_several_cartridges_is_not_read_from_one(seen: Seen) -> None:
    """GNU tar in the drive would end at the first cartridge's end."""
    job = {"files": 7, "media": [{"barcode": "AAA001L5", "file": 2}, {"barcode": "AAA002L5", "file": 1}]}
    assert len(list(judge(seen, FILE, job))) == 4


def finding(outcome: str) -> dict[str, str]:
    """One check as `spanreel tape check --json` has it."""
    return {
        "device": "DRV0001",
        "outcome": outcome,
        "check": "locate",
        "why": "" if outcome == "passed" else "for it",
    }


@pytest.mark.parametrize(
    ("code", "outcomes", "status"),
    [
        (0, ["passed", "skipped"], "passed"),
        (1, ["passed", "failed"], "failed"),
        (0, ["skipped"], "failed"),
        (0, [], "failed"),
        (3, None, "failed"),
    ],
)
def test_a_library_conforms_if_checks_were_made_and_none_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, outcomes: list[str] | None, status: str
) -> None:
    """Having looked at nothing is no pass; what was skipped or failed is told, with the reason."""
    provider = new_lab(FakeProvider, tmp_path, monkeypatch)
    said = b"" if outcomes is None else json.dumps([finding(outcome) for outcome in outcomes]).encode()
    monkeypatch.setattr(provider, "run", lambda *_, **__: Result(code, said, b"robot stuck\n"))
    found = conforms(provider, LIBRARY)
    assert found.status == status
    assert len(found.details) == sum(outcome != "passed" for outcome in outcomes or [])
    assert status == "passed" or "robot stuck" in found.summary
