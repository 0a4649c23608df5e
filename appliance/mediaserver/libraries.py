"""The configured libraries: their devices by NDMP name, who has which, and what lies in which drive.

A device is open in one session at a time.  Commands to one device go one after the other, whoever sends
them: the DMA's through SCSI_EXECUTE_CDB, our own look into the inventory, a stream's.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import structlog

from appliance.mediaserver.backends import Backend, Hold, LibraryConfig, backend_for
from appliance.ndmp import messages as m
from appliance.ndmp.enums import ErrorCode
from appliance.ndmp.errors import RefusalError
from tape.changer import Changer, Inventory
from tape.elements import Element
from tape.identity import DeviceKind
from tape.sense import Sense
from tape.transport import DEFAULT_TIMEOUT_S, Completion, DataOut, Running, Transport

CLOSE_TIMEOUT_S = 60.0
"""A filemark flushes a drive's buffer, which takes seconds; a service manager gives up after 90."""


@dataclass(frozen=True)
class Whereabouts:
    """What a drive held and where its tape stood, so that the next session need not start from nothing.

    Attributes:
        barcode: of the cartridge; None when it was not known.
        block: by the drive's own account; None where it gives none.
        file_number, block_number: our count, as `tape.drive.Drive` keeps it.

    """

    barcode: str | None
    block: int | None
    file_number: int | None
    block_number: int | None


class Unit:
    """One drive or changer of a library.

    Attributes:
        lock: held for a command, or for several that belong together.
        errors: failures of commands that were logged, since the start.
        moves: counts the cartridges carried to or from this drive by a DMA's commands; tgt gives no unit
            attention after that (tape.md, fault 11).
        last_seen: how the last session left the drive; None before the first.
        in_use: whether a stream moves data through the drive, whose cartridge must then stay.

    """

    def __init__(self, backend: Backend, kind: DeviceKind, serial: str) -> None:
        self.kind = kind
        self.serial = serial
        self.lock = threading.RLock()
        self.errors = 0
        self.moves = 0
        self.last_seen: Whereabouts | None = None
        self.in_use: Callable[[], bool] = _never
        self._backend = backend
        self._hold: Hold | None = None
        self._mutex = threading.Condition()
        self._owner: object = None
        self._users = 0
        self._transport: Transport | None = None

    @property
    def name(self) -> str:
        """The NDMP device name, `drive:SERIAL` or `changer:SERIAL`."""
        return f"{self.kind}:{self.serial}"

    def claim(self, owner: object) -> None:
        """Take the device for a session.  Raises RefusalError(DEVICE_BUSY) when another one has it."""
        with self._mutex:
            if self._owner is not None:
                raise RefusalError(ErrorCode.DEVICE_BUSY, f"{self.name} is open in another session")
            self._owner = owner

    def hold(self) -> None:
        """Keep other programs of this machine off, until `release`; for who has claimed the device.

        Raises DeviceHeldError when one uses it, TransportError when the device is not there.
        """
        self._hold = self._backend.hold(self.serial)

    def release(self, owner: object) -> None:
        """Give the device back; nothing happens unless `owner` has it."""
        with self._mutex:
            if self._owner is not owner:
                return
            hold, self._hold, self.in_use = self._hold, None, _never
            if hold is not None:
                hold.close()
            self._owner = None
            self._mutex.notify_all()

    def wait_free(self, timeout_s: float) -> bool:
        """Wait until no session has the device any more, and return whether that came true."""
        with self._mutex:
            return self._mutex.wait_for(lambda: self._owner is None, timeout_s)

    @contextmanager
    def using(self) -> Iterator[Transport]:
        """The path to the device, while the block runs.  Raises TransportError when it is not there."""
        transport = self.open()
        try:
            yield transport
        finally:
            self.close()

    def open(self) -> Transport:
        """The path to the device, shared by all who use it; one `close` for each `open`.

        Raises TransportError when the device is not there.
        """
        with self._mutex:
            if self._transport is None:
                self._transport = self._backend.open(self.serial)
            self._users += 1
            return _OneAtATime(self._transport, self.lock)

    def close(self) -> None:
        """End one use of the path."""
        with self._mutex:
            self._users -= 1
            if self._users == 0 and self._transport is not None:
                self._transport.close()
                self._transport = None

    def info(self) -> m.DeviceInfo:
        """The entry of CONFIG_GET_TAPE_INFO or CONFIG_GET_SCSI_INFO."""
        product = self._backend.product(self.serial) or "not attached"
        return m.DeviceInfo(product.encode(), (m.DeviceCapability(self.name.encode()),))


class _OneAtATime(Transport):
    """A path on which a second thread waits for its turn.  Closing is the unit's."""

    def __init__(self, inner: Transport, lock: threading.RLock) -> None:
        self.name = inner.name
        self.overlaps = inner.overlaps
        # Records are carried by whoever has a command begun, and so holds the lock.
        self.carrier = inner.carrier
        self._inner = inner
        self._lock = lock

    def execute(
        self,
        cdb: bytes,
        *,
        data_out: DataOut = b"",
        data_in_length: int = 0,
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> Completion:
        """Deliver one command; see `Transport.execute`."""
        with self._lock:
            return self._inner.execute(
                cdb, data_out=data_out, data_in_length=data_in_length, timeout_s=timeout_s
            )

    def execute_into(
        self, cdb: bytes, buffer: memoryview, timeout_s: float = DEFAULT_TIMEOUT_S
    ) -> Completion:
        """Deliver one command that sends data; see `Transport.execute_into`."""
        with self._lock:
            return self._inner.execute_into(cdb, buffer, timeout_s)

    def begin(
        self, cdb: bytes, lane: memoryview, *, out: bool, timeout_s: float = DEFAULT_TIMEOUT_S
    ) -> Running:
        """Begin one command; see `Transport.begin`.  Whoever does holds the lock until its end."""
        with self._lock:
            return self._inner.begin(cdb, lane, out=out, timeout_s=timeout_s)

    def buffer(self, size: int, lane: int = 0) -> memoryview:
        """A buffer that the device's own path moves fastest."""
        return self._inner.buffer(size, lane)

    def close(self) -> None:
        """Nothing: `Unit.close` counts the users."""


class Library:
    """One configured library.

    Attributes:
        writable, movable: barcodes that may be written; that may be carried.
        backend: where its devices come from.
        reserve: drives are reserved against other hosts while they are open.
        change: what the changer said of cartridges moved by somebody else, for the DMA's next move: our own
            questions must not keep it from the DMA.

    """

    def __init__(self, config: LibraryConfig, backend: Backend) -> None:
        self.changer = Unit(backend, DeviceKind.CHANGER, config.changer)
        self.drives = {serial: Unit(backend, DeviceKind.DRIVE, serial) for serial in config.drives}
        self.writable = frozenset(config.writable)
        self.movable = self.writable | frozenset(config.readable)
        self.reserve = config.reserve
        self.change: Sense | None = None
        self.backend = backend
        self._addresses: dict[int, str] = {}

    def barcode_in(self, serial: str) -> str | None:
        """The barcode of the cartridge in a drive, None when the library shows none there.

        None also when it shows that barcode twice: one of the two labels lies.  Raises TapeError when the
        changer cannot be asked.
        """
        inventory = self.inventory()
        element = self._places(inventory).get(serial)
        barcode = element.barcode if element is not None else None
        shown = [each for each in inventory.elements if each.barcode == barcode]
        if barcode is not None and len(shown) > 1:
            places = ", ".join(str(each.address) for each in shown)
            structlog.get_logger().error(
                "two cartridges show one barcode: neither is written",
                changer=self.changer.serial,
                cartridge=barcode,
                elements=places,
                remedy="look at their labels, correct one, have the library look again",
            )
            return None
        return barcode

    def inventory(self) -> Inventory:
        """What is where.  Raises TapeError when the changer cannot be asked."""
        with self.changer.using() as transport:
            changer = Changer(transport)
            inventory = changer.inventory()
        self.change = changer.change or self.change
        self._addresses = {element.address: serial for serial, element in self._places(inventory).items()}
        return inventory

    def drive_at(self, address: int) -> Unit | None:
        """The configured drive in an element, as of the last inventory."""
        return self.drives.get(self._addresses.get(address, ""))

    def moved(self, *addresses: int) -> None:
        """Note that a DMA had a cartridge carried to or from these elements; none given: any."""
        for serial, unit in self.drives.items():
            if (
                not addresses
                or not self._addresses
                or any(self._addresses.get(a) == serial for a in addresses)
            ):
                unit.moves += 1

    def close(self) -> None:
        """Give the devices up."""
        self.backend.close()

    def _places(self, inventory: Inventory) -> dict[str, Element]:
        """Drive elements by serial number.

        A library that does not tell all of its drives' serials (no DVCID; tgt's answer is cut short) has
        them in the order of the configuration.
        """
        told = {element.serial: element for element in inventory.drives if element.serial in self.drives}
        mute = [element for element in inventory.drives if element.serial is None]
        rest = [serial for serial in self.drives if serial not in told]
        return {**{serial: told[serial] for serial in told if serial}, **dict(zip(rest, mute, strict=False))}


class Libraries:
    """Every configured library.  Raises ConfigurationError for one that cannot be set up."""

    def __init__(self, libraries: Iterable[Library]) -> None:
        self.libraries = tuple(libraries)

    @classmethod
    def from_config(cls, configs: Iterable[LibraryConfig]) -> Libraries:
        """Set up what `media_server.libraries` lists.  Raises ConfigurationError."""
        made: list[Library] = []
        try:
            made.extend(Library(config, backend_for(config)) for config in configs)
        except BaseException:
            for library in made:
                library.close()
            raise
        return cls(made)

    def drive(self, name: bytes) -> tuple[Library, Unit]:
        """The drive of an NDMP device name, and its library.  Raises RefusalError(NO_DEVICE)."""
        for library in self.libraries:
            for unit in library.drives.values():
                if unit.name.encode() == name:
                    return library, unit
        raise _no_device(name, "drive")

    def changer(self, name: bytes) -> tuple[Library, Unit]:
        """The changer of an NDMP device name, and its library.  Raises RefusalError(NO_DEVICE)."""
        for library in self.libraries:
            if library.changer.name.encode() == name:
                return library, library.changer
        raise _no_device(name, "changer")

    def tape_info(self) -> tuple[m.DeviceInfo, ...]:
        """All drives, for CONFIG_GET_TAPE_INFO."""
        return tuple(unit.info() for library in self.libraries for unit in library.drives.values())

    def scsi_info(self) -> tuple[m.DeviceInfo, ...]:
        """All changers, for CONFIG_GET_SCSI_INFO."""
        return tuple(library.changer.info() for library in self.libraries)

    def figures(self) -> list[tuple[str, str, float]]:
        """Errors of each device, by serial number."""
        units = (unit for library in self.libraries for unit in (library.changer, *library.drives.values()))
        return [("device errors", unit.serial, unit.errors) for unit in units]

    def close(self) -> None:
        """Give all devices up, once the sessions that have them have written their last filemarks."""
        for library in self.libraries:
            for unit in (library.changer, *library.drives.values()):
                if not unit.wait_free(CLOSE_TIMEOUT_S):
                    structlog.get_logger().warning("device still in use at the end", device=unit.name)
            library.close()


def _never() -> bool:
    """A device that nobody has is not in use."""
    return False


def _no_device(name: bytes, kind: str) -> RefusalError:
    shown = name.decode("utf-8", "backslashreplace")
    return RefusalError(ErrorCode.NO_DEVICE, f"the configuration lists no {kind} named {shown!r}")
