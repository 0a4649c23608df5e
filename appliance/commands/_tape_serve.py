"""`spanreel tape serve`: the library model as an iSCSI target, alone in a process."""

from __future__ import annotations

import ipaddress
import sys
from pathlib import Path

import click

from appliance import logs
from appliance.commands._tape_library import told
from appliance.endsignals import EndSignals
from appliance.errors import ConfigurationError, InfrastructureError
from tape.iscsi import IscsiServer, ModelUnits
from tape.model import LibraryModel, LibrarySpec, read_description, read_faults

PORT_DEFAULT = 3260
"""iSCSI's registered port."""

MIB = 1 << 20


@click.command()
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    metavar="DIR",
    help="Keeps cartridges and element map; made if it is not there.",
)
@click.option(
    "--listen",
    default=f"127.0.0.1:{PORT_DEFAULT}",
    show_default=True,
    metavar="ADDRESS:PORT",
    help="Loopback only: the target asks for no password. Port 0 takes a free one.",
)
@click.option(
    "--name", metavar="IQN", help="Name of the target; made from the changer's serial number if left out."
)
@click.option("--changer", metavar="SERIAL", help="Serial number of the changer (first start).")
@click.option(
    "--drive", "drives", multiple=True, metavar="SERIAL", help="One a drive, in element order (first start)."
)
@click.option(
    "--slot", "slots", multiple=True, metavar="BARCODE", help="One a cartridge, in slot order (first start)."
)
@click.option(
    "--empty-slots",
    type=click.IntRange(0, 10_000),
    default=4,
    show_default=True,
    help="Slots behind those with a cartridge (first start).",
)
@click.option(
    "--first-slot",
    type=click.IntRange(1, 65_535),
    default=4096,
    show_default=True,
    help="Element address of the first slot (first start).",
)
@click.option(
    "--capacity",
    type=click.IntRange(1),
    default=1024,
    show_default=True,
    metavar="MIB",
    help="What a new cartridge holds (first start).",
)
@click.option(
    "--faults",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="What is to go wrong: docs/tape-model.md. Default: faults.toml in the folder, whenever it is there.",
)
def serve(
    folder: Path,
    listen: str,
    name: str | None,
    changer: str | None,
    drives: tuple[str, ...],
    slots: tuple[str, ...],
    empty_slots: int,
    first_slot: int,
    capacity: int,
    faults: Path | None,
) -> None:
    """Run a tape library as an iSCSI target, until SIGTERM or Ctrl-C.

    At the first start the options say what the library consists of; later the folder knows.  Drives are LUN 1
    to N, the changer is the next.  Prints "ready tape-library ADDRESS:PORT IQN" once initiators may come.

    \b
    Example:
      spanreel tape serve --folder ./library --changer LIB0001 --drive DRV0001 --drive DRV0002 \\
          --slot VTL001L5 --slot VTL002L5
      spanreel tape serve --folder ./library --faults stuck-robot.toml
    """
    address = _loopback(listen)
    with told():
        if changer is not None or drives or slots:
            if changer is None or not drives:
                raise ConfigurationError("a new library needs --changer and at least one --drive")
            cartridges = (*slots, *(None for _ in range(empty_slots)))
            spec: LibrarySpec | None = LibrarySpec(
                changer, drives, cartridges, first_slot=first_slot, capacity_bytes=capacity * MIB
            )
        else:
            spec = read_description(folder)
        if spec is None:
            raise ConfigurationError(f"{folder} holds no library yet: say --changer, --drive and --slot")
        # Without a script of its own it reads the folder's, whenever there is one.
        plan = read_faults(faults) if faults is not None else None
        library = LibraryModel(folder, spec, plan)
    try:
        _run(library, name or f"iqn.2026-11.example.spanreel:{spec.changer_serial.lower()}", address)
    finally:
        library.close()


def _run(library: LibraryModel, name: str, address: tuple[str, int]) -> None:
    logs.setup("info")
    ending = EndSignals()
    try:
        server = IscsiServer(ModelUnits(library), name, address)
    except OSError as error:
        raise InfrastructureError(
            f"cannot listen on {address[0]}:{address[1]}: {error.strerror}; does another library run there?"
        ) from error
    server.start()
    try:
        for lun, unit in enumerate(library.units, start=1):
            kind = "changer" if unit is library.changer else "drive"
            click.echo(f"lun {lun} {kind} {unit.identity.serial}")
        click.echo(f"ready tape-library {server.address[0]}:{server.address[1]} {name}")
        sys.stdout.flush()
        ending.wait()
    finally:
        server.stop()


def _loopback(listen: str) -> tuple[str, int]:
    """Read ADDRESS:PORT.  Whoever reaches the target owns the tapes, so it stays on this machine."""
    host, colon, port = listen.rpartition(":")
    try:
        if not colon or not ipaddress.IPv4Address(host).is_loopback:
            raise ValueError(host)
        number = int(port)
        if not 0 <= number <= 0xFFFF:
            raise ValueError(port)
    except ValueError:
        raise ConfigurationError(
            f"--listen {listen}: an IPv4 loopback address and a port are wanted, as 127.0.0.1:{PORT_DEFAULT}"
        ) from None
    return host, number
