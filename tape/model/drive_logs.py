"""The log pages of a model drive (SSC-4, 8.2, and SPC-4, 7.3)."""

from __future__ import annotations

from tape.model.cartridge import CartridgeKind
from tape.model.loaded import ALERT_CLEAN_NOW, TapeUnit
from tape.model.logs import LogPage, tape_alert_page
from tape.model.usage import Usage

__all__ = ["drive_logs"]

_MEGABYTE = 1_000_000


def drive_logs(unit: TapeUnit) -> list[LogPage]:
    """Return the pages; the counters of a page are those of the cartridge since it was loaded."""

    def usage() -> Usage:
        return unit.usage if unit.usage is not None else Usage()

    def reset_written() -> None:
        usage().mount_written = usage().mount_write_errors = 0

    def reset_read() -> None:
        usage().mount_read = usage().mount_read_errors = 0

    return [
        # Write and read error counters (SPC-4, 7.3.5 and 7.3.18): corrected, bytes, uncorrected.
        LogPage(
            0x02,
            lambda: {0x03: 0, 0x05: usage().mount_written, 0x06: usage().mount_write_errors},
            reset=reset_written,
        ),
        LogPage(
            0x03,
            lambda: {0x03: 0, 0x05: usage().mount_read, 0x06: usage().mount_read_errors},
            reset=reset_read,
        ),
        # Sequential-access device (SSC-4, 8.2.2): bytes from hosts, to the medium, from it, to hosts, and
        # whether the drive wants to be cleaned.  Nothing is compressed.
        LogPage(
            0x0C,
            lambda: {
                0x0000: usage().mount_written,
                0x0001: usage().mount_written,
                0x0002: usage().mount_read,
                0x0003: usage().mount_read,
                0x0100: bytes(3) + bytes([ALERT_CLEAN_NOW in unit.alerts]),
            },
        ),
        LogPage(0x17, lambda: _volume_statistics(unit, usage())),
        tape_alert_page(unit.alerts),
    ]


def _volume_statistics(unit: TapeUnit, usage: Usage) -> dict[int, int | str | bytes]:
    """Page 17h (SSC-4, 8.2.8); parameter 0 says whether the rest is of a volume that is there."""
    cartridge = unit.cartridge
    if cartridge is None:
        return {0x0000: 0}
    header = cartridge.header
    return {
        0x0000: 1,
        0x0001: usage.loads,
        0x0004: usage.write_errors,
        0x0009: usage.read_errors,
        0x000C: usage.mount_write_errors,
        0x000D: usage.mount_read_errors,
        0x000E: usage.mount_written // _MEGABYTE,
        0x000F: usage.mount_read // _MEGABYTE,
        0x0010: usage.written // _MEGABYTE,
        0x0011: usage.read // _MEGABYTE,
        0x0040: header.barcode.ljust(32),
        0x0042: header.barcode.ljust(32),
        0x0080: bytes([header.write_protected]),
        0x0081: bytes([header.kind == CartridgeKind.WORM]),
    }
