"""What a model drive is like, as mode pages (SSC-4, 8.3, and SPC-4, 7.5)."""

from __future__ import annotations

from collections.abc import Callable

from tape.fields import Field, encode_fields
from tape.model.commands import REPORT_DENSITY_SUPPORT
from tape.model.loaded import TapeUnit
from tape.model.modes import ModePage
from tape.model.outcome import INVALID_FIELD_IN_CDB, illegal
from tape.transport import DataOut

__all__ = ["CAPABILITIES_VPD", "DENSITY", "DensityReport", "drive_pages"]

DENSITY = 0x58  # LTO-5
_COMPRESSION_PAGE = 0x0F
_LTO_ALGORITHM = 0x01
_CONFIGURATION_PAGE, _PARTITION_PAGE, _CONTROL_PAGE, _EXCEPTIONS_PAGE = 0x10, 0x11, 0x0A, 0x1C
_MEDIUM_PAGE = 0x1D

# VPD page B0h, sequential-access device capabilities (SSC-4, 8.5.2): WORM is supported.
CAPABILITIES_VPD = bytes([0x01, 0])

_MEGABYTE = 1_000_000


def drive_pages(is_worm: Callable[[], bool]) -> list[ModePage]:
    """Return the pages of a drive that was just switched on; `is_worm` tells of the medium in it."""
    return [
        # Disconnect-reconnect: nothing to say on this interface, but old initiators ask for it.
        ModePage(0x02, bytes(14)),
        # Control (SPC-4, 7.5.8): task set full or unrestricted reordering make no sense on a tape.
        ModePage(_CONTROL_PAGE, bytes(10)),
        # Data compression (SSC-4, 8.3.2): capable, on, decompression on; DCE may be switched.
        ModePage(
            _COMPRESSION_PAGE,
            bytes([0xC0, 0x80]) + _LTO_ALGORITHM.to_bytes(4, "big") * 2 + bytes(4),
            changeable=bytes([0x80]),
        ),
        # Device configuration (SSC-4, 8.3.3): block identifiers supported, early warning synchronises,
        # compression algorithm selected (which may be switched, as page 0Fh's DCE).
        ModePage(
            _CONFIGURATION_PAGE,
            bytes([0, 0, 0, 0, 0, 0, 0x40, 0, 0x18, 0, 0, 0, 0x01, 0]),
            changeable=bytes([0, 0, 0, 0, 0, 0xFF, 0, 0, 0, 0, 0, 0, 0xFF, 0]),
        ),
        # Device configuration extension (SSC-4, 8.3.8): no programmable early warning, 512-byte units.
        ModePage(_CONFIGURATION_PAGE, bytes(28), subcode=0x01),
        # Medium partition (SSC-4, 8.3.4): one partition, and no other can be made.
        ModePage(_PARTITION_PAGE, bytes([0, 0, 0, 0x03, 0x09, 0, 0, 0, 0xFF, 0xFF])),
        # Medium configuration (SSC-4, 8.3.7): WORMM.
        ModePage(_MEDIUM_PAGE, bytes(30), fresh=lambda: bytes([is_worm()]) + bytes(29)),
        # Informational exceptions (SPC-4, 7.5.13): TapeAlert is polled for, nothing is reported by itself.
        ModePage(_EXCEPTIONS_PAGE, bytes([0x08]) + bytes(9), changeable=bytes([0x08, 0x0F]) + bytes(8)),
    ]


_DESCRIPTOR_LENGTH = 52
_DESCRIPTOR = {
    "primary": Field(0xFF, 0),
    "secondary": Field(0xFF, 1),
    "writable": Field(0x80, 2),
    "default": Field(0x20, 2),
    "bits_per_mm": Field(0xFFFFFF, 5),
    "width": Field(0xFFFF, 8),
    "tracks": Field(0xFFFF, 10),
    "capacity": Field(0xFFFFFFFF, 12),
}
# Bits per mm, width in tenths of a millimetre, tracks, megabytes of an LTO-5 cartridge.
_LTO_5 = {"bits_per_mm": 15_142, "width": 127, "tracks": 1280, "capacity": 1_500_000}
_NAMES = b"LTO-CVE " + b"U-516   " + b"Ultrium 5/16T".ljust(20)


class DensityReport:
    """Answers REPORT DENSITY SUPPORT (SSC-4, 7.9): one density, of the drive and of every medium."""

    def __init__(self, unit: TapeUnit) -> None:
        self._unit = unit
        unit.register(REPORT_DENSITY_SUPPORT, self._report)

    def _report(self, fields: dict[str, int], _data: DataOut) -> bytes:
        if fields["medium_type"]:
            raise illegal(INVALID_FIELD_IN_CDB)
        values = {**_LTO_5, "primary": DENSITY, "secondary": DENSITY, "writable": 1, "default": 1}
        if fields["media"]:
            tape = self._unit.tape()
            values["capacity"] = tape.header.capacity_bytes // _MEGABYTE
            values["writable"] = int(not tape.header.write_protected)
        descriptor = bytes(encode_fields(_DESCRIPTOR_LENGTH - len(_NAMES), _DESCRIPTOR, values)) + _NAMES
        head = (len(descriptor) + 2).to_bytes(2, "big") + bytes(2)
        return (head + descriptor)[: fields["allocation_length"]]
