"""DATA, CONNECT and CONFIG: every message in every state, and its error (draft, 2.11, 3.1, 3.2, 3.5)."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Sequence

import pytest

from appliance.configservice import ConfigService
from appliance.dataservice import DataService
from appliance.extensionservice import ECHO, Extensions, ExtensionService
from appliance.ndmp import dataconn
from appliance.ndmp import messages as m
from appliance.ndmp.enums import AddressType, AuthType, DataHaltReason, ErrorCode
from appliance.ndmp.errors import RefusalError
from appliance.ndmp.session import Poster, Session
from appliance.ndmp.types import Address, AuthAttr, AuthData, Name, Pval, TcpAddress
from tests.unit.matrix.cells import Cell, cells
from tests.unit.matrix.talks import TALKS, Talk

NOBODY = Address(AddressType.TCP, (TcpAddress(1, 9),))
SOMEBODY = Address(AddressType.TCP, (TcpAddress(0x7F000001, 9),))


class Data(DataService):
    """A DATA service whose operations last until they are cancelled; nobody is at port 9 of 0.0.0.1."""

    def __init__(self, poster: Poster) -> None:
        super().__init__(poster)
        self._over = threading.Event()

    def listen(self, kind: AddressType) -> Address:
        return SOMEBODY

    def connect(self, address: Address) -> None:
        if address == NOBODY:
            raise RefusalError(ErrorCode.CONNECT, "nobody is there")

    def backup(self, butype: bytes) -> Callable[[], DataHaltReason]:
        self._check(butype)
        return self._last

    def recover(self, butype: bytes, names: Sequence[Name]) -> Callable[[], DataHaltReason]:
        self._check(butype)
        return self._last

    def cancel(self) -> None:
        self._over.set()

    def release(self) -> None:
        """Nothing is held."""

    def _check(self, butype: bytes) -> None:
        self._over.clear()
        if butype != b"tar":
            raise RefusalError(ErrorCode.ILLEGAL_ARGS, "another type")

    def _last(self) -> DataHaltReason:
        self._over.wait()
        return DataHaltReason.ABORTED


def setup(session: Session, _: socket.socket) -> None:
    """What the server has."""
    session.add(ConfigService("fs1", fs_info=tuple, butypes=tuple))
    session.add(ExtensionService(Extensions((ECHO,))))
    session.add(Data(session))


ENV = (Pval(b"FILESYSTEM", b"/"),)
START = (m.DataStartBackupRequest(b"tar", ENV),)

DATA_REQUESTS = {
    "GET_STATE": m.DataGetStateRequest(),
    "LISTEN": m.DataListenRequest(AddressType.TCP),
    "LISTEN(IPC)": m.DataListenRequest(AddressType.IPC),
    "CONNECT": m.DataConnectRequest(SOMEBODY),
    "CONNECT(IPC)": m.DataConnectRequest(Address(AddressType.IPC)),
    "CONNECT(nobody)": m.DataConnectRequest(NOBODY),
    "START_BACKUP": START[0],
    "START_BACKUP(cpio)": m.DataStartBackupRequest(b"cpio", ENV),
    "START_RECOVER": m.DataStartRecoverRequest(ENV, (Name(b"", b"/"),), b"tar"),
    "START_RECOVER(cpio)": m.DataStartRecoverRequest(ENV, (Name(b"", b"/"),), b"cpio"),
    "START_RECOVER_FILEHIST": m.DataStartRecoverFilehistRequest(ENV, (), b"tar"),
    "GET_ENV": m.DataGetEnvRequest(),
    "ABORT": m.DataAbortRequest(),
    "STOP": m.DataStopRequest(),
}

DATA_MATRIX = """
                        IDLE  LISTEN CONNECTED ACTIVE HALTED
GET_STATE               ok    ok     ok        ok     ok
LISTEN                  ok    STATE  STATE     STATE  STATE
LISTEN(IPC)             ARGS  STATE  STATE     STATE  STATE
CONNECT                 ok    STATE  STATE     STATE  STATE
CONNECT(IPC)            ARGS  STATE  STATE     STATE  STATE
CONNECT(nobody)         CONN  STATE  STATE     STATE  STATE
START_BACKUP            STATE STATE  ok        STATE  STATE
START_BACKUP(cpio)      STATE STATE  ARGS      STATE  STATE
START_RECOVER           STATE STATE  ok        STATE  STATE
START_RECOVER(cpio)     STATE STATE  ARGS      STATE  STATE
START_RECOVER_FILEHIST  STATE STATE  NOSUP     STATE  STATE
GET_ENV                 STATE STATE  STATE     ok     ok
ABORT                   STATE ok     ok        ok     ok
STOP                    STATE STATE  STATE     STATE  ok
"""

WAY = {
    "IDLE": (),
    "LISTEN": (m.DataListenRequest(),),
    "CONNECTED": (m.DataConnectRequest(SOMEBODY),),
    "ACTIVE": (m.DataConnectRequest(SOMEBODY), *START),
    "HALTED": (m.DataConnectRequest(SOMEBODY), *START, m.DataAbortRequest()),
}
"""The requests that lead to each state."""


@pytest.fixture(params=TALKS)
def talk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Talk]:
    """A server, spoken to with and without a control connection."""
    # START in LISTEN waits for the mover's connection, which does not come here.
    monkeypatch.setattr("appliance.dataservice.ACCEPT_LAG_S", 0.0)
    made = TALKS[request.param](setup)
    try:
        yield made
    finally:
        made.close()


@pytest.mark.parametrize("version", [4, 3])
@pytest.mark.parametrize("cell", list(cells(DATA_MATRIX, DATA_REQUESTS)), ids=str)
def test_data(talk: Talk, cell: Cell, version: int) -> None:
    """Each request of the DATA interface is answered in each state as the draft says; only `ok` moves it."""
    talk.open(version)
    talk.login()
    for request in WAY[cell.state]:
        assert talk.error(request) is ErrorCode.NO_ERR
    assert talk.ask(m.DataGetStateRequest()).state.name == cell.state
    assert talk.error(DATA_REQUESTS[cell.request]) is cell.expected
    if cell.expected is not ErrorCode.NO_ERR:
        assert talk.ask(m.DataGetStateRequest()).state.name == cell.state


CONNECT_REQUESTS = {
    "OPEN(4)": m.ConnectOpenRequest(4),
    "OPEN(3)": m.ConnectOpenRequest(3),
    "OPEN(5)": m.ConnectOpenRequest(5),
    "CLIENT_AUTH(wrong)": m.ConnectClientAuthRequest(AuthData(AuthType.MD5, b"dma")),
    "CLIENT_AUTH(none)": m.ConnectClientAuthRequest(AuthData(AuthType.NONE)),
    "CLIENT_AUTH(text)": m.ConnectClientAuthRequest(AuthData(AuthType.TEXT, b"dma", b"secret")),
    "SERVER_AUTH(none)": m.ConnectServerAuthRequest(AuthAttr(AuthType.NONE)),
    "SERVER_AUTH(text)": m.ConnectServerAuthRequest(AuthAttr(AuthType.TEXT)),
    "SERVER_AUTH(MD5)": m.ConnectServerAuthRequest(AuthAttr(AuthType.MD5)),
    "GET_SERVER_INFO": m.ConfigGetServerInfoRequest(),
    "GET_AUTH_ATTR(MD5)": m.ConfigGetAuthAttrRequest(AuthType.MD5),
    "GET_AUTH_ATTR(none)": m.ConfigGetAuthAttrRequest(AuthType.NONE),
    "GET_HOST_INFO": m.ConfigGetHostInfoRequest(),
    "GET_CONNECTION_TYPE": m.ConfigGetConnectionTypeRequest(),
    "GET_BUTYPE_INFO": m.ConfigGetButypeInfoRequest(),
    "GET_FS_INFO": m.ConfigGetFsInfoRequest(),
    "GET_TAPE_INFO": m.ConfigGetTapeInfoRequest(),
    "GET_SCSI_INFO": m.ConfigGetScsiInfoRequest(),
    "GET_EXT_LIST": m.ConfigGetExtListRequest(),
    "SET_EXT_LIST": m.ConfigSetExtListRequest(),
    "TAPE_OPEN": m.TapeOpenRequest(b"x"),
}

CONNECT_MATRIX = """
                     GREETED OPEN  AUTHORIZED
OPEN(4)              ok      STATE STATE
OPEN(3)              ok      STATE STATE
OPEN(5)              ARGS    STATE STATE
CLIENT_AUTH(wrong)   AUTH    AUTH  AUTH
CLIENT_AUTH(none)    ARGS    ARGS  ARGS
CLIENT_AUTH(text)    ARGS    ARGS  ARGS
SERVER_AUTH(none)    AUTH    AUTH  ARGS
SERVER_AUTH(text)    AUTH    AUTH  ARGS
SERVER_AUTH(MD5)     AUTH    AUTH  ok
GET_SERVER_INFO      ok      ok    ok
GET_AUTH_ATTR(MD5)   ok      ok    ok
GET_AUTH_ATTR(none)  ARGS    ARGS  ARGS
GET_HOST_INFO        AUTH    AUTH  ok
GET_CONNECTION_TYPE  AUTH    AUTH  ok
GET_BUTYPE_INFO      AUTH    AUTH  ok
GET_FS_INFO          AUTH    AUTH  ok
GET_TAPE_INFO        AUTH    AUTH  NOSUP
GET_SCSI_INFO        AUTH    AUTH  NOSUP
GET_EXT_LIST         AUTH    AUTH  ok
SET_EXT_LIST         AUTH    AUTH  PREC
TAPE_OPEN            AUTH    AUTH  NOSUP
"""


@pytest.mark.parametrize("cell", list(cells(CONNECT_MATRIX, CONNECT_REQUESTS)), ids=str)
def test_connect_and_config(talk: Talk, cell: Cell) -> None:
    """Before CONNECT_OPEN, before and after the login: what is answered, and what is not yet (3.1.2)."""
    if cell.state != "GREETED":
        talk.open(4)
    if cell.state == "AUTHORIZED":
        talk.login()
    assert talk.error(CONNECT_REQUESTS[cell.request]) is cell.expected


def test_somebody_is_an_address() -> None:
    """The matrix' addresses are what their names say."""
    assert dataconn.endpoint_of(SOMEBODY.tcp[0]) == ("127.0.0.1", 9)
