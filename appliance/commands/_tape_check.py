"""`spanreel tape check`: whether a library does what the media server relies on."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import click

from appliance.commands._options import config_option, json_option
from appliance.commands._table import show_table
from appliance.commands._tape_contents import require_blank_or
from appliance.commands._tape_library import READY_SECONDS, OpenLibrary, library_options, open_library
from appliance.commands._tape_listed import Listed, listed
from appliance.errors import ConfigurationError, JobError
from tape.drive import Drive
from tape.errors import IllegalRequestError
from tape.testing import KINDS, Check
from tape.testing.changers import MOVING
from tape.testing.suite import FAILED, SKIPPED, run
from tape.transport import Transport

_HEAD = ("DEVICE", "OUTCOME", "CHECK", "WHY")


class Finding(NamedTuple):
    """What became of one check of one device."""

    device: str
    outcome: str
    check: str
    why: str


@click.command("check")
@click.argument("barcode")
@click.option("--kind", type=click.Choice(sorted(KINDS)), default="hardware", show_default=True)
@click.option("--force", is_flag=True, help="Destroy what is on the cartridge.")
@library_options
@config_option
@json_option
def check_command(
    barcode: str,
    kind: str,
    force: bool,
    folder: Path | None,
    changer: str | None,
    config_file: Path,
    as_json: bool,
) -> None:
    """Check what the media server relies on, with the cartridge BARCODE in each drive in turn.

    THE CARTRIDGE IS OVERWRITTEN, and blank afterwards.  Another one is carried to a free slot and back.
    What a --kind of library is known not to do is skipped, with the reason; for hardware nothing is.

    \b
    Example:
      spanreel tape check VTL014L5 --kind tgt --changer TGTLIB0001
    """
    allowed = listed(config_file, changer, barcode)
    with open_library(folder, changer, allowed) as library:
        # The drives first: what is on the cartridge may end it all.
        findings = _check_drives(library, kind, allowed, barcode, force)
        findings += _found(library.serial, library.changer.transport, kind, _untouchable(library, allowed))
    if as_json:
        click.echo(json.dumps([finding._asdict() for finding in findings], indent=2))
    else:
        show_table([_HEAD, *findings])
    broken = [finding for finding in findings if finding.outcome == FAILED]
    if broken:
        raise JobError(f"{len(broken)} of {len(findings)} checks failed")


def _check_drives(
    library: OpenLibrary, kind: str, allowed: Listed | None, barcode: str, force: bool
) -> list[Finding]:
    """Check each drive that is listed and empty, with the cartridge in it; leave the cartridge blank."""
    findings: list[Finding] = []
    is_ours = force
    slot = library.cartridge(barcode)
    if slot.kind.value == "drive":
        raise JobError(f"{barcode} is in drive {slot.serial or slot.address}; unload it first")
    drives = [each for each in library.inventory().drives if allowed is None or allowed.has(each)]
    for element in drives:
        if element.full:
            findings.append(Finding(str(element.serial), SKIPPED, "all", f"{element.barcode} is in it"))
            continue
        with library.loaded(barcode, element) as drive:
            require_blank_or(is_ours, drive, barcode, "check")
            is_ours = True
            findings += _found(str(element.serial), drive.transport, kind, {})
            drive.wait_ready(READY_SECONDS, medium_expected=True)
            _make_blank(drive)
    return findings


def _make_blank(drive: Drive) -> None:
    drive.rewind()
    # tgt has no ERASE; there the records of the last check stay.
    with contextlib.suppress(IllegalRequestError):
        drive.erase()


def _found(serial: str, transport: Transport, kind: str, without: Mapping[Check, str]) -> list[Finding]:
    found = run(transport, KINDS[kind], without)
    return [
        Finding(serial, outcome, name.removeprefix("check_"), why) for name, (outcome, why) in found.items()
    ]


def _untouchable(library: OpenLibrary, allowed: Listed | None) -> dict[Check, str]:
    """The checks that would move what is not listed, and why they are not made."""
    if allowed is None:
        return {}
    for slot in [slot for slot in library.inventory().slots if slot.full][:2]:
        try:
            allowed.check_cartridge(slot)
        except ConfigurationError as error:
            return dict.fromkeys(MOVING, str(error))
    return {}
