"""A foreign DMA, ndmjob (Debian: amanda-common), against our media server's robot and tape.

ndmjob's `-o test-tape` is left out: with version 4 it fails at its own step T-BW #6, a TAPE_WRITE of no
bytes that it never sends, against its own tape agent as well.  What comes after that step is checked by
tests/unit/mediaserver/test_tape_service.py.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tape.model import dump
from tests.unit.mediaserver.support import Site

NDMJOB = Path("/usr/lib/amanda/ndmjob")
JOB_SECONDS = 120

pytestmark = [
    pytest.mark.skipif(not NDMJOB.exists(), reason="ndmjob is not installed (package amanda-common)"),
    # It writes its debug log to amanda's folder and aborts where it may not.
    pytest.mark.skipif(os.geteuid() != 0, reason="ndmjob runs as root or as user backup only"),
]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A media server with two writable cartridges of 16 MiB."""
    made = Site(tmp_path / "library", capacity=16 << 20)
    yield made
    made.close()


def ndmjob(site: Site, *words: str, robot: bool = True, tape: bool = True) -> str:
    """What ndmjob says to a command line; its exit code says nothing."""
    host, port = site.server.address
    agent = f"{host}:{port}/4m,dma,secret"
    command = [str(NDMJOB), *words]
    if robot:
        command += ["-R", agent, "-r", "changer:CHG1"]
    if tape:
        command += ["-T", agent]
    done = subprocess.run(command, capture_output=True, timeout=JOB_SECONDS, check=False)
    return (done.stdout + done.stderr).decode("utf-8", "replace")


def test_it_sees_the_robot(site: Site) -> None:
    """`-q -R` shows host, changer, all elements and barcodes."""
    text = ndmjob(site, "-q", tape=False)
    assert "changer:CHG1" in text
    assert "slots 4@4096  drive 2@256  arm 1@1" in text
    assert "PVolTag(VTL001L5" in text


def test_it_sees_the_drives(site: Site) -> None:
    """`-q -T` shows both drives under the names that TAPE_OPEN takes, and TCP."""
    text = ndmjob(site, "-q", robot=False)
    assert "drive:DRV1" in text
    assert "drive:DRV2" in text
    assert "NDMP4_ADDR_TCP" in text


def test_it_labels_cartridges_with_robot_and_tape(site: Site) -> None:
    """`-o init-labels` loads, rewinds, writes and unloads, one cartridge after the other."""
    text = ndmjob(site, "-v", "-o", "init-labels", "-f", "drive:DRV1", "-m", "V1@4096", "-m", "V2@4097")
    assert "Operation complete" in text
    for barcode, label in (("VTL001L5", b"V1"), ("VTL002L5", b"V2")):
        (record,) = dump(site.folder, barcode, 0)
        assert label in record


def test_it_does_not_label_what_is_not_listed(site: Site) -> None:
    """A cartridge that the configuration does not list stays as it is, whatever a DMA wants."""
    text = ndmjob(site, "-v", "-o", "init-labels", "-f", "drive:DRV1", "-m", "V3@4098")
    assert "Opening tape drive drive:DRV1 read/write" in text
    assert "Writing tape label" not in text
    assert list(dump(site.folder, "OTHER1L5", 0)) == []


def test_the_mover_passes_its_conformance_test(site: Site) -> None:
    """`-o test-mover`: every step of the IDLE and LISTEN series."""
    ndmjob(site, "-v", "-o", "load=4096", "-f", "drive:DRV1")
    text = ndmjob(site, "-v", "-o", "test-mover", "-f", "drive:DRV1", "-b", "20", robot=False)
    result = re.search(r"FINAL test-mover Passed -- pass=(\d+) warn=(\d+) fail=(\d+)", text)
    assert result is not None, text
    assert int(result[1]) >= 57
    assert result[2] == result[3] == "0"
