"""An upgrade of a cluster that works.  `make night` has it: it takes more minutes than CI should."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import topology as topologies
from harness.deployment.playbook import changes
from tests.e2e.upgrading import newer, restarted, upgrade_beside_jobs
from tests.labrun import Lab

pytestmark = pytest.mark.vms

WHOLE_UP_S = 3000
"""Image, boot and deployment take minutes; this cuts off a hang, and says nothing about speed."""

# Machines of plain Debian, in the order of upgrades, and the words of the topology behind which that is said.
DEPLOYED = {"fs2": "roles: [file-server]\n    address: 10.77.0.12\n", "conn1": "roles: [connection-server]\n"}


def partly_deployed(folder: Path) -> str:
    """Write the shipped topology with two machines of plain Debian, which `site.yml` makes nodes at boot."""
    text = topologies.find("vms").read_text()
    for words in DEPLOYED.values():
        assert text.count(words) == 1
        text = text.replace(words, f"{words}    image: debian\n")
    made = folder / "deployed.yaml"
    made.write_text(text)
    return str(made)


def test_an_upgrade_harms_no_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Host by host, after a job that runs, and before one that begins meanwhile: both are complete.

    Both hosts then have the new version; run again, the upgrade changes nothing on any host.
    """
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    lab = Lab(partly_deployed(tmp_path), "test-upgrade", tmp_path)
    try:
        assert lab.watch("up", "--no-save", timeout=WHOLE_UP_S) == 0
        new = newer(lab, tmp_path / "newer")
        first = upgrade_beside_jobs(lab, new).end()
        again = new.play("upgrade.yml")
        present = [lab.lab("exec", node, "--", "readlink", "/opt/spanreel/current").out for node in DEPLOYED]
    finally:
        lab.lab("down")
    assert first.code == 0, first.out
    assert restarted(first.out) == list(DEPLOYED), first.out
    assert present == [f"{new.version}\n"] * len(DEPLOYED)
    assert (again.code, set(changes(again.out).values())) == (0, {0}), again.out
