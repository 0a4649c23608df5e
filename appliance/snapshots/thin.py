"""Snapshots of thin logical volumes, by the tools of LVM (lvmthin(7)).

The snapshot is a thin volume itself, with the file system of that moment, which is mounted aside.  LVM
freezes the file system while it makes one, so that the journal has nothing to do.
"""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from appliance.gns.map import components, relative_to
from appliance.gns.mounts import Mounted
from appliance.snapshots.detached import flush, mount_of, open_detached
from appliance.snapshots.volume import Found, Frozen, Kind, SnapshotError, Volume

__all__ = ["FULL_PERCENT", "Thin"]

FULL_PERCENT = 95.0
"""A pool with more in use is left alone: what is written while there is a snapshot needs room, and a pool
that is full fails the writes of clients."""

TOOL_TIMEOUT_S = 120.0
"""LVM waits for other commands in its volume group; under emulation one takes seconds."""

LISTED_S = 10.0
"""How old a list of volumes may be: one is made before each job, and there may be many parts."""

_TAG = "spanreel-"
_LOCAL_PATH = re.compile(r"(?<!\w)/[^\s:,\"']+")
_NO_REASONS = ("WARNING:", "Run `")
_OPTIONS: Mapping[bytes, Mapping[bytes, bytes | None]] = {
    # Two file systems of one UUID are mounted, which XFS refuses otherwise.
    b"xfs": {b"ro": None, b"nouuid": None},
}
_READ_ONLY: Mapping[bytes, bytes | None] = {b"ro": None}

Run = Callable[[Sequence[str]], str]
Open = Callable[[bytes, bytes, Mapping[bytes, bytes | None]], int]


def run_tool(command: Sequence[str]) -> str:
    """Run a tool of LVM and return what it prints.  Raises SnapshotError."""
    environment = {**os.environ, "LC_ALL": "C"}
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=TOOL_TIMEOUT_S,
            env=environment,
            stdin=subprocess.DEVNULL,
        )
    except FileNotFoundError as error:
        raise SnapshotError(f"{command[0]} is not installed (package lvm2)") from error
    except OSError as error:
        raise SnapshotError(f"{command[0]} cannot be used: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise SnapshotError(f"{command[0]} does not answer within {TOOL_TIMEOUT_S:.0f} s") from error
    if done.returncode:
        raise SnapshotError(f"{command[0]}: {_reason(done.stderr)}")
    return done.stdout


class Thin(Kind):
    """The kind; `run` runs LVM's tools, `open_aside` mounts a device, `devices` is sysfs's list of them."""

    def __init__(
        self,
        run: Run = run_tool,
        open_aside: Open = open_detached,
        devices: Path = Path("/sys/dev/block"),
    ) -> None:
        self._run = run
        self._open = open_aside
        self._devices = devices
        self._listed: tuple[float, list[dict[str, str]]] = (-math.inf, [])

    def find(self, directory: int, exported: Iterable[bytes]) -> Found | None:
        """As the base class."""
        del exported  # a snapshot has no name in any file system
        mount = mount_of(directory)
        status = os.fstat(directory)
        if not self._is_logical(mount):
            return None
        volume = next((one for one in self._recent() if _device(one) == mount.device), None)
        if volume is None or volume["segtype"] != "thin":
            raise SnapshotError("its logical volume is not a thin one")
        path = os.readlink(b"/proc/self/fd/%d" % directory)  # noqa: PTH115  (a bytes path)
        way = (*components(mount.root), *components(relative_to(path, mount.point)))
        pool = f"{volume['vg_name']}/{volume['pool_lv']}"
        return Found(_ThinVolume(self, volume, pool, mount.kind, os.dup(directory)), way, status.st_ino)

    def sweep(self, owner: str, is_live: Callable[[str], bool]) -> list[str]:
        """As the base class."""
        try:
            found = self._volumes()
        except SnapshotError:
            return []  # no LVM here, or none that this process may use
        dropped = []
        for volume in found:
            tags = volume["lv_tags"].split(",")
            name = next((tag[len(_TAG) :] for tag in tags if tag.startswith(f"{_TAG}{owner}.")), None)
            if name is not None and not is_live(name):
                self.remove(f"{volume['vg_name']}/{volume['lv_name']}")
                dropped.append(name)
        return dropped

    def check_room(self, pool: str) -> None:
        """Raise SnapshotError if a pool has no room for what is written meanwhile."""
        for row in self._rows(["lvs", *_REPORT, "-o", "data_percent,metadata_percent", pool]):
            used = max(float(row[name] or 0) for name in ("data_percent", "metadata_percent"))
            if used >= FULL_PERCENT:
                raise SnapshotError(f"its thin pool is {used:.0f} % full")

    def create(self, origin: str, name: str) -> tuple[str, bytes]:
        """Make a snapshot; return its name to LVM, and its device."""
        # Names of LVM have no length to spare, and double each hyphen for device-mapper; the tag has it all.
        short = "spanreel_" + re.sub(r"[^A-Za-z0-9]", "_", name.partition(".")[2])
        group = origin.partition("/")[0]
        # A thin volume made of a thin volume is its snapshot (lvcreate(8)); --snapshot wants the kernel's
        # module for the other kind, too.  They are not activated unless asked (lvmthin(7)).
        flags = ["--type=thin", "--yes", "--quiet", "--setactivationskip=n", "--activate=y"]
        self._run(["lvcreate", *flags, f"--addtag={_TAG}{name}", f"--name={short}", origin])
        return f"{group}/{short}", os.fsencode(f"/dev/{group}/{short}")

    def open(self, kind: bytes, device: bytes) -> int:
        """Mount a snapshot's device aside, and open its root."""
        return self._open(kind, device, _OPTIONS.get(kind, _READ_ONLY))

    def remove(self, volume: str) -> None:
        """Remove a snapshot."""
        self._run(["lvremove", "--yes", "--force", "--quiet", volume])

    def _is_logical(self, mount: Mounted) -> bool:
        """Whether device-mapper says that a device is LVM's."""
        try:
            uuid = (self._devices / os.fsdecode(mount.device) / "dm/uuid").read_text(encoding="ascii")
        except OSError:
            return False
        return uuid.startswith("LVM-")

    def _recent(self) -> list[dict[str, str]]:
        """All volumes; those of a moment ago will do."""
        listed_at, volumes = self._listed
        return volumes if time.monotonic() - listed_at < LISTED_S else self._volumes()

    def _volumes(self) -> list[dict[str, str]]:
        volumes = self._rows(["lvs", *_REPORT, "-o", _FIELDS])
        self._listed = time.monotonic(), volumes
        return volumes

    def _rows(self, command: Sequence[str]) -> list[dict[str, str]]:
        text = self._run(command)
        try:
            return [row for report in json.loads(text)["report"] for row in report["lv"]]
        except (ValueError, KeyError, TypeError) as error:
            raise SnapshotError(f"{command[0]} answers what is no report: {error}") from error


_REPORT = ("--reportformat", "json", "--nosuffix")
_FIELDS = "vg_name,lv_name,lv_uuid,lv_tags,segtype,pool_lv,lv_kernel_major,lv_kernel_minor"


class _ThinVolume(Volume):
    """One thin volume, with a directory of it open."""

    def __init__(self, thin: Thin, volume: Mapping[str, str], pool: str, kind: bytes, directory: int) -> None:
        self.key = volume["lv_uuid"]
        self._thin = thin
        self._origin = f"{volume['vg_name']}/{volume['lv_name']}"
        self._pool = pool
        self._kind = kind
        self._directory: int | None = directory

    def prepare(self) -> None:
        self._thin.check_room(self._pool)
        assert self._directory is not None, "it was not closed"
        flush(self._directory)

    def take(self, name: str) -> Frozen:
        volume, device = self._thin.create(self._origin, name)
        try:
            return _Snapshot(self._thin, volume, self._thin.open(self._kind, device))
        except SnapshotError:
            self._thin.remove(volume)
            raise

    def close(self) -> None:
        directory, self._directory = self._directory, None
        if directory is not None:
            os.close(directory)


class _Snapshot(Frozen):
    """A snapshot that is mounted aside."""

    def __init__(self, thin: Thin, volume: str, root: int) -> None:
        self._thin = thin
        self._volume = volume
        self.root = root

    def drop(self) -> None:
        os.close(self.root)
        self._thin.remove(self._volume)


def _reason(stderr: str) -> str:
    """The last line that says why: warnings come before it, advice after it.  Local paths are left out."""
    lines = [line.strip() for line in stderr.splitlines()]
    why = [line for line in lines if line and not line.startswith(_NO_REASONS) and "mlock failed" not in line]
    return _LOCAL_PATH.sub("...", why[-1]) if why else "it said nothing"


def _device(volume: Mapping[str, str]) -> bytes:
    """A volume's device numbers, as mountinfo has them."""
    return f"{volume['lv_kernel_major']}:{volume['lv_kernel_minor']}".encode()
