"""The backups that this file server knows as bases of incremental ones: files under STATE/dumps.

    STATE/dumps/FILESET/KEY/TOKEN.LEVEL.state     what the tree was like (archive/treestate.py)
    STATE/dumps/FILESET/KEY/TOKEN.LEVEL.new       of a backup that runs, or whose end was never heard of

KEY stands for the backup's root and the part's global path: dumps of `/` and of `/projects` have nothing to
do with each other, as in dump(8).  A token is a number that DMAs know as DUMP_DATE; of two backups of one
root the later one has the larger token, whatever the clocks of the file servers that were asked say.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
import threading
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from appliance.files import sync_directory

TOKENS_KEPT = 16
"""The newest dumps of a part that stay, whatever their level: a DMA that goes by tokens uses a recent one."""

LEVELS_KEPT = 10
"""Of levels 0 to 9, which dump(8) has, the newest one stays, however old: the full backup of a month."""

_NAME = re.compile(r"(\d{1,20})\.(\d{1,9})\.(state|new)")


class Dump(NamedTuple):
    """One base: the token and level of the backup that it is of."""

    token: int
    level: int


class Dumps:
    """The bases of this node.  Methods may be called from any thread; they raise OSError."""

    def __init__(self, state: Path) -> None:
        self._folder = state / "dumps"
        self._lock = threading.Lock()

    def forget_unfinished(self) -> None:
        """Drop what backups left that ended with an earlier process."""
        for path in self._folder.glob("*/*/*.new"):
            path.unlink(missing_ok=True)

    def bases(self, fileset: str, root: bytes, part: bytes) -> list[Dump]:
        """The bases of a part, oldest first."""
        return [dump for dump, kind in self._files(self._place(fileset, root, part)) if kind == "state"]

    def path(self, fileset: str, root: bytes, part: bytes, token: int) -> Path | None:
        """The file of one base, None if it is not there."""
        folder = self._place(fileset, root, part)
        for dump, kind in self._files(folder):
            if dump.token == token and kind == "state":
                return folder / f"{dump.token}.{dump.level}.state"
        return None

    def begin(self, fileset: str, root: bytes, part: bytes, dump: Dump) -> Path:
        """Where the state of a backup that begins is to be written."""
        folder = self._place(fileset, root, part)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return folder / f"{dump.token}.{dump.level}.new"

    def keep(self, fileset: str, root: bytes, part: bytes, token: int) -> bool:
        """A backup ended well: its state is a base from now on.  False if there is none."""
        folder = self._place(fileset, root, part)
        with self._lock:
            for dump, kind in self._files(folder):
                if kind != "new":
                    continue
                unfinished = folder / f"{dump.token}.{dump.level}.new"
                if dump.token < token:
                    unfinished.unlink(missing_ok=True)  # its backup is over, and did not end well
                elif dump.token == token:
                    unfinished.replace(unfinished.with_suffix(".state"))
                    sync_directory(folder)
                    self._prune(folder)
                    return True
        return False

    def keep_only(self, filesets: Collection[str]) -> None:
        """Forget parts that do not belong to this file server any more."""
        for folder in self._folder.glob("*"):
            if folder.name not in filesets:
                shutil.rmtree(folder, ignore_errors=True)

    def _prune(self, folder: Path) -> None:
        dumps = [dump for dump, kind in self._files(folder) if kind == "state"]
        newest_of_level = {dump.level: dump for dump in dumps if dump.level < LEVELS_KEPT}
        kept = {*dumps[-TOKENS_KEPT:], *newest_of_level.values()}
        for dump in dumps:
            if dump not in kept:
                (folder / f"{dump.token}.{dump.level}.state").unlink(missing_ok=True)

    def _place(self, fileset: str, root: bytes, part: bytes) -> Path:
        key = hashlib.sha256(root + b"\0" + part).hexdigest()[:32]
        return self._folder / fileset / key

    @staticmethod
    def _files(folder: Path) -> list[tuple[Dump, str]]:
        found = []
        with contextlib.suppress(FileNotFoundError):
            for path in folder.iterdir():
                match = _NAME.fullmatch(path.name)
                if match:
                    found.append((Dump(int(match[1]), int(match[2])), match[3]))
        return sorted(found)
