"""Old evidence goes: folders of runs beyond an age, then the oldest until the rest is small enough."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from harness import lab as labs

DAY_SECONDS = 86400.0
# The newest run of a lab always stays.
NEWEST = 1


@dataclass(frozen=True)
class Kept:
    """A folder of a run."""

    path: Path
    age_days: float
    bytes: int


def runs(now: float | None = None) -> list[Kept]:
    """Return all folders of runs and nights on this host that may go, the oldest first."""
    found = []
    moment = time.time() if now is None else now
    groups = [*(labs.state_home() / "labs").glob("*/runs"), labs.state_home() / "nights"]
    for group in groups:
        folders = sorted(path for path in group.glob("*") if path.is_dir())[:-NEWEST]
        found += [Kept(path, (moment - path.stat().st_mtime) / DAY_SECONDS, size(path)) for path in folders]
    return sorted(found, key=lambda item: -item.age_days)


def victims(kept: Iterable[Kept], days: float, limit: int) -> list[Kept]:
    """Return what is to go: too old, or beyond `limit` bytes, the oldest first."""
    ordered = sorted(kept, key=lambda item: -item.age_days)
    gone = [item for item in ordered if item.age_days > days]
    left = [item for item in ordered if item.age_days <= days]
    total = sum(item.bytes for item in left)
    while left and total > limit:
        total -= left[0].bytes
        gone.append(left.pop(0))
    return gone


def prune(days: float, limit: int) -> list[Kept]:
    """Remove what is to go; return it."""
    gone = victims(runs(), days, limit)
    for item in gone:
        shutil.rmtree(item.path, ignore_errors=True)
    return gone


def size(folder: Path) -> int:
    """Return the bytes of all files below a folder."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())
