"""Saving and reverting a lab: the order of things on machines, and what a keeper decides on any lab."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from harness_support import FakeProvider, new_lab

from harness import bringup, states
from harness import lab as labs
from harness.checkpoints.keeper import Keeper
from harness.copying import copy
from harness.errors import InfrastructureError, NotPossibleError, UsageError
from harness.events import Events
from harness.providers.libvirt.keeping import MEMORY, TAPES, Keeping
from harness.providers.libvirt.power import hypervisor, identity


class Machines:
    """Machines and libraries that write down what was done with them; `fails` names what cannot be done."""

    def __init__(self) -> None:
        self.did: list[str] = []
        self.fails = ""
        self.lost: set[str] = set()

    def _do(self, what: str) -> None:
        self.did.append(what)
        if self.fails == what:
            raise InfrastructureError(f"cannot {what}")

    def suspend(self) -> None:
        self._do("suspend")

    def save(self, node: str, target: Path) -> None:
        self._do(f"save {node}")
        target.write_text(f"memory of {node}")
        self.lost.add(node)

    def there(self) -> set[str]:
        return {"fs1", "media1"} - self.lost

    def restore(self, sources: Mapping[str, Path]) -> None:
        self._do("restore " + " ".join(sorted(sources)))
        for node, path in sources.items():
            assert path.read_text() == f"memory of {node}"
            self.lost.discard(node)

    def resume(self) -> None:
        assert not self.lost
        self._do("resume")

    def destroy(self) -> None:
        self._do("destroy")
        self.lost = {"fs1", "media1"}


class Libraries:
    """Libraries that write into the same book."""

    def __init__(self, machines: Machines) -> None:
        self.start: Callable[[], None] = lambda: machines._do("start libraries")
        self.stop: Callable[[], None] = lambda: machines._do("stop libraries")


@pytest.fixture
def machines() -> Machines:
    """Two machines."""
    return Machines()


@pytest.fixture
def keeping(machines: Machines, tmp_path: Path) -> Keeping:
    """What keeps them, with a disk each and a cartridge."""
    disks = {}
    for node in ("fs1", "media1"):
        (tmp_path / node).mkdir()
        disks[node] = [tmp_path / node / "root.qcow2"]
        disks[node][0].write_text("before")
    (tmp_path / "tapes").mkdir()
    (tmp_path / "tapes" / "A1").write_text("before")
    return Keeping(machines, Libraries(machines), tmp_path / "tapes", lambda: disks)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a checkpoint is made."""
    (tmp_path / "kept").mkdir()
    return tmp_path / "kept"


def test_memory_disks_and_cartridges_are_of_one_moment(
    keeping: Keeping, machines: Machines, folder: Path
) -> None:
    """All stand still first; disks are copied when all are gone; libraries are back before machines are."""
    keeping.keep(folder)
    did = machines.did
    assert did[0] == "suspend"
    assert sorted(did[1:3]) == ["save fs1", "save media1"]
    assert did[3:] == ["stop libraries", "start libraries", "restore fs1 media1", "resume"]
    assert (folder / "fs1" / "root.qcow2").read_text() == "before"
    assert (folder / TAPES / "A1").read_text() == "before"


def test_putting_back_ends_everything_first(
    keeping: Keeping, machines: Machines, folder: Path, tmp_path: Path
) -> None:
    """Nothing runs while disks and cartridges are replaced; what was written since is gone."""
    keeping.keep(folder)
    machines.did.clear()
    (tmp_path / "fs1" / "root.qcow2").write_text("after")
    (tmp_path / "tapes" / "A2").write_text("after")
    keeping.put_back(folder)
    assert machines.did == ["destroy", "stop libraries", "start libraries", "restore fs1 media1", "resume"]
    assert (tmp_path / "fs1" / "root.qcow2").read_text() == "before"
    assert [path.name for path in (tmp_path / "tapes").iterdir()] == ["A1"]
    assert (folder / "fs1" / MEMORY).exists()


def test_a_lab_that_is_down_has_no_disks(keeping: Keeping, folder: Path, tmp_path: Path) -> None:
    """`down` frees disks: they come back all the same."""
    keeping.keep(folder)
    shutil.rmtree(tmp_path / "tapes")
    (tmp_path / "fs1" / "root.qcow2").unlink()
    keeping.put_back(folder)
    assert (tmp_path / "fs1" / "root.qcow2").exists()
    assert (tmp_path / "tapes" / "A1").exists()


@pytest.mark.parametrize("fails", ["save fs1", "stop libraries"])
def test_what_fails_within_leaves_a_lab_that_runs(
    keeping: Keeping, machines: Machines, folder: Path, fails: str
) -> None:
    """The error is told, and every machine goes on: from memory the saved ones, the others as they are."""
    machines.fails = fails
    with pytest.raises(InfrastructureError, match=f"cannot {fails}"):
        keeping.keep(folder)
    assert machines.did[-1] == "resume"
    assert machines.there() == {"fs1", "media1"}


def test_an_image_that_was_built_again_is_another(tmp_path: Path) -> None:
    """Memory was saved over a disk block by block: the same name, and even the same bytes, are not enough."""
    disk = tmp_path / "root.img"
    absent = identity(disk)
    disk.write_bytes(b"x")
    first = identity(disk)
    shutil.copy(disk, tmp_path / "other")
    (tmp_path / "other").replace(disk)
    assert len({absent, first, identity(disk)}) == 3
    assert identity(disk) == identity(disk)


def test_another_processor_cannot_take_over(tmp_path: Path) -> None:
    """Emulated machines read the processor's counter; KVM its registers."""
    cpuinfo = tmp_path / "cpuinfo"
    found = set()
    for model, kvm in (("A", False), ("B", False), ("A", True)):
        cpuinfo.write_text(f"processor : 0\nmodel name : {model}\n")
        found.add(hypervisor(kvm=kvm, cpuinfo=cpuinfo))
    assert len(found) == 3


class Keepable(FakeProvider):
    """A lab whose nodes are one file."""

    made = "one"
    is_up = True
    fails = False

    @property
    def content(self) -> Path:
        return self.lab.folder / "content"

    def made_of(self) -> dict[str, str]:
        return {"product": self.made}

    def keeping_bytes(self) -> int:
        return 100

    def keep(self, folder: Path) -> None:
        if self.fails:
            raise InfrastructureError("disk full")
        copy(self.content, folder / "content")

    def put_back(self, folder: Path) -> None:
        assert self.lab.state == "booted"
        if self.fails:
            raise InfrastructureError("memory is damaged")
        self.content.write_text((folder / "content").read_text())
        self.is_up = True

    def alive(self) -> dict[str, bool]:
        return {node.name: self.is_up for node in self.topology.nodes}


@pytest.fixture
def provider(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Keepable:
    """Such a lab, ready."""
    made = new_lab(Keepable, tmp_path, monkeypatch)
    made.lab.state, made.lab.made_of = "ready", {"product": "one"}
    made.content.write_text("kept")
    return made


def test_a_lab_goes_back(provider: Keepable) -> None:
    """What was there when it was saved is there again, and the state with it, also from off."""
    keeper = Keeper(provider)
    assert keeper.save().name == "ready"
    assert provider.lab.state == "ready"
    provider.content.write_text("changed")
    provider.is_up, provider.lab.state = False, "off"
    assert keeper.fitting() == ["ready"]
    bringup.up(provider)
    assert (provider.content.read_text(), provider.lab.state) == ("kept", "ready")
    assert labs.require("unit").state == "ready"


def test_what_it_was_made_of_counts_as_of_its_boot(provider: Keepable) -> None:
    """A product that changed while the lab ran is not in the lab: the checkpoint is the old one's."""
    provider.made = "two"
    made = Keeper(provider).save()
    assert made.made_of["product"] == "one"
    assert Keeper(provider).changes(made) == ["product"]
    assert Keeper(provider).fitting() == []
    with pytest.raises(UsageError, match=r"does not fit any more: changed since: product.*--fresh"):
        Keeper(provider).revert("ready")


def test_what_was_asked_for_must_be_asked_for_again(provider: Keepable) -> None:
    """A checkpoint of scenarios with seed 1 is none for those with seed 2; its notes do not matter."""
    keeper = Keeper(provider)
    keeper.save("scenarios", asked={"seed": 1}, note={"job": "3"})
    assert keeper.fits("scenarios", {"seed": 1})
    assert not keeper.fits("scenarios", {"seed": 2})
    # Whoever lists or prunes asks for nothing in particular.
    assert keeper.fits("scenarios")
    assert keeper.revert("scenarios", {"seed": 1}).note == {"job": "3"}


def test_a_failed_save_leaves_the_state(provider: Keepable) -> None:
    """The lab runs on as what it was, with the checkpoint from before."""
    keeper = Keeper(provider)
    keeper.save()
    provider.fails = True
    with pytest.raises(InfrastructureError, match="disk full"):
        keeper.save()
    assert provider.lab.state == "ready"
    assert [item.name for item in keeper.store.all()] == ["ready"]


def test_a_failed_revert_is_remembered(provider: Keepable) -> None:
    """The lab counts as half up; who asks next is told at once; after `down` it is tried again."""
    keeper = Keeper(provider)
    keeper.save()
    provider.fails = True
    with pytest.raises(InfrastructureError, match="memory is damaged"):
        keeper.revert("ready")
    assert labs.require("unit").state == "booted"
    provider.fails = False
    with pytest.raises(states.RememberedError, match="memory is damaged"):
        keeper.revert("ready")
    bringup.down(provider)
    keeper.revert("ready")
    assert provider.lab.state == "ready"


@pytest.mark.parametrize("state", ["off", "booted"])
def test_only_a_lab_that_is_ready_is_kept(provider: Keepable, state: str) -> None:
    """Half a lab is no checkpoint."""
    provider.lab.state = state
    with pytest.raises(InfrastructureError, match="not ready"):
        Keeper(provider).save()
    provider.lab.state, provider.is_up = "ready", False
    with pytest.raises(InfrastructureError, match="not ready"):
        Keeper(provider).save()


def test_a_checkpoint_that_is_not_there_is_told_with_those_that_are(provider: Keepable) -> None:
    """The error lists names."""
    Keeper(provider).save("mine")
    with pytest.raises(UsageError, match=r"no checkpoint 'other'.*there are: mine"):
        Keeper(provider).revert("other")


def test_machines_that_cannot_be_kept(provider: Keepable, tmp_path: Path) -> None:
    """A provider without checkpoints has none, and says so to who asks for one; the rest works."""
    plain = FakeProvider(provider.topology, provider.lab, Events())
    keeper = Keeper(plain)
    assert (keeper.possible, keeper.fitting()) == (False, [])
    with pytest.raises(NotPossibleError, match="cannot be kept"):
        keeper.save()
