"""Ask a tape library by foreign tools: mtx, mt, sg3-utils and GNU tar.  Prints what they said, as JSON.

Arguments: a JSON object {"changer": SERIAL, "drives": [SERIAL...], "barcode": B, "file": N, "record": N}

The roles of the node must be stopped: nobody may have a drive open through sg meanwhile.  The cartridge
is loaded into the first drive, read, and put back.  Nothing is judged here.
"""

from __future__ import annotations

import glob
import json
import os
import re
import subprocess
import sys
from typing import Any

DRIVE = re.compile(r"Data Transfer Element (\d+):(Full|Empty)(?:.*VolumeTag *= *(\S+))?")
SLOT = re.compile(r"Storage Element (\d+)( IMPORT/EXPORT)?:(Full|Empty)(?:.*VolumeTag *= *(\S+))?")
# What every drive is asked, and what only that with the cartridge in it; `sg` stands for its node.
IDENTITY = {
    "sg_inq": ["sg_inq", "sg"],
    "sg_inq serial": ["sg_inq", "--page=0x80", "sg"],
}
QUESTIONS = {
    "sg_inq identification": ["sg_inq", "--page=0x83", "sg"],
    "sg_luns": ["sg_luns", "sg"],
    "sg_turs": ["sg_turs", "sg"],
    "sg_modes": ["sg_modes", "--all", "sg"],
    "sg_logs": ["sg_logs", "--all", "sg"],
    "sg_logs TapeAlert": ["sg_logs", "--page=0x2e", "sg"],
    "sg_read_block_limits": ["sg_read_block_limits", "sg"],
    "sg_read_attr": ["sg_read_attr", "sg"],
    "sg_opcodes": ["sg_opcodes", "sg"],
    "sg_persist": ["sg_persist", "--in", "--read-keys", "sg"],
}
LAST_WORDS = 2000


def ask_all(questions: dict[str, list[str]], node: str) -> dict[str, Any]:
    """Ask a device."""
    return {
        name: ask([node if word == "sg" else word for word in words]) for name, words in questions.items()
    }


def ask(command: list[str]) -> dict[str, Any]:
    """Run a tool and return its code and what it said."""
    done = subprocess.run(command, capture_output=True, check=False, stdin=subprocess.DEVNULL)
    said = (done.stdout + done.stderr).decode("utf-8", "replace")
    return {"command": " ".join(command), "code": done.returncode, "said": said}


def nodes() -> dict[str, dict[str, str]]:
    """Return the nodes (sg, nst) of each device by the serial number that the kernel read (page 0x80)."""
    found: dict[str, dict[str, str]] = {}
    for folder in sorted(glob.glob("/sys/class/scsi_generic/sg*")):
        try:
            with open(f"{folder}/device/vpd_pg80", "rb") as file:
                serial = file.read()[4:].decode("ascii", "replace").strip("\0 ")
        except OSError:
            continue
        tapes = [os.path.basename(path) for path in glob.glob(f"{folder}/device/scsi_tape/nst*")]
        plain = [name for name in tapes if re.fullmatch(r"nst\d+", name)]
        found[serial] = {"sg": f"/dev/{os.path.basename(folder)}", "nst": f"/dev/{plain[0]}" if plain else ""}
    return found


def elements(said: str) -> dict[str, list[str]]:
    """Return what mtx shows: the barcode, "?" without one, "" if empty, of drives, slots and mail slots."""
    shown: dict[str, list[str]] = {"drive": [], "slot": [], "port": []}
    for line in said.splitlines():
        if found := DRIVE.search(line):
            full, tag, kind = found[2], found[3], "drive"
        elif found := SLOT.search(line):
            full, tag, kind = found[3], found[4], "port" if found[2] else "slot"
        else:
            continue
        shown[kind].append((tag or "?") if full == "Full" else "")
    return shown


def read_cartridge(
    changer: str, drive: dict[str, str], slot: str, argument: dict[str, Any]
) -> dict[str, Any]:
    """Load the cartridge into the first drive, let all tools look at it, put it back."""
    tape = drive["nst"]
    answers: dict[str, Any] = {"load": ask(["mtx", "-f", changer, "load", slot, "0"])}
    if answers["load"]["code"] != 0:
        return answers
    answers["rewind"] = ask(["mt", "-f", tape, "rewind"])
    answers["questions"] = ask_all(QUESTIONS, drive["sg"])
    answers["setblk"] = ask(["mt", "-f", tape, "setblk", "0"])
    answers["fsf"] = ask(["mt", "-f", tape, "fsf", str(argument["file"])])
    answers["status"] = ask(["mt", "-f", tape, "status"])
    blocking = str(argument["record"] // 512)
    answers["tar"] = ask(["tar", "--list", "--quoting-style=escape", "-b", blocking, "-f", tape])
    answers["names"] = len(answers["tar"]["said"].splitlines())
    answers["tar"]["said"] = answers["tar"]["said"][-LAST_WORDS:]
    answers["rewound"] = ask(["mt", "-f", tape, "rewind"])
    answers["unload"] = ask(["mtx", "-f", changer, "unload", slot, "0"])
    return answers


def main(argument: dict[str, Any]) -> None:
    """Ask everything."""
    for module in ("sg", "st", "ch"):
        subprocess.run(["modprobe", module], check=False)
    subprocess.run(["udevadm", "settle"], check=False)
    found = nodes()
    changer = found[argument["changer"]]["sg"]
    answer: dict[str, Any] = {"nodes": found, "status": ask(["mtx", "-f", changer, "status"])}
    answer["elements"] = elements(answer["status"]["said"])
    answer["drives"] = {serial: ask_all(IDENTITY, found[serial]["sg"]) for serial in argument["drives"]}
    slots = answer["elements"]["slot"]
    if argument["barcode"] in slots:
        slot = str(slots.index(argument["barcode"]) + 1)
        answer["cartridge"] = read_cartridge(changer, found[argument["drives"][0]], slot, argument)
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
