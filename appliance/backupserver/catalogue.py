"""The catalogue: one SQLite file, its schema, and transactions.

WAL lets `spanreel ls` read while a job writes.  A connection belongs to one thread.
"""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from appliance.backupserver import process
from appliance.errors import ConfigurationError, InfrastructureError

BUSY_TIMEOUT_S = 60.0
"""A writer waits this long for another; a batch of file history takes one or two."""

BUSY_RETRY_S = 0.01
"""Between two tries to turn the write-ahead log on, which takes a millisecond."""

CACHE_KIB = 64 << 10
"""Page cache of a connection: file history of some hundred thousand names is inserted without rereading."""

REAPED = "its process died"
"""The reason of a job that nobody could end."""

_MIGRATIONS = Path(__file__).parent / "migrations"
_FILE_NAME = re.compile(r"^(\d{4})\.sql$")
_SIGN = 1 << 63
_MODULUS = 1 << 64


def signed(number: int) -> int:
    """The 64 bits of an unsigned number as SQLite stores them."""
    return number - _MODULUS if number >= _SIGN else number


def unsigned(number: int) -> int:
    """The reverse of `signed`."""
    return number % _MODULUS


def migrations() -> dict[int, Path]:
    """The numbered schema scripts, by number."""
    found = {}
    for path in sorted(_MIGRATIONS.iterdir()):
        match = _FILE_NAME.match(path.name)
        if match:
            found[int(match[1])] = path
    return found


class Catalogue:
    """An open catalogue, with its schema brought up to date; what an earlier release wrote is kept as a copy.

    Raises InfrastructureError when the file cannot be opened or is no database, ConfigurationError when a
    newer Spanreel wrote it.
    """

    def __init__(self, path: Path, *, durable: bool = True) -> None:
        """`durable` False: a crash of the machine may lose the last transactions (never the file)."""
        self.path = path
        try:
            self.connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
        except sqlite3.Error as error:
            raise InfrastructureError(f"cannot open the catalogue {path}: {error}") from error
        try:
            self._prepare(durable)
        except sqlite3.Error as error:
            self.connection.close()
            raise InfrastructureError(f"cannot use the catalogue {path}: {error}") from error
        except BaseException:
            self.connection.close()
            raise

    def _prepare(self, durable: bool) -> None:
        self.connection.row_factory = sqlite3.Row
        self._write_ahead()
        self.connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
        self.connection.execute("PRAGMA foreign_keys = ON")
        self.connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        self._migrate()
        self.uuid: str = self.connection.execute("SELECT uuid FROM catalogue").fetchone()[0]

    def _write_ahead(self) -> None:
        """Turn the write-ahead log on.

        While another first starter does the same, SQLite says "locked" at once, whatever its time limit is.
        """
        deadline = time.monotonic() + BUSY_TIMEOUT_S
        while True:
            try:
                self.connection.execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() >= deadline:
                    raise
                time.sleep(BUSY_RETRY_S)
            else:
                return

    def _migrate(self) -> None:
        scripts = migrations()
        version = self._version()
        if version == max(scripts):
            return
        if 0 < version < max(scripts):
            self._keep_copy(version)
        # Under the write lock, so that of two first starters one creates the schema and one waits.
        with self.transaction():
            version = self._version()
            if version > max(scripts):
                raise ConfigurationError(
                    f"the catalogue {self.path} has schema {version}; this Spanreel knows up to "
                    f"{max(scripts)}: use the newer Spanreel that wrote it"
                )
            for number in range(version + 1, max(scripts) + 1):
                for statement in _statements(scripts[number].read_text(encoding="utf-8")):
                    self.connection.execute(statement)
                self.connection.execute(f"PRAGMA user_version = {number}")
            if version == 0:
                self.connection.execute(
                    "INSERT INTO catalogue VALUES (?, ?)", (str(uuid.uuid4()), time.time())
                )

    def _keep_copy(self, version: int) -> None:
        """Keep the catalogue as an earlier release wrote it, beside it: `NAME.schemaN`, if not there yet.

        It appears whole or not at all; two that start at once make the same.
        """
        kept = self.path.with_name(f"{self.path.name}.schema{version}")
        if kept.exists():
            return
        descriptor, name = tempfile.mkstemp(prefix=f".{kept.name}.", dir=self.path.parent)
        os.close(descriptor)
        unfinished = Path(name)
        try:
            with contextlib.closing(sqlite3.connect(unfinished)) as copy:
                self.connection.backup(copy)
            unfinished.replace(kept)
        finally:
            unfinished.unlink(missing_ok=True)

    def _version(self) -> int:
        version: int = self.connection.execute("PRAGMA user_version").fetchone()[0]
        return version

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """One write transaction: all of it, or nothing."""
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            yield self.connection
        except BaseException:
            self.connection.execute("ROLLBACK")
            raise
        self.connection.execute("COMMIT")

    def reap(self) -> int:
        """Mark running jobs whose process died as failed and drop their leases; return how many jobs."""
        rows = self.connection.execute("SELECT id, process FROM job WHERE status = 'running'").fetchall()
        holders = self.connection.execute("SELECT resource, process FROM lease").fetchall()
        dead = [(time.time(), row["id"]) for row in rows if not process.is_alive(row["process"])]
        stale = [tuple(row) for row in holders if not process.is_alive(row["process"])]
        if not dead and not stale:
            return 0
        with self.transaction() as connection:
            connection.executemany(
                f"UPDATE job SET status = 'failed', reason = '{REAPED}', ended = ?"  # noqa: S608
                " WHERE id = ? AND status = 'running'",
                dead,
            )
            connection.executemany("DELETE FROM lease WHERE resource = ? AND process = ?", stale)
        return len(dead)

    def close(self) -> None:
        """Close the file; safe to call twice."""
        self.connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _statements(script: str) -> Iterator[str]:
    """The statements of a script: sqlite3's own executescript would end the transaction around it."""
    pending = ""
    for line in script.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            yield pending
            pending = ""
    assert not pending.strip(), f"a migration ends in the middle of a statement: {pending!r}"


def open_catalogue(path: Path) -> Catalogue:
    """Open the catalogue, make it at first, and take note of jobs that died."""
    if not path.parent.is_dir():
        raise ConfigurationError(
            f"the catalogue's directory {path.parent} does not exist: make it, or change "
            "backup_server.catalogue"
        )
    catalogue = Catalogue(path)
    catalogue.reap()
    return catalogue
