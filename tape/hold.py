"""Keeping other programs of this machine off a device while we use it.

    the st driver         /dev/nstN is opened and kept open: st lets one in at a time, so whoever has it
                          open shows as EBUSY, and `mt`, `tar` or `dd` are told the same while we are there.
                          One drive must not be moved through both drivers: st would not know where it is.
    other users of sg     a first open with O_EXCL fails with EBUSY while anybody has the node open
    another Spanreel      flock(2) on the node, kept until `close`, or until the process dies

None of the three is a SCSI command of ours, though opening st makes that driver send TEST UNIT READY and ask
for mode and block limits.  Other hosts are kept off by `Drive.reserve`.
"""

from __future__ import annotations

import errno
import fcntl
import os

from tape.discovery import Device
from tape.errors import DeviceHeldError
from tape.identity import DeviceKind

__all__ = ["DeviceHold", "HoldSystem"]

_SHARED = os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC


class HoldSystem:
    """The system calls used, so that tests can put a kernel of their own in their place."""

    def open(self, path: str, flags: int) -> int:
        """Open a node."""
        return os.open(path, flags)

    def lock(self, descriptor: int) -> None:
        """Lock it against others that lock; raises BlockingIOError."""
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def close(self, descriptor: int) -> None:
        """Close it."""
        os.close(descriptor)


class DeviceHold:
    """The right to use a device, until it is closed.

    A node that is not there, or that we may not open, holds nothing up here: the transport says what is
    wrong with it, and whoever may not open st cannot be disturbed by what we cannot see.

    Raises:
        DeviceHeldError: another program uses the device; the text says through what.

    """

    def __init__(self, device: Device, system: HoldSystem | None = None) -> None:
        self._system = system or HoldSystem()
        self._device = device
        self._descriptors: list[int] = []
        try:
            if device.st is not None:
                self._hold_st(device.st)
            if device.kind is DeviceKind.DRIVE:
                # A changer may be open for the length of a question, by our own process too.
                self._look_for_others()
            self._lock()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let others at the device; closing twice is allowed."""
        while self._descriptors:
            self._system.close(self._descriptors.pop())

    def _hold_st(self, st: str) -> None:
        """Open the mode that does not rewind at the end."""
        node = st.replace("/st", "/nst")
        descriptor = self._open(
            node, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC, f"program has {node} open (driver st)"
        )
        if descriptor is not None:
            self._descriptors.append(descriptor)

    def _look_for_others(self) -> None:
        descriptor = self._open(self._device.sg, _SHARED | os.O_EXCL, f"program has {self._device.sg} open")
        if descriptor is not None:
            self._system.close(descriptor)

    def _lock(self) -> None:
        descriptor = self._open(self._device.sg, _SHARED, f"program holds {self._device.sg} exclusively")
        if descriptor is None:
            return
        self._descriptors.append(descriptor)
        try:
            self._system.lock(descriptor)
        except BlockingIOError:
            raise self._held("process of Spanreel uses it") from None

    def _open(self, node: str, flags: int, what: str) -> int | None:
        try:
            return self._system.open(node, flags)
        except OSError as error:
            if error.errno == errno.EBUSY:
                raise self._held(what) from error
            return None

    def _held(self, what: str) -> DeviceHeldError:
        serial = self._device.serial or "without serial number"
        text = f"{self._device.kind} {serial} is in use: another {what}"
        return DeviceHeldError(text, device=self._device.sg)
