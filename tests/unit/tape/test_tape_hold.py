"""Promises of the hold on a device: what keeps other programs off, and who is noticed."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tape.discovery import Device
from tape.errors import DeviceHeldError
from tape.hold import DeviceHold, HoldSystem
from tape.identity import DeviceKind

DRIVE = Device("/dev/sg1", DeviceKind.DRIVE, "HP", "Ultrium", "1", "DRV1", "/dev/st0")
CHANGER = Device("/dev/sg2", DeviceKind.CHANGER, "STK", "L700", "1", "CHG1", None)


class Kernel(HoldSystem):
    """Nodes that refuse, by path and whether O_EXCL is asked for; notes what is open."""

    def __init__(self, **errors: int) -> None:
        self.errors = errors
        self.open_nodes: dict[int, str] = {}
        self.history: list[str] = []
        self.locked_by_others = False

    def open(self, path: str, flags: int) -> int:
        name = path.removeprefix("/dev/") + ("_exclusive" if flags & os.O_EXCL else "")
        self.history.append(name)
        if name in self.errors:
            raise OSError(self.errors[name], "refused")
        descriptor = len(self.history)
        self.open_nodes[descriptor] = name
        return descriptor

    def lock(self, descriptor: int) -> None:
        assert descriptor in self.open_nodes
        if self.locked_by_others:
            raise BlockingIOError

    def close(self, descriptor: int) -> None:
        del self.open_nodes[descriptor]


def test_a_held_drive_keeps_st_and_our_own_processes_off() -> None:
    """St is open in the mode that does not rewind, the sg node is locked; closing gives both back."""
    kernel = Kernel()
    hold = DeviceHold(DRIVE, kernel)
    assert sorted(kernel.open_nodes.values()) == ["nst0", "sg1"]
    hold.close()
    hold.close()
    assert kernel.open_nodes == {}


@pytest.mark.parametrize(
    ("node", "words"), [("nst0", "has /dev/nst0 open"), ("sg1_exclusive", "has /dev/sg1 open")]
)
def test_a_drive_in_use_is_not_held(node: str, words: str) -> None:
    """The error names the drive and the node through which somebody uses it, and nothing stays open."""
    kernel = Kernel(**{node: errno.EBUSY})
    with pytest.raises(DeviceHeldError, match=f"drive DRV1 is in use.*{words}"):
        DeviceHold(DRIVE, kernel)
    assert kernel.open_nodes == {}


def test_another_process_of_ours_is_noticed() -> None:
    """The lock is what `spanreel tape` and a media server see of each other."""
    kernel = Kernel()
    kernel.locked_by_others = True
    with pytest.raises(DeviceHeldError, match="process of Spanreel"):
        DeviceHold(DRIVE, kernel)
    assert kernel.open_nodes == {}


@pytest.mark.parametrize("code", [errno.ENOENT, errno.EACCES, errno.ENXIO, errno.EIO])
def test_a_node_that_cannot_be_opened_holds_nothing_up(code: int) -> None:
    """Without st, or without the right to it, the drive is used all the same."""
    kernel = Kernel(nst0=code)
    DeviceHold(DRIVE, kernel)
    assert list(kernel.open_nodes.values()) == ["sg1"]


def test_a_changer_is_only_locked() -> None:
    """Our own process may have it open to ask what is in a drive."""
    kernel = Kernel()
    DeviceHold(CHANGER, kernel)
    assert kernel.history == ["sg2"]


def test_the_lock_is_the_kernels(tmp_path: Path) -> None:
    """Two holds on one node exclude each other until the first is closed; files lock as nodes do."""
    node = tmp_path / "node"
    node.touch()
    device = Device(str(node), DeviceKind.CHANGER, "", "", "", "CHG1", None)
    first = DeviceHold(device)
    with pytest.raises(DeviceHeldError):
        DeviceHold(device)
    first.close()
    DeviceHold(device).close()
