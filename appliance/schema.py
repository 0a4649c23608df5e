"""Schema numbers: in which form a store was written, and whether this Spanreel can read it.

Every store that outlives its process carries such a number (docs/upgrade.md lists them).  One that is newer
than this Spanreel is refused and left as it is; one that is older is brought up to date by numbered steps,
one after the other.  Here is what all stores share, and what stores that are documents (JSON, TOML) do;
`appliance.schema_sqlite` does it for SQLite.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance.errors import ConfigurationError

__all__ = ["DocumentSchema", "NewerSchemaError", "SchemaError", "kept_copy", "newest_copy", "release"]

Document = dict[str, Any]
Upgrade = Callable[[Document], Document]
"""Makes a document of one number out of one of the number before; its own `schema` is set by the caller."""


class SchemaError(ConfigurationError):
    """A store has no number, or one that this Spanreel does not know."""


class NewerSchemaError(SchemaError):
    """A newer Spanreel wrote a store."""

    def __init__(self, where: str, what: str, number: int, newest: int, remedy: str) -> None:
        """`where` is the file; `what` it is, for people; `remedy` is what to do."""
        super().__init__(
            f"{where}: a newer Spanreel wrote this {what}: it has schema {number}, and this one "
            f"({release()}) knows up to {newest}; nothing was changed: {remedy}"
        )


def release() -> str:
    """The release of this Spanreel; "checkout" where it is not installed."""
    # Here, because every command reads a configuration, and next to none of them refuses one.
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("spanreel")
    except PackageNotFoundError:
        return "checkout"


def kept_copy(path: Path, number: int) -> Path:
    """Where the store at `path` is kept as it was, before it is brought up to date from schema `number`."""
    return path.with_name(f"{path.name}.schema{number}")


def newest_copy(path: Path, newest: int) -> Path | None:
    """The newest kept copy of the store at `path` that a Spanreel which knows up to `newest` can read."""
    candidates = (kept_copy(path, number) for number in range(newest, 0, -1))
    return next((copy for copy in candidates if copy.exists()), None)


@dataclass(frozen=True)
class DocumentSchema:
    """The numbers of a store that is a document with a key `schema`.

    Attributes:
        what: the store, for people: "map".
        newest: the number that this Spanreel writes.
        upgrades: by number, what makes it out of the number before; 2 to `newest`, none for the first.

    """

    what: str
    newest: int
    upgrades: Mapping[int, Upgrade]

    def number(self, document: object, where: str) -> int:
        """The number of a document.  Raises SchemaError when there is none."""
        found = document.get("schema") if isinstance(document, dict) else None
        if type(found) is not int or found < 1:
            raise SchemaError(
                f"{where}: not a {self.what}: it must have a key `schema` with a number up to {self.newest}"
            )
        return found

    def require_known(self, document: object, where: str, remedy: str) -> int:
        """Return the number of a document.  Raises NewerSchemaError, whose text ends with `remedy`."""
        found = self.number(document, where)
        if found > self.newest:
            raise NewerSchemaError(where, self.what, found, self.newest, remedy)
        return found

    def current(self, document: Document, where: str, remedy: str) -> Document:
        """The document as this Spanreel writes it; the one given is left as it is.

        Raises SchemaError, NewerSchemaError.
        """
        for number in range(self.require_known(document, where, remedy) + 1, self.newest + 1):
            document = {**self.upgrades[number](document), "schema": number}
        return document
