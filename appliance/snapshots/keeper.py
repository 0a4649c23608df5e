"""The snapshots of one file server: made for a job, read part by part, dropped as early as can be.

A snapshot belongs to the `Batch` that made it, which belongs to the session of the job's entry server: it is
dropped when the last of its parts was read, or when the batch ends, whatever comes first, but never under
a reader.  What a process leaves behind that is killed is found by its name (`sweep`).
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from appliance.gns.map import components, join, relative_to
from appliance.gns.mounts import all_mounts
from appliance.ndmp.logcontext import carrying
from appliance.paths import is_at_or_below
from appliance.snapshots.detached import mount_of
from appliance.snapshots.volume import DIRECTORY_FLAGS, Frozen, Kind, SnapshotError, Volume

__all__ = ["Batch", "Keeper", "Place", "View", "owner_of"]

JOB_NAME = re.compile(r"[A-Za-z0-9_-]{1,56}")
CLOSE_WAIT_S = 60  # LVM drops a thin snapshot in seconds; systemd kills a service that stops for 90


class Place(NamedTuple):
    """What is wanted of a snapshot: the part at `path`, in the fileset `fileset` at `top`; paths are global.

    `local` is the fileset's directory here.
    """

    path: bytes
    fileset: str
    top: bytes
    local: bytes


@dataclass
class View:
    """A fileset in a snapshot, for one reader.

    `root` is the descriptor of its directory, closed by `close`.  `moment` is the time (ns) before the
    snapshot was made.  `mounted` are the global paths where other file systems were mounted, or other
    directories bound.
    """

    root: int
    moment: int
    mounted: frozenset[bytes]
    stub_inode: int | None
    _done: Callable[[], None] = field(repr=False)
    _is_open: bool = True

    def close(self) -> None:
        """The part was read, or will not be; safe to repeat."""
        if self._is_open:
            self._is_open = False
            os.close(self.root)
            self._done()


class _Member(NamedTuple):
    """A part that a volume holds, and where."""

    place: Place
    way: tuple[bytes, ...]
    inode: int
    mounted: frozenset[bytes]


@dataclass
class _Held:
    """One snapshot, and who still needs it."""

    name: str
    frozen: Frozen
    moment: int
    roots: dict[bytes, int]
    members: Mapping[bytes, _Member]
    waiting: set[bytes]
    readers: int = 0
    is_dropped: bool = False


class Keeper:
    """All snapshots of this file server.  Methods may be called from any thread."""

    def __init__(self, owner: str, kinds: Sequence[Kind], log: Any) -> None:
        """`owner` begins the names of snapshots: two file servers on one machine have different ones."""
        self._owner = owner
        self._kinds = kinds
        self._log = log
        self._lock = threading.Lock()
        self._gone = threading.Condition(self._lock)
        self._sweeping = threading.Lock()
        self._held: dict[tuple[str, bytes], _Held] = {}
        self._live: dict[str, _Held | None] = {}  # None: it is being made
        self._is_closed = False
        self._numbers = itertools.count(1)

    def prepare(self, job: str, places: Iterable[Place], exported: Sequence[bytes]) -> Batch:
        """Find the volumes of places and hold them ready; `exported`: all directories that clients see.

        What cannot be is in the batch's `refused`.
        """
        batch = Batch(self, job)
        if not JOB_NAME.fullmatch(job):
            batch.refused.update(
                (place.path, "its job's name cannot be that of a snapshot") for place in places
            )
            return batch
        self.sweep()
        for place in places:
            if self._has(job, place.path):
                batch.refused[place.path] = "the job has a snapshot of it already"
                continue
            try:
                batch.add(place, self._find(place, exported))
            except SnapshotError as error:
                batch.refused[place.path] = str(error)
            except OSError as error:
                batch.refused[place.path] = f"its directory cannot be opened: {error.strerror}"
        batch.prepare()
        return batch

    def view(self, job: str, path: bytes, fileset: str) -> View | None:
        """A part in its job's snapshot; None if there is none, or none of that fileset.  Raises OSError."""
        with self._lock:
            held = self._held.get((job, path))
            if held is None or held.is_dropped:
                return None
            member = held.members[path]
            if member.place.fileset != fileset:
                return None
            root = os.dup(held.roots[path])
            held.readers += 1
        return View(
            root, held.moment, member.mounted, held.frozen.stub_inode, lambda: self._was_read(job, path, held)
        )

    def sweep(self) -> None:
        """Drop what an earlier process left behind, or could not be dropped before."""
        with self._sweeping:
            for kind in self._kinds:
                try:
                    for name in kind.sweep(self._owner, self._is_live):
                        self._log.warning("a snapshot that was left over is dropped", snapshot=name)
                except SnapshotError as error:
                    self._log.error("snapshots that were left over stay", why=str(error))

    def close(self) -> None:
        """Make no more, drop everything, and wait until others have dropped what they had begun to."""
        with self._lock:
            self._is_closed = True
            held = [each for each in self._live.values() if each is not None]
        for each in held:
            self._drop(each)
        with self._gone:
            if not self._gone.wait_for(lambda: not self._live, CLOSE_WAIT_S):
                self._log.error("snapshots stay; they are dropped at the next start", snapshots=[*self._live])

    # For batches.

    def take(self, job: str, volume: Volume, members: Mapping[bytes, _Member]) -> dict[bytes, str]:
        """Make one snapshot for all of these; return the parts that are not in it, and why."""
        name = f"{self._owner}.{job}.{next(self._numbers)}"
        with self._lock:
            if self._is_closed:
                return dict.fromkeys(members, "the file server is stopping")
            self._live[name] = None
        moment = time.time_ns()
        try:
            frozen = volume.take(name)
        except BaseException as error:
            self._forget(name)
            if not isinstance(error, SnapshotError):
                raise
            return dict.fromkeys(members, str(error))
        roots: dict[bytes, int] = {}
        refused = {}
        for path, member in members.items():
            try:
                roots[path] = frozen.open(member.way, member.inode)
            except SnapshotError as error:
                refused[path] = str(error)
        held = _Held(name, frozen, moment, roots, members, set(roots))
        with self._lock:
            self._live[name] = held
            self._held.update(((job, path), held) for path in roots)
            is_late = self._is_closed
        took = (time.time_ns() - moment) // 1_000_000
        self._log.info("snapshot made", snapshot=name, parts=len(roots), milliseconds=took)
        if is_late or not roots:
            self._drop(held)
        return refused

    def end(self, job: str, paths: Iterable[bytes]) -> None:
        """The job needs none of these any more; what is being read stays until then."""
        for path in paths:
            with self._lock:
                held = self._held.pop((job, path), None)
                if held is None:
                    continue
                held.waiting.clear()
                is_read = held.readers > 0
            if not is_read:
                self._drop(held)

    def _find(self, place: Place, exported: Sequence[bytes]) -> tuple[Volume, _Member]:
        directory = os.open(place.local, DIRECTORY_FLAGS)
        try:
            for kind in self._kinds:
                found = kind.find(directory, exported)
                if found is not None:
                    _check_within(directory, relative_to(place.path, place.top))
                    member = _Member(place, found.way, found.inode, _mounted(directory, place.top))
                    return found.volume, member
        finally:
            os.close(directory)
        raise SnapshotError("its file system has no snapshots")

    def _has(self, job: str, path: bytes) -> bool:
        with self._lock:
            return (job, path) in self._held

    def _is_live(self, name: str) -> bool:
        with self._lock:
            return name in self._live

    def _was_read(self, job: str, path: bytes, held: _Held) -> None:
        with self._lock:
            held.readers -= 1
            held.waiting.discard(path)
            self._held.pop((job, path), None)
            is_over = not held.readers and not held.waiting
        if is_over:
            self._drop(held)

    def _drop(self, held: _Held) -> None:
        with self._lock:
            if held.is_dropped:
                return
            held.is_dropped = True
            for key in [key for key, each in self._held.items() if each is held]:
                del self._held[key]
        for root in held.roots.values():
            os.close(root)
        try:
            held.frozen.drop()
            self._log.info("snapshot dropped", snapshot=held.name)
        except SnapshotError as error:
            self._log.error("a snapshot stays; it is tried again later", snapshot=held.name, why=str(error))
        finally:
            # From now on it is one that was left over.
            self._forget(held.name)

    def _forget(self, name: str) -> None:
        with self._gone:
            self._live.pop(name, None)
            self._gone.notify_all()


class Batch:
    """The snapshots of one job on this file server; for one thread at a time."""

    def __init__(self, keeper: Keeper, job: str) -> None:
        self.refused: dict[bytes, str] = {}
        self._keeper = keeper
        self._job = job
        self._volumes: dict[object, tuple[Volume, dict[bytes, _Member]]] = {}
        self._taken: set[bytes] = set()

    def add(self, place: Place, found: tuple[Volume, _Member]) -> None:
        """A part is on that volume."""
        volume, member = found
        known = self._volumes.get(volume.key)
        if known is None:
            known = self._volumes[volume.key] = volume, {}
        else:
            volume.close()
        known[1][place.path] = member

    def prepare(self) -> None:
        """Make all volumes ready, at the same time."""

        def ready(volume: Volume, members: Mapping[bytes, _Member]) -> dict[bytes, str]:
            try:
                volume.prepare()
            except SnapshotError as error:
                return dict.fromkeys(members, str(error))
            return {}

        self._on_all(ready)

    def take(self) -> dict[bytes, str]:
        """Make the snapshots, at the same time; return the parts that have none, and why."""
        self._on_all(lambda volume, members: self._keeper.take(self._job, volume, members))
        self._taken = {path for _, members in self._volumes.values() for path in members}
        for volume, _ in self._volumes.values():
            volume.close()
        return self.refused

    def close(self) -> None:
        """Drop what is not being read; safe to repeat."""
        for volume, _ in self._volumes.values():
            volume.close()
        self._keeper.end(self._job, self._taken)
        self._volumes, self._taken = {}, set()

    def _on_all(self, work: Callable[[Volume, Mapping[bytes, _Member]], dict[bytes, str]]) -> None:
        """Do something with every volume in threads; parts that are refused are no longer of it."""
        if not self._volumes:
            return
        with ThreadPoolExecutor(len(self._volumes)) as pool:
            runs = [pool.submit(carrying(work), *each) for each in self._volumes.values()]
            refusals = [run.result() for run in runs]
        for key, refused in zip(list(self._volumes), refusals, strict=True):
            self.refused |= refused
            volume, members = self._volumes[key]
            left = {path: member for path, member in members.items() if path not in refused}
            if left:
                self._volumes[key] = volume, left
            else:
                volume.close()
                del self._volumes[key]


def owner_of(node: str, state: Path) -> str:
    """What the names of a file server's snapshots begin with: its name, and a trace of its state directory.

    Two labs on one machine may give their nodes the same names.
    """
    return f"{node}-{hashlib.sha256(os.fsencode(state)).hexdigest()[:8]}"


def _check_within(directory: int, relative: bytes) -> None:
    """Raise SnapshotError if the way to a part leads into another file system or subvolume.

    It would not be in a snapshot of what the fileset's directory lies in.
    """
    here = os.fstat(directory).st_dev, mount_of(directory).number
    with contextlib.ExitStack() as held:
        for name in components(relative):
            try:
                directory = os.open(name, DIRECTORY_FLAGS, dir_fd=directory)
            except OSError:
                return  # a file, or not there, which the order of the part will tell
            held.callback(os.close, directory)
            if (os.fstat(directory).st_dev, mount_of(directory).number) != here:
                raise SnapshotError("it lies in another file system or subvolume than its fileset")


def _mounted(directory: int, top: bytes) -> frozenset[bytes]:
    """The global paths below an open directory, `top`, at which something is mounted."""
    path = os.readlink(b"/proc/self/fd/%d" % directory)  # noqa: PTH115  (a bytes path)
    below = (mount.point for mount in all_mounts() if is_at_or_below(mount.point, path))
    return frozenset(join(top, relative_to(point, path)) for point in below if point != path)
