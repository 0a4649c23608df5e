"""What can go wrong with a tape device, as types.

There are two families: we asked for something senseless, or the device could not do what we asked.

    TapeError
    ├── TapeMisuseError            the caller broke a rule of this package; fix the caller
    └── DeviceError                the device, its medium or the way to it is at fault; has `.sense`
        ├── NotReadyError          becoming ready, or busy with something else: wait
        ├── NoMediumError          no cartridge is loaded
        ├── WriteProtectedError    the cartridge's tab is set
        ├── MediumError            this place of the tape cannot be read or written
        ├── HardwareError          the device is defective
        ├── UnitAttentionError     told once: reset, or the cartridge changed; ask again
        ├── IllegalRequestError    the device does not know the command or a field of it
        ├── BlankCheckError        end of data
        ├── FilemarkError          a filemark came where a record was asked for
        ├── EndOfMediumError       the tape is full, or its physical end or beginning was reached
        ├── RecordSizeError        drive or host adapter do not carry records of this length
        ├── ReservationConflictError   another initiator holds the device
        ├── TransportError         the command could not be delivered; the device may be gone
        │   └── DeviceHeldError    another program of this machine uses it
        └── CommandTimeoutError    no answer in the time the command may take

NotReadyError and NoMediumError are siblings on purpose: one is cured by waiting, the other never is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tape.sense import Sense

__all__ = [
    "BlankCheckError",
    "CommandTimeoutError",
    "DeviceError",
    "DeviceHeldError",
    "EndOfMediumError",
    "FilemarkError",
    "HardwareError",
    "IllegalRequestError",
    "MediumError",
    "NoMediumError",
    "NotReadyError",
    "RecordSizeError",
    "ReservationConflictError",
    "TapeError",
    "TapeMisuseError",
    "TransportError",
    "UnitAttentionError",
    "WriteProtectedError",
]


class TapeError(Exception):
    """Anything this package raises on purpose."""


class TapeMisuseError(TapeError):
    """The caller broke a rule of this package (value out of range, closed transport, two threads)."""


class DeviceError(TapeError):
    """The device could not do what was asked.

    Args:
        what: the thing that failed, e.g. "WRITE(6): the medium is write protected".
        device: name of the transport, e.g. "/dev/sg3"; may be empty.
        sense: what the device said, None where it said nothing.

    """

    def __init__(self, what: str, *, device: str = "", sense: Sense | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.device = device
        self.sense = sense

    def __str__(self) -> str:
        parts = [self.device] if self.device else []
        parts.append(self.what)
        text = ": ".join(parts)
        return f"{text} [{self.sense.text}]" if self.sense is not None else text


class NotReadyError(DeviceError):
    """The device is busy or becoming ready (sense key 2h, status BUSY): wait and ask again."""


class NoMediumError(DeviceError):
    """No cartridge is loaded (02/3A): load one."""


class WriteProtectedError(DeviceError):
    """The cartridge is write protected (sense key 7h): open its tab or take another one."""


class MediumError(DeviceError):
    """The tape is damaged at this place (sense key 3h)."""


class HardwareError(DeviceError):
    """The device reports a defect of its own (sense key 4h)."""


class UnitAttentionError(DeviceError):
    """Told once after a reset or change of the cartridge (sense key 6h); the command was not executed.

    Position, block length and reservations may be lost: load or rewind anew, then ask again.
    """


class IllegalRequestError(DeviceError):
    """The device does not know the command, a field or an address of it (sense key 5h)."""


class BlankCheckError(DeviceError):
    """End of data: nothing was ever written behind this place (sense key 8h)."""


class FilemarkError(DeviceError):
    """A filemark was met; the tape stands on its far side, as seen in the direction of movement."""


class EndOfMediumError(DeviceError):
    """The tape has no room left (VOLUME OVERFLOW), or its beginning or physical end was met."""


class RecordSizeError(DeviceError):
    """The drive, or the way to it, does not carry records of this length: choose a smaller one."""


class ReservationConflictError(DeviceError):
    """Another initiator has reserved the device (status 18h): find out who, and have it release."""


class TransportError(DeviceError):
    """The command could not be delivered: no such device, it vanished, or no right to open it."""


class DeviceHeldError(TransportError):
    """Another program of this machine uses the device: let it finish, or end it."""


class CommandTimeoutError(DeviceError):
    """The device did not answer in time; its state and position are unknown."""
