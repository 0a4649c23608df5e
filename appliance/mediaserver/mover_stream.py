"""The thread that moves data between a data connection and a drive: what both directions share.

A stream lives from MOVER_LISTEN or MOVER_CONNECT to HALTED.  It never waits with a lock held; aborting it
shuts its sockets and wakes it, and the one SCSI command that it may be in finishes.
"""

from __future__ import annotations

import os
import select
import socket
import threading
from abc import ABC, abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from appliance import feeds
from appliance.mediaserver.open_drive import OpenDrive
from appliance.ndmp import dataconn
from appliance.ndmp.datalisten import DataListener
from appliance.ndmp.enums import MoverHaltReason, MoverPauseReason
from appliance.ndmp.errors import RefusalError
from appliance.ndmp.logcontext import carrying
from appliance.ndmp.networks import ANYWHERE
from appliance.ndmp.types import Address
from tape.carry import Peer
from tape.errors import TapeError

if TYPE_CHECKING:
    from appliance.mediaserver.mover_service import MoverService

_STRAY_BYTES = 4096
"""What a data server sends on a restore's connection means nothing and is thrown away, so much at a time."""


class StreamEnded(Exception):  # noqa: N818 - it is how a stream ends, not always an error
    """The stream is over: `reason`, or None when the mover was halted by a request."""

    def __init__(self, reason: MoverHaltReason | None) -> None:
        super().__init__(reason.name if reason else "halted by request")
        self.reason = reason


class MoverStream(ABC):
    """One data connection and its thread."""

    def __init__(
        self,
        service: MoverService,
        *,
        listener: DataListener | None = None,
        connection: socket.socket | None = None,
        token: bytes = b"",
    ) -> None:
        """Give either a listener, from which one connection is taken, or a connection.

        With a `token` only who says it is taken, wherever it comes from.
        """
        self.service = service
        self.variables = service.variables
        self.record_size = service.record_size
        self.log: Any = service.log
        self.ended = False
        self._halt = bytearray(1)
        self._listener = listener
        self._socket = connection
        self._token = token
        self._wake = os.eventfd(0, os.EFD_CLOEXEC)
        self._go = False
        self._called = False
        self._lanes: list[memoryview] = []
        self._drive: OpenDrive | None = None
        self._mutex = threading.Lock()
        self._thread = threading.Thread(target=carrying(self._run), name="mover", daemon=True)

    # -- for the service -------------------------------------------------------------------------------
    def start(self) -> None:
        """Start the thread, unless the stream was cancelled before."""
        self._thread.start()

    def go(self) -> None:
        """Tell the stream that what it waits for is there: a window, a part to read."""
        self._go = True
        self._signal()

    def cancel(self) -> None:
        """End the stream soon: no further SCSI command is begun."""
        self.ended = True
        self._halt[0] = 1
        with self._mutex:
            if self._listener is not None:
                self._listener.shut()
            dataconn.shut(self._socket)
        self._signal()

    def is_called(self) -> bool:
        """Whether a data server has connected, even if this thread has not noticed yet."""
        with self._mutex:
            return self._called or (self._listener is not None and self._listener.is_called())

    def is_alive(self) -> bool:
        """Whether the thread still runs, or has yet to."""
        return self._thread.ident is None or self._thread.is_alive()

    def join(self) -> None:
        """Wait until the thread is gone; after `cancel`."""
        if self._thread.ident is not None:
            self._thread.join()
        else:
            self._give_back()

    # -- the thread ------------------------------------------------------------------------------------
    @abstractmethod
    def transfer(self) -> MoverHaltReason:
        """Move data until the connection ends.  Raises StreamEnded."""

    def _run(self) -> None:
        reason: MoverHaltReason | None = MoverHaltReason.INTERNAL_ERROR
        try:
            self._accept()
            reason = self.transfer()
        except StreamEnded as end:
            reason = end.reason
        except Exception as error:  # whatever broke, the DMA is told that the stream did
            self.log.error("mover failed", why=str(error), exc_info=True)
        finally:
            self._give_back()
            if reason is not None and not self.ended:
                self.service.halted(self, reason)

    def _accept(self) -> None:
        """Take the one connection, and close the listener."""
        listener = self._listener
        if listener is None:
            return
        try:
            connection = self._take(listener)
            self._called = True
        except OSError as error:
            if self.ended:
                raise StreamEnded(None) from error
            self.log.warning("no data server connected to the mover", why=str(error))
            raise StreamEnded(MoverHaltReason.CONNECT_ERROR) from error
        with self._mutex:
            self._socket = connection
            self._listener = None
        listener.close()
        peer = Address() if self._token else dataconn.peer_address(connection)
        if self.ended or not self.service.accepted(self, peer):
            raise StreamEnded(None)

    def _take(self, listener: DataListener) -> socket.socket:
        """The connection of the data server.  Raises OSError."""
        rules = self.service.rules
        if not self._token:
            return listener.accept(rules, lambda: self.ended)
        rules = replace(rules, networks=ANYWHERE)
        while True:
            connection = listener.accept(rules, lambda: self.ended)
            if feeds.knows_token(connection, self._token):
                return connection
            connection.close()

    def _give_back(self) -> None:
        self._release_lanes()
        with self._mutex:
            for endpoint in (self._listener, self._socket):
                if endpoint is not None:
                    endpoint.close()
            self._listener = self._socket = None
            if self._wake >= 0:
                os.close(self._wake)
            self._wake = -1

    def _signal(self) -> None:
        with self._mutex:
            if self._wake >= 0:
                os.eventfd_write(self._wake, 1)

    # -- for subclasses --------------------------------------------------------------------------------
    @property
    def connection(self) -> socket.socket:
        """The data connection.  Raises StreamEnded when there is none any more."""
        if self._socket is None:
            raise StreamEnded(None)
        return self._socket

    @property
    def peer(self) -> Peer:
        """The data connection, as carriers of records take it.  Raises StreamEnded."""
        connection = self.connection
        assert type(connection) is socket.socket, "past TLS there is nothing to carry"
        return Peer(connection.fileno(), self._halt)

    def wait(self, *, watch: bool) -> None:
        """Wait for `go`.  With `watch` also for the peer's end of the connection.

        Raises StreamEnded: halted by request, or CONNECT_CLOSED by the peer.
        """
        poller = select.poll()
        poller.register(self._wake, select.POLLIN)
        if watch:
            poller.register(self.connection, select.POLLIN)
        while True:
            if self.ended:
                raise StreamEnded(None)
            if self._go:
                self._go = False
                return
            for descriptor, _ in poller.poll():
                if descriptor == self._wake:
                    os.eventfd_read(self._wake)
                elif self._peer_left():
                    raise StreamEnded(None if self.ended else MoverHaltReason.CONNECT_CLOSED)

    def _peer_left(self) -> bool:
        try:
            return not self.connection.recv(_STRAY_BYTES)
        except OSError:
            return True

    def pause(self, reason: MoverPauseReason, position: int, *, watch: bool) -> None:
        """Pause, and return when the DMA says to continue; the drive may be another one then.

        Raises StreamEnded.
        """
        self._release_lanes()
        if not self.service.paused(self, reason, position):
            raise StreamEnded(None)
        self.wait(watch=watch)

    def drive(self) -> OpenDrive:
        """The drive for this stretch of tape, until the next pause.  Raises StreamEnded."""
        if self._drive is None:
            try:
                self._drive = self.service.drive()
            except RefusalError as error:
                raise StreamEnded(MoverHaltReason.INTERNAL_ERROR) from error
        return self._drive

    def lane(self, number: int) -> memoryview:
        """Room for one record, of two, in the memory that the drive moves fastest.  Raises TapeError."""
        if not self._lanes:
            self._lanes = self.drive().lanes(self.record_size)
        return self._lanes[number]

    def _release_lanes(self) -> None:
        lanes, self._lanes, self._drive = self._lanes, [], None
        for lane in lanes:
            lane.release()

    def medium_failed(self, error: TapeError | RefusalError) -> StreamEnded:
        """The end of a stream whose drive failed, to be raised; tells of it once."""
        drive = self.drive()
        if isinstance(error, TapeError):
            self.service.reporter.report("mover stopped by the drive", drive.unit, error, drive)
        return StreamEnded(MoverHaltReason.MEDIA_ERROR)


__all__ = ["MoverStream", "StreamEnded"]
