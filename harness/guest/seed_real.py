"""Copy a bounded part of this machine's own /usr, and make many small files.

Argument: {"number": N, "roots": [{"local": DIR, "bytes": N, "small_files": N}], "sources": [DIR]}
Prints:   {"files": N, "bytes": N}

Everything is a function of the seed number and of /usr: two runs write the same.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
from collections.abc import Iterator
from typing import Any

# Larger files would make one file of the whole budget.
FILE_LIMIT = 8 * 1024 * 1024
# A directory of this many entries is large enough to be interesting.
FILES_PER_FOLDER = 500
SMALL_FILE_LIMIT = 600
# Incompressible data, so that nobody mistakes compression for speed: this part of the budget.
RANDOM_SHARE = 8
# Times of generated files lie in 2001, with nanoseconds that no clock would give.
EPOCH_NS = 1_000_000_000_123_456_789


def candidates(sources: list[str], number: int) -> Iterator[tuple[str, str]]:
    """Yield (source file, relative name) in a repeatable order that differs between roots."""
    order = sources[number % len(sources) :] + sources[: number % len(sources)]
    for source in order:
        for folder, names, files in os.walk(source):
            names.sort()
            for name in sorted(files):
                path = os.path.join(folder, name)
                yield path, os.path.relpath(path, "/")


def copy_file(path: str, target: str) -> int | None:
    """Copy one file or link with its mode and times; return its size, None if it does not count."""
    if os.path.islink(path):
        os.symlink(os.readlink(path), target)
        return 0
    if not os.path.isfile(path) or os.path.getsize(path) > FILE_LIMIT:
        return None
    shutil.copyfile(path, target)
    shutil.copystat(path, target)
    return os.path.getsize(target)


def copy_tree(sources: list[str], number: int, root: str, budget: int) -> tuple[int, int]:
    """Copy until the budget is used; return files and bytes."""
    files = total = 0
    for path, relative in candidates(sources, number):
        if total >= budget:
            break
        target = os.path.join(root, "real", relative)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        try:
            size = copy_file(path, target)
        except FileExistsError:
            continue  # two sources overlap
        except OSError as error:
            sys.stderr.write(f"seed: {path}: {error}\n")
            continue
        if size is not None:
            files, total = files + 1, total + size
    return files, total


def random_files(generator: random.Random, root: str, budget: int) -> tuple[int, int]:
    """Write incompressible files of odd sizes up to the budget."""
    folder = os.path.join(root, "random")
    os.makedirs(folder, exist_ok=True)
    count = total = 0
    while total < budget:
        size = min(generator.randrange(1, 3 * 1024 * 1024), budget - total)
        with open(os.path.join(folder, f"{count:04d}.bin"), "wb") as file:
            file.write(generator.randbytes(size))
        count, total = count + 1, total + size
    return count, total


def small_files(generator: random.Random, root: str, count: int) -> tuple[int, int]:
    """Write many small files."""
    total = 0
    for index in range(count):
        folder = os.path.join(root, "small", f"d{index // FILES_PER_FOLDER:03d}")
        if index % FILES_PER_FOLDER == 0:
            os.makedirs(folder, exist_ok=True)
        data = generator.randbytes(generator.randrange(SMALL_FILE_LIMIT))
        path = os.path.join(folder, f"f{index:06d}")
        with open(path, "wb") as file:
            file.write(data)
        os.utime(path, ns=(EPOCH_NS + index, EPOCH_NS + index * 1_000_003))
        total += len(data)
    return count, total


def main(argument: dict[str, Any]) -> dict[str, int]:
    """Seed every root."""
    files = total = 0
    sources = [source for source in argument["sources"] if os.path.isdir(source)]
    for index, root in enumerate(argument["roots"]):
        number = argument["number"] + index
        generator = random.Random(f"{number}:{root['name']}")
        share = root["bytes"] // RANDOM_SHARE
        for count, size in (
            random_files(generator, root["local"], share),
            copy_tree(sources, number, root["local"], root["bytes"] - share) if sources else (0, 0),
            small_files(generator, root["local"], root["small_files"]),
        ):
            files, total = files + count, total + size
    return {"files": files, "bytes": total}


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
