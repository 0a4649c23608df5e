"""The main job on the process lab."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.labrun import Lab

pytestmark = pytest.mark.process_lab


def test_the_main_job_passes_all_its_checks(tmp_path: Path) -> None:
    """`spanreel lab run --topology process` saves, restores and proves one tree of two file servers."""
    lab = Lab("process", "test-main", tmp_path)
    try:
        done = lab.lab("run", timeout=900)
    finally:
        lab.lab("down")
    report = lab.report()
    outcomes = {check["name"]: check["status"] for check in report["checks"]}
    assert done.code == 0, done.out + done.err
    assert set(outcomes.values()) <= {"passed", "left-out"}
    assert sum(status == "passed" for status in outcomes.values()) >= 20
