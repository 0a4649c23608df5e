"""Change a tree by chance, as people do: make, write, append, delete, link, move.

Argument: {"number": N, "folder": DIR, "steps": N, "until": FILE}
Prints:   {"steps": N}

With `until` it goes on, beyond `steps`, until that file is there, and takes it away.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
import time
from typing import Any

# Few names, so that one takes another's place often.
NAMES = "abcdefgh"
# Between two changes of a tree that is changed for as long as something else takes.
PAUSE_SECONDS = 0.002
SECONDS_MAX = 120.0


def everything(folder: str) -> tuple[list[str], list[str]]:
    """Return directories and files below a folder, in order."""
    folders, files = [folder], []
    for top, inner, names in os.walk(folder):
        inner.sort()
        folders += [os.path.join(top, name) for name in inner]
        files += [os.path.join(top, name) for name in sorted(names)]
    return folders, files


def change(folder: str, generator: random.Random) -> None:
    """Do one thing; what cannot be done is left."""
    folders, files = everything(folder)
    target = os.path.join(generator.choice(folders), generator.choice(NAMES))
    what = generator.randrange(7)
    if what == 0 and not os.path.lexists(target):
        os.mkdir(target)
    elif what in (1, 2) and not os.path.isdir(target):
        with open(target, "ab" if what == 1 else "wb") as file:
            file.write(generator.randbytes(generator.randrange(20000)))
    elif what == 3 and files:
        os.unlink(generator.choice(files))
    elif what == 4 and len(folders) > 1:
        shutil.rmtree(generator.choice(folders[1:]))
    elif what == 5 and files and not os.path.lexists(target):
        os.link(generator.choice(files), target)
    elif what == 6 and not os.path.lexists(target):
        move([*folders[1:], *files], target, generator)


def move(candidates: list[str], target: str, generator: random.Random) -> None:
    """Rename one of these, but no directory into itself."""
    chosen = generator.choice(candidates) if candidates else target
    if not (target + "/").startswith(chosen + "/"):
        os.rename(chosen, target)


def main(argument: dict[str, Any]) -> dict[str, int]:
    """Change until there were enough changes."""
    generator = random.Random(argument["number"])
    until = argument.get("until", "")
    deadline = time.monotonic() + SECONDS_MAX
    steps = 0
    while steps < argument["steps"] or (until and not os.path.exists(until) and time.monotonic() < deadline):
        change(argument["folder"], generator)
        steps += 1
        if until:
            time.sleep(PAUSE_SECONDS)
    if until and os.path.exists(until):
        os.unlink(until)
    return {"steps": steps}


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
