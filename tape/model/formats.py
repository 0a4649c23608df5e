"""The forms of the model's files: NAME-NUMBER in each, so that a newer one is told from one that is none.

A cartridge's memory (BARCODE.mam) has the number of its cartridge, the element map that of its library.
"""

from __future__ import annotations

import re
from pathlib import Path

from tape.errors import TapeMisuseError

__all__ = ["require_readable"]


def require_readable(found: object, ours: str, path: Path) -> None:
    """Refuse a file of a newer form than `ours`, or of none; it is left as it is.

    Raises:
        TapeMisuseError: says what was found, and what to do.

    """
    name, _, known = ours.rpartition("-")
    match = re.fullmatch(rf"{re.escape(name)}-(\d{{1,9}})", found) if isinstance(found, str) else None
    if match and int(match[1]) > int(known):
        raise TapeMisuseError(
            f"{path}: a newer Spanreel wrote this: its format is {found}, and this one knows up to {ours}; "
            "nothing was changed: use the newer Spanreel"
        )
    if found != ours:
        raise TapeMisuseError(f"{path} has format {found!r}; this version reads {ours!r}")
