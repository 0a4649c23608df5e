"""A build cache of directories, keyed by a hash of what they were built from.

An entry is either whole or absent: it is built in a directory of its own and renamed into place.  A lock
per entry lets two labs that start together build it once.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterable
from pathlib import Path

# Of entries that were not used for a day, more than this many are removed when a new one is made.  What was
# used since may belong to a lab that runs: its machines are to be switched on, and put back, once more.
KEPT_ENTRIES = 3
IN_USE_SECONDS = 86400.0

# Hex digits of a key: enough to never collide in one cache, short enough for paths that people read.
KEY_DIGITS = 16


def default_root() -> Path:
    """The cache directory of this user, `$XDG_CACHE_HOME/spanreel`."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "spanreel"


def key_of(parts: Iterable[tuple[str, bytes]]) -> str:
    """Hash named contents; names and lengths are part of it, so nothing can slide from one into the next."""
    digest = hashlib.sha256()
    for name, content in parts:
        digest.update(f"{name}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()[:KEY_DIGITS]


def tree_parts(root: Path, *folders: str) -> list[tuple[str, bytes]]:
    """Name and content of every file below `folders` of `root`, sorted, for `key_of`.

    The executable bit counts as content: it reaches the image.  Compiled Python does not: it follows from
    the source.
    """
    parts = []
    for folder in folders:
        top = root / folder
        files = [top] if top.is_file() else sorted(p for p in top.rglob("*") if p.is_file())
        for path in files:
            if "__pycache__" in path.parts or path.suffix in (".pyc", ".so"):
                continue
            executable = "x" if path.stat().st_mode & 0o100 else "-"
            parts.append((f"{path.relative_to(root)} {executable}", path.read_bytes()))
    return parts


class Cache:
    """Entries of several kinds below one root directory."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or default_root()

    def find(self, kind: str, key: str) -> Path | None:
        """The entry, if it has been built."""
        path = self.root / kind / key
        return path if path.is_dir() else None

    def entry(self, kind: str, key: str, build: Callable[[Path], None]) -> Path:
        """The entry's directory; `build` fills it first when it is not there yet."""
        folder = self.root / kind
        folder.mkdir(parents=True, exist_ok=True)
        final = folder / key
        with (folder / f".{key}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not final.is_dir():
                partial = folder / f".{key}.partial"
                shutil.rmtree(partial, ignore_errors=True)
                partial.mkdir()
                build(partial)
                partial.rename(final)
                self._prune(folder)
            # The time of last use is what pruning goes by.
            os.utime(final)
        return final

    def clean(self) -> None:
        """Remove everything."""
        shutil.rmtree(self.root, ignore_errors=True)

    def _prune(self, folder: Path) -> None:
        entries = [p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")]
        entries.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        for old in entries[KEPT_ENTRIES:]:
            if time.time() - old.stat().st_mtime < IN_USE_SECONDS:
                continue
            shutil.rmtree(old, ignore_errors=True)
            (folder / f".{old.name}.lock").unlink(missing_ok=True)
