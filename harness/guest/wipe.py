"""Delete everything below local roots, but not the roots, and nothing at or below kept paths.

Argument: {"roots": [{"local": DIR, "keep": [DIR...]}]}
Prints:   {"removed": N}

Mount points (a junction below a part) are kept: what is mounted there belongs to somebody else.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any


def wipe(folder: bytes, keep: set[bytes]) -> tuple[int, bool]:
    """Delete what is in a folder; return how many things went and whether it is empty now."""
    removed, clean = 0, True
    for entry in list(os.scandir(folder)):
        if entry.path in keep or (entry.is_dir(follow_symlinks=False) and os.path.ismount(entry.path)):
            clean = False
        elif entry.is_dir(follow_symlinks=False):
            os.chmod(entry.path, 0o700)
            count, empty = wipe(entry.path, keep)
            removed += count
            if empty:
                os.rmdir(entry.path)
                removed += 1
            clean = clean and empty
        else:
            os.unlink(entry.path)
            removed += 1
    return removed, clean


def main(argument: dict[str, Any]) -> dict[str, int]:
    """Wipe every root."""
    removed = 0
    for root in argument["roots"]:
        keep = {os.fsencode(path) for path in root["keep"]}
        removed += wipe(os.fsencode(root["local"]), keep)[0]
    return {"removed": removed}


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
