r"""How paths and times look to people and in JSON.

Paths are bytes everywhere inside.  People see UTF-8, and `\xNN` for every byte that is not UTF-8 or
would act on a terminal; JSON carries the same text and, beside it, the exact bytes in base64.
"""

from __future__ import annotations

import base64
import binascii
import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime

# Cc: control characters.  Cs: the surrogates that stand for bytes that are no UTF-8.  Zl, Zp: line
# and paragraph separators, which would make one name look like two.
_ESCAPED_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})

# Bidirectional overrides and isolates: a name holding one can show as a different name.
_BIDIRECTIONAL = frozenset(map(chr, [*range(0x202A, 0x202F), *range(0x2066, 0x206A)]))


def show_path(path: bytes) -> str:
    r"""Return `path` as one safe line of text; what cannot be shown is written as `\xNN`."""
    text = path.decode("utf-8", "surrogateescape")
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escape(char) if _is_unsafe(char) else char for char in text)


def _is_unsafe(char: str) -> bool:
    return char in _BIDIRECTIONAL or unicodedata.category(char) in _ESCAPED_CATEGORIES


def _escape(char: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in char.encode("utf-8", "surrogateescape"))


def path_json(path: bytes, key: str = "path") -> dict[str, str]:
    """Return `path` for a JSON object: `key` for people, `key_base64` with the exact bytes."""
    return {key: show_path(path), f"{key}_base64": base64.b64encode(path).decode("ascii")}


def path_from_json(entry: Mapping[str, object], key: str = "path") -> bytes:
    """Return the path that `path_json` wrote, or one that a person wrote as plain text under `key`.

    The base64 form wins, because the text form of a name that is not UTF-8 is only for reading.
    Raises ValueError naming the key that is missing or malformed.
    """
    encoded = entry.get(f"{key}_base64")
    if encoded is None:
        text = entry.get(key)
        if not isinstance(text, str):
            raise ValueError(f"{key!r} must be a string")
        return text.encode("utf-8", "surrogateescape")
    if not isinstance(encoded, str):
        raise ValueError(f"'{key}_base64' must be a string")
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"'{key}_base64' is not base64: {error}") from error


def local_time(moment: datetime | float) -> str:
    """Return a stored UTC time (aware datetime, or seconds since the epoch) in local time with its zone."""
    if isinstance(moment, int | float):
        moment = datetime.fromtimestamp(moment, UTC)
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")
