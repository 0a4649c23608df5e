"""Which tape drives and changers this machine has, from sysfs alone: no device is opened or disturbed.

/sys/class/scsi_generic/sgN/device is the SCSI device; its `type`, `vendor`, `model`, `rev` and the
binary `vpd_pg80` say all that is needed, and its child `scsi_tape/stN` names the st node (tape.md, E).
Devices are known by serial number: the sg number may change at every boot.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tape.identity import DeviceKind, clean_text, serial_of_page_80

__all__ = ["Device", "discover"]


@dataclass(frozen=True, slots=True)
class Device:
    """One drive or changer.

    Attributes:
        sg: its generic node, e.g. "/dev/sg0".
        kind: "drive" or "changer".
        vendor, product, revision: from INQUIRY.
        serial: unit serial number, VPD page 80h; empty if it has none.
        st: the tape driver's node for the same drive, e.g. "/dev/st0"; None without that driver.
            Never use both at a time.
        address: on this host, "host:channel:target:lun"; may be another one after the next boot.
        sch: the changer driver's node, e.g. "/dev/sch0"; None without that driver.

    """

    sg: str
    kind: DeviceKind
    vendor: str
    product: str
    revision: str
    serial: str
    st: str | None
    address: str = ""
    sch: str | None = None


def discover(sysfs: Path = Path("/sys")) -> list[Device]:
    """Return all drives and changers, in the order of their sg numbers.

    A device that vanishes while it is looked at is left out.
    """
    root = sysfs / "class" / "scsi_generic"
    if not root.is_dir():
        return []
    nodes = sorted(root.iterdir(), key=lambda node: (len(node.name), node.name))
    found = (_device(node) for node in nodes)
    return [device for device in found if device is not None]


def _device(node: Path) -> Device | None:
    """Describe one sg node; None if it is neither drive nor changer, or has just gone."""
    scsi = node / "device"
    try:
        kind = DeviceKind.of_type(int(_attribute(scsi / "type")))
        if kind is DeviceKind.OTHER:
            return None
        return Device(
            sg=f"/dev/{node.name}",
            kind=kind,
            vendor=_attribute(scsi / "vendor"),
            product=_attribute(scsi / "model"),
            revision=_attribute(scsi / "rev"),
            serial=_serial(scsi),
            st=_driver_node(scsi, "scsi_tape", "st"),
            address=_address(scsi),
            sch=_driver_node(scsi, "scsi_changer", "sch"),
        )
    except (OSError, ValueError):
        return None


def _attribute(path: Path) -> str:
    return clean_text(path.read_bytes().rstrip(b"\n"))


def _serial(scsi: Path) -> str:
    """Return the serial number; the kernel leaves the file out for devices without the page."""
    try:
        return serial_of_page_80((scsi / "vpd_pg80").read_bytes())
    except FileNotFoundError:
        return ""


def _address(scsi: Path) -> str:
    """Return the name of the SCSI device that the link leads to."""
    name = scsi.resolve().name
    return name if name.count(":") == 3 else ""


def _driver_node(scsi: Path, driver: str, prefix: str) -> str | None:
    """Return /dev/stN or /dev/schN.  `scsi_tape` lists a drive's other modes besides (nst0, st0a...)."""
    folder = scsi / driver
    names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
    plain = [name for name in names if name.startswith(prefix) and name[len(prefix) :].isdigit()]
    return f"/dev/{plain[0]}" if plain else None
