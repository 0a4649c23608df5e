"""Directories' attributes wait until everything is in place.

A directory may be read-only, and its time changes with every name made in it.
They are kept in a file once they are many, so memory stays flat.
"""

import array
import marshal
import tempfile
from collections.abc import Iterator

from appliance.archive.restore_attributes import Attributes

__all__ = ["Waiting"]

# Some 20,000 directories; what is beyond goes to a temporary file.
_MEMORY_BYTES = 4 * 1024 * 1024


class Waiting:
    """A stack of (target number, components, member path, attributes); 8 bytes each in memory."""

    def __init__(self) -> None:
        # Closed by `close`; its life is this object's.
        self._file = tempfile.SpooledTemporaryFile(max_size=_MEMORY_BYTES)  # noqa: SIM115
        self._starts = array.array("Q")

    def close(self) -> None:
        """Drop the file."""
        self._file.close()

    def push(self, target: int, components: list[bytes], path: bytes, attributes: Attributes) -> None:
        """Put a directory on the stack.  Raises `OSError` if the temporary directory is full."""
        self._starts.append(self._file.tell())
        marshal.dump((target, components, path, tuple(attributes)), self._file)

    def pop_all(self) -> Iterator[tuple[int, list[bytes], bytes, Attributes]]:
        """Yield what was pushed, last first: so children come before their parents lose modes."""
        while self._starts:
            self._file.seek(self._starts.pop())
            # Written by `push` a moment ago, to a file without a name.
            target, components, path, attributes = marshal.load(self._file)  # noqa: S302
            yield target, components, path, Attributes(*attributes)
