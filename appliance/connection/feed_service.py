"""One feed: a mover towards one file server, for one part (docs/architecture.md, "Between nodes").

Listen, window, read, as for any mover, but the tape is the channel: what a feed brings goes to the
channel, what a restore has for this file server comes from it.
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Mapping
from typing import Any

from appliance.connection.channel import ChannelBrokenError, Channels, FeedEnd
from appliance.feeds import OPENING_TIMEOUT_S, FeedListener
from appliance.ndmp import extension as x
from appliance.ndmp import messages as m
from appliance.ndmp.enums import AddressType, ErrorCode, MoverHaltReason, MoverMode, MoverState
from appliance.ndmp.errors import RefusalError
from appliance.ndmp.logcontext import carrying, note
from appliance.ndmp.session import Handler, Poster
from appliance.ndmp.sessions import Status
from appliance.ndmp.states import MOVER, Machine, MoverEvent
from appliance.ndmp.xdr import Struct


class FeedService:
    """A session's feed."""

    def __init__(
        self,
        poster: Poster,
        channels: Channels,
        host: str,
        tls: ssl.SSLContext | None,
        log: Any,
        ports: range | None = None,
    ) -> None:
        """`tls`: what feeds are wrapped in; None for plain TCP opened by token.  `ports`: to listen on."""
        self._poster = poster
        self._channels = channels
        self._host = host
        self._tls = tls
        self._ports = ports
        self._job = ""
        self._log = log
        self._channel_name = b""
        self._feed: FeedEnd | None = None
        self._listener: FeedListener | None = None
        self._machine: Machine[MoverState, MoverEvent] = Machine("feed", MOVER, MoverState.IDLE)
        self._mode = MoverMode.NOACTION
        self._halt_reason = MoverHaltReason.NA
        self._window = (0, 0)

    def handlers(self) -> Mapping[type[Struct], Handler]:
        """The requests of a feed session."""
        return {
            x.FeedAttachRequest: self._on_attach,
            m.MoverSetWindowRequest: self._on_set_window,
            m.MoverListenRequest: self._on_listen,
            m.MoverReadRequest: self._on_read,
            m.MoverAbortRequest: self._on_abort,
            m.MoverGetStateRequest: self._on_get_state,
        }

    def status(self) -> Status:
        """For the list of sessions; nothing before the session has a feed."""
        feed = self._feed
        if feed is None:
            return {}
        return {
            "feed": {
                "state": self._machine.state.name.lower(),
                "mode": self._mode.name.lower(),
                "job": self._job,
                "bytes": feed.moved,
                "moved": feed.moved,
                "waiting": feed.is_waiting,
                "waited": feed.waited,
            }
        }

    def close(self) -> None:
        """The entry server is gone or done: break what is left of the feed."""
        if self._machine.try_fire(MoverEvent.HALTED):
            self._halt_reason = MoverHaltReason.ABORTED
        self._drop()

    def _on_attach(self, request: x.FeedAttachRequest) -> x.FeedAttachReply:
        if self._feed is not None:
            raise RefusalError(ErrorCode.ILLEGAL_STATE, "the session has a feed already")
        channel = self._channels.find(request.channel)
        feed = FeedEnd()
        number = channel.attach(feed)
        self._channel_name, self._feed = request.channel, feed
        self._job = channel.job
        note(job=channel.job)
        return x.FeedAttachReply(feed=number)

    def _on_set_window(self, request: m.MoverSetWindowRequest) -> m.MoverSetWindowReply:
        self._machine.fire(MoverEvent.SET_WINDOW)
        if not request.length:
            raise RefusalError(ErrorCode.ILLEGAL_ARGS, "a window of no length")
        self._window = (request.offset, request.length)
        return m.MoverSetWindowReply()

    def _on_listen(self, request: m.MoverListenRequest) -> m.MoverListenReply:
        self._machine.check(MoverEvent.LISTEN)
        if self._feed is None or not self._window[1]:
            raise RefusalError(ErrorCode.PRECONDITION, "attach and set a window first")
        if request.addr_type is not AddressType.TCP or request.mode is MoverMode.NOACTION:
            raise RefusalError(ErrorCode.ILLEGAL_ARGS, "a feed is TCP, for reading or writing")
        self._listener = FeedListener(self._host, self._tls, self._ports)
        self._machine.fire(MoverEvent.LISTEN)
        self._mode = request.mode
        worker = threading.Thread(target=carrying(self._run), args=(self._feed, self._listener), daemon=True)
        self._poster.after_reply(worker.start)
        return m.MoverListenReply(connect_addr=self._listener.address())

    def _on_read(self, _: m.MoverReadRequest) -> m.MoverReadReply:
        """A file server wants to be fed: from now on the router sends what belongs to it."""
        with self._machine.changed:
            # The file server may ask in the moment between its connecting and our accepting.
            self._machine.changed.wait_for(
                lambda: self._machine.state is not MoverState.LISTEN, OPENING_TIMEOUT_S
            )
        self._machine.fire(MoverEvent.READ)
        if self._feed is not None:
            self._feed.start()
        return m.MoverReadReply()

    def _on_abort(self, _: m.MoverAbortRequest) -> m.MoverAbortReply:
        self._machine.fire(MoverEvent.ABORT)
        self._halt_reason = MoverHaltReason.ABORTED
        self._poster.after_reply(self._drop)
        return m.MoverAbortReply()

    def _on_get_state(self, _: m.MoverGetStateRequest) -> m.MoverGetStateReply:
        return m.MoverGetStateReply(
            mode=self._mode,
            state=self._machine.state,
            halt_reason=self._halt_reason,
            bytes_moved=self._feed.moved if self._feed else 0,
            window_offset=self._window[0],
            window_length=self._window[1],
        )

    def _run(self, feed: FeedEnd, listener: FeedListener) -> None:
        reason = MoverHaltReason.CONNECT_ERROR
        try:
            stream = listener.accept()
            try:
                feed.came(stream)
                if self._machine.try_fire(MoverEvent.ACCEPTED):
                    reason = self._move(feed, stream)
            finally:
                stream.close()
        except (RefusalError, OSError) as error:
            feed.fail(str(error))
            self._log.warning("feed failed", why=str(error))
        finally:
            self._halt(reason)

    def _move(self, feed: FeedEnd, stream: Any) -> MoverHaltReason:
        if self._mode is MoverMode.WRITE:
            feed.wait_done()
            return MoverHaltReason.CONNECT_ERROR if feed.failed else MoverHaltReason.CONNECT_CLOSED
        try:
            channel = self._channels.find(self._channel_name)
            channel.relay(stream, self._window[0], lambda count: _count(feed, count), feed.waiting())
        except ChannelBrokenError as error:
            feed.fail(str(error))
            return MoverHaltReason.INTERNAL_ERROR
        return MoverHaltReason.CONNECT_CLOSED

    def _halt(self, reason: MoverHaltReason) -> None:
        if self._machine.try_fire(MoverEvent.HALTED):
            self._halt_reason = reason
            self._poster.post(m.NotifyMoverHaltedPost(reason))

    def _drop(self) -> None:
        if self._listener is not None:
            self._listener.close()
        if self._feed is not None:
            self._feed.drop()


def _count(feed: FeedEnd, count: int) -> None:
    feed.moved += count
