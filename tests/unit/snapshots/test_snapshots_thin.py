"""Snapshots of thin volumes, by what LVM's tools say (2.03.16, recorded) and are told to do.

Device-mapper is not in every kernel; the VM lab has a thin volume, and backs it up.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import structlog

from appliance.snapshots.detached import mount_of
from appliance.snapshots.keeper import Batch, Keeper, Place
from appliance.snapshots.thin import Thin, run_tool
from appliance.snapshots.volume import DIRECTORY_FLAGS, SnapshotError

JOB = "20261125T080000-0a1b2c3d"
LEFT = "spanreel-fs1-test.20261124T080000-0a1b2c3d.7"
REPORT = """\
  {
      "report": [
          {
              "lv": [
                  %s
              ]
          }
      ]
  }
"""


class Lvm:
    """LVM's tools: the commands that were run, and a volume group that they change."""

    def __init__(self, device: str, segment: str = "thin", percent: str = "12.34") -> None:
        self.run_commands: list[list[str]] = []
        self.fails: dict[str, str] = {}
        self.percent = percent
        self.volumes = [volume("data", device, segment), volume("pool", "253:2", "thin-pool")]

    def run(self, command: Sequence[str]) -> str:
        """Stand in for `run_tool`."""
        self.run_commands.append(list(command))
        tool = command[0]
        if tool in self.fails:
            raise SnapshotError(f"{tool}: {self.fails[tool]}")
        if tool == "lvcreate":
            name, tag = (
                next(word.partition("=")[2] for word in command if word.startswith(option))
                for option in ("--name=", "--addtag=")
            )
            self.volumes.append(volume(name, "253:9", "thin", tag))
        elif tool == "lvremove":
            self.volumes = [
                one for one in self.volumes if f"{one['vg_name']}/{one['lv_name']}" != command[-1]
            ]
        elif "data_percent,metadata_percent" in command:
            return report([{"data_percent": self.percent, "metadata_percent": "1.00"}])
        else:
            return report(self.volumes)
        return ""

    def named(self, tool: str) -> list[list[str]]:
        """The runs of one tool."""
        return [command for command in self.run_commands if command[0] == tool]


def volume(name: str, device: str, segment: str, tags: str = "") -> dict[str, str]:
    """A row of lvs."""
    major, _, minor = device.partition(":")
    return {
        "vg_name": "vg",
        "lv_name": name,
        "lv_uuid": f"uuid-{name}",
        "lv_tags": tags,
        "segtype": segment,
        "pool_lv": "pool" if segment == "thin" else "",
        "lv_kernel_major": major,
        "lv_kernel_minor": minor,
    }


def report(rows: list[dict[str, str]]) -> str:
    """What lvs prints."""
    return REPORT % ",\n                  ".join(json.dumps(row) for row in rows)


class Server:
    """A file server whose fileset's device says that it is LVM's; a snapshot shows the live tree."""

    def __init__(self, folder: Path, **more: str) -> None:
        self.tree = folder / "tree"
        self.tree.mkdir()
        with self.tree_open() as descriptor:
            mount = mount_of(descriptor)
        self.device, self.point = mount.device.decode(), mount.point
        self.sysfs = folder / "sysfs"
        uuid = self.sysfs / self.device / "dm" / "uuid"
        uuid.parent.mkdir(parents=True)
        uuid.write_text("LVM-abcdef\n")
        self.lvm = Lvm(self.device, **more)
        self.opened: list[tuple[bytes, dict[bytes, bytes | None]]] = []
        self.fails = ""
        thin = Thin(self.lvm.run, self.open_aside, self.sysfs)
        self.keeper = Keeper("fs1-test", [thin], structlog.get_logger())

    def open_aside(self, kind: bytes, source: bytes, options: Mapping[bytes, bytes | None]) -> int:
        """Stand in for a mount: the file system that the tree lies in."""
        del kind
        if self.fails:
            raise SnapshotError(self.fails)
        self.opened.append((source, dict(options)))
        return os.open(self.point, DIRECTORY_FLAGS)

    @contextlib.contextmanager
    def tree_open(self) -> Iterator[int]:
        """The tree, open."""
        descriptor = os.open(self.tree, DIRECTORY_FLAGS)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def prepare(self) -> Batch:
        """Ask for a snapshot of the tree."""
        return self.keeper.prepare(JOB, [Place(b"/p", "0" * 32, b"/p", bytes(self.tree))], [])


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Any]:
    """Makes a file server on LVM."""
    return lambda **more: Server(tmp_path, **more)


def test_a_thin_snapshot_is_made_mounted_aside_and_removed(make: Callable[..., Server]) -> None:
    """Tagged with server and job, mounted read-only; the part is found by its way from the root."""
    server = make()
    batch = server.prepare()
    assert server.lvm.named("lvcreate") == []
    assert batch.take() == {}
    (command,) = server.lvm.named("lvcreate")
    assert {"--type=thin", "--setactivationskip=n", f"--addtag=spanreel-fs1-test.{JOB}.1"} <= set(command)
    assert not any(word.startswith(("--size", "--extents", "-L", "-l")) for word in command)
    assert command[-1] == "vg/data"
    name = "spanreel_20261125T080000_0a1b2c3d_1"
    assert server.opened == [(f"/dev/vg/{name}".encode(), {b"ro": None})]
    view = server.keeper.view(JOB, b"/p", "0" * 32)
    assert view is not None
    assert os.fstat(view.root).st_ino == server.tree.stat().st_ino
    assert view.stub_inode is None
    view.close()
    assert server.lvm.named("lvremove")[-1][-1] == f"vg/{name}"
    batch.close()
    assert len(server.lvm.named("lvremove")) == 1


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"segment": "linear"}, "its logical volume is not a thin one"),
        ({"percent": "96.10"}, "its thin pool is 96 % full"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_made(
    make: Callable[..., Server], more: dict[str, str], why: str
) -> None:
    """A volume that is not thin, and a pool whose last room clients need."""
    server = make(**more)
    batch = server.prepare()
    assert batch.refused == {b"/p": why}
    batch.close()
    assert server.lvm.named("lvcreate") == []


@pytest.mark.parametrize(
    ("tool", "said"),
    [
        ("lvs", "cannot open its lock"),
        ("lvcreate", "Cannot create new thin volume, free space in thin pool vg/pool reached threshold."),
    ],
)
def test_the_reason_of_a_tool_is_the_reason(make: Callable[..., Server], tool: str, said: str) -> None:
    """The last line that it said, so that people can look it up."""
    server = make()
    server.lvm.fails[tool] = said
    batch = server.prepare()
    batch.take()
    assert batch.refused == {b"/p": f"{tool}: {said}"}
    batch.close()


def test_a_snapshot_that_cannot_be_mounted_is_removed(make: Callable[..., Server]) -> None:
    """It would fill the pool, and nobody would know of it."""
    server = make()
    server.fails = "its file system cannot be opened aside: Structure needs cleaning"
    batch = server.prepare()
    assert batch.take() == {b"/p": server.fails}
    assert len(server.lvm.named("lvremove")) == 1
    batch.close()


def test_volumes_are_listed_once_for_all_parts_of_a_job(make: Callable[..., Server]) -> None:
    """A listing takes long, and a file server may have many parts; one is of the time before the job."""
    server = make()
    for name in ("a", "b", "c"):
        (server.tree / name).mkdir()
    local = bytes(server.tree)
    places = [
        Place(b"/p/" + name, "0" * 32, b"/p/" + name, local + b"/" + name) for name in (b"a", b"b", b"c")
    ]
    batch = server.keeper.prepare(JOB, places, [])
    assert batch.refused == {}
    listings = [
        command for command in server.lvm.named("lvs") if "data_percent,metadata_percent" not in command
    ]
    assert len(listings) <= 2
    batch.take()
    assert len(server.lvm.named("lvcreate")) == 1
    batch.close()
    assert len(server.lvm.named("lvremove")) == 1


def test_leftovers_are_known_by_their_tag(make: Callable[..., Server]) -> None:
    """Those of this file server go; volumes of others, and of people, whatever they are called, stay."""
    server = make()
    server.lvm.volumes += [
        volume("spanreel_20261124T080000_0a1b2c3d_7", "253:7", "thin", LEFT),
        volume("spanreel_20261124T080000_0a1b2c3d_8", "253:8", "thin", "spanreel-fs1-other.job.8"),
        volume("spanreel_mine", "253:10", "thin", "keep"),
    ]
    server.keeper.sweep()
    assert [command[-1] for command in server.lvm.named("lvremove")] == [
        "vg/spanreel_20261124T080000_0a1b2c3d_7"
    ]


def test_what_is_no_logical_volume_is_left_to_others(make: Callable[..., Server]) -> None:
    """No tool is asked about a plain disk."""
    server = make()
    (server.sysfs / server.device / "dm" / "uuid").unlink()
    batch = server.prepare()
    assert batch.refused == {b"/p": "its file system has no snapshots"}
    assert server.lvm.named("lvcreate") == []
    batch.close()


def test_a_tool_that_is_missing_is_named() -> None:
    """With the package that has it."""
    with pytest.raises(SnapshotError, match=r"no-such-tool is not installed \(package lvm2\)"):
        run_tool(["no-such-tool"])


def test_a_tool_that_fails_is_heard(tmp_path: Path) -> None:
    """The line that says why, among warnings and advice (as a user with capabilities only gets them)."""
    said = tmp_path / "said"
    said.write_text(
        """\
  WARNING: Running as a non-root user. Functionality may be unavailable.
modprobe: ERROR: could not insert 'dm_snapshot': Operation not permitted
  /sbin/modprobe failed: 1
  snapshot: Required device-mapper target(s) not detected in your kernel.
  Run `lvcreate --help' for more information.
"""
    )
    with pytest.raises(SnapshotError, match=r"sh: snapshot: Required device-mapper target\(s\) not detected"):
        run_tool(["sh", "-c", f"cat {said} >&2; exit 3"])


def test_a_tool_tells_nobody_a_local_path(tmp_path: Path) -> None:
    """What LVM says goes to the DMA: names of volumes may, paths of the file server may not."""
    said = tmp_path / "said"
    said.write_text("  vg/pool: /dev/mapper/vg-pool: open failed: No such device\n")
    with pytest.raises(SnapshotError, match=r"sh: vg/pool: \.\.\.: open failed: No such device"):
        run_tool(["sh", "-c", f"cat {said} >&2; exit 5"])
