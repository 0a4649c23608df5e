"""The Linux transport: SG_IO on /dev/sgN, with the driver's reserved buffer mapped into our memory.

Why so: SG_IO with ordinary buffers makes the kernel allocate and copy for each command and loses a
factor of four; with the reserved buffer mapped (SG_FLAG_MMAP_IO) it is faster than dd on the st driver
(tape.md, D).  fcntl.ioctl releases the GIL while the command runs.

A file descriptor has one reserved buffer, and the driver uses it for unmapped transfers too.  So that a
TEST UNIT READY or INQUIRY never overwrites a record that waits in the caller's buffer, a transport has
three lanes, each a descriptor with a buffer of its own:

    shared lanes   two, made by `buffer()`; the caller receives network data into one and writes from it
    staging lane   every other transfer, copied in or out (8 us for 256 KiB)

A command of a shared lane can also be begun and finished later (write(2), poll(2) and read(2) on the node),
while the caller fills the other lane.  One thread does both: no lock of the interpreter changes hands.
Where the compiled helper is there (carry.py), it does that for many records in one call.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tape.carry import helper
from tape.errors import TapeMisuseError, TransportError
from tape.sg_carrier import SgCarrier
from tape.sg_lane import SgIoHeader, SgLane, SgSystem
from tape.sg_running import Submitted, outcome
from tape.transport import DEFAULT_TIMEOUT_S, Completion, DataOut, Running, Transport

__all__ = ["SgTransport"]

# Enough for every answer but records: most transports never grow their staging buffer.
STAGING_BYTES = 64 * 1024


class SgTransport(Transport):
    """A device behind its sg node, for one thread at a time.

    Use worker threads: a signal that interrupts SG_IO orphans the command (the sg driver's design).

    Args:
        path: the node, e.g. "/dev/sg3"; also the transport's name.
        system: the system calls; tests pass a kernel of their own.

    Raises:
        TransportError: no such node, no right to open it, or somebody holds it exclusively.

    """

    overlaps = True

    def __init__(self, path: str, system: SgSystem | None = None) -> None:
        self.name = path
        self._system = system or SgSystem()
        self._busy = threading.Lock()
        self._staging = SgLane(path, self._system)
        self._shared: dict[int, SgLane] = {}
        self._closed = False
        quick = helper() if self._system.real_descriptors else None
        self.carrier = SgCarrier(path, quick, self._shared) if quick is not None else None

    def buffer(self, size: int, lane: int = 0) -> memoryview:
        """Return a shared lane's mapped buffer, at least `size` bytes of it.

        Data received into it goes out without a copy, as long as it starts at the buffer's beginning.
        Asking for more than before invalidates the buffer given earlier.

        Raises:
            TransportError: the host adapter carries less than `size` bytes in one command.
            TapeMisuseError: a larger one is asked for while the old one is still in use.

        """
        self._check_open()
        if lane not in self._shared:
            self._shared[lane] = SgLane(self.name, self._system)
        shared = self._shared[lane]
        if not shared.grow(size):
            raise TransportError(f"the host adapter cannot carry {size} bytes at once", device=self.name)
        return shared.view[:size]

    def execute(
        self,
        cdb: bytes,
        *,
        data_out: DataOut = b"",
        data_in_length: int = 0,
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> Completion:
        """Deliver one command; see `Transport.execute`."""
        if len(data_out) and data_in_length:
            raise TapeMisuseError("a SCSI command carries data in one direction only")
        with self._turn():
            shared = self._shared_lane(data_out)
            if shared is not None:
                return self._deliver(shared, cdb, out=len(data_out), timeout_s=timeout_s)
            length = max(len(data_out), data_in_length)
            if length and not self._staging.grow(max(length, STAGING_BYTES)):
                return self._deliver_unmapped(cdb, data_out, data_in_length, timeout_s)
            if len(data_out):
                self._staging.view[:length] = memoryview(data_out).cast("B")
            return self._deliver(
                self._staging, cdb, out=len(data_out), into=data_in_length, timeout_s=timeout_s, copy=True
            )

    def execute_into(
        self, cdb: bytes, buffer: memoryview, timeout_s: float = DEFAULT_TIMEOUT_S
    ) -> Completion:
        """Deliver one command that sends data; without a copy if `buffer` is ours."""
        shared = self._shared_lane(buffer)
        if shared is None:
            return super().execute_into(cdb, buffer, timeout_s)
        with self._turn():
            return self._deliver(shared, cdb, into=len(buffer), timeout_s=timeout_s)

    def begin(
        self, cdb: bytes, lane: memoryview, *, out: bool, timeout_s: float = DEFAULT_TIMEOUT_S
    ) -> Running:
        """Hand the command to the driver; see `Transport.begin`."""
        shared = self._shared_lane(lane)
        if shared is None:
            return super().begin(cdb, lane, out=out, timeout_s=timeout_s)
        self._take_turn()
        length = len(lane)
        try:
            header = shared.header(
                cdb, out=length if out else 0, into=0 if out else length, timeout_s=timeout_s, address=None
            )
            shared.submit(header)
        except BaseException:
            self._busy.release()
            raise
        return Submitted(shared, header, cdb, length, self._busy.release)

    def close(self) -> None:
        """Close all descriptors.  A buffer still held by the caller stays readable until released."""
        self._closed = True
        for lane in (self._staging, *self._shared.values()):
            lane.close()

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Keep a second command out, as long as the block runs."""
        self._take_turn()
        try:
            yield
        finally:
            self._busy.release()

    def _take_turn(self) -> None:
        """Keep a second command out.  Letting it wait would hide the mistake until something deadlocks."""
        self._check_open()
        if not self._busy.acquire(blocking=False):
            raise TapeMisuseError(f"two threads use {self.name} at once, or one before a command has ended")

    def _check_open(self) -> None:
        if self._closed:
            raise TapeMisuseError(f"{self.name} is closed")

    def _shared_lane(self, data: DataOut) -> SgLane | None:
        """Return the lane whose mapped buffer begins with `data`, where the driver will look for it."""
        if not isinstance(data, memoryview) or not data.nbytes:
            return None
        return next((lane for lane in self._shared.values() if lane.starts_with(data)), None)

    def _deliver(
        self,
        lane: SgLane,
        cdb: bytes,
        *,
        out: int = 0,
        into: int = 0,
        timeout_s: float,
        copy: bool = False,
    ) -> Completion:
        """Send a command whose data, if any, lies or will lie in the lane's mapped buffer."""
        header = lane.header(cdb, out=out, into=into, timeout_s=timeout_s, address=None)
        return self._run(lane, header, cdb, lane.view[:into] if copy and into else None)

    def _deliver_unmapped(
        self, cdb: bytes, data_out: DataOut, data_in_length: int, timeout_s: float
    ) -> Completion:
        """Send a command with more data than the driver reserves; it allocates and copies then."""
        memory = bytearray(data_out) if len(data_out) else bytearray(data_in_length)
        address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        header = self._staging.header(
            cdb, out=len(data_out), into=data_in_length, timeout_s=timeout_s, address=address
        )
        return self._run(self._staging, header, cdb, memoryview(memory) if data_in_length else None)

    def _run(self, lane: SgLane, header: SgIoHeader, cdb: bytes, received: memoryview | None) -> Completion:
        """Run SG_IO and gather what came back; `received` is where to copy data from."""
        lane.run(header)
        return outcome(lane, header, cdb, received)
