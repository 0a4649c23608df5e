"""Roles as transient units, the product as a tar stream, sudo: what a machine is asked to run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import paramiko
import pytest
from ssh_support import LocalMachine

from harness.errors import CommandError, TopologyError
from harness.guest import daemon
from harness.providers.machines import deploy, layout
from harness.ssh import Ssh
from harness.topology import read

# systemd made of three scripts: units are files, the journal is what the service printed.
SYSTEMD = {
    "systemd-run": """\
echo "$*" >>"$UNITS/calls"
for word; do case $word in --unit=*) unit=${word#--unit=} ;; esac; done
[ ! -e "$UNITS/refuse" ] || { echo "Failed to start transient service unit: access denied" >&2; exit 1; }
while [ "$1" != -- ]; do shift; done; shift
"$@" >"$UNITS/journal" 2>&1 && echo active >"$UNITS/$unit" || echo failed >"$UNITS/$unit"
""",
    "systemctl": """\
echo "systemctl $*" >>"$UNITS/calls"
for unit; do :; done
case "$1 $*" in
    show*ActiveState*) cat "$UNITS/$unit" 2>/dev/null || echo inactive ;;
    show*InvocationID*) echo 0123 ;;
    stop*) rm -f "$UNITS/$unit" ;;
esac
""",
    "journalctl": 'cat "$UNITS/journal" 2>/dev/null\ntrue\n',
}


@pytest.fixture
def units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with systemd, as far as the script can see."""
    programs, kept = tmp_path / "bin", tmp_path / "units"
    programs.mkdir()
    kept.mkdir()
    for name, text in SYSTEMD.items():
        (programs / name).write_text("#!/bin/sh\n" + text)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("UNITS", str(kept))
    return kept


def wanted(action: str, script: str = "") -> dict[str, object]:
    """An argument for the script."""
    argument: dict[str, object] = {
        "action": action,
        "name": "spanreel-lab-10-1-2-3",
        "systemd": True,
        "folder": "/x",
    }
    argument |= {"argv": ["sh", "-c", script], "environment": {"LC_ALL": "C.UTF-8"}}
    return argument | {"ready": ["file-server"], "seconds": 20}


def test_a_unit_is_transient_and_ready_by_its_own_words(units: Path) -> None:
    """Systemd starts it under the lab's name with the node's environment; stopping leaves nothing."""
    done = daemon.main(wanted("start", "echo ready file-server 10.1.2.3:10000"))
    assert done == {"state": "ready", "said": []}
    call = next(line for line in (units / "calls").read_text().splitlines() if "--unit" in line)
    assert "--unit=spanreel-lab-10-1-2-3.service" in call
    assert "--setenv=LC_ALL=C.UTF-8" in call
    assert " -- /" in call, "the program is given by its whole path: the manager looks elsewhere"
    assert daemon.main(wanted("alive"))["state"] == "running"
    assert daemon.main(wanted("stop"))["state"] == "stopped"
    assert not (units / "spanreel-lab-10-1-2-3.service").exists()


def test_a_unit_that_ends_or_is_refused_is_quoted(units: Path) -> None:
    """Its own last words come from the journal, those of systemd from systemd-run."""
    done = daemon.main(wanted("start", "echo no such key: oops; exit 2"))
    assert done == {"state": "ended", "said": ["no such key: oops"]}
    (units / "journal").unlink()
    (units / "refuse").touch()
    (units / "spanreel-lab-10-1-2-3.service").unlink()
    done = daemon.main(wanted("start"))
    assert done == {"state": "ended", "said": ["Failed to start transient service unit: access denied"]}


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[LocalMachine]:
    """One machine."""
    made = LocalMachine(tmp_path / "ssh")
    yield made
    made.close()


def ssh_to(machine: LocalMachine, host_key: str = "", prefix: tuple[str, ...] = ()) -> Ssh:
    """A connection to it."""
    return Ssh("fs1", machine.connect, "lab", machine.identity, host_key or machine.host_key, {}, prefix)


def test_sudo_stands_before_everything(machine: LocalMachine) -> None:
    """The time limit and the environment are within sudo, so that what root runs has them, too."""
    ssh = ssh_to(machine, prefix=("env", "AS=root"))
    assert ssh.run(["printenv", "AS"]) == b"root\n"
    assert machine.commands[0][:3] == ["env", "AS=root", "timeout"]
    ssh.close()


def test_keys_of_several_kinds_may_be_pinned(machine: LocalMachine) -> None:
    """A machine shows the key of one kind; whichever stands first in the topology, that one is checked."""
    other = paramiko.ECDSAKey.generate()
    pinned = [f"{other.get_name()} {other.get_base64()}", machine.host_key]
    for lines in (pinned, pinned[::-1]):
        ssh = ssh_to(machine, "\n".join(lines))
        assert ssh.run(["true"]) == b""
        ssh.close()


def test_the_product_is_there_whole_or_not_at_all(machine: LocalMachine, tmp_path: Path) -> None:
    """A tree is unpacked aside and then renamed; the same version again costs one question."""
    tree, target = tmp_path / "tree", tmp_path / "machine" / "product"
    for version in ("1", "2"):
        (tree / version / "bin").mkdir(parents=True)
        (tree / version / "bin" / "spanreel").write_text(version)
    ssh = ssh_to(machine)
    assert deploy.deploy(ssh, str(target), tree, "1")
    assert not deploy.deploy(ssh, str(target), tree, "1")
    assert deploy.deploy(ssh, str(target), tree, "2")
    assert (target / "current/bin/spanreel").read_text() == "2"
    (tree / "3").write_text("no folder")
    with pytest.raises(CommandError, match="fs1"):
        deploy.deploy(ssh, "/dev/null/x", tree, "1")
    assert sorted(path.name for path in target.iterdir()) == ["1", "2", "current"]
    ssh.close()


MACHINES = """\
schema: 1
name: room
provider: machines
subnet: 10.0.0.0/8
nodes:
  - {name: fs1, roles: [file-server], address: 10.1.2.3, ssh: {host_key: ssh-rsa AAAA, identity: ~/.ssh/lab}}
  - {name: media1, roles: [media-server], address: 10.9.2.3, ssh: {known_hosts: /etc/hosts}}
gns:
  - {path: /home, owner: fs1, dir: home}
libraries:
  - {node: media1, transport: sg, changer: C1, drives: [D1], slots: [A00001], writable: [A00001]}
"""


@pytest.mark.parametrize(
    ("old", "new", "field", "words"),
    [
        ("{known_hosts: /etc/hosts}", "{}", "nodes[1].ssh", "nobody is trusted"),
        ("identity: ~/.ssh/lab", "identity: keys/lab", "nodes[0].ssh.identity", "an absolute path"),
        ("transport: sg", "transport: tgt", "libraries[0].transport", "is for the provider libvirt"),
        ("address: 10.9.2.3,", "address: 10.9.2.3, console: {kind: serial},", "nodes[1].console", "a target"),
        ("provider: machines", "provider: process", "subnet", "a /24 is wanted"),
        ("address: 10.9.2.3,", "address: 11.9.2.3,", "nodes[1].address", "outside the subnet"),
    ],
)
def test_mistakes_in_a_topology_of_machines(
    tmp_path: Path, old: str, new: str, field: str, words: str
) -> None:
    """What cannot work on machines is refused by file, line and field; their network may have any size."""
    path = tmp_path / "room.yaml"
    path.write_text(MACHINES)
    assert layout.folder(read(path).node("fs1")) == "/var/lib/spanreel-lab/10.1.2.3"
    assert old in MACHINES
    path.write_text(MACHINES.replace(old, new, 1))
    with pytest.raises(TopologyError, match=words) as caught:
        read(path)
    assert caught.value.field == field
