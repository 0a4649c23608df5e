"""A formatter for ndmjob's data agent: tar, with file history, in Python's own tarfile.

ndmjob runs it as `wrap_tar -c|-x -E NAME=VALUE ... [ORIGINAL @FH_INFO DESTINATION ...]`; the image is its
standard output or input, and descriptor 3 takes lines: HF for a file of the history, DR for a part to read.
"""

from __future__ import annotations

import os
import sys
import tarfile
from pathlib import Path
from urllib.parse import quote_from_bytes

EVERYTHING = "DR 0 9223372036854775807\n"
TYPES = {tarfile.DIRTYPE: "d", tarfile.SYMTYPE: "l", tarfile.FIFOTYPE: "p"}


def main(words: list[str]) -> None:
    """Do what ndmjob asks for."""
    operation, env, triples = "", {}, []
    rest = iter(words)
    for word in rest:
        if word in ("-c", "-x", "-t"):
            operation = word
        elif word == "-E":
            name, _, value = next(rest).partition("=")
            env[name] = value
        elif word == "-B":
            next(rest)
        elif not word.startswith("-"):
            triples = [word, *rest]
    with open(3, "w", encoding="ascii") as lines:
        if operation == "-c":
            create(Path(env["FILESYSTEM"]), lines)
        else:
            lines.write(EVERYTHING)
            lines.flush()
            wishes = list(zip(triples[::3], triples[2::3], strict=True))
            extract(wishes or [("", env.get("PREFIX", "/"))])


def create(root: Path, lines: object) -> None:
    """Write the image of a tree, and a line for each name in it."""
    with tarfile.open(fileobj=sys.stdout.buffer, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        for path in [root, *sorted(root.rglob("*"))]:
            info = archive.gettarinfo(path, arcname="./" + str(path.relative_to(root)))
            name = quote_from_bytes(os.fsencode("/" + str(path.relative_to(root)).removeprefix(".")))
            facts = f"f{TYPES.get(info.type, '-')} m{info.mode:04o} s{info.size} u{info.uid} g{info.gid}"
            lines.write(f"HF {name} @{archive.offset} {facts} tm{int(info.mtime)}\n")  # type: ignore[attr-defined]
            if info.isreg():
                with path.open("rb") as data:
                    archive.addfile(info, data)
            else:
                archive.addfile(info)


def extract(wishes: list[tuple[str, str]]) -> None:
    """Restore what was asked for, each to its destination."""
    with tarfile.open(fileobj=sys.stdin.buffer, mode="r|") as archive:
        for info in archive:
            path = "/" + info.name.removeprefix(".").strip("/")
            for original, destination in wishes:
                top = "/" + original.strip("/")
                if path == top or path.startswith(top.rstrip("/") + "/"):
                    place = Path(destination.rstrip("/") + path[len(top.rstrip("/")) :].rstrip("/"))
                    place.parent.mkdir(parents=True, exist_ok=True)
                    if info.isdir():
                        place.mkdir(exist_ok=True)
                    elif info.isreg():
                        data = archive.extractfile(info)
                        assert data is not None
                        place.write_bytes(data.read())
                        place.chmod(info.mode)


if __name__ == "__main__":
    main(sys.argv[1:])
