"""Opening a tape library for `spanreel tape`: the machine's own devices, or the model in a folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

import click

from appliance.commands._tape_listed import Listed
from appliance.errors import ConfigurationError, InfrastructureError, JobError, SpanreelError
from tape.changer import Changer, Inventory
from tape.discovery import Device, discover
from tape.drive import Drive
from tape.elements import Element
from tape.errors import (
    IllegalRequestError,
    NoMediumError,
    TapeError,
    TapeMisuseError,
    WriteProtectedError,
)
from tape.hold import DeviceHold
from tape.identity import DeviceKind
from tape.model import LibraryModel, read_description
from tape.remedies import remedy_for
from tape.sg import SgTransport
from tape.transport import Transport

READY_SECONDS = 600.0
"""A drive that is given a cartridge is ready within ten minutes, cleaning and calibration included."""

Function = TypeVar("Function", bound=Callable[..., Any])


def library_options(function: Function) -> Function:
    """Add `--folder DIR` and `--changer SERIAL`, one of which says which library is meant."""
    folder = click.option(
        "--folder",
        type=click.Path(file_okay=False, path_type=Path),
        metavar="DIR",
        help="A library model that no process has open.",
    )
    changer = click.option("--changer", metavar="SERIAL", help="A library attached to this machine (sg).")
    return folder(changer(function))


class OpenLibrary:
    """A library and the paths to its devices.

    Args:
        transport: gives a path to the device with a serial number.
        serial: the changer's.
        hold: keeps other programs off a device.
        listed: what the configuration allows; None: everything.

    """

    def __init__(
        self,
        transport: Callable[[str], Transport],
        serial: str,
        hold: Callable[[str], AbstractContextManager[object]] = nullcontext,
        listed: Listed | None = None,
    ) -> None:
        self._transport = transport
        self._hold = hold
        self._listed = listed
        self.serial = serial
        self.changer = Changer(transport(serial))
        self.changer.wait_ready(READY_SECONDS)

    def inventory(self) -> Inventory:
        """Everything the changer knows."""
        return self.changer.inventory()

    @contextmanager
    def drive(self, element: Element) -> Iterator[Drive]:
        """Open the drive in an element, with other programs kept off.  Raises DeviceHeldError."""
        if element.serial is None:
            raise InfrastructureError(
                f"the library does not tell which drive is in element {element.address} (DVCID)"
            )
        with self._hold(element.serial), Drive(self._transport(element.serial)) as drive:
            yield drive

    # -- what people name ----------------------------------------------------------------------------
    def element(self, name: str) -> Element:
        """Find an element by its address, by the barcode that lies there, or by its drive's serial."""
        inventory = self.inventory()
        for element in inventory.elements:
            if name in (str(element.address), element.barcode, element.serial):
                return element
        raise ConfigurationError(
            f"library {self.serial} has no element, cartridge or drive {name!r}; "
            "`spanreel tape inventory` shows what it has"
        )

    def cartridge(self, barcode: str) -> Element:
        """Find the element in which a cartridge lies."""
        elements = [element for element in self.inventory().elements if element.barcode == barcode]
        if not elements:
            raise ConfigurationError(f"library {self.serial} holds no cartridge {barcode}")
        if len(elements) > 1:
            places = ", ".join(str(element.address) for element in elements)
            raise JobError(
                f"library {self.serial} shows {barcode} in elements {places}: one label lies; "
                "both are left alone"
            )
        return elements[0]

    def free_drive(self, name: str | None) -> Element:
        """Find the drive that is meant, or the first empty one."""
        drives = self.inventory().drives
        if name is None:
            own = [drive for drive in drives if self._listed is None or self._listed.has(drive)]
            chosen = next((drive for drive in own if not drive.full), None)
            if chosen is None:
                raise JobError(f"no drive of library {self.serial} is empty; unload one first")
            return chosen
        for drive in drives:
            if name in (drive.serial, str(drive.address)):
                return drive
        serials = ", ".join(drive.serial or str(drive.address) for drive in drives)
        raise ConfigurationError(f"library {self.serial} has no drive {name!r}; its drives are {serials}")

    # -- moving --------------------------------------------------------------------------------------
    def move(self, source: Element, destination: int) -> None:
        """Carry a cartridge.  Raises ConfigurationError for a cartridge or drive that is not listed."""
        self._check_move(source, destination)
        self.changer.move(source.address, destination)

    def _check_move(self, source: Element, destination: int) -> None:
        if self._listed is not None:
            self._listed.check_cartridge(source)
            self._listed.check_place(source)
            self._listed.check_place(self.inventory().at(destination))

    def carry(self, source: Element, destination: int) -> None:
        """As `move`, with the drives concerned to itself.  Raises DeviceHeldError."""
        target = self.inventory().at(destination)
        drives = [each for each in (source, target) if each is not None and each.kind.value == "drive"]
        with ExitStack() as stack:
            for drive in drives:
                if drive.serial is not None:
                    stack.enter_context(self._hold(drive.serial))
            self.move(source, destination)

    def load(self, source: Element, drive: Element) -> None:
        """Carry a cartridge into a drive, and wait until it is ready."""
        with self.drive(drive) as opened:
            self.move(source, drive.address)
            opened.wait_ready(READY_SECONDS, medium_expected=True)

    def unload(self, drive: Element, destination: int | None) -> int:
        """Take a drive's cartridge back to where it came from, or elsewhere; return that address."""
        if destination is None:
            destination = self._home(drive)
        self._check_move(drive, destination)
        with self.drive(drive) as opened:
            try:
                opened.wait_ready(READY_SECONDS)
                opened.unload()
            except NoMediumError:
                # Ejected already: it only waits to be taken out.
                pass
            self.move(drive, destination)
        return destination

    def _home(self, drive: Element) -> int:
        """The slot a cartridge came from, if that is still free, or else the first free one."""
        slots = [slot for slot in self.inventory().slots if not slot.full]
        addresses = [slot.address for slot in slots]
        if drive.source in addresses:
            return drive.source
        if not addresses:
            raise JobError(f"library {self.serial} has no free slot")
        return addresses[0]

    @contextmanager
    def loaded(self, barcode: str, wanted: Element | None = None) -> Iterator[Drive]:
        """Have a cartridge in a drive; one that was not in a drive before is put back.

        `wanted` is an empty drive; None: any, also the one that the cartridge is in.
        """
        element = self.cartridge(barcode)
        was_in_drive = element.kind.value == "drive"
        drive = element if was_in_drive else wanted or self.free_drive(None)
        if not was_in_drive:
            self.load(element, drive)
        try:
            with self.drive(drive) as opened:
                opened.wait_ready(READY_SECONDS)
                yield opened
        finally:
            if not was_in_drive:
                self.unload(drive, element.address)


@contextmanager
def open_library(
    folder: Path | None, changer: str | None, listed: Listed | None = None
) -> Iterator[OpenLibrary]:
    """Open the library that the options name; whatever goes wrong with it becomes one line for people.

    With `listed` an attached library's robot is ours alone meanwhile, as no look at it needs.
    """
    if (folder is None) == (changer is None):
        raise ConfigurationError(
            "say which library: --folder DIR for a model, --changer SERIAL for one of this machine"
        )
    with told():
        if folder is not None:
            with _model(folder) as library:
                yield library
        else:
            assert changer is not None
            with _held(changer) if listed is not None else nullcontext():
                yield OpenLibrary(_attached, changer, _held, listed)


@contextmanager
def _model(folder: Path) -> Iterator[OpenLibrary]:
    spec = read_description(folder)
    if spec is None:
        raise ConfigurationError(f"{folder} holds no library; `spanreel tape serve` makes one")
    model = LibraryModel(folder, spec)
    try:
        yield OpenLibrary(model.transport, spec.changer_serial)
    finally:
        model.close()


def _attached(serial: str) -> Transport:
    """Open the sg node of a device of this machine."""
    return SgTransport(_device(serial).sg)


def _held(serial: str) -> AbstractContextManager[object]:
    """Keep other programs off a device of this machine; see `tape.hold`."""
    return closing(DeviceHold(_device(serial)))


def _device(serial: str) -> Device:
    devices = discover()
    for device in devices:
        if device.serial == serial:
            return device
    changers = [device.serial for device in devices if device.kind is DeviceKind.CHANGER]
    found = f"its changers are {', '.join(changers)}" if changers else "it has no changer"
    raise InfrastructureError(f"no device with serial number {serial} is attached to this machine; {found}")


@contextmanager
def told() -> Iterator[None]:
    """Turn the errors of `tape` into those that people get, with an exit code."""
    try:
        yield
    except TapeError as error:
        raise _for_people(error) from error


def _for_people(error: TapeError) -> SpanreelError:
    if isinstance(error, TapeMisuseError):
        return ConfigurationError(str(error))
    remedy = remedy_for(error)
    text = f"{error}; {remedy}" if remedy else str(error)
    if isinstance(error, NoMediumError | IllegalRequestError | WriteProtectedError):
        return JobError(text)
    return InfrastructureError(text)
