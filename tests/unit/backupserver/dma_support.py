"""A site for the DMA: a real media server over the library model, and a file server that follows a script."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path

from backupserver_support import in_node_form

from appliance.backupserver.catalogue import Catalogue, open_catalogue
from appliance.backupserver.peers import Context
from appliance.backupserver.progress import Screen
from appliance.config import MediaServer, NodeConfig, parse
from appliance.mediaserver.backends import ModelBackend
from appliance.mediaserver.libraries import Libraries
from appliance.ndmp import dataconn
from appliance.ndmp import messages as m
from appliance.ndmp.enums import (
    DataHaltReason,
    DataOperation,
    DataState,
    ErrorCode,
    FileType,
    LogType,
    RecoveryStatus,
)
from appliance.ndmp.errors import RefusalError
from appliance.ndmp.messages.fh import FhFile
from appliance.ndmp.server import NdmpServer
from appliance.ndmp.session import Accounts, Handler, Poster
from appliance.ndmp.types import FileName, FileStat, Name, Pval
from appliance.ndmp.xdr import Struct
from tape.model import LibraryModel
from tests.unit.mediaserver.support import media_setup

HOST = "127.0.0.1"
WAIT_S = 30
PROBE = 65536
"""Bytes of the first read of a restore, as the real entry server makes it."""

TOML = """
schema = 1
[node]
name = "backup1"
address = "127.0.0.1"
state = "{folder}"
[media_server]
[[media_server.libraries]]
transport = "model"
changer = "LIB1"
drives = ["DRV1", "DRV2"]
folder = "{folder}/library"
slots = ["T1", "T2", "T3", "T4"]
writable = ["T1", "T2", "T3", "T4"]
capacity = 16777216
[backup_server]
catalogue = "{folder}/catalogue.sqlite"
entry = "fs1"
media = "media1"
changer = "LIB1"
drives = ["DRV1"]
writable = ["T1", "T2", "T3"]
[[backup_server.servers]]
name = "fs1"
address = "127.0.0.1"
port = {data}
user = "dma"
password_file = "{folder}/password"
[[backup_server.servers]]
name = "media1"
address = "127.0.0.1"
port = {media}
user = "dma"
password_file = "{folder}/password"
"""


@dataclass
class Script:
    """What the file server does, and what it saw."""

    image: bytes = b"image" * 1000
    names: tuple[bytes, ...] = (b"/", b"/file")
    lines: tuple[tuple[LogType, bytes], ...] = ()
    environment: Mapping[bytes, bytes] = field(default_factory=dict)
    refuse: ErrorCode | None = None
    halt: DataHaltReason = DataHaltReason.SUCCESSFUL
    sends: int | None = None
    """Bytes really sent, when that is not the whole image."""
    hangs: bool = False
    results: Mapping[bytes, RecoveryStatus] = field(default_factory=dict)
    started: list[dict[bytes, bytes]] = field(default_factory=list)
    butypes: list[bytes] = field(default_factory=list)
    nlist: tuple[Name, ...] = ()
    received: bytes = b""
    aborted: bool = False


class ScriptedData:
    """A DATA service that follows a script."""

    def __init__(self, poster: Poster, script: Script) -> None:
        self._poster = poster
        self._script = script
        self._reset()

    def _reset(self) -> None:
        self._state = DataState.IDLE
        self._halt = DataHaltReason.NA
        self._operation = DataOperation.NOACTION
        self._processed = 0
        self._aborted = False
        self._environment: tuple[Pval, ...] = ()
        self._released = threading.Event()

    def handlers(self) -> Mapping[type[Struct], Handler]:
        """The requests of the DMA."""
        return {
            m.DataConnectRequest: self._connect,
            m.DataStartBackupRequest: self._backup,
            m.DataStartRecoverRequest: self._recover,
            m.DataGetStateRequest: self._get_state,
            m.DataGetEnvRequest: lambda _: m.DataGetEnvReply(env=self._environment),
            m.DataAbortRequest: self._abort,
            m.DataStopRequest: self._stop,
        }

    def close(self) -> None:
        """The DMA is gone."""
        self._released.set()
        dataconn.shut(getattr(self, "_stream", None))

    def _connect(self, request: m.DataConnectRequest) -> Struct:
        self._stream = dataconn.connect(request.addr, HOST)
        self._state = DataState.CONNECTED
        return m.DataConnectReply()

    def _backup(self, request: m.DataStartBackupRequest) -> Struct:
        self._script.started.append({pair.name: pair.value for pair in request.env})
        self._script.butypes.append(request.butype_name)
        self._refuse()
        extra = tuple(Pval(name, value) for name, value in self._script.environment.items())
        self._environment = (*request.env, *extra)
        self._operation = DataOperation.BACKUP
        return self._run(self._send, m.DataStartBackupReply())

    def _recover(self, request: m.DataStartRecoverRequest) -> Struct:
        self._script.started.append({pair.name: pair.value for pair in request.env})
        self._script.butypes.append(request.butype_name)
        self._script.nlist = request.nlist
        self._refuse()
        self._operation = DataOperation.RECOVER
        return self._run(self._receive, m.DataStartRecoverReply())

    def _refuse(self) -> None:
        if self._script.refuse is not None:
            self._log(LogType.ERROR, b"the reason why")
            raise RefusalError(self._script.refuse)

    def _run(self, work: object, reply: Struct) -> Struct:
        self._state = DataState.ACTIVE
        thread = threading.Thread(target=work, daemon=True)  # type: ignore[arg-type]
        self._poster.after_reply(thread.start)
        return reply

    def _send(self) -> None:
        script = self._script
        files = tuple(
            FhFile((FileName(name),), (FileStat(ftype=self._type(name)),), i, i * 512)
            for i, name in enumerate(script.names)
        )
        if self._script.started[-1].get(b"HIST") == b"d":
            dirs, nodes = in_node_form(files)
            self._poster.post(m.FhAddNodePost(tuple(nodes)))
            self._poster.post(m.FhAddDirPost(tuple(dirs)))
        else:
            self._poster.post(m.FhAddFilePost(files))
        for kind, text in script.lines:
            self._log(kind, text)
        try:
            self._stream.sendall(script.image[: script.sends])
        except OSError:
            script.halt = DataHaltReason.CONNECT_ERROR
        self._processed = len(script.image)
        self._end()

    def _type(self, name: bytes) -> FileType:
        inside = name.rstrip(b"/") + b"/"
        return FileType.DIR if any(n.startswith(inside) for n in self._script.names) else FileType.REG

    def _receive(self) -> None:
        size = len(self._script.image)
        got = bytearray()
        for offset, length in ((0, min(PROBE, size)), (min(PROBE, size), size - PROBE)):
            if length > 0:
                self._poster.post(m.NotifyDataReadPost(offset, length))
                got += self._read(length)
        self._script.received = bytes(got)
        for kind, text in self._script.lines:
            self._log(kind, text)
        for name in self._script.nlist:
            status = self._script.results.get(name.original_path, RecoveryStatus.SUCCESSFUL)
            self._poster.post(m.LogFilePost(name.original_path, status))
        self._end()

    def _read(self, length: int) -> bytes:
        got = bytearray()
        while len(got) < length and (data := self._stream.recv(length - len(got))):
            got += data
        return bytes(got)

    def _end(self) -> None:
        if self._script.hangs:
            self._released.wait(WAIT_S)
        dataconn.shut(self._stream)
        self._stream.close()
        self._halt = DataHaltReason.ABORTED if self._aborted else self._script.halt
        self._state = DataState.HALTED
        self._poster.post(m.NotifyDataHaltedPost(self._halt))

    def _get_state(self, _: m.DataGetStateRequest) -> Struct:
        return m.DataGetStateReply(
            operation=self._operation,
            state=self._state,
            halt_reason=self._halt,
            bytes_processed=self._processed,
        )

    def _abort(self, _: m.DataAbortRequest) -> Struct:
        if self._state is DataState.IDLE:
            raise RefusalError(ErrorCode.ILLEGAL_STATE)
        self._script.aborted = self._aborted = True
        if self._state is DataState.CONNECTED:
            self._poster.after_reply(self._end)
        self._released.set()
        return m.DataAbortReply()

    def _stop(self, _: m.DataStopRequest) -> Struct:
        if self._state is not DataState.HALTED:
            raise RefusalError(ErrorCode.ILLEGAL_STATE)
        self._reset()
        return m.DataStopReply()

    def _log(self, kind: LogType, text: bytes) -> None:
        self._poster.post(m.LogMessagePost(kind, 0, text))


class Site:
    """Everything a job needs."""

    def __init__(
        self, folder: Path, config: NodeConfig, catalogue: Catalogue, media: NdmpServer, model: LibraryModel
    ) -> None:
        self.folder = folder
        self.model = model
        self.config = config
        self.catalogue = catalogue
        self.media = media
        self.script = Script()
        self.output = StringIO()
        self.config_file = folder / "spanreel.toml"

    @property
    def context(self) -> Context:
        """What a command hands to a job."""
        return Context(self.config, self.catalogue, Screen(self.output))


@contextmanager
def site(folder: Path, drives: tuple[str, ...] = ("DRV1",)) -> Iterator[Site]:
    """A running site in an empty folder; `drives` are those that the backup server uses."""
    listed = ", ".join(f'"{drive}"' for drive in drives)
    toml = TOML.replace('drives = ["DRV1"]', f"drives = [{listed}]")
    (folder / "password").write_text("secret\n")
    (folder / "password").chmod(0o600)
    accounts = Accounts({"dma": "secret"})
    # The library is opened before the ports of the servers are known.
    libraries = Libraries.from_config(
        parse(toml.format(folder=folder, data=1, media=1), folder).section(MediaServer).libraries
    )
    media = NdmpServer((HOST, 0), media_setup(libraries, "media1", HOST), accounts=accounts)
    made: list[Site] = []
    data = NdmpServer(
        (HOST, 0),
        lambda session, _: session.add(ScriptedData(session, made[0].script)),
        accounts=accounts,
    )
    text = toml.format(folder=folder, data=data.address[1], media=media.address[1])
    (folder / "spanreel.toml").write_text(text)
    config = parse(text, folder)
    assert config.backup_server is not None
    with open_catalogue(config.backup_server.catalogue) as catalogue:
        backend = libraries.libraries[0].backend
        assert isinstance(backend, ModelBackend)
        made.append(Site(folder, config, catalogue, media, backend.model))
        media.start()
        data.start()
        try:
            yield made[0]
        finally:
            data.stop()
            media.stop()
            libraries.close()
