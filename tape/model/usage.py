"""A cartridge's memory (MAM), kept beside its file as BARCODE.mam: what drives count, what hosts store."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tape.errors import TapeMisuseError

__all__ = ["Usage"]

_SUFFIX = ".mam"


@dataclass(slots=True)
class Usage:
    """Counts over a cartridge's life and since it was loaded last, and the host's attributes by identifier.

    Attributes:
        loads: how often it was threaded.
        written, read: bytes of records in its life.
        write_errors, read_errors: objects that could not be written or read.
        mount_written, mount_read, mount_write_errors, mount_read_errors: the same since the last load.
        attributes: identifier (decimal text, as JSON wants it) to value in hexadecimal.

    """

    loads: int = 0
    written: int = 0
    read: int = 0
    write_errors: int = 0
    read_errors: int = 0
    mount_written: int = 0
    mount_read: int = 0
    mount_write_errors: int = 0
    mount_read_errors: int = 0
    attributes: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, cartridge: Path) -> Usage:
        """Read the memory of the cartridge in a file.  Raises TapeMisuseError for a memory that is none."""
        path = cartridge.with_suffix(_SUFFIX)
        try:
            return cls(**json.loads(path.read_text(encoding="ascii")))
        except FileNotFoundError:
            return cls()
        except (ValueError, TypeError):
            raise TapeMisuseError(f"{path} is no cartridge memory") from None

    def save(self, cartridge: Path) -> None:
        """Keep it, wholly or not at all."""
        path = cartridge.with_suffix(_SUFFIX)
        temporary = path.with_suffix(".mam-new")
        temporary.write_text(json.dumps(asdict(self)), encoding="ascii")
        temporary.replace(path)

    def begin_mount(self) -> None:
        """Count a load."""
        self.loads += 1
        self.mount_written = self.mount_read = self.mount_write_errors = self.mount_read_errors = 0

    def count_written(self, length: int) -> None:
        """Count a record that was written."""
        self.written += length
        self.mount_written += length

    def count_read(self, length: int) -> None:
        """Count a record that was read."""
        self.read += length
        self.mount_read += length

    def count_error(self, *, write: bool) -> None:
        """Count an object that could not be used."""
        if write:
            self.write_errors += 1
            self.mount_write_errors += 1
        else:
            self.read_errors += 1
            self.mount_read_errors += 1
