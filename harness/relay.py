"""A TCP relay that records every byte, in both directions, into files.

In the process lab the DMA reaches the NDMP servers through relays, so that all control traffic of
the backup server can be searched afterwards.  A program of its own:

    python -m harness.relay --listen 127.77.0.41:11011 --to 127.77.0.11:10000 --record FOLDER

Connection N leaves `N.client` (bytes of the client) and `N.server` (bytes of the server).
"""

from __future__ import annotations

import argparse
import contextlib
import socket
import sys
import threading
from pathlib import Path
from typing import BinaryIO

# One read; control messages are small, and memory is bounded by two of these a connection.
CHUNK = 65536
# The kernel queues this many connections; a DMA opens one or two.
BACKLOG = 16
CONNECT_SECONDS = 10.0

Address = tuple[str, int]


class Relay:
    """Accepts connections on one address and passes each on to another, recording."""

    def __init__(self, listen: Address, target: Address, folder: Path) -> None:
        self._target = target
        self._source = listen[0]
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._server = socket.create_server(listen, backlog=BACKLOG)
        self._count = len(list(folder.glob("*.client")))

    @property
    def address(self) -> Address:
        """Where it listens."""
        name: Address = self._server.getsockname()
        return name

    def serve(self) -> None:
        """Accept until `close`."""
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            self._count += 1
            threading.Thread(target=self._connection, args=(client, self._count), daemon=True).start()

    def close(self) -> None:
        """Stop accepting; open connections end with their peers."""
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()

    def _connection(self, client: socket.socket, number: int) -> None:
        """Relay one connection until both sides have ended."""
        stem = self._folder / f"{number:04d}"
        with client:
            try:
                # The server sees the node's own address, as it would without the relay.
                server = socket.create_connection(self._target, CONNECT_SECONDS, (self._source, 0))
            except OSError as error:
                sys.stderr.write(f"relay: {self._target}: {error}\n")
                return
            server.settimeout(None)
            with (
                server,
                stem.with_suffix(".client").open("wb", 0) as there,
                stem.with_suffix(".server").open("wb", 0) as back,
            ):
                answers = threading.Thread(target=_pump, args=(server, client, back), daemon=True)
                answers.start()
                _pump(client, server, there)
                answers.join()


def _pump(source: socket.socket, target: socket.socket, record: BinaryIO) -> None:
    """Pass bytes on until the source ends, then end the target's input: recorded before sent."""
    with contextlib.suppress(OSError):
        while chunk := source.recv(CHUNK):
            record.write(chunk)
            target.sendall(chunk)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def parse_address(text: str) -> Address:
    """Split HOST:PORT."""
    host, _, port = text.rpartition(":")
    return host, int(port)


def main() -> None:
    """Run one relay in the foreground; prints one line when it listens."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--listen", type=parse_address, required=True)
    parser.add_argument("--to", type=parse_address, required=True)
    parser.add_argument("--record", type=Path, required=True)
    options = parser.parse_args()
    relay = Relay(options.listen, options.to, options.record)
    sys.stdout.write("ready relay {}:{}\n".format(*relay.address))
    sys.stdout.flush()
    relay.serve()


if __name__ == "__main__":
    main()
