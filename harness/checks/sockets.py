"""Watches the kernel's socket table from outside: what the process lab has instead of a bridge."""

from __future__ import annotations

import threading
from pathlib import Path
from types import TracebackType

from harness.checks.connections import Connection, Endpoint

TABLE = Path("/proc/net/tcp")
# Closed connections stay in the table as TIME_WAIT for a minute, so none can slip between two looks.
PERIOD_SECONDS = 0.05
# Hexadecimal states of the table (include/net/tcp_states.h): a listener is no connection, and SYN_SENT
# not one yet.
LISTEN, SYN_SENT = "0A", "02"


def parse(table: str) -> set[Connection]:
    """Return the connections in the text of /proc/net/tcp."""
    found = set()
    for line in table.splitlines()[1:]:
        fields = line.split()
        if fields[3] not in (LISTEN, SYN_SENT):
            found.add(Connection.between(_endpoint(fields[1]), _endpoint(fields[2])))
    return found


class SocketWatch:
    """Collects every connection seen while entered, but none that was there before."""

    def __init__(self, table: Path = TABLE) -> None:
        self._table = table
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="socket-watch", daemon=True)
        self._before: set[Connection] = set()
        self._seen: set[Connection] = set()
        self.looks = 0

    def __enter__(self) -> SocketWatch:
        self._before = self._look()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._seen |= self._look()

    @property
    def connections(self) -> set[Connection]:
        """What was seen; complete once left."""
        return self._seen - self._before

    def _watch(self) -> None:
        """Look until told to stop."""
        while not self._stop.wait(PERIOD_SECONDS):
            self._seen |= self._look()

    def _look(self) -> set[Connection]:
        """Read the table once."""
        self.looks += 1
        return parse(self._table.read_text(encoding="ascii"))


def _endpoint(text: str) -> Endpoint:
    """One address: 32 bits in the machine's byte order and a port, both hexadecimal."""
    address, port = text.split(":")
    octets = bytes.fromhex(address)[::-1]
    return ".".join(map(str, octets)), int(port, 16)
