"""Where devices come from: the machine's sg nodes, or the library model in this process."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from appliance.errors import ConfigurationError
from tape.discovery import Device, discover
from tape.errors import TapeError, TapeMisuseError, TransportError
from tape.hold import DeviceHold
from tape.identity import identify
from tape.model import LibraryModel, LibrarySpec
from tape.sg import SgTransport
from tape.transport import Transport


class LibraryConfig(Protocol):
    """What this package needs of `appliance.config.Library`."""

    @property
    def transport(self) -> str:
        """Which kind: sg or model."""

    @property
    def changer(self) -> str:
        """Serial number of the changer."""

    @property
    def drives(self) -> tuple[str, ...]:
        """Serial numbers of the drives, in the order of their element addresses."""

    @property
    def writable(self) -> tuple[str, ...]:
        """Barcodes that may be written."""

    @property
    def readable(self) -> tuple[str, ...]:
        """Barcodes that may be moved and read besides."""

    @property
    def reserve(self) -> bool:
        """Whether drives are reserved against other hosts while they are open."""

    @property
    def folder(self) -> Path | None:
        """Model only: where cartridges are kept."""

    @property
    def slots(self) -> tuple[str, ...]:
        """Model only: what lies in the slots at the first start."""

    @property
    def capacity(self) -> int:
        """Model only: bytes a cartridge holds."""


class Hold(Protocol):
    """The right to use a device."""

    def close(self) -> None:
        """Give it up."""


class Backend(Protocol):
    """A source of devices by serial number."""

    def open(self, serial: str) -> Transport:
        """Return a new path to a device.  Raises TransportError when it is not there."""

    def hold(self, serial: str) -> Hold:
        """Keep other programs of this machine off a device.

        Raises DeviceHeldError when one uses it, TransportError when the device is not there.
        """

    def product(self, serial: str) -> str | None:
        """Vendor and product as people read them; None when the device is not there."""

    def close(self) -> None:
        """Give everything up; called once, when no path is open any more."""


class SgBackend:
    """Devices of this machine, found through sysfs at each use: a device may come, go and be renumbered."""

    def open(self, serial: str) -> Transport:
        """Open the sg node of the device with this serial number.  Raises TransportError."""
        return SgTransport(self._found(serial).sg)

    def hold(self, serial: str) -> DeviceHold:
        """Keep st, other users of sg and other processes of Spanreel off; see `tape.hold`."""
        return DeviceHold(self._found(serial))

    def product(self, serial: str) -> str | None:
        """Vendor and product, from sysfs: the device is not disturbed."""
        try:
            device = self._found(serial)
        except TransportError:
            return None
        return f"{device.vendor} {device.product}"

    @staticmethod
    def _found(serial: str) -> Device:
        for device in discover():
            if device.serial == serial:
                return device
        raise TransportError(f"no device with serial number {serial} is attached", device=serial)

    def close(self) -> None:
        """Nothing is held."""


class _NothingHeld:
    """The hold on a device that nobody else can reach."""

    def close(self) -> None:
        """Nothing is held."""


class ModelBackend:
    """The library model in this process."""

    def __init__(self, model: LibraryModel) -> None:
        self.model = model

    def open(self, serial: str) -> Transport:
        """Return a new path to one of the model's devices.  Raises TransportError."""
        try:
            return self.model.transport(serial)
        except TapeMisuseError as error:
            raise TransportError(str(error), device=serial) from error

    def hold(self, _serial: str) -> Hold:
        """Nobody else gets at the model: its folder is locked by this process."""
        return _NothingHeld()

    def product(self, serial: str) -> str | None:
        """Vendor and product, by INQUIRY."""
        try:
            with self.open(serial) as transport:
                identity = identify(transport)
        except TapeError:
            return None
        return f"{identity.vendor} {identity.product}"

    def close(self) -> None:
        """Power the model off; cartridges stay where they are."""
        self.model.close()


def backend_for(config: LibraryConfig) -> Backend:
    """The source of a configured library's devices.

    Raises ConfigurationError when the model cannot be set up as configured.
    """
    if config.transport == "sg":
        return SgBackend()
    if config.folder is None:
        raise ConfigurationError(f"library {config.changer}: a model library needs a folder")
    try:
        spec = LibrarySpec(config.changer, config.drives, config.slots, capacity_bytes=config.capacity)
        return ModelBackend(LibraryModel(config.folder, spec))
    except (TapeMisuseError, OSError) as error:
        raise ConfigurationError(f"library {config.changer}: {error}") from error
