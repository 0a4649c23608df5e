"""Faults of a library of our own model, by the script in its folder (docs/tape-model.md)."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from harness.errors import InfrastructureError, NotPossibleError
from harness.nodeconfig import to_toml
from harness.providers.base import Provider
from harness.topology import PROCESS_MODEL, Library

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
        self._provider = provider
        self._library = library
        self._node = provider.topology.node(library.node)
        self._folder = provider.paths(self._node).library
        self._seen = 0

    def set(self, *faults: Fault) -> None:
        """Have these faults from now on, counted anew.  Raises NotPossibleError for a foreign library."""
        if self._library.transport != PROCESS_MODEL:
            raise NotPossibleError(f"faults of a {self._library.transport} library cannot be scripted yet")
        self._seen = len(self._lines())
        with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
            file.write(to_toml({"fault": [dict(fault) for fault in faults]}))
            file.flush()
            self._provider.put(self._node, Path(file.name), f"{self._folder}/faults.toml")

    def clear(self) -> None:
        """Have no faults any more; held commands are carried out."""
        if self._library.transport == PROCESS_MODEL:
            self._provider.run(self._node, ["rm", "-f", f"{self._folder}/faults.toml"])

    def struck(self) -> list[str]:
        """Return the faults that happened since `set`, as the library wrote them down."""
        return self._lines()[self._seen :]

    def wait(self, count: int, goes_on: Callable[[], bool]) -> None:
        """Wait until so many faults happened.  Raises InfrastructureError if that can never be."""
        deadline = time.monotonic() + STRIKE_SECONDS
        while len(self.struck()) < count:
            if not goes_on() or time.monotonic() > deadline:
                why = "in time" if goes_on() else "before the job ended"
                raise InfrastructureError(f"the fault of the library was not reached {why}")
            time.sleep(LOOK_SECONDS)

    def _lines(self) -> list[str]:
        done = self._provider.run(self._node, ["cat", f"{self._folder}/faults.log"], check=False)
        return done.text.splitlines()
