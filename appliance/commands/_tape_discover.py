"""`spanreel tape discover`: what is attached, and the section of the configuration that would use it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import click

from appliance.commands._options import json_option
from appliance.commands._table import show_table
from appliance.errors import InfrastructureError
from tape.changer import Changer, Inventory
from tape.discovery import Device, discover
from tape.errors import TapeError
from tape.identity import DeviceKind
from tape.sg import SgTransport
from tape.transport import Transport

_HEAD = ("NODE", "KIND", "PRODUCT", "SERIAL", "DRIVER", "ADDRESS", "ELEMENT", "CARTRIDGE")


@dataclass(frozen=True)
class FoundLibrary:
    """A changer, and what it told; `inventory` None: it could not be asked, for the reason in `trouble`."""

    changer: Device
    inventory: Inventory | None
    trouble: str = ""

    @property
    def drives(self) -> list[tuple[int, str | None, str | None]]:
        """Address, drive's serial number and cartridge of each drive element."""
        elements = self.inventory.drives if self.inventory is not None else ()
        return [(element.address, element.serial, element.barcode) for element in elements]

    @property
    def barcodes(self) -> list[str]:
        """The cartridges, in order."""
        elements = self.inventory.elements if self.inventory is not None else ()
        return sorted({element.barcode for element in elements if element.barcode})


def find(
    look: Callable[[], list[Device]] = discover, open_device: Callable[[Device], Transport] | None = None
) -> tuple[list[Device], list[FoundLibrary]]:
    """What is attached, and what each changer says; nothing is moved."""
    devices = look()
    opened = open_device or (lambda device: SgTransport(device.sg))
    changers = [device for device in devices if device.kind is DeviceKind.CHANGER]
    return devices, [_ask(changer, opened) for changer in changers]


def _ask(changer: Device, open_device: Callable[[Device], Transport]) -> FoundLibrary:
    try:
        with Changer(open_device(changer)) as opened:
            return FoundLibrary(changer, opened.inventory())
    except TapeError as error:
        return FoundLibrary(changer, None, str(error))


@click.command("discover")
@click.option(
    "--topology", "node", metavar="NODE", help="Print a lab's topology section, for this media server."
)
@json_option
def discover_command(node: str | None, as_json: bool) -> None:
    """Show the drives and changers of this machine, and the configuration that would use them.

    Changers are asked what they hold; nothing is moved, and no drive is opened.  No barcode is listed as
    writable by itself: uncomment what may be written.

    \b
    Example:
      spanreel tape discover
      spanreel tape discover --topology media1
      spanreel tape discover --json
    """
    devices, libraries = find()
    if as_json:
        click.echo(json.dumps(_document(devices, libraries), indent=2))
        return
    if not devices:
        raise InfrastructureError("no tape drive or changer is attached; is the module sg loaded?")
    _table(devices, libraries)
    for library in libraries:
        click.echo()
        click.echo("\n".join(yaml_section(library, node) if node else toml_section(library)))


def _places(libraries: Sequence[FoundLibrary]) -> dict[str, tuple[str, str]]:
    """Element and cartridge of each drive, by serial number."""
    return {
        serial: (f"{library.changer.serial} {address}", barcode or "-")
        for library in libraries
        for address, serial, barcode in library.drives
        if serial is not None
    }


def _table(devices: Sequence[Device], libraries: Sequence[FoundLibrary]) -> None:
    places = _places(libraries)
    rows = [_HEAD]
    for device in devices:
        element, cartridge = places.get(device.serial, ("-", "-"))
        rows.append(
            (
                device.sg,
                device.kind.value,
                f"{device.vendor} {device.product}",
                device.serial or "(none)",
                device.st or device.sch or "-",
                device.address or "-",
                element,
                cartridge,
            )
        )
    show_table(rows)


def _document(devices: Sequence[Device], libraries: Sequence[FoundLibrary]) -> dict[str, object]:
    return {
        "devices": [
            {
                "node": device.sg,
                "kind": device.kind.value,
                "vendor": device.vendor,
                "product": device.product,
                "revision": device.revision,
                "serial": device.serial,
                "st": device.st,
                "sch": device.sch,
                "address": device.address,
            }
            for device in devices
        ],
        "libraries": [
            {
                "changer": library.changer.serial,
                "drives": [
                    {"element": address, "serial": serial, "cartridge": barcode}
                    for address, serial, barcode in library.drives
                ],
                "cartridges": library.barcodes,
                "trouble": library.trouble or None,
            }
            for library in libraries
        ],
    }


def _notes(library: FoundLibrary) -> list[str]:
    """What the section cannot say by itself, as comments."""
    notes = [f"# library {library.changer.vendor} {library.changer.product} at {library.changer.sg}"]
    if library.trouble:
        notes.append(f"# it could not be asked: {library.trouble}")
    for address, serial, _ in library.drives:
        if serial is None:
            notes.append(f"# element {address}: the library does not tell which drive is there (no DVCID);")
            notes.append("# enter the serial numbers below in the order of the elements")
    return notes


def _serials(library: FoundLibrary) -> list[str]:
    return [serial for _, serial, _ in library.drives if serial is not None]


def toml_section(library: FoundLibrary) -> list[str]:
    """The lines of [[media_server.libraries]]."""
    return [
        *_notes(library),
        "[[media_server.libraries]]",
        'transport = "sg"',
        f"changer = {json.dumps(library.changer.serial)}",
        f"drives = {json.dumps(_serials(library))}",
        "writable = [            # barcodes that may be written: uncomment what may be",
        *(f"#   {json.dumps(barcode)}," for barcode in library.barcodes),
        "]",
        "readable = []           # barcodes that may be moved and read besides",
    ]


def yaml_section(library: FoundLibrary, node: str) -> list[str]:
    """The lines of an entry of `libraries:` in a lab's topology."""
    slots = library.inventory.slots if library.inventory is not None else ()
    first = slots[0].address if slots else 4096
    return [
        *_notes(library),
        f"  - node: {node}",
        "    transport: sg",
        f"    changer: {library.changer.serial}",
        f"    drives: [{', '.join(_serials(library))}]",
        f"    first_slot: {first}",
        f"    slots: [{', '.join(library.barcodes)}]",
        "    # Barcodes that may be written: name them.",
        "    writable: []",
    ]
