"""FOLDER/library.json: what the library in a folder consists of, to open it by its folder alone."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from tape.errors import TapeMisuseError
from tape.model.formats import require_readable
from tape.model.spec import LibrarySpec

__all__ = ["read_description", "require_readable_library", "write_description"]

_FILE = "library.json"
_FORMAT = "spanreel-library-1"


def write_description(folder: Path, spec: LibrarySpec) -> None:
    """Keep a description, wholly or not at all."""
    text = json.dumps({"format": _FORMAT, **asdict(spec)}, indent=1)
    temporary = folder / f"{_FILE}.new"
    temporary.write_text(text, encoding="ascii")
    temporary.replace(folder / _FILE)


def read_description(folder: Path) -> LibrarySpec | None:
    """Return the library's description; None when the folder has never held a library.

    Raises:
        TapeMisuseError: the file is damaged, or of another version.

    """
    path = folder / _FILE
    try:
        values = json.loads(path.read_text(encoding="ascii"))
        require_readable(values.pop("format"), _FORMAT, path)
        lists = {key: tuple(values[key]) for key in ("drive_serials", "slots")}
        return LibrarySpec(**{**values, **lists})
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError, AttributeError):
        raise TapeMisuseError(f"{path} is no description of a library") from None


def require_readable_library(folder: Path) -> None:
    """Refuse the library of a newer Spanreel in `folder`; a damaged description is nobody's, and made anew.

    Raises:
        TapeMisuseError: it is a newer one's.

    """
    path = folder / _FILE
    try:
        found = json.loads(path.read_text(encoding="ascii"))["format"]
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return
    require_readable(found, _FORMAT, path)
