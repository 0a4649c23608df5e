"""How far a DMA knows of early warning: the write after it fails, and only that one (draft, 3.4.6)."""

from __future__ import annotations

from enum import Enum, auto

from tape.errors import EndOfMediumError


class LogicalEndError(EndOfMediumError):
    """Early warning was met by the write before: this one was not done, the next one will be."""


class _State(Enum):
    NONE = auto()
    PENDING = auto()
    TOLD = auto()


class EarlyWarning:
    """What one drive's cartridge has warned of so far, as long as nobody goes back on it."""

    def __init__(self) -> None:
        self._state = _State.NONE

    def met(self) -> None:
        """Note that a record was written with early warning."""
        if self._state is _State.NONE:
            self._state = _State.PENDING

    def forget(self) -> None:
        """Note that the tape stands elsewhere, or is another one."""
        self._state = _State.NONE

    def tell(self, device: str) -> None:
        """Raise LogicalEndError if there was a warning that nobody was told of."""
        if self._state is _State.PENDING:
            self._state = _State.TOLD
            raise LogicalEndError("early warning: little room is left", device=device)


__all__ = ["EarlyWarning", "LogicalEndError"]
