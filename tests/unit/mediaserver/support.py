"""A media server on 127.0.0.1 over the library model, with a gate at every drive and changer."""

from __future__ import annotations

import os
import queue
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from appliance.dmaport import session_setup
from appliance.mediaserver.backends import ModelBackend
from appliance.mediaserver.libraries import Libraries, Library
from appliance.mediaserver.role import media_role
from appliance.ndmp import dataconn
from appliance.ndmp import messages as m
from appliance.ndmp.client import Client
from appliance.ndmp.enums import ErrorCode, MoverMode, MtioOp, TapeOpenMode
from appliance.ndmp.errors import ReplyError
from appliance.ndmp.networks import NO_RULES, DataRules
from appliance.ndmp.server import NdmpServer, Setup
from appliance.ndmp.session import Accounts
from appliance.ndmp.xdr import Struct
from tape.changer import Changer
from tape.commands import READ_ELEMENT_STATUS
from tape.errors import TapeError
from tape.model import LibraryModel, LibrarySpec
from tape.sense import Sense, SenseKey
from tape.sg import SgTransport
from tape.transport import DEFAULT_TIMEOUT_S, Completion, DataOut, Running, ScsiStatus, Transport
from tests.unit.sg_support import SgDriver

WAIT_S = 20.0
"""Longer than any machine needs for what a test waits for; nothing waits that long when it works."""

CARTRIDGES = ("VTL001L5", "VTL002L5", "OTHER1L5")
WRITABLE = CARTRIDGES[:2]
DRIVE = b"drive:DRV1"
CHANGER = b"changer:CHG1"

Post = TypeVar("Post", bound=Struct)


def media_setup(
    libraries: Libraries, hostname: str, address: str, *, strict: bool = False, rules: DataRules = NO_RULES
) -> Setup:
    """What gives each session the services of a media server and no more."""
    return session_setup(hostname, [media_role(libraries, address, strict=strict, rules=rules)])


@dataclass(frozen=True)
class ExampleLibrary:
    """A section [[media_server.libraries]]."""

    transport: str = "model"
    changer: str = "CHG1"
    drives: tuple[str, ...] = ("DRV1", "DRV2")
    writable: tuple[str, ...] = WRITABLE
    readable: tuple[str, ...] = CARTRIDGES[2:]
    reserve: bool = True
    folder: Path | None = None
    slots: tuple[str, ...] = CARTRIDGES
    capacity: int = 1 << 20


_INVALID_FIELD = Completion(
    ScsiStatus.CHECK_CONDITION, sense=Sense(SenseKey.ILLEGAL_REQUEST, 0x24, 0x00).encode()
)


class Gate:
    """What stands between the server and one device: it counts, holds commands back and makes them fail.

    Attributes:
        opcodes: of all commands so far.
        arrived: a command is held back.
        mute: READ ELEMENT STATUS that asks for the drives' identifiers is refused, as by old libraries.

    """

    def __init__(self) -> None:
        self.opcodes: list[int] = []
        self.arrived = threading.Event()
        self.mute = False
        self._held: int | None = None
        self._before = 0
        self._open = threading.Event()
        self._failures: dict[int, list[Completion]] = {}

    def hold(self, opcode: int, nth: int = 1) -> None:
        """Hold the next (or the n-th from now) command of this kind back, until `let_go`."""
        self.arrived.clear()
        self._open.clear()
        self._held, self._before = opcode, nth

    def let_go(self) -> None:
        """Let what is held back go on."""
        self._open.set()

    def fail(self, opcode: int, completion: Completion) -> None:
        """Have the next command of this kind end like this, without reaching the device."""
        self._failures.setdefault(opcode, []).append(completion)

    def pass_by(self, cdb: bytes) -> Completion | None:
        """Let a command through, or end it."""
        self.opcodes.append(cdb[0])
        if self._held == cdb[0]:
            self._before -= 1
        if self._held == cdb[0] and not self._before:
            self._held = None
            self.arrived.set()
            assert self._open.wait(WAIT_S)
        if self.mute and cdb[0] == READ_ELEMENT_STATUS.opcode and READ_ELEMENT_STATUS.decode(cdb)["dvcid"]:
            return _INVALID_FIELD
        failures = self._failures.get(cdb[0])
        return failures.pop(0) if failures else None


class GatedTransport(Transport):
    """A path through a gate."""

    def __init__(self, inner: Transport, gate: Gate) -> None:
        self.name = inner.name
        self._inner = inner
        self._gate = gate

    def execute(
        self,
        cdb: bytes,
        *,
        data_out: DataOut = b"",
        data_in_length: int = 0,
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> Completion:
        """Deliver one command, if the gate lets it."""
        ended = self._gate.pass_by(cdb)
        if ended is not None:
            return ended
        return self._inner.execute(cdb, data_out=data_out, data_in_length=data_in_length, timeout_s=timeout_s)

    def close(self) -> None:
        """Close the path."""
        self._inner.close()


class _InAThread(Running):
    """A command that a thread carries out, as a host adapter would."""

    def __init__(self, cdb: bytes, length: int, action: Callable[[], Completion]) -> None:
        super().__init__(cdb, length)
        self.descriptor = os.eventfd(0, os.EFD_CLOEXEC)
        self._action = action
        self._error: TapeError | None = None
        self._thread = threading.Thread(target=self._run, name="host adapter")
        self._thread.start()

    def _run(self) -> None:
        try:
            self._done = self._action()
        except TapeError as error:
            self._error = error
        assert self.descriptor is not None
        os.eventfd_write(self.descriptor, 1)

    def finish(self) -> Completion:
        """Wait for its end."""
        self._thread.join()
        assert self.descriptor is not None
        os.close(self.descriptor)
        if self._error is not None:
            raise self._error
        return super().finish()


class OverlappingTransport(GatedTransport):
    """The same for commands that run by themselves, as with sg; a second one meanwhile fails the test."""

    overlaps = True

    def __init__(self, inner: Transport, gate: Gate) -> None:
        super().__init__(inner, gate)
        self._running: _InAThread | None = None

    def begin(
        self, cdb: bytes, lane: memoryview, *, out: bool, timeout_s: float = DEFAULT_TIMEOUT_S
    ) -> Running:
        """Have a thread do it."""
        action = partial(super().begin, cdb, lane, out=out, timeout_s=timeout_s)
        assert self._running is None or not self._running._thread.is_alive(), "two commands at once"
        self._running = _InAThread(cdb, len(lane), lambda: action().finish())
        return self._running

    def execute(
        self,
        cdb: bytes,
        *,
        data_out: DataOut = b"",
        data_in_length: int = 0,
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> Completion:
        """Deliver one command."""
        other = self._running is not None and self._running._thread is not threading.current_thread()
        assert not other or not self._running._thread.is_alive(), "two commands at once"
        return super().execute(cdb, data_out=data_out, data_in_length=data_in_length, timeout_s=timeout_s)


def _carried(inner: Transport, gate: Gate) -> Transport:
    """Real descriptors, so that the compiled helper carries the records, where it is there."""
    return SgTransport(inner.name, SgDriver(GatedTransport(inner, gate)))


COMMANDS: dict[str, Callable[[Transport, Gate], Transport]] = {
    "waiting": GatedTransport,
    "overlapping": OverlappingTransport,
    "carried": _carried,
}
"""How a drive's commands run: to their end, by themselves, by themselves and many in one call."""


class GatedBackend(ModelBackend):
    """The library model behind gates, by serial number."""

    def __init__(self, model: LibraryModel, *, commands: str = "waiting") -> None:
        super().__init__(model)
        self._make = COMMANDS[commands]
        self.gates = {serial: Gate() for serial in ("CHG1", "DRV1", "DRV2")}

    def open(self, serial: str) -> Transport:
        """A path through the device's gate."""
        inner = super().open(serial)
        return self._make(inner, self.gates[serial]) if serial in self.gates else inner


class NdmpTransport(Transport):
    """What a DMA does: its changer commands travel in SCSI_EXECUTE_CDB."""

    def __init__(self, client: Client) -> None:
        self.name = "ndmp"
        self._client = client

    def execute(
        self,
        cdb: bytes,
        *,
        data_out: DataOut = b"",
        data_in_length: int = 0,
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> Completion:
        """Deliver one command by NDMP."""
        request = m.ScsiExecuteCdbRequest(
            flags=1 if data_in_length else 0,
            timeout=int(timeout_s * 1000),
            datain_length=data_in_length,
            cdb=cdb,
        )
        reply = self._client.call(request, m.ScsiExecuteCdbReply, WAIT_S)
        return Completion(reply.status, reply.datain, reply.ext_sense)

    def close(self) -> None:
        """Nothing."""


class Site:
    """A running media server with two drives, three cartridges of 1 MiB, the last one not writable."""

    def __init__(
        self,
        folder: Path,
        *,
        strict: bool = False,
        capacity: int = 1 << 20,
        config: ExampleLibrary | None = None,
        commands: str = "waiting",
    ) -> None:
        spec = LibrarySpec(
            "CHG1",
            ("DRV1", "DRV2"),
            (*CARTRIDGES, None),
            capacity_bytes=capacity,
            early_warning_bytes=capacity // 4,
        )
        self.folder = folder
        self.model = LibraryModel(folder, spec)
        self.backend = GatedBackend(self.model, commands=commands)
        self.gate = self.backend.gates["DRV1"]
        self.libraries = Libraries([Library(config or ExampleLibrary(), self.backend)])
        self.server = NdmpServer(
            ("127.0.0.1", 0),
            media_setup(self.libraries, "media1", "127.0.0.1", strict=strict),
            accounts=Accounts({"dma": "secret"}),
        )
        self.server.start()
        self._clients: list[Client] = []
        self._streams: list[socket.socket] = []

    def close(self) -> None:
        """End everything."""
        for client in self._clients:
            client.close()
        for stream in self._streams:
            stream.close()
        self.server.stop()
        self.model.close()

    def keep(self, stream: socket.socket) -> socket.socket:
        """A data server's end of a connection, closed at the latest when the test is over."""
        self._streams.append(stream)
        stream.settimeout(WAIT_S)
        return stream

    def listen(self, client: Client, mode: MoverMode) -> socket.socket:
        """MOVER_LISTEN, and a data server that connects to it."""
        reply = client.call(m.MoverListenRequest(mode), m.MoverListenReply, WAIT_S)
        return self.keep(connect(reply))

    def client(self) -> Client:
        """A DMA that has logged in."""
        client = Client.connect(self.server.address)
        self._clients.append(client)
        client.login("dma", "secret")
        return client

    def drop(self, client: Client) -> None:
        """Cut a DMA's control connection without a word, and wait until the server has cleaned up."""
        stream = client._stream
        host, port = stream.getsockname()[:2]
        dataconn.shut(stream)
        for thread in threading.enumerate():
            if thread.name == f"ndmp-{host}:{port}":
                thread.join(WAIT_S)
                assert not thread.is_alive(), "the server did not notice"

    def operator_moves(self, barcode: str, drive: int | None = 0) -> None:
        """Put a cartridge into a drive by hand, past the server; None: into the free slot."""
        with Changer(self.model.transport("CHG1")) as changer:
            inventory = changer.inventory()
            source = inventory.find(barcode)
            assert source is not None
            free = next(slot for slot in inventory.slots if not slot.full)
            target = free if drive is None else inventory.drives[drive]
            changer.move(source.address, target.address)

    def opened(self, mode: TapeOpenMode = TapeOpenMode.RDWR, barcode: str = CARTRIDGES[0]) -> Client:
        """A DMA with this cartridge in the first drive, which it has open."""
        self.operator_moves(barcode)
        client = self.client()
        client.do(m.TapeOpenRequest(DRIVE, mode))
        return client


def error_of(client: Client, request: Struct) -> ErrorCode:
    """The error that a request is answered with, NO_ERR included."""
    try:
        client.do(request, WAIT_S)
    except ReplyError as error:
        return error.code
    return ErrorCode.NO_ERR


def mtio(client: Client, operation: MtioOp, count: int = 1) -> int:
    """Do a tape operation and return what was left to do."""
    return client.call(m.TapeMtioRequest(operation, count), m.TapeMtioReply, WAIT_S).resid_count


def read(client: Client, count: int = 65536) -> bytes | ErrorCode:
    """One record by TAPE_READ, or the error."""
    try:
        return client.call(m.TapeReadRequest(count), m.TapeReadReply, WAIT_S).data_in
    except ReplyError as error:
        return error.code


def write(client: Client, *records: bytes) -> None:
    """Records by TAPE_WRITE."""
    for record in records:
        reply = client.call(m.TapeWriteRequest(record), m.TapeWriteReply, WAIT_S)
        assert reply.count == len(record)


def place(client: Client) -> tuple[int, int]:
    """File and block number by TAPE_GET_STATE; -1 for not known."""
    state = client.call(m.TapeGetStateRequest(), m.TapeGetStateReply, WAIT_S)
    numbers = [-1 if number == 0xFFFFFFFF else number for number in (state.file_num, state.blockno)]
    return numbers[0], numbers[1]


def mover(client: Client) -> m.MoverGetStateReply:
    """MOVER_GET_STATE."""
    return client.call(m.MoverGetStateRequest(), m.MoverGetStateReply, WAIT_S)


def posted(client: Client, kind: type[Post]) -> Post:
    """The next post, which is of this kind; lines for the DMA's log may come before it."""
    body: Struct = m.LogMessagePost()
    while isinstance(body, m.LogMessagePost):
        try:
            message = client.posts.get(timeout=WAIT_S)
        except queue.Empty:
            raise AssertionError(f"no {kind.__name__} came") from None
        assert message is not None, "the session ended"
        body = message.body()
        if isinstance(body, kind):
            break
    assert isinstance(body, kind), f"{type(body).__name__} came instead of {kind.__name__}"
    return body


def connect(reply: m.MoverListenReply) -> socket.socket:
    """A data connection to a listening mover."""
    stream = socket.create_connection(dataconn.endpoint_of(reply.connect_addr.tcp[0]), WAIT_S)
    stream.settimeout(WAIT_S)
    return stream


def is_gone(stream: socket.socket) -> bool:
    """Whether the mover has ended a connection; what it had not read makes that a reset."""
    try:
        return stream.recv(1) == b""
    except ConnectionResetError:
        return True


def receive(stream: socket.socket, count: int) -> bytes:
    """Exactly `count` bytes of a data connection; fewer if it ends."""
    parts = bytearray()
    while len(parts) < count:
        part = stream.recv(count - len(parts))
        if not part:
            break
        parts += part
    return bytes(parts)
