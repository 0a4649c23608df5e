"""The catalogue: one SQLite file, its schema, and transactions.

WAL lets `spanreel ls` read while a job writes.  A connection belongs to one thread.
"""

from __future__ import annotations

import re
import sqlite3
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Self

from appliance.backupserver import process
from appliance.errors import ConfigurationError, InfrastructureError
from appliance.schema_sqlite import (
    SqliteSchema,
    Tell,
    bring_up_to_date,
    refuse_newer,
    script,
    to_log,
    transaction,
)

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


@cache
def schema() -> SqliteSchema:
    """The catalogue's schema: the numbered scripts in migrations/, and the jobs that none may disturb."""
    steps = {}
    for path in _MIGRATIONS.iterdir():
        match = _FILE_NAME.match(path.name)
        if match:
            steps[int(match[1])] = script(path.read_text(encoding="utf-8"))
    return SqliteSchema("catalogue", steps, _identify, _running_jobs)


def _identify(connection: sqlite3.Connection) -> None:
    connection.execute("INSERT INTO catalogue VALUES (?, ?)", (str(uuid.uuid4()), time.time()))


def _running_jobs(connection: sqlite3.Connection) -> str:
    """The jobs that run, for people: they were started by the Spanreel that knows the schema as it is."""
    rows = connection.execute("SELECT id, process FROM job WHERE status = 'running' ORDER BY id").fetchall()
    return ", ".join(f"job {number}" for number, name in rows if process.is_alive(name))


class Catalogue:
    """An open catalogue, with its schema brought up to date; what an earlier release wrote is kept as a copy.

    Raises InfrastructureError when the file cannot be opened or is no database, SchemaError when a newer
    Spanreel wrote it, or jobs of an older one use it.
    """

    def __init__(self, path: Path, *, durable: bool = True, tell: Tell = to_log) -> None:
        """`durable` False: a crash of the machine may lose the last transactions (never the file).

        `tell` hears of an earlier release's catalogue that was brought up to date.
        """
        self.path = path
        try:
            self.connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
        except sqlite3.Error as error:
            raise InfrastructureError(f"cannot open the catalogue {path}: {error}") from error
        try:
            self._prepare(durable, tell)
        except sqlite3.Error as error:
            self.connection.close()
            raise InfrastructureError(f"cannot use the catalogue {path}: {error}") from error
        except BaseException:
            self.connection.close()
            raise

    def _prepare(self, durable: bool, tell: Tell) -> None:
        # Before anything is changed, the kind of journal too.
        refuse_newer(self.connection, self.path, schema())
        self._write_ahead()
        self.connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
        self.connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        bring_up_to_date(self.connection, self.path, schema(), tell)
        self.connection.execute("PRAGMA foreign_keys = ON")
        self.connection.row_factory = sqlite3.Row
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

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """One write transaction: all of it, or nothing."""
        with transaction(self.connection):
            yield self.connection

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


def open_catalogue(path: Path, tell: Tell = to_log) -> Catalogue:
    """Open the catalogue, make it at first, and take note of jobs that died."""
    if not path.parent.is_dir():
        raise ConfigurationError(
            f"the catalogue's directory {path.parent} does not exist: make it, or change "
            "backup_server.catalogue"
        )
    catalogue = Catalogue(path, tell=tell)
    catalogue.reap()
    return catalogue
