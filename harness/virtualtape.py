"""mhvtl in a media server's kernel: what it can be, and its configuration files.

The formats are those of device.conf(5) and library_contents(5) of mhvtl 1.8.  mhvtl itself is the operator's:
nothing here installs it (ansible/roles/virtual_tape does, from packages that it is given).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.topology import Library

CONFIG = "/etc/mhvtl"
# Where upstream's Debian package keeps cartridges.
HOME = "/var/lib/mhvtl"
MEDIA = f"{CONFIG}/spanreel-media"
# Element address of the first slot: that of the model which these libraries show themselves as, an STK L700.
FIRST_SLOT = 1000
MAIL_SLOTS = 4
# Behind those of the cartridges: a robot needs somewhere to put one while it moves another.
EMPTY_SLOTS = 4
# A longer one is cut where a library names the drives in its elements.
SERIAL_MAX = 10
CLEANING = "CLN"

_GENERATION = re.compile(r"L([1-9])$")
# Libraries and drives share one range of numbers; libraries have multiples of this, as is the custom there.
_STEP = 10
# SCSI targets of one host, which all have one channel here.
_TARGETS_MAX = 256


def problem(library: Library) -> tuple[str, str] | None:
    """Return the field of a topology that mhvtl cannot make, and why; None if it can make all."""
    for field, serials in (("changer", [library.changer]), ("drives", library.drives)):
        if long := [serial for serial in serials if len(serial) > SERIAL_MAX]:
            return field, f"{long[0]}: mhvtl has serial numbers of at most {SERIAL_MAX} characters"
    if library.first_slot != FIRST_SLOT:
        return "first_slot", f"{library.first_slot}: the first slot of mhvtl's library is {FIRST_SLOT}"
    generations = {barcode: _generation(barcode) for barcode in _data(library)}
    unknown = [barcode for barcode, generation in generations.items() if generation == 0]
    if unknown or not generations:
        found = unknown[0] if unknown else "cleaning cartridges only"
        return "slots", f"{found}: mhvtl makes LTO; such a barcode ends in L1 to L9"
    newest = max(generations.values())
    for barcode, generation in generations.items():
        if newest - generation > 1:
            return "slots", f"{barcode}: a drive for LTO-{newest} does not write LTO-{generation}"
    return None


def files(libraries: Sequence[Library]) -> dict[str, str]:
    """Return the configuration of one machine's libraries, by path."""
    made = {
        f"{CONFIG}/device.conf": "VERSION: 5\n\n",
        f"{CONFIG}/mhvtl.conf": _settings(libraries),
        MEDIA: "",
    }
    target = 0
    for number, library in zip(_numbers(libraries), libraries, strict=True):
        made[f"{CONFIG}/device.conf"] += _devices(number, target, library)
        made[f"{CONFIG}/library_contents.{number}"] = _contents(library)
        made[MEDIA] += _media(number, library)
        target += 1 + len(library.drives)
    if target > _TARGETS_MAX:
        raise ValueError(f"{target} devices: mhvtl is given one channel, of {_TARGETS_MAX}")
    return made


def _numbers(libraries: Sequence[Library]) -> Iterator[int]:
    """Numbers of the libraries; those behind each are its drives'."""
    number = _STEP
    for library in libraries:
        yield number
        number += (len(library.drives) // _STEP + 1) * _STEP


def _devices(number: int, target: int, library: Library) -> str:
    """One library and its drives in device.conf: records of lines, each ended by an empty line."""
    newest = max(_generation(barcode) for barcode in _data(library))
    made = _record(
        f"Library: {number} CHANNEL: 00 TARGET: {target:02} LUN: 00",
        {
            "Vendor identification": "STK",
            "Product identification": "L700",
            "Unit serial number": library.changer,
            "NAA": _naa(library.changer),
            "Home directory": HOME,
            # All cartridges are in their slots after a start: a list kept at the last stop may be wrong.
            "PERSIST": "False",
            "Backoff": "400",
        },
    )
    for index, serial in enumerate(library.drives, start=1):
        fields = {
            "Library ID": f"{number} Slot: {index:02}",
            "Vendor identification": "IBM",
            "Product identification": f"ULT3580-TD{newest}",
            "Product revision level": "2160",
            "Unit serial number": serial,
            "NAA": _naa(serial),
            "Compression": "factor 1 enabled 1",
            "Compression type": "lzo",
            "Backoff": "400",
        }
        made += _record(f"Drive: {number + index} CHANNEL: 00 TARGET: {target + index:02} LUN: 00", fields)
    return made


def _record(head: str, fields: Mapping[str, str]) -> str:
    return "\n".join([head, *(f" {name}: {value}" for name, value in fields.items()), "", ""])


def _contents(library: Library) -> str:
    """library_contents: elements, and what lies in the slots; some are empty."""
    elements = [f"Drive {index}:" for index, _ in enumerate(library.drives, start=1)]
    elements += ["Picker 1:", *(f"MAP {index}:" for index in range(1, MAIL_SLOTS + 1))]
    slots = [*library.slots, *[""] * EMPTY_SLOTS]
    elements += [f"Slot {index}: {barcode}".rstrip() for index, barcode in enumerate(slots, start=1)]
    return "\n".join(["VERSION: 2", "", *elements, ""])


def _media(number: int, library: Library) -> str:
    """Lines for spanreel-mhvtl-media: library, barcode, MiB, type and density as mktape(1) wants them."""
    newest = max(_generation(barcode) for barcode in _data(library))
    lines = []
    for barcode in library.slots:
        kind = "clean" if barcode.startswith(CLEANING) else "data"
        density = f"LTO{_generation(barcode) or newest}"
        lines.append(f"{number} {barcode} {library.capacity_mib} {kind} {density}\n")
    return "".join(lines)


def _settings(libraries: Sequence[Library]) -> str:
    """mhvtl.conf, whose capacity is for cartridges that somebody makes by hand."""
    return f"MHVTL_HOME_PATH={HOME}\nCAPACITY={libraries[0].capacity_mib}\nVERBOSE=0\nVTL_DEBUG=0\n"


def _naa(serial: str) -> str:
    """A name for VPD page 83h, another for each serial number; the kernel shows it with 5 as first digit."""
    digest = hashlib.sha256(serial.encode()).digest()
    return ":".join(["10", "22", "33", "44", *(f"{byte:02x}" for byte in digest[:4])])


def _data(library: Library) -> list[str]:
    return [barcode for barcode in library.slots if not barcode.startswith(CLEANING)]


def _generation(barcode: str) -> int:
    """The generation of LTO that a barcode ends in; 0 for none."""
    found = _GENERATION.search(barcode)
    return int(found[1]) if found else 0
