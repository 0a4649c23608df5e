"""Write one tape file to standard output: `python -m tape.model FOLDER BARCODE FILE_NUMBER | tar -tf -`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from tape.errors import TapeMisuseError
from tape.model.reader import dump

__all__ = ["main"]


def main(arguments: Sequence[str]) -> int:
    """Dump; return 0, 1 if there is no such tape file, 2 if called wrongly."""
    if len(arguments) != 3 or not arguments[2].isdigit():
        sys.stderr.write("usage: python -m tape.model FOLDER BARCODE FILE_NUMBER\n")
        return 2
    folder, barcode, number = arguments
    try:
        for record in dump(Path(folder), barcode, int(number)):
            sys.stdout.buffer.write(record)
    except TapeMisuseError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
