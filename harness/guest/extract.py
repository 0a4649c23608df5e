"""Run commands that write parts of a tape image, give the image to GNU tar, and search it on the way.

Argument: {"dumps": [ARGV...], "folder": DIR, "tar": [OPTION...], "needle": TEXT}
Prints:   {"bytes": N, "hits": N, "dump": {"code": N, "said": TEXT}, "tar": {"code": N, "said": TEXT}}

Nothing here knows the format of the image: that is GNU tar's part.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from typing import Any

CHUNK = 1024 * 1024
SAID = 2000


def said(file: Any) -> str:
    """Return the last words of a program."""
    file.seek(0)
    text: str = file.read()[-SAID:].decode("utf-8", "backslashreplace")
    return text


class Pump:
    """Passes an image on, counts its bytes and the hits of a text, also across chunks."""

    def __init__(self, target: Any, needle: bytes) -> None:
        self._target = target
        self._needle = needle
        self._tail = b""
        self._listening = True
        self.size = self.hits = 0

    def take(self, source: Any) -> None:
        """Pass on everything of one source."""
        while chunk := source.read(CHUNK):
            self.size += len(chunk)
            data = self._tail + chunk
            self.hits += data.count(self._needle)
            self._tail = data[-(len(self._needle) - 1) :]
            if self._listening:
                try:
                    self._target.write(chunk)
                except BrokenPipeError:
                    self._listening = False  # tar has seen the end, or failed: its exit code tells

    def close(self) -> None:
        """End the target's input."""
        with contextlib.suppress(BrokenPipeError):
            self._target.close()


def dump(commands: list[list[str]], pump: Pump, errors: Any) -> int:
    """Run one dump after another; return the first exit code that is not 0."""
    for command in commands:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors)
        pump.take(process.stdout)
        if process.wait() != 0:
            return process.returncode
    return 0


def main(argument: dict[str, Any]) -> dict[str, Any]:
    """Dump, search, extract."""
    os.makedirs(argument["folder"])
    tar = ["tar", "--extract", "--file=-", f"--directory={argument['folder']}", *argument["tar"]]
    with tempfile.TemporaryFile() as dump_said, tempfile.TemporaryFile() as tar_said:
        extracting = subprocess.Popen(tar, stdin=subprocess.PIPE, stderr=tar_said)
        pump = Pump(extracting.stdin, argument["needle"].encode())
        code = dump(argument["dumps"], pump, dump_said)
        pump.close()
        return {
            "bytes": pump.size,
            "hits": pump.hits,
            "dump": {"code": code, "said": said(dump_said)},
            "tar": {"code": extracting.wait(), "said": said(tar_said)},
        }


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
