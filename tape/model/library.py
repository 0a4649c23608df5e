"""A whole library in one process: drives, a changer, and a folder that keeps the cartridges.

FOLDER/lock            held while a process has the library
FOLDER/library.json    what it consists of, see `description`
FOLDER/elements.json   which cartridge is where
FOLDER/BARCODE.tape    one file per cartridge, see `cartridge`
"""

from __future__ import annotations

import fcntl
import os
from functools import partial
from pathlib import Path

from tape.elements import ElementKind
from tape.errors import TapeMisuseError, TransportError
from tape.model.cartridge import Cartridge, CartridgeHeader, CartridgeKind
from tape.model.changer import ChangerModel
from tape.model.description import require_readable_library, write_description
from tape.model.drive import DriveModel
from tape.model.element_map import ElementMap
from tape.model.faultfile import FaultFile
from tape.model.faults import DeviceGoneError, FaultPlan
from tape.model.outcome import LUNS_CHANGED
from tape.model.spec import BARCODE, LibrarySpec
from tape.model.unit import IN_PROCESS, LogicalUnit
from tape.transport import DEFAULT_TIMEOUT_S, Completion, DataOut, Transport

__all__ = ["LibraryModel", "ModelTransport", "cartridge_path"]


def new_header(barcode: str, spec: LibrarySpec) -> CartridgeHeader:
    """Return what a new cartridge is like."""
    return CartridgeHeader(barcode, spec.capacity_bytes, kind=CartridgeKind.of(barcode))


def cartridge_path(folder: Path, barcode: str) -> Path:
    """Return the file of a cartridge."""
    return folder / f"{barcode}.tape"


class LibraryModel:
    """A library that is powered on from construction to `close`; one process at a time.

    Args:
        folder: keeps everything; made if it is not there.
        spec: the devices, elements and first cartridges.
        faults: what is to go wrong; more may be added to `faults` later.  If left out, the folder's
            `faults.toml` says it, whenever there is one (`tape.model.faultfile`).

    Raises:
        TapeMisuseError: another process has the library, or spec and folder do not fit.

    """

    def __init__(self, folder: Path, spec: LibrarySpec, faults: FaultPlan | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.faults = faults if faults is not None else FaultPlan()
        if faults is None:
            FaultFile(folder, self.faults)
        self.folder = folder
        self.spec = spec
        self.closed = False
        self._lock = _take_lock(folder)
        try:
            self._power_on()
        except BaseException:
            os.close(self._lock)
            raise

    def _power_on(self) -> None:
        """Make what is missing, and find every cartridge where it was."""
        require_readable_library(self.folder)
        self._places = ElementMap(self.folder / "elements.json", self.spec)
        write_description(self.folder, self.spec)
        for barcode in self._places.barcodes:
            path = cartridge_path(self.folder, barcode)
            if not path.exists():
                Cartridge.create(path, new_header(barcode, self.spec))
        self.drives = tuple(
            DriveModel(serial, self.spec.early_warning_bytes, self.faults.at_object)
            for serial in self.spec.drive_serials
        )
        self.changer = ChangerModel(self.spec, self._places, self.drives, self._open, self.faults.shown)
        for address, drive in zip(self.spec.addresses(ElementKind.DRIVE), self.drives, strict=True):
            place = self._places.at(address)
            if place is not None:
                drive.insert(self._open(place.barcode), is_power_on=True)
        for unit in self.units:
            unit.intercept = partial(self.faults.before, unit.identity.serial)
        self.faults.on_gone = self._gone
        self.faults.on_back = self._back

    def _gone(self, _serial: str) -> None:
        """Tell all units that one of them went or came (SPC-4, 6.33)."""
        for unit in self.units:
            unit.attention(LUNS_CHANGED)

    def _back(self, serial: str) -> None:
        self._gone(serial)
        for unit in self.units:
            if unit.identity.serial == serial:
                unit.reset()

    def _open(self, barcode: str) -> Cartridge:
        return Cartridge(cartridge_path(self.folder, barcode))

    @property
    def units(self) -> tuple[LogicalUnit, ...]:
        """The drives by their element addresses, then the changer: the order of an iSCSI target's LUNs."""
        return (*self.drives, self.changer)

    def transport(self, serial: str, nexus: str = IN_PROCESS) -> ModelTransport:
        """Return a new path to the drive or changer with this serial number.

        Args:
            serial: the device's.
            nexus: who will send commands through it; paths of one name share unit attentions.

        Raises:
            TapeMisuseError: there is no such device.

        """
        for unit in self.units:
            if unit.identity.serial == serial:
                return ModelTransport(self, unit, nexus)
        serials = ", ".join(unit.identity.serial for unit in (self.changer, *self.drives))
        raise TapeMisuseError(f"the library has no device {serial!r}; it has {serials}")

    def import_cartridge(self, barcode: str) -> int:
        """Put a cartridge, a new one if the folder has none of this barcode, into a mail slot.

        Raises:
            TapeMisuseError: no free mail slot, the door is locked, or the cartridge is here already.

        """
        if not BARCODE.fullmatch(barcode):
            raise TapeMisuseError(f"{barcode!r}: 1 to 32 capital letters and digits are allowed")
        path = cartridge_path(self.folder, barcode)
        if not path.exists():
            Cartridge.create(path, new_header(barcode, self.spec))
        return self.changer.put_into_port(barcode)

    def export_cartridge(self, barcode: str) -> None:
        """Take a cartridge out of its mail slot; its file stays in the folder.

        Raises:
            TapeMisuseError: it is in no mail slot, or the door is locked.

        """
        self.changer.take_from_port(barcode)

    def set_write_protected(self, barcode: str, protected: bool) -> None:
        """Move a cartridge's tab, as an operator does with the cartridge in his hand.

        Raises:
            TapeMisuseError: no such cartridge, or it is in a drive, where nobody reaches its tab.

        """
        with self.changer.lock:
            address = self._places.address_of(barcode)
            if address is None:
                raise TapeMisuseError(f"the library has no cartridge {barcode!r}")
            if address in self.spec.addresses(ElementKind.DRIVE):
                raise TapeMisuseError(f"{barcode} is in drive {address}: its tab is out of reach")
            cartridge = self._open(barcode)
            cartridge.set_write_protected(protected)
            cartridge.close()

    def close(self) -> None:
        """Power off: everything written so far is on disk, cartridges stay where they are."""
        if self.closed:
            return
        with self.changer.lock:
            self.closed = True
            for drive in self.drives:
                cartridge = drive.eject()
                if cartridge is not None:
                    cartridge.close()
        os.close(self._lock)


def _take_lock(folder: Path) -> int:
    """Lock the folder: two processes writing one cartridge would destroy it."""
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise TapeMisuseError(f"another process has the library in {folder}") from None
    return descriptor


class ModelTransport(Transport):
    """A path to one unit of a library; any number may exist, each for one thread at a time."""

    def __init__(self, library: LibraryModel, unit: LogicalUnit, nexus: str) -> None:
        self.name = f"model:{unit.identity.serial}"
        self._nexus = nexus
        self._library = library
        self._unit = unit
        self._closed = False

    def execute(
        self,
        cdb: bytes,
        *,
        data_out: DataOut = b"",
        data_in_length: int = 0,
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> Completion:
        """Carry out a command; see `Transport.execute`."""
        if self._closed:
            raise TapeMisuseError(f"{self.name} is closed")
        if len(data_out) and data_in_length:
            raise TapeMisuseError("a SCSI command carries data in one direction only")
        if self._library.closed:
            raise TransportError("the library is powered off", device=self.name)
        if self._library.faults.is_gone(self._unit.identity.serial, counts=True):
            raise DeviceGoneError("the device is not there", device=self.name)
        return self._unit.execute(cdb, data_out, data_in_length, self._nexus, timeout_s)

    def close(self) -> None:
        """Give the path up; the library goes on."""
        self._closed = True
