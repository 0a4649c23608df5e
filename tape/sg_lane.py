"""One open sg node with its mapped reserved buffer, and the structure SG_IO takes (include/scsi/sg.h)."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import select

from tape.commands import name_of
from tape.errors import CommandTimeoutError, TapeMisuseError, TransportError
from tape.transport import ScsiStatus

__all__ = ["MAX_SENSE", "SgIoHeader", "SgLane", "SgSystem", "judge_delivery"]

SG_IO = 0x2285
SG_SET_RESERVED_SIZE = 0x2275
SG_GET_RESERVED_SIZE = 0x2272

SG_DXFER_NONE = -1
SG_DXFER_TO_DEV = -2
SG_DXFER_FROM_DEV = -3
SG_FLAG_MMAP_IO = 4

# Descriptor-format sense of a tape drive is far below this; the kernel itself keeps 96 bytes.
MAX_SENSE = 96
MAX_CDB = 16
# The field is 32 bits of milliseconds: about 49 days.
MAX_TIMEOUT_MS = 0xFFFFFFFF

_HOST_TIME_OUT = 0x03
_DRIVER_STATUS = 0x0F  # the high half is a suggestion to the block layer
_DRIVER_TIMEOUT = 0x06
_DRIVER_SENSE = 0x08
_HOST_TEXTS = {
    0x01: "no connection to the device",
    0x02: "the bus stayed busy",
    0x04: "no such target",
    0x05: "aborted",
    0x06: "parity error",
    0x07: "internal error of the host adapter",
    0x08: "the bus was reset",
    0x0E: "transport disrupted",
    0x0F: "transport failed fast",
}

_OPEN_HINTS = {
    errno.ENOENT: "no such device node",
    errno.ENXIO: "the device behind the node is gone",
    errno.ENODEV: "the device behind the node is gone",
    errno.EACCES: "no right to open it; the process needs read and write access (group tape, or root)",
    errno.EPERM: "not permitted to open it; the process needs read and write access",
    errno.EBUSY: "another program holds it exclusively",
}


class SgIoHeader(ctypes.Structure):
    """sg_io_hdr_t; `resid` is signed, and counts what was asked for and not transferred."""

    _fields_ = (
        ("interface_id", ctypes.c_int),
        ("dxfer_direction", ctypes.c_int),
        ("cmd_len", ctypes.c_ubyte),
        ("mx_sb_len", ctypes.c_ubyte),
        ("iovec_count", ctypes.c_ushort),
        ("dxfer_len", ctypes.c_uint),
        ("dxferp", ctypes.c_void_p),
        ("cmdp", ctypes.c_void_p),
        ("sbp", ctypes.c_void_p),
        ("timeout", ctypes.c_uint),
        ("flags", ctypes.c_uint),
        ("pack_id", ctypes.c_int),
        ("usr_ptr", ctypes.c_void_p),
        ("status", ctypes.c_ubyte),
        ("masked_status", ctypes.c_ubyte),
        ("msg_status", ctypes.c_ubyte),
        ("sb_len_wr", ctypes.c_ubyte),
        ("host_status", ctypes.c_ushort),
        ("driver_status", ctypes.c_ushort),
        ("resid", ctypes.c_int),
        ("duration", ctypes.c_uint),
        ("info", ctypes.c_uint),
    )


class SgSystem:
    """The system calls used, so that tests can put a kernel of their own in their place.

    Attributes:
        real_descriptors: those of `open` are the kernel's, so that others than this class may use them.

    """

    real_descriptors = True

    def open(self, path: str) -> int:
        """Open the node.  O_NONBLOCK: do not wait for whoever holds it exclusively, fail instead."""
        return os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def close(self, descriptor: int) -> None:
        """Close it."""
        os.close(descriptor)

    def reserve(self, descriptor: int, size: int) -> int:
        """Ask for a reserved buffer of `size` bytes; return the size granted."""
        wanted, granted = ctypes.c_int(size), ctypes.c_int(0)
        fcntl.ioctl(descriptor, SG_SET_RESERVED_SIZE, wanted)
        fcntl.ioctl(descriptor, SG_GET_RESERVED_SIZE, granted)
        return granted.value

    def map(self, descriptor: int, size: int) -> mmap.mmap:
        """Map the reserved buffer."""
        return mmap.mmap(descriptor, size)

    def run(self, descriptor: int, header: SgIoHeader) -> None:
        """Deliver one command (SG_IO)."""
        fcntl.ioctl(descriptor, SG_IO, header)

    def submit(self, descriptor: int, header: SgIoHeader) -> None:
        """Hand one command to the driver, and do not wait for its end."""
        os.write(descriptor, header)

    def collect(self, descriptor: int, header: SgIoHeader) -> None:
        """Wait for the end of the command that was submitted; its outcome is in `header` then."""
        ended = select.poll()
        ended.register(descriptor, select.POLLIN)
        ended.poll()
        os.readv(descriptor, [header])


class SgLane:
    """One descriptor, its mapped buffer (`view`, empty until `grow`), header and sense memory.

    Raises:
        TransportError: the node cannot be opened; the text says what to do.

    """

    def __init__(self, path: str, system: SgSystem) -> None:
        self.view = memoryview(b"")
        self.path = path
        self._system = system
        self._map: mmap.mmap | None = None
        self._address = 0
        self._refused: int | None = None
        self._sense = ctypes.create_string_buffer(MAX_SENSE)
        self._cdb = ctypes.create_string_buffer(MAX_CDB)
        self._descriptor = self._open()

    @property
    def sense(self) -> bytes:
        """Sense memory as the last command left it; `sb_len_wr` says how much of it is new."""
        return self._sense.raw

    def grow(self, size: int) -> bool:
        """Have at least `size` bytes mapped; False if the driver does not grant so many.

        Raises:
            TapeMisuseError: somebody still holds the smaller buffer.
            TransportError: the device is gone.

        """
        if size <= len(self.view):
            return True
        whole = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
        if self._refused is not None and whole >= self._refused:
            return False
        try:
            self._remap(whole)
        except OSError as error:
            raise self._failure("cannot map the reserved buffer", error) from error
        return bool(len(self.view))

    def _remap(self, whole: int) -> None:
        """Replace the mapping; the driver changes a mapped buffer's size for a new descriptor only."""
        if self._map is not None:
            self._unmap()
            self._system.close(self._descriptor)
            self._descriptor = self._open()
        if self._system.reserve(self._descriptor, whole) < whole:
            self._refused = whole
            return
        self._map = self._system.map(self._descriptor, whole)
        self.view = memoryview(self._map)
        self._address = _address_of(self.view)

    def starts_with(self, data: memoryview) -> bool:
        """Tell whether `data` is the beginning of this lane's buffer: same memory, not equal bytes."""
        if self._map is None or data.readonly or not data.c_contiguous or data.nbytes > len(self.view):
            return False
        return _address_of(data) == self._address

    def header(self, cdb: bytes, *, out: int, into: int, timeout_s: float, address: int | None) -> SgIoHeader:
        """Describe a command to SG_IO.

        Args:
            cdb: the command.
            out: bytes to send, or 0.
            into: bytes to receive, or 0; one of the two is 0.
            timeout_s: seconds.
            address: of the caller's memory; None means the mapped buffer.

        Raises:
            TapeMisuseError: the CDB is longer than SG_IO takes here.

        """
        if not 0 < len(cdb) <= MAX_CDB:
            raise TapeMisuseError(f"a CDB has 6 to {MAX_CDB} bytes, not {len(cdb)}")
        self._cdb.raw = cdb.ljust(MAX_CDB, b"\0")
        direction = SG_DXFER_TO_DEV if out else SG_DXFER_FROM_DEV if into else SG_DXFER_NONE
        mapped = address is None and direction != SG_DXFER_NONE
        return SgIoHeader(
            interface_id=ord("S"),
            dxfer_direction=direction,
            cmd_len=len(cdb),
            mx_sb_len=MAX_SENSE,
            dxfer_len=out or into,
            dxferp=address,
            cmdp=ctypes.addressof(self._cdb),
            sbp=ctypes.addressof(self._sense),
            timeout=min(int(timeout_s * 1000), MAX_TIMEOUT_MS),
            flags=SG_FLAG_MMAP_IO if mapped else 0,
        )

    def another(self, header: SgIoHeader, cdb: bytes) -> SgIoHeader:
        """Describe the same command as another lane's header does, for the mapped buffer of this lane."""
        out = header.dxfer_direction == SG_DXFER_TO_DEV
        length = header.dxfer_len
        return self.header(
            cdb,
            out=length if out else 0,
            into=0 if out else length,
            timeout_s=header.timeout / 1000,
            address=None,
        )

    def run(self, header: SgIoHeader) -> None:
        """Deliver a command; its outcome is in the header afterwards.

        Raises:
            TransportError: the driver did not take it.

        """
        try:
            self._system.run(self._descriptor, header)
        except OSError as error:
            raise self._failure("SG_IO failed", error) from error

    def submit(self, header: SgIoHeader) -> None:
        """Begin a command; `collect` waits for its end.

        Raises:
            TransportError: the driver did not take it.

        """
        try:
            self._system.submit(self._descriptor, header)
        except OSError as error:
            raise self._failure("the command was not taken", error) from error

    def collect(self, header: SgIoHeader) -> None:
        """Wait for the end of what was submitted; its outcome is in the header afterwards.

        Raises:
            TransportError: the device went away.

        """
        try:
            self._system.collect(self._descriptor, header)
        except OSError as error:
            raise self._failure("no end of the command", error) from error

    @property
    def descriptor(self) -> int:
        """Readable when what was submitted has ended."""
        return self._descriptor

    def close(self) -> None:
        """Unmap and close.  While the caller still holds the buffer, its pages stay mapped."""
        if self._descriptor < 0:
            return
        try:
            self._unmap()
        except TapeMisuseError:
            self._map = None
        self._system.close(self._descriptor)
        self._descriptor = -1

    def _unmap(self) -> None:
        if self._map is None:
            return
        self.view.release()
        self.view = memoryview(b"")
        try:
            self._map.close()
        except BufferError:
            self.view = memoryview(self._map)
            raise TapeMisuseError(f"{self.path}: the buffer given earlier is still in use") from None
        self._map = None

    def _open(self) -> int:
        try:
            return self._system.open(self.path)
        except OSError as error:
            hint = _OPEN_HINTS.get(error.errno or 0, error.strerror or "cannot be opened")
            raise TransportError(hint, device=self.path) from error

    def _failure(self, what: str, error: OSError) -> TransportError:
        text = f"{what}: {error.strerror}"
        if error.errno == errno.EINTR:
            text += " (a signal interrupted the command, which may still be running)"
        return TransportError(text, device=self.path)


def _address_of(view: memoryview) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(view))


def judge_delivery(header: SgIoHeader, name: str, cdb: bytes) -> None:
    """Raise if the command did not reach the device or no answer came; a device's own refusal passes.

    Order (tape.md, D): host status, driver status, and only then status and sense.

    Raises:
        CommandTimeoutError, TransportError: as they say.

    """
    driver = header.driver_status & _DRIVER_STATUS
    if header.host_status == _HOST_TIME_OUT or driver == _DRIVER_TIMEOUT:
        seconds = header.timeout / 1000
        raise CommandTimeoutError(f"{name_of(cdb)}: no answer within {seconds:g} s", device=name)
    if header.host_status:
        text = _HOST_TEXTS.get(header.host_status, f"host status {header.host_status:02x}")
        raise TransportError(f"{name_of(cdb)}: {text}", device=name)
    if driver == _DRIVER_SENSE and header.sb_len_wr and not header.status:
        header.status = ScsiStatus.CHECK_CONDITION
    elif driver not in (0, _DRIVER_SENSE):
        raise TransportError(f"{name_of(cdb)}: driver status {driver:02x}", device=name)
