"""The entry server's hold on a channel: a DATA service towards the media server, one session a job."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from appliance import feeds
from appliance.connection.channel import Channel, Channels
from appliance.connection.router import Router
from appliance.dataservice import DataService
from appliance.ndmp import dataconn
from appliance.ndmp import extension as x
from appliance.ndmp import messages as m
from appliance.ndmp.datalisten import DataListener
from appliance.ndmp.enums import AddressType, DataHaltReason, DataOperation, DataState, ErrorCode
from appliance.ndmp.errors import RefusalError
from appliance.ndmp.logcontext import carrying
from appliance.ndmp.networks import NO_RULES, DataRules
from appliance.ndmp.session import Handler, Poster
from appliance.ndmp.sessions import Status
from appliance.ndmp.states import DataEvent
from appliance.ndmp.types import Address, Name
from appliance.ndmp.xdr import Struct

_NOT_HERE = (m.DataStartBackupRequest, m.DataStartRecoverRequest, m.DataStartRecoverFilehistRequest)


class ChannelService(DataService):
    """Opens, starts, finishes and ends one channel."""

    reported_as = "channel"

    def __init__(
        self, poster: Poster, channels: Channels, host: str, log: Any = None, rules: DataRules = NO_RULES
    ) -> None:
        super().__init__(poster, log)
        self._rules = rules
        self._channels = channels
        self._host = host
        self._channel: Channel | None = None
        self._listener: DataListener | None = None
        self._is_ending = False
        self._router: Router | None = None

    def handlers(self) -> Mapping[type[Struct], Handler]:
        """The DATA interface with the channel's own messages in place of START_*."""
        shared = {cls: handler for cls, handler in super().handlers().items() if cls not in _NOT_HERE}
        return {
            **shared,
            x.ChannelOpenRequest: self._on_open,
            x.ChannelStartRequest: self._on_channel_start,
            x.ChannelFinishRequest: self._on_finish,
            m.DataGetStateRequest: self._on_count,
        }

    def status(self) -> Status:
        """For the list of sessions; nothing before there is a channel, whose feeds count while it runs."""
        channel = self._channel
        if channel is None:
            return {}
        if self.machine.state is DataState.ACTIVE:
            self.bytes_processed = max(self.bytes_processed, channel.relayed)
        return super().status()

    @property
    def channel(self) -> Channel:
        """The session's channel.  Raises RefusalError(ILLEGAL_STATE) before it is open."""
        if self._channel is None:
            raise RefusalError(ErrorCode.ILLEGAL_STATE, "the session has no channel yet")
        return self._channel

    def kinds(self) -> tuple[AddressType, ...]:
        """What DMAs may use is the entry server's to say."""
        return (AddressType.TCP, AddressType.TCP_IPV6)

    def listen(self, kind: AddressType) -> Address:
        """Listen for the media server, and take its connection in a thread of its own."""
        channel = self.channel
        listener = self._listener = DataListener(self._host, self._rules, kind)
        self.poster.after_reply(
            threading.Thread(target=carrying(self._accept), args=(listener, channel), daemon=True).start
        )
        return listener.address()

    def connect(self, address: Address) -> None:
        """Connect to the mover: the channel of the whole job."""
        token = feeds.token_of(address)
        # A mover that an entry server vouches for by a token is a node's own, wherever DMAs are.
        stream = dataconn.connect(address, self._host, NO_RULES if token else self._rules)
        try:
            stream.sendall(token)
        except OSError as error:
            stream.close()
            raise RefusalError(ErrorCode.CONNECT, f"the mover went away: {error}") from error
        self.channel.stream = stream
        self.log.info("channel connected")

    def connection_address(self) -> Address:
        """The mover's endpoint."""
        return dataconn.peer_address(self._channel.stream if self._channel else None)

    def backup(self, butype: bytes) -> Callable[[], DataHaltReason]:
        """Refuse: a channel is started by ChannelStart."""
        raise RefusalError(ErrorCode.NOT_SUPPORTED, f"no {butype!r} here")

    def recover(self, butype: bytes, names: Sequence[Name]) -> Callable[[], DataHaltReason]:
        """Refuse: a channel is started by ChannelStart."""
        raise RefusalError(ErrorCode.NOT_SUPPORTED, f"no {butype!r} of {len(names)} names here")

    def cancel(self) -> None:
        """Break the channel and all its feeds."""
        if self._listener is not None:
            self._listener.shut()
        if self._channel is not None:
            self._channel.break_off("the job ended")

    def release(self) -> None:
        """Close the data connection, but after a restore that went well: the entry server does, at its halt.

        A DMA that sees the mover halt while the file servers still finish takes that for a failure.
        """
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()
        if self._channel is not None:
            self.bytes_processed = max(self.bytes_processed, self._channel.relayed)
            routed = self.operation is DataOperation.RECOVER and self.halt_reason is DataHaltReason.SUCCESSFUL
            if self._is_ending or not routed:
                self._channel.close()

    def close(self) -> None:
        """End of the session: the channel is forgotten."""
        self._is_ending = True
        super().close()
        if self._channel is not None:
            self._channels.remove(self._channel)

    def _on_open(self, request: x.ChannelOpenRequest) -> x.ChannelOpenReply:
        if self._channel is not None or self.machine.state is not DataState.IDLE:
            raise RefusalError(ErrorCode.ILLEGAL_STATE, "the session has a channel already")
        self.begin_job(request.job.decode("utf-8", "replace"))
        self._channel = self._channels.open(self.job)
        return x.ChannelOpenReply(channel=self._channel.id)

    def _on_channel_start(self, request: x.ChannelStartRequest) -> x.ChannelStartReply:
        self.operation = request.operation
        if request.operation is DataOperation.BACKUP:
            self.machine.check(DataEvent.START_BACKUP)
            self._start(DataEvent.START_BACKUP, self._hold)
        elif request.operation is DataOperation.RECOVER:
            self.machine.check(DataEvent.START_RECOVER)
            router = Router(self.channel, request, self.ask_for, self.log)
            self._start(DataEvent.START_RECOVER, lambda: self._route(router))
        else:
            raise RefusalError(ErrorCode.ILLEGAL_ARGS, f"{request.operation.name} is no channel operation")
        return x.ChannelStartReply()

    def _on_finish(self, request: x.ChannelFinishRequest) -> x.ChannelFinishReply:
        channel = self.channel
        if self.machine.state is not DataState.ACTIVE or channel.broken:
            raise RefusalError(ErrorCode.ILLEGAL_STATE, channel.broken or "the channel is not active")
        if channel.relayed != request.length:
            raise RefusalError(
                ErrorCode.ILLEGAL_ARGS, f"{channel.relayed} bytes were relayed, not {request.length}"
            )
        channel.finished.set()
        return x.ChannelFinishReply(relayed=channel.relayed)

    def _on_count(self, request: m.DataGetStateRequest) -> m.DataGetStateReply:
        """As any DATA service's, with the count of a restore that runs."""
        if self._router is not None and self.machine.state is DataState.ACTIVE:
            self.bytes_processed = self._router.received
        return self._on_get_state(request)

    def _hold(self) -> DataHaltReason:
        """A backup: the feeds do the work; wait for the entry server's word that it was all."""
        channel = self.channel
        channel.finished.wait()
        if channel.broken:
            self.log.warning("channel broken", why=channel.broken)
            return DataHaltReason.CONNECT_ERROR
        self.bytes_processed = channel.relayed
        return DataHaltReason.SUCCESSFUL

    def _route(self, router: Router) -> DataHaltReason:
        self._router = router
        try:
            return router.run()
        finally:
            self.bytes_processed = router.processed

    def _accept(self, listener: DataListener, channel: Channel) -> None:
        """Take the media server's connection, unless the listener was given up meanwhile."""
        try:
            stream = listener.accept(self._rules)
        except OSError as error:
            if self._listener is listener:
                self.log.warning("no media server connected to the channel", why=str(error))
            self.halt(DataHaltReason.CONNECT_ERROR, lambda: self._listener is listener)
            return
        with self.machine.changed:
            awaited = self._listener is listener and self.machine.state is DataState.LISTEN
            if awaited:
                channel.stream = stream
                self.machine.fire(DataEvent.ACCEPTED)
        if awaited:
            self.poster.post(x.ChannelConnectedPost(dataconn.peer_address(stream)))
        else:
            stream.close()
