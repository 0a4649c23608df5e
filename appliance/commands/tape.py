"""`spanreel tape`: look after tape libraries, and run the library model as an iSCSI target."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime
from pathlib import Path

import click

from appliance.backupserver.labels import Label
from appliance.commands._options import config_option, json_option
from appliance.commands._table import show_table
from appliance.commands._tape_check import check_command
from appliance.commands._tape_contents import require_blank_or
from appliance.commands._tape_discover import discover_command
from appliance.commands._tape_library import OpenLibrary, library_options, open_library
from appliance.commands._tape_listed import listed
from appliance.commands._tape_serve import serve
from appliance.errors import JobError
from tape.drive import Drive
from tape.elements import Element
from tape.errors import DeviceError, DeviceHeldError

_STATUS_HEAD = ("ELEMENT", "DRIVE", "PRODUCT", "CARTRIDGE", "STATE")
_INVENTORY_HEAD = ("ELEMENT", "KIND", "CARTRIDGE", "FROM", "DRIVE", "PROBLEM")


@click.group()
def tape() -> None:
    """Look after tape libraries, and run the library model as an iSCSI target.

    A library is named by --changer SERIAL when it is attached to this machine, or by --folder DIR when it is
    a model.  A cartridge is named by its barcode, an element by its address, a drive by its serial number.

    Cartridges of an attached library are moved only if this node's configuration lists its changer and them
    (writable or readable), and labelled or erased only if it lists them as writable.  A drive that another
    program uses is left alone.

    \b
    Example:
      spanreel tape inventory --changer TGTLIB0001
    """


tape.add_command(serve)
tape.add_command(discover_command)
tape.add_command(check_command)


@tape.command()
@library_options
@json_option
def status(folder: Path | None, changer: str | None, as_json: bool) -> None:
    """Show each drive, its cartridge, and whether it is ready.

    \b
    Example:
      spanreel tape status --changer TGTLIB0001
    """
    with open_library(folder, changer) as library:
        rows = [_drive_status(library, element) for element in library.inventory().drives]
    if as_json:
        click.echo(json.dumps([dict(zip(map(str.lower, _STATUS_HEAD), row, strict=True)) for row in rows]))
        return
    show_table([_STATUS_HEAD, *rows])


def _drive_status(library: OpenLibrary, element: Element) -> tuple[str, ...]:
    product, state = "-", "not told by the library"
    if element.serial is not None:
        try:
            with library.drive(element) as drive:
                identity = drive.identify()
                product = f"{identity.vendor} {identity.product}"
                state = _readiness(drive)
        except DeviceHeldError as error:
            # A look must not disturb whoever writes there.
            state = error.what
    return (str(element.address), element.serial or "-", product, element.barcode or "-", state)


def _readiness(drive: Drive) -> str:
    try:
        drive.wait_ready(0)
        return "ready, write protected" if drive.write_protected() else "ready"
    except DeviceError as error:
        return error.what.partition(": ")[2] or error.what


@tape.command()
@library_options
@json_option
def inventory(folder: Path | None, changer: str | None, as_json: bool) -> None:
    """Show every element of a library and what lies in it.

    \b
    Example:
      spanreel tape inventory --changer TGTLIB0001
      spanreel tape inventory --folder ./library --json
    """
    with open_library(folder, changer) as library:
        elements = library.inventory().elements
    if as_json:
        click.echo(json.dumps([_element_json(element) for element in elements], indent=2))
        return
    show_table([_INVENTORY_HEAD, *map(_element_row, elements)])


def _element_json(element: Element) -> dict[str, object]:
    return {
        "element": element.address,
        "kind": element.kind.value,
        "full": element.full,
        "cartridge": element.barcode,
        "from": element.source,
        "drive": element.serial,
        "problem": element.problem,
    }


def _element_row(element: Element) -> tuple[str, ...]:
    held = element.barcode or ("(no label)" if element.full else "-")
    source = str(element.source) if element.source is not None else "-"
    last = (element.serial or "-", element.problem or "-")
    return (str(element.address), element.kind.value, held, source, *last)


@tape.command()
@click.argument("cartridge")
@click.argument("drive", required=False)
@library_options
@config_option
def load(
    cartridge: str, drive: str | None, folder: Path | None, changer: str | None, config_file: Path
) -> None:
    """Put CARTRIDGE (barcode, or address of its slot) into DRIVE (serial number or address).

    Without DRIVE, into the first empty one.

    \b
    Example:
      spanreel tape load VTL001L5 --changer TGTLIB0001
      spanreel tape load 4097 TGTDRV0002 --changer TGTLIB0001
    """
    with open_library(folder, changer, listed(config_file, changer)) as library:
        source, target = library.element(cartridge), library.free_drive(drive)
        library.load(source, target)
    click.echo(f"{source.barcode or source.address} is in drive {target.serial or target.address}")


@tape.command()
@click.argument("cartridge")
@click.argument("destination", type=int, required=False)
@library_options
@config_option
def unload(
    cartridge: str, destination: int | None, folder: Path | None, changer: str | None, config_file: Path
) -> None:
    """Take CARTRIDGE (barcode, or its drive) out of its drive.

    It goes to the element DESTINATION; without that to the slot it came from, or to the first free one.

    \b
    Example:
      spanreel tape unload VTL001L5 --changer TGTLIB0001
      spanreel tape unload TGTDRV0002 4097 --changer TGTLIB0001
    """
    with open_library(folder, changer, listed(config_file, changer)) as library:
        element = library.element(cartridge)
        if element.kind.value != "drive" or not element.full:
            raise JobError(f"{cartridge} is in no drive; there is nothing to unload")
        place = library.unload(element, destination)
    click.echo(f"{element.barcode or 'the cartridge'} is in element {place}")


@tape.command()
@click.argument("source")
@click.argument("destination", type=int)
@library_options
@config_option
def move(source: str, destination: int, folder: Path | None, changer: str | None, config_file: Path) -> None:
    """Carry a cartridge from SOURCE (its barcode, or an address) to the element DESTINATION.

    Mail slots are elements like others (kind port).  Into a drive rather use `load`, which waits for it.

    \b
    Example:
      spanreel tape move VTL001L5 768 --changer TGTLIB0001
    """
    with open_library(folder, changer, listed(config_file, changer)) as library:
        element = library.element(source)
        library.carry(element, destination)
    click.echo(f"{element.barcode or source} is in element {destination}")


force_option = click.option("--force", is_flag=True, help="Destroy what is on the cartridge.")


@tape.command()
@click.argument("barcode")
@click.option("--pool", default="default", show_default=True, help="Pool that the label names.")
@force_option
@library_options
@config_option
def label(
    barcode: str, pool: str, force: bool, folder: Path | None, changer: str | None, config_file: Path
) -> None:
    """Write a label file on the cartridge BARCODE, as tape file 0.

    A cartridge that holds anything is refused without --force.  A backup server labels blank cartridges by
    itself, and leaves alone those that carry a label its catalogue does not know: this command is for
    cartridges that shall be kept from it.

    \b
    Example:
      spanreel tape label VTL001L5 --pool archive --changer TGTLIB0001
      spanreel tape label VTL001L5 --force --changer TGTLIB0001
    """
    with (
        open_library(folder, changer, listed(config_file, changer, barcode)) as library,
        library.loaded(barcode) as drive,
    ):
        require_blank_or(force, drive, barcode, "label")
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        drive.set_variable_block()
        drive.rewind()
        drive.write(Label(barcode, str(uuid.uuid4()), "", pool, now).record())
        drive.write_filemarks(1)
    click.echo(f"{barcode} is labelled")


@tape.command()
@click.argument("barcode")
@click.option("--whole", is_flag=True, help="Overwrite all of the tape, which takes hours.")
@force_option
@library_options
@config_option
def erase(
    barcode: str, whole: bool, force: bool, folder: Path | None, changer: str | None, config_file: Path
) -> None:
    """Make the cartridge BARCODE blank.

    A cartridge that holds anything is refused without --force.  A catalogue is not told: expire what it knows
    of the cartridge first.

    \b
    Example:
      spanreel tape erase VTL001L5 --force --changer TGTLIB0001
    """
    with (
        open_library(folder, changer, listed(config_file, changer, barcode)) as library,
        library.loaded(barcode) as drive,
    ):
        require_blank_or(force, drive, barcode, "erase")
        drive.rewind()
        drive.erase(whole=whole)
    click.echo(f"{barcode} is blank")
