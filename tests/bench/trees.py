"""The trees that contestants save and restore, all on a tmpfs: what is measured is programs, not disks."""

from __future__ import annotations

import os
import shutil
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

MIB = 1 << 20
SMALL_FILES, SMALL_BYTES = 50_000, 4096
PER_DIRECTORY = 500
SPARSE_GIB, SPARSE_STRETCHES = 10, 64


@dataclass(frozen=True)
class Tree:
    """A tree by its name; `make` fills an empty directory, `sparse` has tar look for holes."""

    name: str
    what: str
    make: Callable[[Path], None]
    sparse: bool = False


def all_trees(tiny: int) -> list[Tree]:
    """Every tree, the one with nothing in it first: it shows what a job costs whatever it saves."""
    return [
        Tree("empty", "nothing: what a job costs by itself", lambda _: None),
        Tree("large", "1 GiB in one file", _large),
        Tree("small", f"{SMALL_FILES:,} files of 4 KiB", lambda top: _many(top, SMALL_FILES, SMALL_BYTES)),
        Tree("tiny", f"{tiny:,} empty files", lambda top: _many(top, tiny, 0)),
        Tree("source", "Python's standard library", _source),
        Tree("sparse", f"{SPARSE_GIB} GiB with {SPARSE_STRETCHES} MiB of data", _sparse, sparse=True),
    ]


def _large(top: Path) -> None:
    block = os.urandom(MIB)
    with (top / "large").open("wb") as file:
        for _ in range(1024):
            file.write(block)


def _many(top: Path, files: int, size: int) -> None:
    content = os.urandom(size)
    for number in range(files):
        folder = top / f"d{number // PER_DIRECTORY:05}"
        if not number % PER_DIRECTORY:
            folder.mkdir()
        descriptor = os.open(folder / f"file-{number:07}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        if size:
            os.write(descriptor, content)
        os.close(descriptor)


def _source(top: Path) -> None:
    library = sysconfig.get_path("stdlib")
    shutil.copytree(library, top / "python", symlinks=True, ignore=shutil.ignore_patterns("site-packages"))


def _sparse(top: Path) -> None:
    block = os.urandom(MIB)
    with (top / "sparse").open("wb") as file:
        for number in range(SPARSE_STRETCHES):
            os.pwrite(file.fileno(), block, number * SPARSE_GIB * 1024 * MIB // SPARSE_STRETCHES)
        file.truncate(SPARSE_GIB * 1024 * MIB)


def measure(top: Path) -> tuple[int, int]:
    """How many names there are below a directory, and the bytes of its regular files."""
    names = size = 0
    waiting = [os.fspath(top)]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                names += 1
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                elif entry.is_file(follow_symlinks=False):
                    size += entry.stat(follow_symlinks=False).st_size
    return names, size
