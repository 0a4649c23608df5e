"""Collecting the output of commands that stream."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable
from typing import BinaryIO, cast

Streaming = Callable[[BinaryIO, BinaryIO, BinaryIO], int]


def collect(command: Streaming, stdin: bytes) -> tuple[int, bytes, bytes]:
    """Run `command(stdin, stdout, stderr)` and return its code and both outputs.

    The outputs are temporary files, not pipes: a command may write any amount to either without
    anybody having to read both at once.
    """
    with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        source.write(stdin)
        source.seek(0)
        code = command(cast("BinaryIO", source), cast("BinaryIO", out), cast("BinaryIO", err))
        out.seek(0, io.SEEK_SET)
        err.seek(0, io.SEEK_SET)
        return code, out.read(), err.read()
