"""Scenarios on the process lab: all but the slow ones, which nights play."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.scenarios.table import QUICK, chosen
from tests.labrun import Lab, apart

pytestmark = pytest.mark.process_lab

# Apart from the labs of `make integration` and `make foreign`, which run at the same time.
SUBNET = "127.78.0."
WHOLE_RUN_S = 1500
"""All of them take some minutes; this cuts off a hang, and says nothing about speed."""


@pytest.mark.timeout(WHOLE_RUN_S + 60)
def test_quick_scenarios_pass(tmp_path: Path) -> None:
    """`spanreel lab run --scenario quick` plays each, and every check passes or says why it was left out."""
    lab = Lab(apart(tmp_path, SUBNET), "test-scenarios", tmp_path)
    try:
        done = lab.lab("run", "--scenario", QUICK, timeout=WHOLE_RUN_S)
    finally:
        lab.lab("down")
    report = lab.report()
    bad = [
        f"{check['scenario']}: {check['name']}: {check['summary']}"
        for check in report["checks"]
        if check["status"] not in ("passed", "left-out")
    ]
    assert done.code == 0, "\n".join([*bad, done.err[-2000:]])
    assert report["scenarios"] == [scenario.name for scenario in chosen([QUICK])]
