"""What a model drive is like, as mode pages (SSC-4, 8.3, and SPC-4, 7.5)."""

from __future__ import annotations

from tape.model.modes import ModePage

__all__ = ["COMPRESSION_PAGE", "DENSITY", "drive_pages"]

DENSITY = 0x58  # LTO-5
COMPRESSION_PAGE = 0x0F
_LTO_ALGORITHM = 0x01
_CONFIGURATION_PAGE, _PARTITION_PAGE, _CONTROL_PAGE, _EXCEPTIONS_PAGE = 0x10, 0x11, 0x0A, 0x1C


def drive_pages() -> list[ModePage]:
    """Return the pages of a drive that was just switched on."""
    return [
        # Disconnect-reconnect: nothing to say on this interface, but old initiators ask for it.
        ModePage(0x02, bytes(14)),
        # Control (SPC-4, 7.5.8): task set full or unrestricted reordering make no sense on a tape.
        ModePage(_CONTROL_PAGE, bytes(10)),
        # Data compression (SSC-4, 8.3.2): capable, on, decompression on; DCE may be switched.
        ModePage(
            COMPRESSION_PAGE,
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
        # Informational exceptions (SPC-4, 7.5.13): TapeAlert is polled for, nothing is reported by itself.
        ModePage(_EXCEPTIONS_PAGE, bytes([0x08]) + bytes(9), changeable=bytes([0x08, 0x0F]) + bytes(8)),
    ]
