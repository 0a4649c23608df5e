"""Trees that change by chance, and what is in them, told without the product."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path
from random import Random
from typing import Any

NAMES = "abcdef"
"""Few names, so that one takes another's place often."""


def change(root: Path, random: Random) -> None:
    """Do one of the things that people do to a tree: make, write, delete, link, move."""
    everything = sorted(root.rglob("*"))
    where = random.choice([root, *(path for path in everything if path.is_dir())])
    target = where / random.choice(NAMES)
    what = random.randrange(6)
    if what == 0 and not target.exists():
        target.mkdir()
    elif what == 1 and not target.is_dir():
        target.write_text(str(random.random()))
    elif everything:
        chosen = random.choice(everything)
        if what == 2:
            shutil.rmtree(chosen) if chosen.is_dir() else chosen.unlink()
        elif what == 3 and chosen.is_file() and not target.exists():
            target.hardlink_to(chosen)
        elif what > 3 and chosen not in (where, *where.parents) and not target.exists():
            chosen.rename(target)


def snapshot(root: Path) -> dict[str, Any]:
    """Type, mode, time, content and links of each name below a directory."""
    found: dict[str, Any] = {}
    first: dict[int, str] = {}
    for path in sorted(root.rglob("*")):
        status = os.lstat(path)
        name = str(path.relative_to(root))
        is_file = stat.S_ISREG(status.st_mode)
        linked = first.setdefault(status.st_ino, name) if is_file else None
        found[name] = (status.st_mode, status.st_mtime_ns, path.read_text() if is_file else None, linked)
    return found
