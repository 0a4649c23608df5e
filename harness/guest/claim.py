"""The lab's folder on a machine that is not the lab's: made if it is not there, removed if it is ours.

Argument: {"action": "take" | "release", "folder": DIR, "claim": {"id": ID, ...}, "elsewhere": [DIR...]}
Prints:   {"ours": bool, "claim": {...} | null}

Making a folder is atomic, so of two labs one gets it.  What is in the way and has no claim is never
touched, and nothing on another file system that is mounted below is removed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

NAME = "claim.json"
MARK = "made-by-spanreel-lab"


def read(folder: str) -> dict[str, Any] | None:
    """Return whose the folder is; None if nobody says so."""
    try:
        with open(os.path.join(folder, NAME), encoding="utf-8") as file:
            claim: dict[str, Any] = json.load(file)
            return claim
    except (FileNotFoundError, ValueError):
        return None


def make_base(base: str) -> None:
    """Make the folder around, marked as ours; one that is there is not."""
    try:
        os.makedirs(base)
    except FileExistsError:
        return
    with open(os.path.join(base, MARK), "w", encoding="utf-8"):
        pass


def remove_base(base: str) -> None:
    """Remove the folder around, if a lab made it and this was the last one in it."""
    if os.listdir(base) == [MARK]:
        os.unlink(os.path.join(base, MARK))
        os.rmdir(base)


def take(folder: str, claim: dict[str, Any]) -> dict[str, Any]:
    """Make the folder and claim it; ours already is fine."""
    make_base(os.path.dirname(folder))
    try:
        os.mkdir(folder, 0o700)
    except FileExistsError:
        found = read(folder)
        if found is not None or os.listdir(folder):
            return {"ours": found is not None and found["id"] == claim["id"], "claim": found}
    with open(os.path.join(folder, NAME), "w", encoding="utf-8") as file:
        json.dump(claim, file)
        file.flush()
        os.fsync(file.fileno())
    return {"ours": True, "claim": claim}


def remove(path: str) -> None:
    """Remove a tree of this file system; not there is fine."""
    subprocess.run(["rm", "-rf", "--one-file-system", "--", path], check=True)


def release(folder: str, claim: dict[str, Any], elsewhere: list[str]) -> dict[str, Any]:
    """Remove what the lab made, the claim last, so that an interrupted removal is taken up again."""
    found = read(folder)
    if found is None or found["id"] != claim["id"]:
        return {"ours": False, "claim": found}
    for path in elsewhere:
        remove(path)
    for name in os.listdir(folder):
        if name != NAME:
            remove(os.path.join(folder, name))
    remove(folder)
    remove_base(os.path.dirname(folder))
    return {"ours": True, "claim": None}


def main(argument: dict[str, Any]) -> dict[str, Any]:
    """Do one of the two."""
    folder, claim = argument["folder"], argument["claim"]
    if argument["action"] == "take":
        return take(folder, claim)
    return release(folder, claim, argument["elsewhere"])


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
