"""Copies of files and trees on this host, exact and as fast as its file system allows."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from harness.errors import InfrastructureError

# What st_blocks counts in, whatever the file system's blocks are (stat(2)).
_BLOCK = 512


def copy(source: Path, target: Path) -> None:
    """Copy a file, or a folder with everything in it, to a name that is free; parents are made.

    By `cp`: it keeps holes, links, devices, owners, times, attributes and ACLs as far as its user may, and
    shares blocks where the file system can.  Raises InfrastructureError.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    command = ["cp", "--archive", "--reflink=auto", "--no-target-directory", "--", str(source), str(target)]
    done = subprocess.run(command, capture_output=True, text=True, errors="backslashreplace", check=False)
    if done.returncode != 0:
        words = done.stderr.strip().splitlines() or [f"cp ended with {done.returncode}"]
        raise InfrastructureError(f"cannot copy {source}: {words[0]}", hint="is the disk full?")


def replace(source: Path, target: Path) -> None:
    """Put a copy in the place of what is there."""
    remove(target)
    copy(source, target)


def remove(path: Path) -> None:
    """Remove a file or a folder, if there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def used(*tops: Path) -> int:
    """Return what files take on disk: holes are not counted, nor is a file with two names twice."""
    seen: dict[tuple[int, int], int] = {}
    for path in _walk(tops):
        status = path.lstat()
        seen[status.st_dev, status.st_ino] = status.st_blocks * _BLOCK
    return sum(seen.values())


def _walk(tops: Iterable[Path]) -> Iterable[Path]:
    for top in tops:
        yield top
        for folder, names, files in os.walk(os.fsencode(top)):
            yield from (Path(os.fsdecode(folder)) / os.fsdecode(name) for name in (*names, *files))
