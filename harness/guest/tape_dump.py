"""Write one file of one cartridge to standard output, with mtx, the st driver and dd.

Arguments: a JSON object {"changer": SERIAL, "drives": [SERIAL...], "barcode": B, "file": N, "record": N}

Foreign programs only, so that the tape is read by nothing of the product.  The media server's roles
must be stopped: nobody may have the drive open through sg meanwhile.  The cartridge is put back
where it was found.
"""

from __future__ import annotations

import fcntl
import glob
import json
import os
import re
import struct
import subprocess
import sys
from typing import Any

# <linux/mtio.h>: MTIOCTOP and the operations used.
MTIOCTOP = 0x40086D01
MTFSF, MTREW, MTSETBLK = 1, 6, 20

DRIVE = re.compile(
    r"Data Transfer Element (\d+):(Full|Empty)"
    r"(?: \(Storage Element (\d+) Loaded\))?(?:.*VolumeTag *= *(\S+))?"
)
SLOT = re.compile(r"Storage Element (\d+)(?: IMPORT/EXPORT)?:Full.*VolumeTag *= *(\S+)")


def serial(folder: str) -> str:
    """Return the serial number of a SCSI device from its page 0x80."""
    try:
        with open(f"{folder}/device/vpd_pg80", "rb") as file:
            return file.read()[4:].decode("ascii", "replace").strip("\0 ")
    except OSError:
        return ""


def device(pattern: str, wanted: str) -> str:
    """Return the device node of a serial number."""
    for folder in sorted(glob.glob(pattern)):
        if serial(folder) == wanted:
            return f"/dev/{os.path.basename(folder)}"
    raise SystemExit(f"no device {pattern} has the serial number {wanted}")


def status(changer: str) -> tuple[dict[int, tuple[str, str]], dict[str, str]]:
    """Return drives: number → (barcode, home slot), and slots: barcode → slot."""
    text = subprocess.run(["mtx", "-f", changer, "status"], check=True, capture_output=True, text=True).stdout
    drives, slots = {}, {}
    for line in text.splitlines():
        if found := DRIVE.search(line):
            drives[int(found[1])] = (found[4] or "", found[3] or "")
        elif found := SLOT.search(line):
            slots[found[2]] = found[1]
    return drives, slots


def load(changer: str, barcode: str, count: int) -> tuple[int, str]:
    """Bring a cartridge into a drive; return the drive's number and the slot to bring it back to."""
    drives, slots = status(changer)
    for number, (tag, _) in drives.items():
        if tag == barcode:
            return number, ""
    if barcode not in slots:
        raise SystemExit(f"no cartridge {barcode} in the library")
    number = min(drives)
    tag, home = drives[number]
    if tag:
        subprocess.run(["mtx", "-f", changer, "unload", home, str(number)], check=True, stdout=sys.stderr)
    if number >= count:
        raise SystemExit(f"drive {number} has no serial number in the topology")
    subprocess.run(["mtx", "-f", changer, "load", slots[barcode], str(number)], check=True, stdout=sys.stderr)
    return number, slots[barcode]


def operate(tape: int, operation: int, count: int) -> None:
    """Do one tape operation."""
    fcntl.ioctl(tape, MTIOCTOP, struct.pack("hxxi", operation, count))


def main(argument: dict[str, Any]) -> None:
    """Load, position, dump, put back."""
    for module in ("sg", "st", "ch"):
        subprocess.run(["modprobe", module], check=False)
    subprocess.run(["udevadm", "settle"], check=False)
    changer = device("/sys/class/scsi_generic/sg*", argument["changer"])
    number, home = load(changer, argument["barcode"], len(argument["drives"]))
    path = device("/sys/class/scsi_tape/nst*[0-9]", argument["drives"][number])
    tape = os.open(path, os.O_RDONLY)
    operate(tape, MTREW, 1)
    operate(tape, MTSETBLK, 0)
    if argument["file"]:
        operate(tape, MTFSF, argument["file"])
    os.close(tape)
    subprocess.run(["dd", f"if={path}", f"bs={argument['record']}", "status=none"], check=True)
    tape = os.open(path, os.O_RDONLY)
    operate(tape, MTREW, 1)
    os.close(tape)
    if home:
        subprocess.run(["mtx", "-f", changer, "unload", home, str(number)], check=True, stdout=sys.stderr)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
