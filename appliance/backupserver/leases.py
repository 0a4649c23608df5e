"""Leases on drives and cartridges: one holder at a time, among all processes that share the catalogue."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from appliance.backupserver import process
from appliance.backupserver.catalogue import Catalogue


def drive(serial: str) -> str:
    """The resource name of a drive."""
    return f"drive:{serial}"


def cartridge(barcode: str) -> str:
    """The resource name of a cartridge."""
    return f"cartridge:{barcode}"


@dataclass(frozen=True)
class Lease:
    """Who holds what."""

    resource: str
    holder: str
    process: str
    since: float

    def __str__(self) -> str:
        return f"{self.resource} is in use by {self.holder} ({process.show(self.process)})"


class Leases:
    """The leases of one job: taken one by one, released together at the latest when it ends."""

    def __init__(self, catalogue: Catalogue, holder: str) -> None:
        self._catalogue = catalogue
        self._holder = holder
        self._process = process.identity()
        self._held: set[str] = set()

    def take(self, resource: str) -> Lease | None:
        """Take a lease; None when it is ours now, else the one who holds it.

        One whose process died is taken over.
        """
        with self._catalogue.transaction() as connection:
            row = connection.execute("SELECT * FROM lease WHERE resource = ?", (resource,)).fetchone()
            if row is not None and row["process"] == self._process and resource in self._held:
                return None
            if row is not None and process.is_alive(row["process"]):
                return Lease(**dict(row))
            connection.execute(
                "INSERT OR REPLACE INTO lease VALUES (?, ?, ?, ?)",
                (resource, self._holder, self._process, time.time()),
            )
        self._held.add(resource)
        return None

    def release(self, resource: str) -> None:
        """Give one lease back."""
        if resource not in self._held:
            return
        with self._catalogue.transaction() as connection:
            connection.execute(
                "DELETE FROM lease WHERE resource = ? AND process = ?", (resource, self._process)
            )
        self._held.discard(resource)

    def release_all(self) -> None:
        """Give all of them back."""
        for resource in sorted(self._held):
            self.release(resource)


def take_all(catalogue: Catalogue, resources: Sequence[str], holder: str, until: float) -> list[Lease]:
    """Take all of them until a time, for no process; none if some are held: those are returned."""
    with catalogue.transaction() as connection:
        there = held(catalogue)
        if others := [there[resource] for resource in resources if resource in there]:
            return others
        now, process_ = time.time(), process.until(until)
        connection.executemany(
            "INSERT OR REPLACE INTO lease VALUES (?, ?, ?, ?)",
            [(resource, holder, process_, now) for resource in resources],
        )
    return []


def release_timed(catalogue: Catalogue) -> int:
    """Give back all that are held for a time; return how many."""
    with catalogue.transaction() as connection:
        timed = [
            (lease.resource, lease.process)
            for lease in held(catalogue).values()
            if process.is_timed(lease.process)
        ]
        connection.executemany("DELETE FROM lease WHERE resource = ? AND process = ?", timed)
    return len(timed)


def held(catalogue: Catalogue) -> dict[str, Lease]:
    """Every lease of a process that lives, by resource."""
    leases = [Lease(**dict(row)) for row in catalogue.connection.execute("SELECT * FROM lease")]
    return {lease.resource: lease for lease in leases if process.is_alive(lease.process)}
