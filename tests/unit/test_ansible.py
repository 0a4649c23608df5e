"""The playbooks as files: ansible-lint finds nothing, and units are as closed as they are said to be."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ANSIBLE = Path(__file__).resolve().parents[2] / "ansible"
LINT_TIMEOUT_SECONDS = 600

EXPOSURE_MAX = {"file-server": 4.8, "connection-server": 1.5, "media-server": 2.4, "backup-server": 1.5}
"""What `systemd-analyze security` of systemd 252 says, of 10; docs/deploy.md: why file servers have more."""


def environment() -> dict[str, str]:
    """Return a locale that ansible accepts, and nothing of this Python for Debian's."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return kept | {"LC_ALL": "C.UTF-8", "ANSIBLE_CONFIG": str(ANSIBLE / "ansible.cfg")}


@pytest.mark.timeout(LINT_TIMEOUT_SECONDS)
def test_ansible_lint_finds_nothing() -> None:
    """Its strictest profile passes over every playbook and role."""
    playbooks = sorted(path.name for path in ANSIBLE.glob("*.yml"))
    roles = sorted(f"roles/{path.name}" for path in (ANSIBLE / "roles").iterdir())
    assert {"site.yml", "image.yml"} <= set(playbooks)
    command = ["ansible-lint", "--offline", "--nocolor", "--profile", "production", *playbooks, *roles]
    done = subprocess.run(
        command, cwd=ANSIBLE, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("role", EXPOSURE_MAX)
def test_units_are_hardened(role: str, tmp_path: Path) -> None:
    """`systemd-analyze security` gives a role's unit with its drop-in no more than what is promised."""
    units = tmp_path / "etc/systemd/system"
    (units / f"spanreel@{role}.service.d").mkdir(parents=True)
    shutil.copy(ANSIBLE / "roles/common/files/spanreel@.service", units)
    folder = role.replace("-", "_")
    shutil.copy(ANSIBLE / "roles" / folder / "files/role.conf", units / f"spanreel@{role}.service.d")
    command = ["systemd-analyze", "security", "--offline=true", f"--root={tmp_path}", "--no-pager"]
    done = subprocess.run(
        [*command, f"spanreel@{role}.service"], capture_output=True, text=True, check=False, env=environment()
    )
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
    assert found is not None, done.stderr
    assert float(found[1]) <= EXPOSURE_MAX[role]
