"""A foreign initiator as a transport: libiscsi (the library in QEMU's iscsi driver), through ctypes."""

from __future__ import annotations

import ctypes
import ctypes.util

from tape.errors import TransportError
from tape.transport import DEFAULT_TIMEOUT_S, Completion, DataOut, ScsiStatus, Transport

LIBRARY = ctypes.util.find_library("iscsi")
NORMAL_SESSION = 2
NO_DATA, READ, WRITE = 0, 1, 2


class _Sense(ctypes.Structure):
    _fields_ = [
        ("error_type", ctypes.c_ubyte),
        ("key", ctypes.c_int),
        ("ascq", ctypes.c_int),
        ("bits", ctypes.c_ubyte),
        ("bit_pointer", ctypes.c_ubyte),
        ("field_pointer", ctypes.c_uint16),
    ]


class _Data(ctypes.Structure):
    _fields_ = [("size", ctypes.c_int), ("data", ctypes.POINTER(ctypes.c_ubyte))]


class _Task(ctypes.Structure):
    """The public beginning of struct scsi_task (scsi-lowlevel.h)."""

    _fields_ = [
        ("status", ctypes.c_int),
        ("cdb_size", ctypes.c_int),
        ("direction", ctypes.c_int),
        ("expected", ctypes.c_int),
        ("cdb", ctypes.c_ubyte * 16),
        ("residual_status", ctypes.c_int),
        ("residual", ctypes.c_size_t),
        ("sense", _Sense),
        ("datain", _Data),
    ]


class _Out(ctypes.Structure):
    _fields_ = [("size", ctypes.c_size_t), ("data", ctypes.c_char_p)]


def library() -> ctypes.CDLL:
    """Return libiscsi with the types of what is called."""
    lib = ctypes.CDLL(LIBRARY)
    lib.iscsi_create_context.restype = ctypes.c_void_p
    lib.iscsi_create_context.argtypes = [ctypes.c_char_p]
    lib.iscsi_get_error.restype = ctypes.c_char_p
    lib.iscsi_get_error.argtypes = [ctypes.c_void_p]
    lib.scsi_create_task.restype = ctypes.POINTER(_Task)
    lib.scsi_create_task.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_int]
    lib.iscsi_scsi_command_sync.restype = ctypes.POINTER(_Task)
    lib.iscsi_scsi_command_sync.argtypes = [
        ctypes.c_void_p,
        ctypes.c_int,
        ctypes.POINTER(_Task),
        ctypes.POINTER(_Out),
    ]
    lib.scsi_task_add_data_in_buffer.argtypes = [ctypes.POINTER(_Task), ctypes.c_int, ctypes.c_void_p]
    lib.scsi_free_scsi_task.argtypes = [ctypes.POINTER(_Task)]
    lib.iscsi_set_targetname.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    lib.iscsi_connect_sync.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    for name in ("iscsi_login_sync", "iscsi_logout_sync", "iscsi_disconnect", "iscsi_destroy_context"):
        getattr(lib, name).argtypes = [ctypes.c_void_p]
    for name in ("iscsi_set_session_type", "iscsi_set_timeout", "iscsi_set_noautoreconnect"):
        getattr(lib, name).argtypes = [ctypes.c_void_p, ctypes.c_int]
    return lib


class LibiscsiTransport(Transport):
    """One session to one LUN."""

    def __init__(self, address: tuple[str, int], target: str, lun: int, initiator: str) -> None:
        self.name = f"libiscsi:{target}/{lun}"
        self._lib, self._lun = library(), lun
        self._context = self._lib.iscsi_create_context(initiator.encode())
        self._lib.iscsi_set_targetname(self._context, target.encode())
        self._lib.iscsi_set_session_type(self._context, NORMAL_SESSION)
        self._lib.iscsi_set_timeout(self._context, 20)
        self._lib.iscsi_set_noautoreconnect(self._context, 1)
        portal = f"{address[0]}:{address[1]}".encode()
        if self._lib.iscsi_connect_sync(self._context, portal) or self._lib.iscsi_login_sync(self._context):
            raise TransportError(self._error(), device=self.name)

    def _error(self) -> str:
        text: bytes = self._lib.iscsi_get_error(self._context)
        return text.decode()

    def execute(
        self,
        cdb: bytes,
        *,
        data_out: DataOut = b"",
        data_in_length: int = 0,
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> Completion:
        direction = WRITE if len(data_out) else READ if data_in_length else NO_DATA
        task = self._lib.scsi_create_task(len(cdb), cdb, direction, len(data_out) or data_in_length)
        buffer = ctypes.create_string_buffer(data_in_length)
        if data_in_length:
            self._lib.scsi_task_add_data_in_buffer(task, data_in_length, buffer)
        out = _Out(len(data_out), bytes(data_out)) if len(data_out) else None
        done = self._lib.iscsi_scsi_command_sync(
            self._context, self._lun, task, ctypes.byref(out) if out is not None else None
        )
        if not done or done.contents.status not in set(ScsiStatus):
            raise TransportError(self._error(), device=self.name)
        result = done.contents
        residual = result.residual if result.residual_status else 0
        sense = b""
        if result.status == ScsiStatus.CHECK_CONDITION:
            # The data segment of the response: two bytes of length, then sense.
            sense = ctypes.string_at(result.datain.data, result.datain.size)[2:]
        completion = Completion(
            result.status, buffer.raw[: max(data_in_length - residual, 0)], sense, residual
        )
        self._lib.scsi_free_scsi_task(done)
        return completion

    def close(self) -> None:
        if self._context:
            self._lib.iscsi_logout_sync(self._context)
            self._lib.iscsi_destroy_context(self._context)
            self._context = None
