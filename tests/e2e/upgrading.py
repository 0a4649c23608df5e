"""`ansible/upgrade.yml` on a lab that works: a job runs when it begins, another begins meanwhile."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness import lab as labs
from harness.deployment import playbook
from harness.deployment.inventory import HOSTS
from harness.scenarios.tape import WRITE, TapeFaults, hold
from harness.session import provider_of
from tests.labrun import Finished, Lab

# What a host is told first after nobody works with it.  Ansible names a task when it has ended on some host.
FIRST_CHANGE = "TASK [common : Install packages]"
RESTART = "RUNNING HANDLER [common : Restart daemons]"
# On the backup server: ends when the upgrade waits there for jobs to end.
UPGRADE_WAITS = "until pgrep --full '[s]panreel pause' >/dev/null; do sleep 0.2; done"

LIMIT_S = 1500
"""This cuts off a hang, and says nothing about speed."""


@dataclass
class Play:
    """A playbook that runs on a lab's machines, whoever holds the lab."""

    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)

    def until(self, task: str) -> None:
        """Read what it says until a task has ended; the first time, if several hosts come to it."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            if line.startswith(task):
                return
        raise AssertionError(f"the playbook ended before {task}:\n{''.join(self.lines)}")

    def end(self) -> Finished:
        """Read the rest."""
        rest, _ = self.process.communicate(timeout=LIMIT_S)
        return Finished(self.process.returncode, "".join(self.lines) + rest, "")


@dataclass(frozen=True)
class Deployment:
    """An inventory of a lab that is up, and the version that is in it."""

    lab: Lab
    folder: Path
    version: str

    def begin(self, name: str, *options: str) -> Play:
        """Start a playbook."""
        environment = [f"{key}={value}" for key, value in playbook.environment().items()]
        command = ["env", *environment, *playbook.argv(self.folder, name, *options)]
        return Play(self.lab.begin("exec", "--host", "--", *command, stderr=subprocess.STDOUT))

    def play(self, name: str, *options: str) -> Finished:
        """Run a playbook to its end."""
        return self.begin(name, *options).end()


def newer(lab: Lab, target: Path) -> Deployment:
    """Write the lab's inventory again to `target`, with a newer product: the same one, by another name."""
    shutil.copytree(lab.folder / "ansible", target)
    hosts = target / HOSTS
    (product,) = (target / "product").iterdir()
    version = product.name.removeprefix("spanreel-").removesuffix(".tar.gz")
    made = f"{version}.next"
    tree = target / "tree"
    tree.mkdir()
    subprocess.run(["tar", "-xf", product, "-C", tree], check=True)
    (tree / version).rename(tree / made)
    packed = product.with_name(product.name.replace(version, made))
    owner = ["--owner=root:0", "--group=root:0"]
    subprocess.run(["tar", "-czf", packed, *owner, "-C", tree, made], check=True)
    product.unlink()
    shutil.rmtree(tree)
    hosts.write_text(hosts.read_text().replace(version, made))
    return Deployment(lab, target, made)


def upgrade_beside_jobs(lab: Lab, newer: Deployment) -> Play:
    """Begin an upgrade while a job runs, and a job while the first host is upgraded; both must be complete.

    Returns when the second job has ended: the upgrade then goes on with the next host.
    """
    provider = provider_of(labs.require(lab.name))
    tape = TapeFaults(provider, provider.topology.libraries[0])
    tape.set(hold(WRITE, 2))
    running = lab.begin("exec", "backup1", "--", "spanreel", "backup", "/software", "--json")
    tape.wait(1, lambda: running.poll() is None)
    upgrade = newer.begin("upgrade.yml")
    waits = lab.lab("exec", "backup1", "--", "sh", "-c", UPGRADE_WAITS)
    assert waits.code == 0, waits.out + waits.err
    tape.clear()
    upgrade.until(FIRST_CHANGE)
    # Nothing was changed until now, and nothing is while a job runs.
    assert [job["status"] for job in lab.on("backup1", "jobs", "--json").json()] == ["complete"]
    begun = lab.begin("exec", "backup1", "--", "spanreel", "backup", "/home", "--json")
    _is_complete(running)
    told = _is_complete(begun)
    assert "in use by upgrade of fs2" in told
    return upgrade


def _is_complete(job: subprocess.Popen[str]) -> str:
    """Wait for a backup, which must be complete, and return what it told."""
    out, told = job.communicate(timeout=LIMIT_S)
    assert job.returncode == 0, told
    result: dict[str, Any] = json.loads(out)
    assert (result["status"], result["problems"]) == ("complete", 0), told
    return told


def restarted(output: str) -> list[str]:
    """Return the hosts whose daemons a playbook restarted, in the order in which it came to them."""
    lines = output.splitlines()
    after = (lines[index + 1] for index, line in enumerate(lines[:-1]) if line.startswith(RESTART))
    return [line.partition("[")[2].partition("]")[0] for line in after]
