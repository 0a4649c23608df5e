"""Write files of given sizes, filled by chance.

Argument: {"number": N, "roots": [{"local": DIR, "files": [[NAME, SIZE]...]}]}
Prints:   {"files": N, "bytes": N}

What is written is a function of the number and the names.
"""

from __future__ import annotations

import json
import os
import random
import sys
from typing import Any


def main(argument: dict[str, Any]) -> dict[str, int]:
    """Write all files; what is there already is replaced."""
    files = total = 0
    for root in argument["roots"]:
        for name, size in root["files"]:
            path = os.path.join(root["local"], name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            generator = random.Random(f"{argument['number']} {name}")
            with open(path, "wb") as file:
                file.write(generator.randbytes(size))
            files, total = files + 1, total + size
    return {"files": files, "bytes": total}


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
