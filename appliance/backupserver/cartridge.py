"""One drive with a cartridge, through NDMP's TAPE interface.

A drive is opened for writing only with a cartridge that the configuration lists as writable.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection
from typing import Final

from appliance.configservice import VENDOR
from appliance.errors import InfrastructureError, JobError
from appliance.ndmp import messages as m
from appliance.ndmp.client import Client
from appliance.ndmp.enums import ErrorCode, MtioOp, TapeFlag, TapeOpenMode
from appliance.ndmp.errors import NdmpError, RemoteFaultError, ReplyError

LOAD_WAIT_S: Final = 120.0
"""A drive threads a fresh cartridge and calibrates: LTO manuals ask for up to 80 seconds."""

BUSY_WAIT_S: Final = 10.0
"""The session that had the drive before, our own perhaps, may need a moment to give it back."""

RETRY_S: Final = 0.5
"""Between two tries to open a drive: loading takes seconds."""


class EndOfTapeError(Exception):
    """There was no room for a record: the cartridge is full."""


class UnreadyError(InfrastructureError):
    """A cartridge does not become ready; another one may."""


class Tape:
    """The drive that a session holds open, and the cartridge in it."""

    def __init__(
        self,
        client: Client,
        serial: str,
        device: bytes,
        *,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`device` is the drive's NDMP name."""
        self.serial = serial
        self._device = device
        self.barcode = ""
        self._client = client
        self._now = now
        self._sleep = sleep
        self._open = False

    def open_for_reading(self, barcode: str) -> None:
        """Open the drive; `barcode` is what the library loaded.  Raises InfrastructureError."""
        self._await_open(barcode, TapeOpenMode.READ)

    def eject(self) -> None:
        """Have the drive put out whatever cartridge it holds, so that the robot can take it.

        A drive that refuses has perhaps none threaded; if it matters, the robot's move will fail.
        """
        with contextlib.suppress(ReplyError):
            self._client.do(m.TapeOpenRequest(self._device, TapeOpenMode.READ))
            self._open = True
            self._mtio(MtioOp.OFF, 1)
        self.close()

    def open_for_writing(self, barcode: str, writable: Collection[str]) -> None:
        """Open the drive for writing.

        Raises JobError for a write-protected cartridge, InfrastructureError when the drive cannot be opened.
        """
        assert barcode in writable, f"{barcode} is not listed as writable"
        try:
            self._await_open(barcode, TapeOpenMode.RDWR)
        except ReplyError as error:
            if error.code is not ErrorCode.WRITE_PROTECT:
                raise
            raise JobError(f"{barcode} is write protected") from error

    def _await_open(self, barcode: str, mode: TapeOpenMode) -> None:
        started = self._now()
        while True:
            try:
                self._client.do(m.TapeOpenRequest(self._device, mode))
            except ReplyError as error:
                limit = _PATIENCE_S.get(error.code)
                if limit is None:
                    raise
                if self._now() - started >= limit:
                    kind = UnreadyError if error.code is ErrorCode.NO_TAPE_LOADED else InfrastructureError
                    raise kind(self._refusal(barcode, error)) from error
                self._sleep(RETRY_S)
            else:
                self._open, self.barcode = True, barcode
                return

    def _refusal(self, barcode: str, error: ReplyError) -> str:
        if error.code is ErrorCode.NO_TAPE_LOADED:
            return f"no tape in drive {self.serial} on {error.peer}: {barcode} did not become ready"
        return f"drive {self.serial} on {error.peer} is in use by somebody else ({error.code.name})"

    def rewind(self) -> None:
        """Go to the beginning."""
        self._mtio(MtioOp.REW, 1)

    def go_to_file(self, number: int) -> bool:
        """Go to the beginning of a tape file, from the beginning; False when there are fewer marks.

        Never backwards over marks: some drives count those wrongly (tape.md, fault 3).
        """
        self.rewind()
        return number == 0 or self._mtio(MtioOp.FSF, number) == 0

    def write_mark(self) -> None:
        """Write one file mark."""
        self._mtio(MtioOp.EOF, 1)

    def write_record(self, record: bytes) -> None:
        """Write one record.  Raises EndOfTapeError when the cartridge is full."""
        try:
            reply = self._client.call(m.TapeWriteRequest(record), m.TapeWriteReply)
        except ReplyError as error:
            if error.code is ErrorCode.EOM:
                raise EndOfTapeError(self.barcode) from error
            raise
        if reply.count != len(record):
            raise RemoteFaultError(f"the drive took {reply.count} of {len(record)} bytes of a record")

    def read_record(self, size: int) -> bytes | None:
        """Read one record of exactly `size` bytes; None at the end of data.

        At a file mark it is empty.  A record of another size, or one that cannot be read, raises NdmpError.
        """
        try:
            return self._client.call(m.TapeReadRequest(size), m.TapeReadReply).data_in
        except ReplyError as error:
            if error.code is ErrorCode.EOM:
                return None
            if error.code is ErrorCode.EOF:
                return b""
            raise

    def was_end(self, record: bytes | None) -> bool:
        """Whether what `read_record` returned was the end of data.

        Some servers answer there as at a file mark (ndmjob's do), but no mark follows.
        """
        return record is None or (not record and not self.next_file())

    def next_file(self) -> bool:
        """Go behind the next file mark; False when there is none."""
        return self._mtio(MtioOp.FSF, 1) == 0

    def skip_records(self, count: int) -> int:
        """Go on by so many records of the same tape file, and return how many were missing."""
        return self._mtio(MtioOp.FSR, count) if count else 0

    def had_error(self) -> bool:
        """Whether the last thing that was done in the drive ended with an error; False if nobody tells.

        Our own media server is believed only: the draft does not say what the flag means, and a server of
        another make may set it at an ordinary end of medium.
        """
        try:
            state = self._client.call(m.TapeGetStateRequest(), m.TapeGetStateReply)
            if not state.flags & TapeFlag.ERROR:
                return False
            server = self._client.call(m.ConfigGetServerInfoRequest(), m.ConfigGetServerInfoReply)
        except ReplyError:
            return False
        return server.vendor_name == VENDOR

    def close(self) -> None:
        """Give the drive back; safe to call when it is not open."""
        if self._open:
            self._open = False
            self._client.do(m.TapeCloseRequest())

    def close_quietly(self) -> None:
        """Give the drive back on the way out of a failure, which matters more than what this meets."""
        with contextlib.suppress(NdmpError):
            self.close()

    def _mtio(self, operation: MtioOp, count: int) -> int:
        return self._client.call(m.TapeMtioRequest(operation, count), m.TapeMtioReply).resid_count


_PATIENCE_S = {ErrorCode.NO_TAPE_LOADED: LOAD_WAIT_S, ErrorCode.DEVICE_BUSY: BUSY_WAIT_S}
