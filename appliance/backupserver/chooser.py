"""Which cartridge a backup goes to: a decision without I/O, so that it can be tested alone."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from appliance.backupserver.media import Medium, MediumState


@dataclass(frozen=True)
class Choice:
    """Cartridges worth a try, best first, and why each other listed one is not."""

    candidates: tuple[str, ...]
    refused: Mapping[str, str]

    def explain(self, tried: Mapping[str, str]) -> str:
        """Why there is nothing to write to, in one line."""
        reasons = {**self.refused, **tried}
        if not reasons:
            return "no cartridge to write to: backup_server.writable lists none"
        return "no cartridge to write to: " + "; ".join(f"{code} {why}" for code, why in reasons.items())


def choose(
    writable: Sequence[str],
    present: Collection[str],
    known: Mapping[str, Medium],
    leased: Mapping[str, str],
    loaded: str | None,
) -> Choice:
    """Order the cartridges a job may try.

    Args:
        writable: the configuration's list; no other cartridge is ever written.
        present: barcodes in the library.
        known: cartridges with our label.
        leased: barcodes in use by other jobs, with the holder.
        loaded: what is in the drive: of equals it is taken first, which saves two moves.

    One cartridge is filled before the next is begun: the fewer a restore needs, the better.

    """
    refused = {}
    open_ones = []
    new_ones = []
    for barcode in writable:
        medium = known.get(barcode)
        if barcode not in present:
            refused[barcode] = "is not in the library"
        elif barcode in leased:
            refused[barcode] = f"is in use by {leased[barcode]}"
        elif medium is None:
            new_ones.append(barcode)
        elif medium.fault:
            refused[barcode] = f"takes no more: {medium.fault}"
        elif medium.state is MediumState.FULL:
            refused[barcode] = "is full"
        else:
            open_ones.append(barcode)
    open_ones.sort(key=lambda code: (-known[code].last_file, code != loaded))
    new_ones.sort(key=lambda code: code != loaded)
    return Choice((*open_ones, *new_ones), refused)
