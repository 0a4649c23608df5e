"""Stores that are SQLite files: their schema number is `PRAGMA user_version`.

`bring_up_to_date` does the whole of it: a file that is empty gets its tables, an older one is kept as it was
beside itself (`NAME.schemaN`) and then changed in one transaction, a newer one is refused.  A crash at any
moment leaves the file with the old number or the new one, whole, and the next one to open it goes on.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from appliance.errors import InfrastructureError
from appliance.files import sync_directory
from appliance.ndmp.lazylog import get_logger
from appliance.schema import NewerSchemaError, SchemaError, kept_copy, newest_copy

__all__ = [
    "SqliteSchema",
    "Step",
    "Tell",
    "Upgraded",
    "bring_up_to_date",
    "number_of",
    "refuse_newer",
    "script",
    "to_log",
    "transaction",
]

Step = Callable[[sqlite3.Connection], None]
"""Makes one number out of the number before; runs within a transaction, which it must not end."""

_log = get_logger()


class Upgraded(NamedTuple):
    """A file that was brought up to date: what and where it is, both numbers, and the copy of before."""

    store: str
    file: Path
    was: int
    now: int
    copy: Path

    def __str__(self) -> str:
        """The line for people."""
        return f"{self.file}: the {self.store} has schema {self.now} now; as it was, {self.was}: {self.copy}"


Tell = Callable[[Upgraded], object]


def to_log(done: Upgraded) -> None:
    """Say it in the log."""
    told = {name: str(value) for name, value in done._asdict().items()}
    _log.info("schema brought up to date", **told)


def _nobody(_: sqlite3.Connection) -> str:
    return ""


def _nothing(_: sqlite3.Connection) -> None:
    pass


@dataclass(frozen=True)
class SqliteSchema:
    """The numbers of one kind of file.

    Attributes:
        what: the store, for people: "catalogue".
        steps: by number, from 1 without a gap; the first makes the tables of an empty file.
        first: what an empty file gets besides, when all steps are done.
        user: who uses the file so that it must not change under him, for people; empty: nobody.

    """

    what: str
    steps: Mapping[int, Step]
    first: Step = _nothing
    user: Callable[[sqlite3.Connection], str] = _nobody

    @property
    def newest(self) -> int:
        """The number that this Spanreel writes."""
        return max(self.steps)


def script(text: str) -> Step:
    """A step that is SQL: sqlite3's own executescript would end the transaction around it."""

    def step(connection: sqlite3.Connection) -> None:
        for statement in _statements(text):
            connection.execute(statement)

    return step


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """One write transaction: all of it, or nothing.  The connection's isolation_level is None."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def number_of(connection: sqlite3.Connection) -> int:
    """The file's schema number; 0 when it has none."""
    (number,) = connection.execute("PRAGMA user_version").fetchone()
    return int(number)


def refuse_newer(connection: sqlite3.Connection, path: Path, schema: SqliteSchema) -> int:
    """Return the file's number; raises NewerSchemaError.  The file is only read."""
    number = number_of(connection)
    if number > schema.newest:
        copy = newest_copy(path, schema.newest)
        remedy = "use the newer Spanreel"
        if copy is not None:
            remedy += f", or go back to {copy}, which lacks all that came later"
        raise NewerSchemaError(str(path), schema.what, number, schema.newest, remedy)
    return number


def bring_up_to_date(
    connection: sqlite3.Connection, path: Path, schema: SqliteSchema, tell: Tell = to_log
) -> None:
    """Give the file at `path`, which `connection` has open, the newest form; `tell` hears of an older one.

    Of several that open an older file at once one changes it, and the others wait.  `PRAGMA foreign_keys` is
    to be switched on afterwards: a step may have to make a table anew.  Raises NewerSchemaError; SchemaError
    for a database of another program, or an older one that is in use; InfrastructureError when there is no
    room for the copy; sqlite3.Error.
    """
    if refuse_newer(connection, path, schema) == schema.newest:
        return
    with transaction(connection):
        # Once more under the lock: another process may have done it meanwhile.
        number = refuse_newer(connection, path, schema)
        if number == schema.newest:
            return
        copy = None
        if number > 0:
            copy = _keep(connection, path, schema)
        else:
            _require_empty(connection, path, schema)
        for following in range(max(number, 0) + 1, schema.newest + 1):
            schema.steps[following](connection)
        connection.execute(f"PRAGMA user_version = {schema.newest}")
        if copy is None:
            schema.first(connection)
    if copy is not None:
        tell(Upgraded(schema.what, path, number, schema.newest, copy))


def _require_empty(connection: sqlite3.Connection, path: Path, schema: SqliteSchema) -> None:
    if number_of(connection) or connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone():
        raise SchemaError(f"{path}: a database of another program, and no {schema.what}: name another file")


def _keep(connection: sqlite3.Connection, path: Path, schema: SqliteSchema) -> Path:
    """Keep an older file beside itself.  Whoever calls holds the write lock, so nothing is added meanwhile.

    A copy of that number that is there already is replaced: whoever went back to it has written on since.
    """
    number = number_of(connection)
    user = schema.user(connection)
    if user:
        raise SchemaError(
            f"{path}: {user} of an earlier Spanreel uses this {schema.what}, which has schema {number}: "
            f"wait for that to end, or cancel it there; then it is brought up to {schema.newest}"
        )
    kept = kept_copy(path, number)
    try:
        _copy(path, kept)
    except (OSError, sqlite3.Error) as error:
        raise InfrastructureError(
            f"{path}: this {schema.what} of schema {number} cannot be kept as {kept}: {error}; "
            "nothing was changed: make room there"
        ) from error
    return kept


def _copy(path: Path, kept: Path) -> None:
    """Copy a database; the copy appears whole, and on disk, or not at all."""
    descriptor, name = tempfile.mkstemp(prefix=f".{kept.name}.", dir=path.parent)
    unfinished = Path(name)
    try:
        with (
            contextlib.closing(sqlite3.connect(path)) as source,
            contextlib.closing(sqlite3.connect(unfinished)) as target,
        ):
            source.backup(target)
        os.fsync(descriptor)
        unfinished.replace(kept)
        sync_directory(kept.parent)
    finally:
        os.close(descriptor)
        unfinished.unlink(missing_ok=True)


def _statements(text: str) -> Iterator[str]:
    pending = ""
    for line in text.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            yield pending
            pending = ""
    assert not pending.strip(), f"a step ends in the middle of a statement: {pending!r}"
