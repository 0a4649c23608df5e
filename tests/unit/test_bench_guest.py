"""The comparison of `make bench` in a guest: what is sent there, and how its answers become figures."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

import appliance
from harness import topology as topologies
from harness.topology import MODEL_TARGET, TGT
from tests.bench import guest

ROWS = [
    {"library": "tgt", "record": 262144, "way": way, "direction": "write", "rates": rates}
    for way, rates in {
        "dd": [90.0, 100.0, 300.0],
        "pipe": [50.0],
        "sg": [80.0, 120.0, 110.0],
        "media server": [60.0, 40.0, 55.0],
    }.items()
]


def test_medians_are_compared_with_what_does_the_same_work() -> None:
    """Commands with dd; what comes from a connection with what comes from a pipe."""
    found = {figure.what: (figure.value, figure.ratio) for figure in guest.figures(ROWS)}
    assert found == {
        "tgt write 256 KiB, dd": (100.0, 1.0),
        "tgt write 256 KiB, pipe": (50.0, 0.5),
        "tgt write 256 KiB, sg": (110.0, pytest.approx(1.1)),
        "tgt write 256 KiB, media server": (55.0, pytest.approx(1.1)),
    }


def test_what_is_sent_runs_without_the_rest_of_the_tests(tmp_path: Path) -> None:
    """In the guest there are the product's packages, and nothing of the tests but this."""
    with tarfile.open(fileobj=io.BytesIO(guest.sent())) as archive:
        archive.extractall(tmp_path, filter="data")
    packages = Path(appliance.__file__).parents[1]
    product = tmp_path / "product"
    product.mkdir()
    for name in ("appliance", "tape"):
        (product / name).symlink_to(packages / name)
    environment = {"PYTHONPATH": f"{product}:{tmp_path}"}
    command = [sys.executable, "-c", "import tests.bench.inguest as sent; print(sent.__file__)"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"{tmp_path}/tests/bench/inguest.py\n"), done.stderr


def test_the_machine_has_a_library_of_each_kind() -> None:
    """Our model, and one of another make to compare with; the cartridges hold what is written."""
    libraries = topologies.read(guest.TOPOLOGY).libraries
    assert {library.transport for library in libraries} == {MODEL_TARGET, TGT}
    assert all(library.capacity_mib > 2 * guest.SIZE_MIB for library in libraries)
    assert [asked["kind"] for asked in guest.asked(3)["libraries"]] == [MODEL_TARGET, TGT]
