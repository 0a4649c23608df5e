"""What of the paths of a backup is saved, as the variables that say so to a data server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

SKIP_CACHES: Final = b"SPANREEL_SKIP_CACHES"
SKIP_NODUMP: Final = b"SPANREEL_SKIP_NODUMP"
"""Of our own; file servers of other makes ignore them, and save what is marked."""


@dataclass(frozen=True)
class Wanted:
    """Patterns (docs/architecture.md, "What is saved"), and whether marks of users are honoured."""

    exclude: tuple[bytes, ...] = ()
    only: tuple[bytes, ...] = ()
    skip_caches: bool = False
    skip_nodump: bool = False

    def variables(self) -> list[tuple[bytes, bytes]]:
        """The variables of DATA_START_BACKUP; none where everything is saved."""
        marks = ((SKIP_CACHES, self.skip_caches), (SKIP_NODUMP, self.skip_nodump))
        return [
            *((b"EXCLUDE", pattern) for pattern in self.exclude),
            *((b"FILES", pattern) for pattern in self.only),
            *((name, b"y") for name, is_wanted in marks if is_wanted),
        ]


EVERYTHING: Final = Wanted()
