"""A stand-in for a file system with snapshots: it copies the tree, and does as told in between."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from appliance.snapshots.volume import DIRECTORY_FLAGS, Found, Frozen, Kind, SnapshotError, Volume


class Copies(Kind):
    """The kind, of one file server; its copies are folders of `folder`.

    `events` is shared by all file servers of a test.  `refuses` says why a step fails, by its name.
    `in_prepare` is called when a tree is made ready; `after_take` is given the tree that was just copied;
    `in_drop` is called before a copy goes.
    """

    def __init__(self, folder: Path, node: str, events: list[str]) -> None:
        self.folder = folder
        self.node = node
        self.events = events
        self.refuses: dict[str, str] = {}
        self.after_take: Callable[[Path], object] = lambda _: None
        self.in_prepare: Callable[[], object] = lambda: None
        self.in_drop: Callable[[], object] = lambda: None
        self.changed = threading.Condition()
        folder.mkdir()

    def find(self, directory: int, exported: Iterable[bytes]) -> Found | None:
        self.step("find")
        path = Path(f"/proc/self/fd/{directory}").readlink()
        assert os.fsencode(path) in exported
        return Found(_Tree(self, path), (), os.fstat(directory).st_ino)

    def sweep(self, owner: str, is_live: Callable[[str], bool]) -> list[str]:
        names = [name for name in self.kept() if name.startswith(f"{owner}.") and not is_live(name)]
        for name in names:
            self.remove(name)
        return names

    def kept(self) -> list[str]:
        """The names of the snapshots there are."""
        return sorted(each.name for each in self.folder.iterdir())

    def await_empty(self) -> None:
        """Wait until there are none."""
        with self.changed:
            assert self.changed.wait_for(lambda: not self.kept(), 10)

    def step(self, name: str) -> None:
        """Note that a step begins; it may fail."""
        with self.changed:
            self.events.append(f"{name} {self.node}")
        if name in self.refuses:
            raise SnapshotError(self.refuses[name])

    def remove(self, name: str) -> None:
        shutil.rmtree(self.folder / name)
        with self.changed:
            self.events.append(f"drop {self.node}")
            self.changed.notify_all()


class _Tree(Volume):
    """One directory."""

    def __init__(self, kind: Copies, path: Path) -> None:
        self.key = path
        self._kind = kind
        self._path = path

    def prepare(self) -> None:
        self._kind.step("prepare")
        self._kind.in_prepare()

    def take(self, name: str) -> Frozen:
        self._kind.step("take")
        shutil.copytree(self._path, self._kind.folder / name, symlinks=True)
        self._kind.after_take(self._path)
        return _Copy(self._kind, name)

    def close(self) -> None:
        """Nothing is held."""


class _Copy(Frozen):
    """A copy."""

    def __init__(self, kind: Copies, name: str) -> None:
        self._kind = kind
        self._name = name
        self.root = os.open(kind.folder / name, DIRECTORY_FLAGS)

    def open(self, way: Sequence[bytes], inode: int) -> int:
        return os.dup(self.root)  # the copy of a directory has another inode

    def drop(self) -> None:
        os.close(self.root)
        self._kind.in_drop()
        if "drop" in self._kind.refuses:
            raise SnapshotError(self._kind.refuses["drop"])
        self._kind.remove(self._name)
