"""Our DMA against servers of another make, in a network namespace that this run makes.

ndmjob's daemon listens on every address of the machine; in the namespace there is only loopback.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.foreign.support import NDMJOB
from tests.labrun import ROOT

CHECKS = Path(__file__).parent / "foreign" / "check_ndmjob_servers.py"
JOB_S = 500

pytestmark = [
    pytest.mark.skipif(not NDMJOB.exists(), reason="ndmjob is not installed (package amanda-common)"),
    pytest.mark.skipif(os.geteuid() != 0, reason="a network namespace needs root; ndmjob does too"),
]


@pytest.mark.timeout(JOB_S)
def test_our_dma_works_with_ndmjobs_servers() -> None:
    """Multi-volume with its robot and tape, file history of its data agent: every check passes."""
    inner = f"ip link set lo up && exec {sys.executable} -m pytest -q {CHECKS}"
    run = subprocess.run(
        ["unshare", "--net", "sh", "-c", inner],
        cwd=ROOT, capture_output=True, text=True, timeout=JOB_S, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    assert "2 passed" in run.stdout
