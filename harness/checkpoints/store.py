"""The checkpoints of one lab on disk.

    checkpoints/NAME/checkpoint.json     what it is (`Record`); written last
    checkpoints/NAME/nodes/…             what the provider keeps
    checkpoints/NAME/files/…             what else belongs to it
    checkpoints/.NAME.partial            one that is being made, or was when its maker died
    checkpoints/.NAME.old                the one before, while it is replaced

A checkpoint is whole or absent: it is made in a folder of its own, is on disk before it gets its name, and
gets it in one step.  Whoever changes something here holds the lab's lock, so two labs never meet, and what is
partial is nobody's.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from harness.checkpoints import record
from harness.checkpoints.record import Record
from harness.copying import used
from harness.errors import HarnessError, InfrastructureError, UsageError

RECORD = "checkpoint.json"
NODES, FILES = "nodes", "files"
# What must stay free on the disk of labs after a checkpoint: they go on writing.
SPARE_BYTES = 1 << 30
# Memory and disks of some states of one lab of five machines are 1 to 2 GiB each.
KEPT_BYTES = 20 << 30
# Names become folders; the first character keeps clear of partial ones.
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,30}")


class Store:
    """Checkpoints below one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def all(self) -> list[Record]:
        """Return those that are whole and can be read, the oldest first."""
        found = []
        for path in self.folder.glob(f"[!.]*/{RECORD}"):
            try:
                found.append(record.read(path.read_text(encoding="utf-8"), str(path)))
            except HarnessError:
                continue  # `prune` takes it away
        return sorted(found, key=lambda item: item.made)

    def find(self, name: str) -> Record | None:
        """Return one, None if it is not there or cannot be read."""
        return next((item for item in self.all() if item.name == name), None)

    def path(self, name: str) -> Path:
        """Return the folder of a checkpoint.  Raises UsageError for a name that can be none."""
        if not _NAME.fullmatch(name):
            raise UsageError(
                f"a checkpoint cannot be called {name!r}", hint="a-z, 0-9 and -, at most 31, no - first"
            )
        return self.folder / name

    def make(
        self, wanted: Record, fill: Callable[[Path], None], files: Mapping[str, Path] | None = None
    ) -> Record:
        """Make a checkpoint by `fill`, which gets an empty folder; one of the same name is replaced.

        If `fill` or the disk fails, the one before stays, and nothing new is there.
        """
        final = self.path(wanted.name)
        partial, old = (self.folder / f".{wanted.name}.{end}" for end in ("partial", "old"))
        self.tidy()
        partial.mkdir(parents=True)
        partial.chmod(0o700)  # keys of machines are in their memory
        try:
            (partial / NODES).mkdir()
            fill(partial / NODES)
            for name, source in (files or {}).items():
                (partial / FILES).mkdir(exist_ok=True)
                shutil.copyfile(source, partial / FILES / name)
            made = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            done = replace(wanted, made=made, bytes=used(partial))
            (partial / RECORD).write_text(done.to_json(), encoding="utf-8")
            _flush(partial)
            if final.exists():
                final.rename(old)
            partial.rename(final)
        except OSError as error:
            raise InfrastructureError(
                f"checkpoint {wanted.name}: {error.strerror}: {error.filename or self.folder}",
                hint="free some disk: spanreel lab checkpoint prune",
            ) from error
        finally:
            self.tidy()
        return done

    def remove(self, name: str) -> None:
        """Remove one; it is gone in one step."""
        path = self.path(name)
        if path.exists():
            path.rename(self.folder / f".{name}.old")
        self.tidy()

    def tidy(self) -> list[str]:
        """Remove what is not whole; return the names."""
        left = [path for path in self.folder.glob(".*") if path.is_dir()]
        left += [path for path in self.folder.glob("[!.]*") if self._is_broken(path)]
        for path in left:
            shutil.rmtree(path)
        return sorted(path.name for path in left)

    def prune(self, keep: Callable[[Record], bool], bytes_max: int = KEPT_BYTES) -> list[str]:
        """Remove what is not whole, what `keep` does not want, and the oldest beyond a size; return names."""
        gone = self.tidy()
        for item in self.all():
            if not keep(item):
                self.remove(item.name)
                gone.append(item.name)
        left = self.all()
        while left and sum(item.bytes for item in left) > bytes_max:
            self.remove(left[0].name)
            gone.append(left.pop(0).name)
        return gone

    def require_room(self, name: str, wanted: int) -> None:
        """Raise InfrastructureError if the disk has no room for a checkpoint of so many bytes."""
        there = next(path for path in (self.folder, *self.folder.parents) if path.exists())
        free = shutil.disk_usage(there).free
        if free < wanted + SPARE_BYTES:
            raise InfrastructureError(
                f"checkpoint {name}: {free >> 20} MiB free, it may need {(wanted + SPARE_BYTES) >> 20}",
                hint=f"free some on {there}: spanreel lab checkpoint prune",
            )

    def _is_broken(self, path: Path) -> bool:
        return path.is_dir() and self.find(path.name) is None


def _flush(folder: Path) -> None:
    """Have everything on disk: a host that crashes later must not find a checkpoint of zeros."""
    done = subprocess.run(["sync", "--file-system", str(folder)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise InfrastructureError(f"the checkpoint cannot be written to disk: {done.stderr.strip()}")
