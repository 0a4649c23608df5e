"""The sg driver in front of any transport: what it does with a command, and one behind real descriptors."""

from __future__ import annotations

import ctypes
import mmap
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tape.sg_lane import SG_FLAG_MMAP_IO, SgIoHeader, SgSystem
from tape.transport import Transport

_TO_DEVICE, _FROM_DEVICE = -2, -3
_INTERNAL_ERROR = 0x07
"""Host status, DID_ERROR."""


def carry_out(device: Transport, header: SgIoHeader, buffer: mmap.mmap | None) -> None:
    """Do what a header says, and note in it how that ended; `buffer` is the reserved one."""
    cdb = ctypes.string_at(header.cmdp, header.cmd_len)
    mapped = header.flags == SG_FLAG_MMAP_IO
    out = into = 0
    data = b""
    if header.dxfer_direction == _TO_DEVICE:
        out = header.dxfer_len
        data = buffer[:out] if mapped and buffer else ctypes.string_at(header.dxferp, out)
    elif header.dxfer_direction == _FROM_DEVICE:
        into = header.dxfer_len
    done = device.execute(cdb, data_out=data, data_in_length=into)
    if mapped and into and buffer:
        buffer[: len(done.data)] = done.data
    elif into:
        ctypes.memmove(header.dxferp, done.data, len(done.data))
    ctypes.memmove(header.sbp, done.sense, len(done.sense))
    header.status, header.sb_len_wr, header.resid = done.status, len(done.sense), done.residual


class SgDriver(SgSystem):
    """A driver whose descriptors are the kernel's: a thread for each carries out what is written to it.

    A second command while one runs ends with an internal error of the host adapter, so no test survives it.

    Args:
        device: closed with the last descriptor.

    """

    def __init__(self, device: Transport) -> None:
        self._device = device
        self._busy = threading.Lock()
        self._maps: dict[int, mmap.mmap] = {}
        self._threads: dict[int, threading.Thread] = {}

    def open(self, path: str) -> int:
        """One end of a connection, the other end is a thread's."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        descriptor = ours.detach()
        thread = threading.Thread(target=self._serve, args=(theirs, descriptor), name=f"driver of {path}")
        self._threads[descriptor] = thread
        thread.start()
        return descriptor

    def close(self, descriptor: int) -> None:
        """End the thread."""
        thread = self._threads.pop(descriptor)
        os.close(descriptor)
        thread.join()
        self._maps.pop(descriptor, None)
        if not self._threads:
            self._device.close()

    @contextmanager
    def refusing(self) -> Iterator[None]:
        """No command that is written to the descriptor opened last is taken."""
        descriptor = list(self._threads)[-1]
        kept, deaf = os.dup(descriptor), os.open(os.devnull, os.O_RDONLY)
        os.dup2(deaf, descriptor)
        try:
            yield
        finally:
            os.dup2(kept, descriptor)
            os.close(kept)
            os.close(deaf)

    def reserve(self, descriptor: int, size: int) -> int:
        """Grant all."""
        assert descriptor not in self._maps, "EBUSY: a mapped buffer's size cannot be changed"
        return size

    def map(self, descriptor: int, size: int) -> mmap.mmap:
        """Plain memory."""
        self._maps[descriptor] = mmap.mmap(-1, size)
        return self._maps[descriptor]

    def run(self, descriptor: int, header: SgIoHeader) -> None:
        """Carry it out here."""
        self._carry_out(descriptor, header)

    def _serve(self, theirs: socket.socket, descriptor: int) -> None:
        with theirs:
            while packet := theirs.recv(ctypes.sizeof(SgIoHeader)):
                header = SgIoHeader.from_buffer_copy(packet)
                self._carry_out(descriptor, header)
                theirs.send(bytes(header))

    def _carry_out(self, descriptor: int, header: SgIoHeader) -> None:
        if not self._busy.acquire(blocking=False):
            header.host_status = _INTERNAL_ERROR
            return
        try:
            carry_out(self._device, header, self._maps.get(descriptor))
        finally:
            self._busy.release()
