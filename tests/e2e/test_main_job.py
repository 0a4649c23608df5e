"""The main job on virtual machines: the system as it is deployed."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import topology as topologies
from harness.deployment.playbook import changes
from tests.labrun import Finished, Lab
from tests.unit.test_ansible import EXPOSURE_MAX

pytestmark = pytest.mark.vms

WHOLE_RUN_S = 3000
"""Image, boot and job take minutes; this cuts off a hang, and says nothing about speed."""

JOURNAL = ("journalctl", "--unit=spanreel@*", "--output=cat")
HELPER_LINES = {"fs1": "small files are read", "media1": "records of sg devices are moved"}
CONNECTION = "roles: [connection-server]\n"


def partly_deployed(folder: Path) -> str:
    """Write the shipped topology with conn1 on plain Debian, which `site.yml` makes a node when it boots."""
    text = topologies.find("vms").read_text()
    assert text.count(CONNECTION) == 1
    made = folder / "deployed.yaml"
    made.write_text(text.replace(CONNECTION, f"{CONNECTION}    image: debian\n"))
    return str(made)


def site(lab: Lab, *options: str) -> Finished:
    """Run `site.yml` on the machine that it made a node before."""
    return lab.lab("playbook", "site.yml", "--limit", "conn1", *options, timeout=WHOLE_RUN_S)


def security(role: str) -> list[str]:
    """Return a command that fails if a role's unit is more exposed than promised; its limit is of 100."""
    limit = round(EXPOSURE_MAX[role] * 10)
    return ["systemd-analyze", "security", "--no-pager", f"--threshold={limit}", f"spanreel@{role}.service"]


def test_the_main_job_passes_on_machines(tmp_path: Path) -> None:
    """The main job passes every check and leaves none out; one machine is plain Debian deployed by ansible.

    The playbook changes nothing when it is run again, nor does `--check` find anything to change or fail; the
    deployed unit is as closed as promised.  The product has its compiled helpers.
    """
    lab = Lab(partly_deployed(tmp_path), "test-vms", tmp_path)
    try:
        assert lab.watch("up", "--no-save", timeout=WHOLE_RUN_S) == 0
        for again in (site(lab), site(lab, "--check")):
            assert (again.code, changes(again.out)) == (0, {"conn1": 0}), again.out + again.err
        exposed = lab.lab("exec", "conn1", "--", *security("connection-server"))
        assert exposed.code == 0, exposed.out + exposed.err
        helpers = [
            lab.lab("exec", node, "--", *JOURNAL, f"--grep={line}") for node, line in HELPER_LINES.items()
        ]
        code = lab.watch("run", timeout=WHOLE_RUN_S)
    finally:
        lab.lab("down")
    report = lab.report()
    for line in lab.complaints():
        print(line)  # noqa: T201 - for whoever reads the log of a failed run
    outcomes = {check["name"]: check["status"] for check in report["checks"]}
    for helper in helpers:
        assert "helper" in helper.out, helper.err
        assert "Python alone" not in helper.out
    assert code == 0
    assert set(outcomes.values()) == {"passed"}
