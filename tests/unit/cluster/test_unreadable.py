"""A file that cannot be read, on one of the file servers."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.gns.change import add_change
from appliance.gns.client import send_change
from appliance.ndmp.enums import DataHaltReason
from tests.unit.cluster.conftest import Cluster
from tests.unit.cluster.test_backup import members

ODD = Path("/sys/devices/virtual/net/lo")
"""Files of the kernel: they announce a page, and of the loopback device's speed nothing can be read."""


def test_a_file_that_cannot_be_read_makes_a_job_with_problems(cluster: Cluster) -> None:
    """The job ends well, its status is problems and their number is told; GNU tar reads the image."""
    if not (ODD / "speed").exists():
        pytest.skip("no loopback device in /sys")
    send_change(cluster.configs["fs1"], add_change(b"/odd", "fs2", bytes(ODD)))
    dma, mover, reason = cluster.backup("fs1", b"/odd", b"tar", (b"FILES", b"speed"))
    assert reason is DataHaltReason.SUCCESSFUL
    assert dma.log == ["/speed: cannot be read: Invalid argument; 4096 bytes are saved as zeros"]
    env = dma.env()
    assert (env[b"SPANREEL_STATUS"], env[b"SPANREEL_PROBLEMS"]) == (b"problems", b"1")
    assert members(mover.image) == ["odd/", "odd/speed"]
