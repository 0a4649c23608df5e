"""Faults of a library of our own model, by the script in its folder (docs/tape-model.md)."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from harness.errors import InfrastructureError, NotPossibleError
from harness.modelfolder import ModelFolder
from harness.nodeconfig import to_toml
from harness.providers.base import Provider
from harness.topology import OWN_MODELS, Library

# A command that is to be struck comes within the start of a job, on a busy machine too.
STRIKE_SECONDS = 60.0
LOOK_SECONDS = 0.03
# Longer than anything that is tried while a command waits; the script's end ends the wait.
HELD_SECONDS = 500.0

WRITE, READ, FILEMARK, MOVE = "WRITE(6)", "READ(6)", "WRITE FILEMARKS(6)", "MOVE MEDIUM"
Fault = Mapping[str, str | int | float]


def hold(command: str, nth: int, device: str = "") -> Fault:
    """Return the fault that one command waits until the script is taken away, and is then carried out."""
    where = {"device": device} if device else {}
    return {"command": command, "nth": nth, "delay": HELD_SECONDS, **where}


class TapeFaults:
    """The fault script of one library."""

    def __init__(self, provider: Provider, library: Library) -> None:
        self._library = library
        self._folder = ModelFolder(provider, library) if library.transport in OWN_MODELS else None
        self._seen = 0
        self._patience = STRIKE_SECONDS * provider.patience

    def set(self, *faults: Fault) -> None:
        """Have these faults from now on, counted anew.  Raises NotPossibleError for a foreign library."""
        if self._folder is None:
            raise NotPossibleError(f"faults of a {self._library.transport} library cannot be scripted yet")
        self._seen = len(self._lines())
        self._folder.write("faults.toml", to_toml({"fault": [dict(fault) for fault in faults]}))

    def clear(self) -> None:
        """Have no faults any more; held commands are carried out."""
        if self._folder is not None:
            self._folder.remove("faults.toml")

    def struck(self) -> list[str]:
        """Return the faults that happened since `set`, as the library wrote them down."""
        return self._lines()[self._seen :]

    def wait(self, count: int, goes_on: Callable[[], bool]) -> None:
        """Wait until so many faults happened.  Raises InfrastructureError if that can never be."""
        deadline = time.monotonic() + self._patience
        while len(self.struck()) < count:
            if not goes_on() or time.monotonic() > deadline:
                why = "in time" if goes_on() else "before the job ended"
                raise InfrastructureError(f"the fault of the library was not reached {why}")
            time.sleep(LOOK_SECONDS)

    def _lines(self) -> list[str]:
        return self._folder.read("faults.log").splitlines() if self._folder is not None else []
