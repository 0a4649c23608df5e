"""Proof: mtx, mt, sg3-utils and GNU tar see the same library as the product does."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness import drives, guest
from harness.checks.result import CheckResult, verdict
from harness.checks.tapeback import TapeFile
from harness.nodeconfig import RECORD_SIZE
from harness.providers.base import Provider
from harness.topology import MHVTL, MODEL_TARGET, TGT, Library, Node

# Questions that a kind of library has no answer to, and why.  Nothing is declared for hardware.
# QEMU 7.2 (hw/scsi/scsi-bus.c) passes REPORT LUNS on to no device and answers it on LUN 0; ours begin at 1.
_BY_QEMU = {"sg_luns": "answered by QEMU (LUN not supported, 05/25/00); the library is never asked"}
NO_ANSWER: Mapping[str, Mapping[str, str]] = {
    MODEL_TARGET: _BY_QEMU,
    TGT: {
        **_BY_QEMU,
        "sg_logs": "no LOG SENSE",
        "sg_logs TapeAlert": "no LOG SENSE",
        "sg_read_attr": "no MAM",
        "sg_persist": "no persistent reservations",
    },
    MHVTL: {"sg_opcodes": "no REPORT SUPPORTED OPERATION CODES"},
}
# What `spanreel tape check` calls them.
KINDS = {MODEL_TARGET: "model"}
INQUIRY_FIELDS = {
    "vendor": re.compile(r"Vendor identification: *(.*)"),
    "product": re.compile(r"Product identification: *(.*)"),
    "revision": re.compile(r"Product revision level: *(.*)"),
}
SERIAL = re.compile(r"Unit serial number: *(\S+)")
FILE_NUMBER = re.compile(r"File number=(-?\d+), block number=(-?\d+)")


@dataclass(frozen=True)
class Seen:
    """What the product and what the foreign tools say of one library."""

    library: Library
    elements: list[dict[str, Any]]
    devices: list[dict[str, Any]]
    tools: dict[str, Any]


def look(provider: Provider, library: Library, file: TapeFile) -> Seen:
    """Ask the product, then with its roles stopped the tools; `file` is read from its cartridge.

    Drives are emptied first, by the product.
    """
    node = provider.topology.node(library.node)
    changer = ("--changer", library.changer)
    drives.empty(provider, library)
    elements = _product(provider, node, "inventory", *changer)
    devices = _product(provider, node, "discover")["devices"]
    provider.stop(node)
    try:
        argument = {
            "changer": library.changer,
            "drives": library.drives,
            "barcode": file.barcode,
            "file": file.file,
            "record": RECORD_SIZE,
        }
        tools = guest.call(provider, node, "tape_tools", argument)
    finally:
        provider.start(node)
    return Seen(library, elements, devices, tools)


def conforms(provider: Provider, library: Library) -> CheckResult:
    """Make the product's own checks of a library.  Its last writable cartridge is overwritten."""
    node = provider.topology.node(library.node)
    kind = KINDS.get(library.transport, library.transport)
    words = ("check", library.writable[-1], "--kind", kind, "--force", "--changer", library.changer)
    found = provider.run(node, ["spanreel", "tape", *words, "--json"], check=False)
    findings = json.loads(found.stdout) if found.stdout else []
    others = [each for each in findings if each["outcome"] != "passed"]
    made = len(findings) - len(others)
    passed = found.code == 0 and made > 0
    said = found.stderr.decode("utf-8", "replace").strip()
    summary = f"{made} checks passed" if passed else f"exit code {found.code}: {said}"
    lines = [f"{each['device']}: {each['check']} {each['outcome']}: {each['why']}" for each in others]
    return verdict(f"{library.changer} does what is relied on", passed, summary, lines)


def _product(provider: Provider, node: Node, *words: str) -> Any:
    return json.loads(provider.run(node, ["spanreel", "tape", *words, "--json"]).stdout)


def judge(seen: Seen, file: TapeFile, job: Mapping[str, Any]) -> Iterator[CheckResult]:
    """Compare; `job` is the one whose image begins at `file`."""
    yield _same_elements(seen)
    yield _same_devices(seen)
    yield _all_answer(seen)
    yield _position(seen, file)
    if len(job["media"]) == 1:
        yield _tar(seen, file, int(job["files"]))


def _same_elements(seen: Seen) -> CheckResult:
    ours: dict[str, list[str]] = {"drive": [], "slot": [], "port": []}
    for element in sorted(seen.elements, key=lambda each: int(each["element"])):
        if element["kind"] in ours:
            ours[element["kind"]].append((element["cartridge"] or "?") if element["full"] else "")
    theirs = seen.tools["elements"]
    different = [f"{kind}: {ours[kind]}, mtx {theirs[kind]}" for kind in ours if ours[kind] != theirs[kind]]
    full = sum(1 for places in ours.values() for place in places if place)
    summary = f"{sum(map(len, ours.values()))} elements, {full} cartridges"
    passed = not different and full > 0
    return verdict(f"mtx sees {seen.library.changer} as Spanreel does", passed, summary, different)


def _same_devices(seen: Seen) -> CheckResult:
    ours = {device["serial"]: device for device in seen.devices}
    different = []
    for serial in seen.library.drives:
        said = seen.tools["drives"][serial]
        inquiry, page = said["sg_inq"]["said"], said["sg_inq serial"]["said"]
        theirs = {name: _field(pattern, inquiry) for name, pattern in INQUIRY_FIELDS.items()}
        theirs["serial"] = _field(SERIAL, page)
        mine = {name: ours.get(serial, {}).get(name) for name in theirs}
        if mine != theirs:
            different.append(f"{serial}: {mine}, sg_inq {theirs}")
    summary = f"{len(seen.library.drives)} drives by vendor, product, revision and serial number"
    return verdict(
        f"sg_inq names the drives of {seen.library.changer} as Spanreel does",
        not different,
        summary,
        different,
    )


def _all_answer(seen: Seen) -> CheckResult:
    name = f"sg3-utils understand a drive of {seen.library.changer}"
    answers = (seen.tools.get("cartridge") or {}).get("questions")
    if not answers:
        return verdict(name, False, "the cartridge was not loaded")
    declared = NO_ANSWER.get(seen.library.transport, {})
    wrong = [
        f"{answer['command']}: exit code {answer['code']}: {_last(answer['said'])}"
        for question, answer in answers.items()
        if (answer["code"] == 0) == (question in declared)
    ]
    without = "".join(f"; {question}: {why}" for question, why in declared.items())
    return verdict(name, not wrong, f"{len(answers)} questions{without}", wrong)


def _position(seen: Seen, file: TapeFile) -> CheckResult:
    name = f"mt finds file {file.file} of {file.barcode}"
    read = seen.tools.get("cartridge")
    if read is None or "status" not in read:
        return verdict(name, False, "the cartridge was not loaded", [_last(_said(read, "load"))])
    found = FILE_NUMBER.search(read["status"]["said"])
    place = (int(found[1]), int(found[2])) if found else None
    online = "ONLINE" in read["status"]["said"]
    moved = _said(read, "unload")
    passed = place == (file.file, 0) and online and read["unload"]["code"] == 0
    return verdict(name, passed, f"file and block {place}", [] if passed else [read["status"]["said"], moved])


def _tar(seen: Seen, file: TapeFile, names: int) -> CheckResult:
    name = f"GNU tar reads {file.barcode} in the drive"
    read = seen.tools.get("cartridge") or {}
    if "tar" not in read:
        return verdict(name, False, "the cartridge was not loaded")
    code, listed = read["tar"]["code"], read["names"]
    passed = code == 0 and listed == names
    summary = f"{listed} of {names} names, exit code {code}"
    return verdict(name, passed, summary, [] if passed else [_last(_said(read, "tar"))])


def _field(pattern: re.Pattern[str], said: str) -> str | None:
    found = pattern.search(said)
    return found[1].strip() if found else None


def _said(answers: Mapping[str, Any] | None, name: str) -> str:
    said: str = (answers or {}).get(name, {}).get("said", "the library does not hold it")
    return said


def _last(said: str) -> str:
    lines: Sequence[str] = said.strip().splitlines()
    return lines[-1] if lines else "it said nothing"
