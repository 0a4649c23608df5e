"""How client and server agree on a version, over real sockets on loopback."""

from __future__ import annotations

import contextlib
import socket
import threading

import pytest

from appliance.ndmp import messages as m
from appliance.ndmp.client import Client
from appliance.ndmp.endpoint import Endpoint
from appliance.ndmp.enums import ConnectionReason, DataHaltReason, ErrorCode
from appliance.ndmp.errors import RemoteFaultError
from appliance.ndmp.framing import RECEIVE_SIZE
from appliance.ndmp.server import NdmpServer
from appliance.ndmp.session import Accounts, Session
from appliance.ndmp.version3 import VERSION_3, VERSIONS
from appliance.ndmp.xdr import Struct

HOST = "127.0.0.1"
WAIT_S = 20
ACCOUNTS = Accounts({"dma": "secret"})


def foreign_server(announces: int, speaks: int) -> Client:
    """A client of a server that announces one version, refuses all but another, and then halts."""
    listener = socket.create_server((HOST, 0))

    def serve() -> None:
        end = Endpoint()
        with listener, listener.accept()[0] as stream, contextlib.suppress(OSError):
            stream.sendall(end.post(m.NotifyConnectionStatusPost(ConnectionReason.CONNECTED, announces, b"")))
            while data := stream.recv(RECEIVE_SIZE):
                for message in end.receive(data):
                    body = message.body()
                    if not isinstance(body, m.ConnectOpenRequest):
                        return
                    good = body.protocol_version == speaks
                    error = ErrorCode.NO_ERR if good else ErrorCode.ILLEGAL_ARGS
                    stream.sendall(end.reply(message, m.ConnectOpenReply(error)))
                    if good and speaks == VERSION_3.version:
                        end.dialect = VERSION_3
                        stream.sendall(end.post(m.NotifyDataHaltedPost(DataHaltReason.SUCCESSFUL)))

    threading.Thread(target=serve, daemon=True).start()
    return Client.connect(listener.getsockname(), "filer")


@pytest.mark.parametrize("announces", [3, 4, 5])
def test_a_server_of_version_3_is_spoken_to_in_version_3(announces: int) -> None:
    """Whether it announces 3 or refuses 4, the client ends at 3 and reads its posts."""
    with foreign_server(announces, 3) as client:
        client.open()
        assert client.version == 3
        post = client.posts.get(timeout=WAIT_S)
        assert post is not None
        assert post.body() == m.NotifyDataHaltedPost(DataHaltReason.SUCCESSFUL)


@pytest.mark.parametrize(("announces", "speaks"), [(2, 2), (4, 2)])
def test_a_server_of_version_2_is_refused_in_words(announces: int, speaks: int) -> None:
    """The error says who speaks what."""
    refusal = pytest.raises(RemoteFaultError, match="filer does not speak NDMP version 4 or 3; it announced")
    with foreign_server(announces, speaks) as client, refusal:
        client.open()


def test_sessions_of_both_versions_live_side_by_side() -> None:
    """Each session is read and answered in its own version; both log in by MD5."""

    class Service:
        def __init__(self, session: Session) -> None:
            self.session = session

        def handlers(self) -> dict[type[m.DataAbortRequest], object]:
            return {m.DataAbortRequest: self._abort}

        def close(self) -> None:
            """Nothing is held."""

        def _abort(self, _: m.DataAbortRequest) -> m.DataAbortReply:
            halted = m.NotifyDataHaltedPost(DataHaltReason.ABORTED)
            self.session.after_reply(lambda: self.session.post(halted))
            return m.DataAbortReply()

    server = NdmpServer((HOST, 0), lambda session, _: session.add(Service(session)), accounts=ACCOUNTS)  # type: ignore[arg-type]
    server.start()
    try:
        with Client.connect(server.address) as new, Client.connect(server.address) as old:
            new.login("dma", "secret")
            old.login("dma", "secret", {3: VERSIONS[3]})
            assert (new.version, old.version) == (4, 3)
            raw = []
            for client in (new, old, new):
                client.do(m.DataAbortRequest())
                post = client.posts.get(timeout=WAIT_S)
                assert post is not None
                assert post.body() == m.NotifyDataHaltedPost(DataHaltReason.ABORTED)
                raw.append(len(post.raw))
            assert raw == [4, 16, 4]
    finally:
        server.stop()


class _Nothing:
    def handlers(self) -> dict[type[Struct], object]:
        return {}

    def close(self) -> None:
        """Nothing is held."""


def test_a_server_proves_who_it_is() -> None:
    """SERVER_AUTH by MD5: whoever does not know the account's password is found out (draft, 3.1.4)."""
    server = NdmpServer((HOST, 0), lambda session, _: session.add(_Nothing()), accounts=ACCOUNTS)  # type: ignore[arg-type]
    server.start()
    try:
        with Client.connect(server.address, "filer") as client:
            client.login("dma", "secret")
            client.verify_server("dma", "secret")
            with pytest.raises(RemoteFaultError, match="filer does not know the password of 'dma'") as caught:
                client.verify_server("dma", "another")
            assert caught.value.code is ErrorCode.NOT_AUTHORIZED
    finally:
        server.stop()
