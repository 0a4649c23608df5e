"""Promises about the roles of a machine, on a systemd and a journal of the test's own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import pytest

from harness.errors import InfrastructureError
from harness.providers.libvirt import roles
from harness.ssh import Ssh

SYSTEMCTL = """\
#!/bin/sh
# Each `show` gives the next state; the last one stays.
[ "$1" = show ] || exit 0
cd "{folder}"
state=$(ls states | head -n 1)
cat "states/$state"
[ "$(ls states | wc -l)" -eq 1 ] || rm "states/$state"
"""
JOURNALCTL = """\
#!/bin/sh
cat "{folder}/journal-${{4#_SYSTEMD_INVOCATION_ID=}}" 2>/dev/null || echo "its last words"
"""
SLEEP = "#!/bin/sh\nexit 0\n"


class Machine(Ssh):
    """A machine whose commands run here, on programs in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.node = "media1"
        self._folder = folder

    def exec(
        self,
        argv: Sequence[str],
        *,
        stdin: BinaryIO | None,
        stdout: BinaryIO,
        stderr: BinaryIO,
        timeout: float = 600.0,
    ) -> int:
        """Run it here."""
        path = f"{self._folder / 'bin'}:{os.environ['PATH']}"
        done = subprocess.run(argv, env={"PATH": path}, check=False, capture_output=True, timeout=timeout)
        stdout.write(done.stdout)
        return done.returncode


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine without states and journals yet."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "states").mkdir()
    for name, text in (("systemctl", SYSTEMCTL), ("journalctl", JOURNALCTL), ("sleep", SLEEP)):
        program = tmp_path / "bin" / name
        program.write_text(text.format(folder=tmp_path))
        program.chmod(0o755)
    return Machine(tmp_path)


def states(folder: Path, *each: tuple[str, str]) -> None:
    """What systemd says, one time after the other: invocation, and whether the unit is active."""
    for number, (invocation, state) in enumerate(each):
        text = f"InvocationID={invocation}\nActiveState={state}\nNRestarts=0\n"
        (folder / "states" / str(number)).write_text(text)


def test_a_killed_role_is_ready_when_it_is_there_again(machine: Machine, tmp_path: Path) -> None:
    """Between its death and its new start systemd names the old invocation, which said that it was ready."""
    (tmp_path / "journal-old").write_text("ready media-server 10.0.0.1:10000\n")
    (tmp_path / "journal-new").write_text("ready media-server 10.0.0.1:10000\n")
    states(tmp_path, ("old", "activating"), ("old", "activating"), ("new", "activating"), ("new", "active"))
    roles.await_ready(machine, ["media-server"])
    assert len(list((tmp_path / "states").iterdir())) == 1


def test_a_role_that_runs_is_waited_for_until_it_says_so(machine: Machine, tmp_path: Path) -> None:
    """Active is not ready: it may not listen yet."""
    (tmp_path / "journal-one").write_text("listening soon\n")
    (tmp_path / "journal-two").write_text("ready media-server 10.0.0.1:10000\n")
    states(tmp_path, ("one", "active"), ("one", "active"), ("two", "active"))
    roles.await_ready(machine, ["media-server"])
    assert len(list((tmp_path / "states").iterdir())) == 1


def test_a_role_that_failed_is_not_waited_for(machine: Machine, tmp_path: Path) -> None:
    """The error has its last words."""
    states(tmp_path, ("one", "failed"))
    with pytest.raises(InfrastructureError, match="media1: media-server did not start: its last words"):
        roles.await_ready(machine, ["media-server"])
