"""Count how often a text occurs in files and below folders, byte for byte.

Argument: {"needle": TEXT, "paths": [PATH...]}
Prints:   {"searched": {FILE: BYTES}, "found": {FILE: COUNT}}

A path that is not there is simply not in `searched`: the caller decides whether that is right.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from typing import Any

CHUNK = 1024 * 1024


def count(path: str, needle: bytes) -> tuple[int, int]:
    """Return the file's size and the number of hits, also across chunks."""
    size = hits = 0
    tail = b""
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            size += len(chunk)
            data = tail + chunk
            hits += data.count(needle)
            tail = data[-(len(needle) - 1) :]
    return size, hits


def files(path: str) -> Iterator[str]:
    """Yield a file itself, or all regular files below a folder."""
    if not os.path.isdir(path):
        if os.path.exists(path):
            yield path
        return
    for folder, _, names in os.walk(path):
        for name in sorted(names):
            full = os.path.join(folder, name)
            if os.path.isfile(full) and not os.path.islink(full):
                yield full


def main(argument: dict[str, Any]) -> dict[str, dict[str, int]]:
    """Search everything."""
    needle = argument["needle"].encode()
    searched: dict[str, int] = {}
    found: dict[str, int] = {}
    for path in argument["paths"]:
        for name in files(path):
            searched[name], hits = count(name, needle)
            if hits:
                found[name] = hits
    return {"searched": searched, "found": found}


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
