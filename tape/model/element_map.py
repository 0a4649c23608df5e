"""Which cartridge is in which element, kept in a file so that a restart finds them where they were."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from tape.elements import ElementKind
from tape.errors import TapeMisuseError
from tape.model.spec import LibrarySpec

__all__ = ["ElementMap", "Place"]


@dataclass(slots=True)
class Place:
    """A cartridge in an element, and the slot or port it was last taken from."""

    barcode: str
    source: int | None = None


class ElementMap:
    """The occupied elements of a library, by address.

    The file is replaced as a whole, so a cartridge is never in two places or in none.

    Args:
        path: the file; made from the spec at the very first start.
        spec: cartridges that the file does not know are put where the spec has them.

    Raises:
        TapeMisuseError: the file does not fit the spec any more, or is damaged.

    """

    def __init__(self, path: Path, spec: LibrarySpec) -> None:
        self._path = path
        self._places: dict[int, Place] = self._read() if path.exists() else {}
        self._check(spec)
        known = {place.barcode for place in self._places.values()}
        for address, barcode in zip(spec.addresses(ElementKind.SLOT), spec.slots, strict=True):
            if barcode is None or barcode in known:
                continue
            if address in self._places:
                raise TapeMisuseError(f"{barcode} cannot be put into slot {address}, which is occupied")
            self._places[address] = Place(barcode)
        self._save(self._places)

    def at(self, address: int) -> Place | None:
        """Return what is in an element."""
        return self._places.get(address)

    def address_of(self, barcode: str) -> int | None:
        """Return where a cartridge is."""
        return next((a for a, place in self._places.items() if place.barcode == barcode), None)

    @property
    def barcodes(self) -> tuple[str, ...]:
        """All cartridges in the library."""
        return tuple(place.barcode for place in self._places.values())

    def move(self, source: int, destination: int, new_source: int | None) -> None:
        """Record a move.

        Args:
            source: an occupied element.
            destination: a free one.
            new_source: the storage element to remember with the cartridge.

        Raises:
            OSError: the file could not be written; nothing has changed then.

        """
        places = dict(self._places)
        places[destination] = Place(places.pop(source).barcode, new_source)
        self._save(places)
        self._places = places

    def put(self, address: int, barcode: str) -> None:
        """Record a cartridge that came from outside.  Raises OSError; nothing has changed then."""
        places = {**self._places, address: Place(barcode)}
        self._save(places)
        self._places = places

    def take(self, address: int) -> None:
        """Record that a cartridge left the library.  Raises OSError; nothing has changed then."""
        places = {other: place for other, place in self._places.items() if other != address}
        self._save(places)
        self._places = places

    def _read(self) -> dict[int, Place]:
        try:
            values = json.loads(self._path.read_text())
            return {int(address): Place(**place) for address, place in values["elements"].items()}
        except (ValueError, TypeError, KeyError, AttributeError):
            raise TapeMisuseError(f"{self._path} is no element map") from None

    def _check(self, spec: LibrarySpec) -> None:
        """Refuse a spec that has no place for a cartridge the library holds: it would be lost."""
        addresses = {address for kind in ElementKind for address in spec.addresses(kind)}
        for address, place in self._places.items():
            if address not in addresses:
                raise TapeMisuseError(
                    f"{place.barcode} is in element {address}, which the library no longer has"
                )

    def _save(self, places: dict[int, Place]) -> None:
        text = json.dumps({"elements": {a: asdict(place) for a, place in sorted(places.items())}}, indent=1)
        temporary = self._path.with_suffix(".new")
        with temporary.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._path)
