"""Two ways to say a message to a server: to its session without a control connection, and over TCP."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from appliance.ndmp import auth
from appliance.ndmp import messages as m
from appliance.ndmp.client import Client
from appliance.ndmp.declare import Kind
from appliance.ndmp.endpoint import Endpoint, Received
from appliance.ndmp.enums import AuthType, ErrorCode
from appliance.ndmp.errors import ReplyError
from appliance.ndmp.server import NdmpServer, Setup
from appliance.ndmp.session import Accounts, Session
from appliance.ndmp.types import AuthData
from appliance.ndmp.version3 import VERSIONS
from appliance.ndmp.xdr import Struct

USER, PASSWORD = "dma", "secret"
ACCOUNTS = Accounts({USER: PASSWORD})
WAIT_S = 20.0


class Talk(ABC):
    """A DMA's words to a server, and the error of each answer."""

    @abstractmethod
    def ask(self, request: Struct) -> Any:
        """The reply; an error in its header raises ReplyError."""

    @abstractmethod
    def open(self, version: int) -> None:
        """CONNECT_OPEN, and speak that version from now on."""

    @abstractmethod
    def close(self) -> None:
        """End the session."""

    def error(self, request: Struct) -> ErrorCode:
        """The error that a request is answered with, wherever it stands."""
        try:
            return ErrorCode(self.ask(request).error)
        except ReplyError as error:
            return error.code

    def login(self) -> None:
        """Authenticate by MD5."""
        challenge = self.ask(m.ConfigGetAuthAttrRequest(AuthType.MD5)).server_attr.challenge
        proof = auth.digest(PASSWORD.encode(), challenge)
        assert self.error(m.ConnectClientAuthRequest(AuthData(AuthType.MD5, USER.encode(), b"", proof))) == 0


class Direct(Talk):
    """The session's own rules, fed with bytes: no control connection."""

    def __init__(self, setup: Setup) -> None:
        self._heard: list[Received] = []
        self._lock = threading.Lock()
        self._end, self._reader = Endpoint(), Endpoint()
        self.session = Session(self._take, "peer", ACCOUNTS)
        setup(self.session, None)  # type: ignore[arg-type]  (these look at no connection)

    def _take(self, data: bytes) -> None:
        with self._lock:
            self._heard += self._reader.receive(data)

    def ask(self, request: Struct) -> Any:
        sequence, data = self._end.request(request)
        self.session.receive(data)
        (reply,) = [each for each in self._heard if each.kind is Kind.REPLY and each.reply_to == sequence]
        if reply.error:
            raise ReplyError(type(request).__name__, ErrorCode(reply.error), "session")
        return reply.body()

    def open(self, version: int) -> None:
        assert self.error(m.ConnectOpenRequest(version)) == 0
        self._end.dialect = self._reader.dialect = VERSIONS[version]

    def close(self) -> None:
        self.session.close()


class OverTcp(Talk):
    """The same over a control connection."""

    def __init__(self, setup: Setup) -> None:
        self._server = NdmpServer(("127.0.0.1", 0), setup, accounts=ACCOUNTS)
        self._server.start()
        self.client = Client.connect(self._server.address)

    def ask(self, request: Struct) -> Any:
        answer = self.client.ask(request, WAIT_S)
        if answer.error:
            raise ReplyError(type(request).__name__, ErrorCode(answer.error), "server")
        return answer.body()

    def open(self, version: int) -> None:
        self.client.open({version: VERSIONS[version]})

    def close(self) -> None:
        self.client.close()
        self._server.stop()


TALKS: dict[str, Callable[[Setup], Talk]] = {"session": Direct, "TCP": OverTcp}
