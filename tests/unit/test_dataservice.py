"""One operation after another in one session: what is left of the first must not touch the second."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from appliance import dataservice
from appliance.connection.channel import Channels
from appliance.connection.channel_service import ChannelService
from appliance.dataservice import DataService
from appliance.ndmp import extension as x
from appliance.ndmp import messages as m
from appliance.ndmp.datalisten import DataListener
from appliance.ndmp.enums import AddressType, DataHaltReason, DataState
from appliance.ndmp.errors import RefusalError
from appliance.ndmp.networks import NO_RULES, DataRules
from appliance.ndmp.types import Address, Name
from appliance.ndmp.xdr import Struct

WAIT_S = 60
"""Nothing here takes a second; a hang is cut off long after."""

TCP = Address(AddressType.TCP)


class Posts:
    """A session that keeps what is posted; actions after the reply run when `reply` says so."""

    def __init__(self) -> None:
        self.posts: list[Struct] = []
        self._after: list[Callable[[], None]] = []

    def post(self, body: Struct) -> None:
        self.posts.append(body)

    def raw_post(self, code: int, raw: bytes) -> None:
        raise AssertionError(f"{code:#x} {raw!r}")

    def after_reply(self, action: Callable[[], None]) -> None:
        self._after.append(action)

    def reply(self) -> None:
        actions, self._after = self._after, []
        for action in actions:
            action()


class Stuck(DataService):
    """A service whose operation waits for `go` and hears no abort: a disk that hangs."""

    def __init__(self, poster: Posts) -> None:
        super().__init__(poster)
        self.go = threading.Event()

    def listen(self, kind: AddressType) -> Address:
        return TCP

    def connect(self, address: Address) -> None:
        """Nothing to do."""

    def backup(self, butype: bytes) -> Callable[[], DataHaltReason]:
        def run() -> DataHaltReason:
            assert self.go.wait(WAIT_S)
            return DataHaltReason.CONNECT_ERROR

        return run

    def recover(self, butype: bytes, names: Sequence[Name]) -> Callable[[], DataHaltReason]:
        raise NotImplementedError

    def cancel(self) -> None:
        """Not heard."""

    def release(self) -> None:
        """Nothing is held."""


def say(service: DataService, poster: Posts, request: Any) -> Struct:
    """Have a request handled as a session does."""
    reply = service.handlers()[type(request)](request)
    poster.reply()
    return reply


def test_stop_waits_for_the_end_of_an_operation_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """ABORT is answered at once, STOP is refused while the thread runs: it would halt the next operation."""
    monkeypatch.setattr(dataservice, "WORKER_JOIN_S", 0.01)
    poster = Posts()
    service = Stuck(poster)
    say(service, poster, m.DataConnectRequest(TCP))
    say(service, poster, m.DataStartBackupRequest())
    say(service, poster, m.DataAbortRequest())
    assert poster.posts == [m.NotifyDataHaltedPost(DataHaltReason.ABORTED)]
    with pytest.raises(RefusalError):
        say(service, poster, m.DataStopRequest())
    assert service.machine.state is DataState.HALTED
    service.go.set()
    monkeypatch.setattr(dataservice, "WORKER_JOIN_S", WAIT_S)
    say(service, poster, m.DataStopRequest())
    say(service, poster, m.DataConnectRequest(TCP))
    assert service.machine.state is DataState.CONNECTED
    assert len(poster.posts) == 1


class SlowListener(DataListener):
    """A listener whose thread hears late that it was closed, or takes a connection late."""

    def __init__(self, comer: socket.socket | None = None) -> None:
        super().__init__("127.0.0.1", NO_RULES)
        self.heard = threading.Event()
        self._comer = comer

    def accept(self, rules: DataRules, ended: Callable[[], bool] = lambda: False) -> socket.socket:
        assert self.heard.wait(WAIT_S)
        if self._comer is None:
            raise OSError("closed")
        return self._comer


def test_a_listener_given_up_does_not_halt_the_next() -> None:
    """The thread that waited at the first DATA_LISTEN ends late, and leaves the second alone."""
    poster = Posts()
    service = ChannelService(poster, Channels(), "127.0.0.1")
    say(service, poster, x.ChannelOpenRequest(b"job"))
    say(service, poster, m.DataListenRequest(AddressType.TCP))
    with contextlib.closing(SlowListener()) as old:
        late = threading.Thread(target=service._accept, args=(old, service.channel))
        late.start()
        say(service, poster, m.DataAbortRequest())
        say(service, poster, m.DataStopRequest())
        say(service, poster, m.DataListenRequest(AddressType.TCP))
        old.heard.set()
        late.join(WAIT_S)
    assert service.machine.state is DataState.LISTEN
    service.close()


def test_a_mover_that_comes_to_a_listener_given_up_is_sent_away() -> None:
    """A connection taken too late becomes nobody's channel, and is closed."""
    poster = Posts()
    service = ChannelService(poster, Channels(), "127.0.0.1")
    say(service, poster, x.ChannelOpenRequest(b"job"))
    with socket.create_server(("127.0.0.1", 0)) as server:
        there = socket.create_connection(server.getsockname())
        here, _ = server.accept()
    with contextlib.closing(SlowListener(here)) as old, there:
        old.heard.set()
        service._accept(old, service.channel)
    assert here.fileno() == -1
    assert service.channel.stream is None
    service.close()
