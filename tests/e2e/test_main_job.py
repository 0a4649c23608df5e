"""The main job on virtual machines: the system as it is deployed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.labrun import Lab

pytestmark = pytest.mark.vms

WHOLE_RUN_S = 3000
"""Image, boot and job take minutes; this cuts off a hang, and says nothing about speed."""


def test_the_main_job_passes_on_machines(tmp_path: Path) -> None:
    """`spanreel lab run --topology vms` passes every check and leaves nothing out."""
    lab = Lab("vms", "test-vms", tmp_path)
    try:
        code = lab.watch("run", timeout=WHOLE_RUN_S)
    finally:
        # A run that was cut off leaves machines; one that ended has none, and this does nothing.
        lab.lab("down")
    report = lab.report()
    for line in lab.complaints():
        print(line)  # noqa: T201 - for whoever reads the log of a failed run
    outcomes = {check["name"]: check["status"] for check in report["checks"]}
    assert code == 0
    assert set(outcomes.values()) == {"passed"}
