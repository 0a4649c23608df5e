"""What the configuration lets `spanreel tape` do with an attached library: the rule of the media server."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from appliance.errors import ConfigurationError
from tape.elements import Element


@dataclass(frozen=True)
class Listed:
    """One section [[media_server.libraries]]."""

    file: Path
    changer: str
    drives: frozenset[str]
    writable: frozenset[str]
    movable: frozenset[str]

    def check_cartridge(self, element: Element) -> None:
        """Refuse to move a cartridge that is not listed.  Raises ConfigurationError."""
        if not element.full or element.barcode in self.movable:
            return
        which = element.barcode or "a cartridge whose barcode is not known"
        raise ConfigurationError(
            f"{self.file} lists {which} of library {self.changer} neither as writable nor as readable; "
            "it is left alone"
        )

    def check_place(self, element: Element | None) -> None:
        """Refuse a drive that is not listed: it may be another host's.  Raises ConfigurationError."""
        if element is None or element.kind.value != "drive" or self.has(element):
            return
        raise ConfigurationError(
            f"{self.file} does not list drive {element.serial or element.address} of library {self.changer}; "
            "it is left alone"
        )

    def has(self, drive: Element) -> bool:
        """Whether a drive may be used."""
        return drive.serial in self.drives


def listed(config_file: Path, changer: str | None, barcode: str | None = None) -> Listed | None:
    """What may be done with an attached library; None for a model, with which everything may.

    Raises:
        ConfigurationError: the library is not listed, or the barcode that is to be written, or there is no
            configuration.

    """
    if changer is None:
        return None
    # Models need none, and it takes a while.
    from appliance.config import load

    section = load(config_file).media_server
    libraries = section.libraries if section is not None else ()
    found = next((library for library in libraries if library.changer == changer), None)
    if found is None:
        raise ConfigurationError(
            f"{config_file} lists no library {changer}; only those under media_server.libraries are driven"
        )
    if barcode is not None and barcode not in found.writable:
        raise ConfigurationError(
            f"{config_file} does not list {barcode} as writable in library {changer}; it is left alone"
        )
    writable = frozenset(found.writable)
    return Listed(config_file, changer, frozenset(found.drives), writable, writable | set(found.readable))
