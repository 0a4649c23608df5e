"""A shell on a node: which command it is, and whom it trusts."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from harness import terminal
from harness.errors import NotPossibleError
from harness.providers.libvirt.identity import ensure_key
from harness.ssh import Ssh


@pytest.fixture
def ssh(tmp_path: Path) -> Ssh:
    """A node whose commands run by sudo."""
    key = ensure_key(tmp_path / "host")
    environment = {"SPANREEL_CONFIG": "/etc/a b.toml"}

    def never(_timeout: float) -> None:
        pytest.fail("the shell has a connection of its own")

    return Ssh("fs1", never, "operator", tmp_path / "client", key, environment, ("sudo", "-n", "--"))  # type: ignore[arg-type]


def test_only_the_nodes_own_key_is_trusted(ssh: Ssh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenSSH is given the pinned keys and no others, and our key and no agent's."""
    monkeypatch.setattr(terminal.shutil, "which", lambda name: f"/usr/bin/{name}")
    known = tmp_path / "known" / "fs1"
    words = terminal.interactive(ssh, ("10.1.2.3", 2022), known)
    assert words[0] == "ssh"
    assert {"StrictHostKeyChecking=yes", "IdentitiesOnly=yes", f"UserKnownHostsFile={known}"} <= set(words)
    assert words[words.index("-p") + 1] == "2022"
    assert words[words.index("-i") + 1] == str(tmp_path / "client")
    assert "operator@10.1.2.3" in words
    assert known.read_text().split()[1:] == ssh.host_key.split()


def test_the_shell_has_the_environment_of_commands(
    ssh: Ssh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the node's shell is told: the environment as it is, with blanks, and the user's own shell."""
    monkeypatch.setattr(terminal.shutil, "which", lambda name: f"/usr/bin/{name}")
    there = terminal.interactive(ssh, ("10.1.2.3", 22), tmp_path / "known")[-1]
    assert there.startswith("sudo -n -- env ")
    script = there.removeprefix("sudo -n -- ")
    printed = subprocess.run(
        ["sh", "-c", script],
        input='echo "$SPANREEL_CONFIG"\n',
        env={"SHELL": "/bin/sh", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "/etc/a b.toml" in printed.stdout


def test_without_openssh_the_package_is_named(
    ssh: Ssh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host without the client says what to install."""
    monkeypatch.setattr(terminal.shutil, "which", lambda _name: None)
    with pytest.raises(NotPossibleError, match="openssh-client"):
        terminal.interactive(ssh, ("10.1.2.3", 22), tmp_path / "known")
