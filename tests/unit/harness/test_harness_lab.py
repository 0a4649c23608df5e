"""State, lock and subnets of labs."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest
from harness_support import fast_topology

from harness import lab as labs
from harness.errors import InfrastructureError, LabBusyError, LabNotRunningError, UsageError


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    # Whoever runs a lab on this machine must not matter to these tests.
    monkeypatch.setattr(labs, "_listened_on", lambda topology, subnet: False)


def test_next_command_finds_the_lab(tmp_path: Path) -> None:
    """What one command saved the next one loads: token, subnet, state, the topology as it was."""
    made = labs.create("one", fast_topology(tmp_path))
    made.state, made.provider_data = "ready", {"processes": {"fs1": {"pid": 1}}}
    made.save()
    (tmp_path / "fake.yaml").unlink()
    assert labs.require("one") == made
    assert labs.require("one").topology().node("fs1").address == "127.77.0.11"


def test_state_is_private(tmp_path: Path) -> None:
    """Nobody else reads the token: the state file is 0600 and the folder 0700."""
    made = labs.create("one", fast_topology(tmp_path))
    assert stat.S_IMODE((made.folder / "state.json").stat().st_mode) == 0o600
    assert stat.S_IMODE(made.folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(made.secrets.stat().st_mode) == 0o700


def test_two_labs_have_different_subnets_and_tokens(tmp_path: Path) -> None:
    """A second lab of the same topology gets another /24 and another token."""
    topology = fast_topology(tmp_path)
    one, two = labs.create("one", topology), labs.create("two", topology)
    assert (one.subnet, two.subnet) == ("127.77.0.0/24", "127.77.1.0/24")
    assert one.token != two.token
    assert two.topology().node("fs1").address == "127.77.1.11"


def test_removed_lab_frees_its_subnet(tmp_path: Path) -> None:
    """After `clean` the subnet is given out again."""
    topology = fast_topology(tmp_path)
    labs.create("one", topology)
    labs.remove("one")
    assert labs.load("one") is None
    assert labs.create("two", topology).subnet == "127.77.0.0/24"


def test_lock_names_its_holder(tmp_path: Path) -> None:
    """A lab that another process holds is refused, and the error names that process."""
    script = (
        "import sys; from harness import lab\n"
        "with lab.locked('one'):\n print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(LabBusyError, match=f"process {holder.pid} "), labs.locked("one"):
        pytest.fail("the lock was given twice")
    holder.communicate()
    with labs.locked("one"):
        pass


def test_lock_of_a_killed_holder_is_free(tmp_path: Path) -> None:
    """No lock outlives its holder, however it died."""
    script = (
        "import time; from harness import lab\n"
        "with lab.locked('one'):\n print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    holder.stdout.readline()
    holder.kill()
    holder.communicate()
    with labs.locked("one"):
        pass


@pytest.mark.parametrize("name", ["", "../x", "A", "a" * 32, "a/b", "1a"])
def test_names_that_could_leave_the_folder_are_refused(name: str) -> None:
    """A lab's name is a plain word, or a usage error."""
    with pytest.raises(UsageError):
        labs.lab_folder(name)


def test_lab_that_is_not_up_says_how_to_start_it() -> None:
    """A command that needs a running lab names the command that starts it."""
    with pytest.raises(LabNotRunningError, match="spanreel lab up --lab one"):
        labs.require("one")


def test_other_topology_under_the_same_name_is_refused(tmp_path: Path) -> None:
    """A lab's name is its identity: it does not silently become another lab."""
    topology = fast_topology(tmp_path)
    labs.create("one", topology)
    other = tmp_path / "other.yaml"
    other.write_text(topology.file.read_text().replace("name: fake", "name: other"))
    with pytest.raises(UsageError, match="made from topology fake"):
        labs.create("one", labs.topologies.read(other))


def test_damaged_state_is_one_clear_line(tmp_path: Path) -> None:
    """A state file that is no JSON names itself and the way out."""
    made = labs.create("one", fast_topology(tmp_path))
    (made.folder / "state.json").write_text("{")
    with pytest.raises(InfrastructureError, match="lab clean --lab one"):
        labs.load("one")


def test_addresses_that_somebody_listens_on_are_dodged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lab of another user, known by its listeners only, keeps its addresses."""
    monkeypatch.setattr(labs, "_listened_on", lambda topology, subnet: subnet == "127.77.0.0/24")
    assert labs.create("one", fast_topology(tmp_path)).subnet == "127.77.1.0/24"
