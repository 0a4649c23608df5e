"""Faults of a running library from a file in its folder, for labs whose library lives in another process.

`faults.toml` is a fault script.  It is read when it appears, changes or goes, before the next command:
its faults take the place of those there were, and waiting commands go on.  Every fault that happens is
a line of `faults.log`: device, operation code, effect.
"""

from __future__ import annotations

import threading
from pathlib import Path

from tape.errors import TapeMisuseError
from tape.model.faults import Effect, FaultPlan
from tape.model.faultscript import read_faults

__all__ = ["LOG", "SCRIPT", "FaultFile"]

SCRIPT = "faults.toml"
LOG = "faults.log"

# What tells one version of the script from another; None: there is none.
Version = tuple[int, int, int]


class FaultFile:
    """Keeps a plan as the script in a folder says."""

    def __init__(self, folder: Path, plan: FaultPlan) -> None:
        """Attach to a plan.  What the script says is in force from the plan's next command on."""
        self._script = folder / SCRIPT
        self._log = folder / LOG
        self._plan = plan
        self._mutex = threading.Lock()
        self._read: Version | None = None
        plan.refresh = self.refresh
        plan.on_strike = self._struck

    def refresh(self) -> None:
        """Read the script if it is another than before; one that says nonsense is a line of the log."""
        version = self._version()
        with self._mutex:
            if version == self._read:
                return
            self._read = version
        try:
            plan = FaultPlan() if version is None else read_faults(self._script)
        except TapeMisuseError as error:
            self._write(f"not used: {error}")
            return
        self._plan.replace(plan)

    def _version(self) -> Version | None:
        try:
            status = self._script.stat()
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size

    def _struck(self, device: str, cdb: bytes, effect: Effect) -> None:
        self._write(f"{device} {cdb[0]:02x} {effect!r}")

    def _write(self, line: str) -> None:
        with self._log.open("a", encoding="utf-8") as log:
            log.write(line + "\n")
