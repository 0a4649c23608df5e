"""The target's sockets and threads.  What is said over them is `session`'s business.

Per connection one thread receives, and one per logical unit in use carries commands out: a tape that winds
must not keep the changer of the same session waiting, nor the abort that would end its winding.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import socket
import struct
import threading
from itertools import count

from tape.errors import CommandTimeoutError, TapeError, TransportError
from tape.iscsi.errors import IscsiProtocolError
from tape.iscsi.session import Aborted, Closed, Event, Execute, LoggedIn, Session, UnitReset
from tape.iscsi.task import Task
from tape.iscsi.units import ModelUnits

__all__ = ["IscsiServer"]

CONNECTIONS_MAX = 64
"""Connections at a time: QEMU opens one per unit and machine, a lab has a dozen units."""

LOGIN_SECONDS = 30.0
"""A connection that has not logged in by then is closed: it holds a place for nothing."""

SEND_SECONDS = 120.0
"""An initiator that takes no bytes for so long is gone (its machine was stopped, or hangs)."""

RECEIVE_BYTES = 512 << 10
"""Asked of the kernel at once: two records of the usual size."""

BUFFERS_PER_SEND = 64
"""Buffers handed to one sendmsg; the kernel's limit is 1,024, and a record needs three."""

_log = logging.getLogger(__name__)


class IscsiServer:
    """A library as an iSCSI target.

    Args:
        units: what is behind it.
        name: the target's iSCSI name, iqn.….
        address: where to listen; port 0 takes a free one.

    Attributes:
        address: where it listens.

    Raises:
        OSError: the address cannot be had.

    """

    def __init__(self, units: ModelUnits, name: str, address: tuple[str, int]) -> None:
        self.units = units
        self.name = name
        self._listener = socket.create_server(address, backlog=CONNECTIONS_MAX)
        host, port = self._listener.getsockname()[:2]
        self.address: tuple[str, int] = (host, port)
        self._numbers = count(1)
        self._lock = threading.Lock()
        self._connections: set[_Connection] = set()
        self._nexuses: dict[str, _Connection] = {}
        self._stopping = False
        self._thread = threading.Thread(target=self._accept, name="iscsi-accept", daemon=True)

    def start(self) -> None:
        """Begin to accept connections."""
        self._thread.start()

    def stop(self) -> None:
        """Close everything and wait for all threads; commands under way are finished, waits ended."""
        self._stopping = True
        # Closing alone does not wake a thread in accept.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        if self._thread.is_alive():
            self._thread.join()
        for connection in self.connections():
            connection.close()
        self.units.interrupt(None)
        for connection in self.connections():
            connection.join()

    def connections(self) -> list[_Connection]:
        """Return the connections that are open."""
        with self._lock:
            return list(self._connections)

    def drop_connections(self) -> None:
        """Cut every connection off, as a network does that fails; initiators may come back at once."""
        for connection in self.connections():
            connection.close()

    def _accept(self) -> None:
        while not self._stopping:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                # Closed by `stop`, or a peer that was gone before we took it.
                continue
            with self._lock:
                is_full = len(self._connections) >= CONNECTIONS_MAX
            if is_full or self._stopping:
                peer.close()
                continue
            self._take(peer)

    def _take(self, peer: socket.socket) -> None:
        host, port = peer.getsockname()[:2]
        # TSIH has 16 bits, and 0 means none.
        number = next(self._numbers) % 0xFFFF + 1
        session = Session(self.name, number, f"{host}:{port}", self.units.luns)
        connection = _Connection(self, peer, session)
        with self._lock:
            self._connections.add(connection)
        connection.start()

    def logged_in(self, connection: _Connection, nexus: str) -> None:
        """Take a session's name; an older session of that name is over (RFC 7143, 6.3.5)."""
        with self._lock:
            older = self._nexuses.get(nexus)
        if older is not None:
            older.close()
            older.join()
        with self._lock:
            self._nexuses[nexus] = connection
        self.units.attach(nexus)

    def ended(self, connection: _Connection, nexus: str | None) -> None:
        """Forget a connection."""
        with self._lock:
            is_last = nexus is not None and self._nexuses.get(nexus) is connection
            if is_last and nexus is not None:
                del self._nexuses[nexus]
        if is_last and nexus is not None:
            self.units.detach(nexus)
        with self._lock:
            self._connections.discard(connection)


class _Connection:
    """One initiator's connection."""

    def __init__(self, server: IscsiServer, peer: socket.socket, session: Session) -> None:
        self._server = server
        self._socket = peer
        self._session = session
        self._nexus: str | None = None
        # Of the session's state; never held while sending, so that receiving goes on.
        self._state = threading.Lock()
        self._sending = threading.Lock()
        self._workers: dict[int, queue.SimpleQueue[tuple[Task, int] | None]] = {}
        self._threads: list[threading.Thread] = []
        self._thread = threading.Thread(target=self._run, name="iscsi-session", daemon=True)
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def start(self) -> None:
        """Begin to receive."""
        self._thread.start()

    def close(self) -> None:
        """Cut the connection off; its threads end by themselves."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def join(self) -> None:
        """Wait until everything of this connection has ended."""
        if self._thread is not threading.current_thread():
            self._thread.join()

    # -- receiving -----------------------------------------------------------------------------------
    def _run(self) -> None:
        try:
            self._receive()
        except IscsiProtocolError as error:
            _log.warning("iSCSI connection closed: %s", error)
        except OSError as error:
            _log.info("iSCSI connection lost: %s", error)
        finally:
            self.close()
            for work in self._workers.values():
                work.put(None)
            if self._nexus is not None:
                # Nobody waits for the answers any more.
                for lun in self._workers:
                    self._server.units.interrupt(lun)
            for thread in self._threads:
                thread.join()
            self._socket.close()
            self._server.ended(self, self._nexus)

    def _receive(self) -> None:
        buffer = bytearray(RECEIVE_BYTES)
        view = memoryview(buffer)
        seconds = struct.pack("ll", int(SEND_SECONDS), 0)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, seconds)
        self._limit_receiving(LOGIN_SECONDS)
        while not self._session.closed:
            size = self._socket.recv_into(buffer)
            if not size:
                return
            with self._state:
                events = list(self._session.receive(view[:size]))
            for event in events:
                self._act(event)
            self._flush()

    def _limit_receiving(self, seconds: float) -> None:
        """Set how long a receive may take; 0 is for ever.  Unlike settimeout this leaves sending alone."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", int(seconds), 0))

    def _act(self, event: Event) -> None:
        if isinstance(event, Execute):
            self._worker(event.task.lun).put((event.task, self._server.units.ticket(event.task.lun)))
        elif isinstance(event, LoggedIn):
            self._limit_receiving(0)
            if not event.parameters.discovery:
                self._server.logged_in(self, event.nexus)
                self._nexus = event.nexus
        elif isinstance(event, Aborted):
            self._server.units.interrupt(event.lun)
        elif isinstance(event, UnitReset):
            self._server.units.reset(event.lun)
        else:
            assert isinstance(event, Closed), "the loop sees it by `closed`"

    def _worker(self, lun: int) -> queue.SimpleQueue[tuple[Task, int] | None]:
        """Return the queue of a unit's commands.  A LUN nobody has shares one thread with all such."""
        key = lun if lun in self._server.units.luns else 0
        if key not in self._workers:
            self._workers[key] = queue.SimpleQueue()
            thread = threading.Thread(target=self._work, args=(key,), name=f"iscsi-lun-{key}", daemon=True)
            self._threads.append(thread)
            thread.start()
        return self._workers[key]

    # -- carrying out and answering ------------------------------------------------------------------
    def _work(self, key: int) -> None:
        tasks = self._workers[key]
        while (entry := tasks.get()) is not None:
            task, ticket = entry
            if not task.aborted:
                self._execute(task, ticket)

    def _execute(self, task: Task, ticket: int) -> None:
        room = task.expected if task.is_read else 0
        assert self._nexus is not None
        try:
            done = self._server.units.execute(task.lun, task.cdb, task.data, room, self._nexus, ticket)
        except (TransportError, CommandTimeoutError) as error:
            _log.info("iSCSI connection dropped by a scripted fault: %s", error)
            self.close()
            return
        except TapeError as error:
            # A cartridge's file is damaged: no answer is right, and silence would hang the initiator.
            _log.warning("iSCSI connection closed: %s", error)
            self.close()
            return
        with self._state:
            self._session.complete(task, done)
        try:
            self._flush()
        except OSError as error:
            _log.info("iSCSI connection lost: %s", error)
            self.close()

    def _flush(self) -> None:
        """Send what is ready, in the order in which it became so."""
        with self._sending:
            with self._state:
                buffers = self._session.output()
            while buffers:
                sent = self._socket.sendmsg(buffers[:BUFFERS_PER_SEND])
                buffers = _unsent(buffers, sent)


def _unsent(buffers: list[bytes | memoryview], sent: int) -> list[bytes | memoryview]:
    """Return what is left after so many bytes."""
    for index, buffer in enumerate(buffers):
        if sent < len(buffer):
            return [memoryview(buffer)[sent:], *buffers[index + 1 :]]
        sent -= len(buffer)
    return []
