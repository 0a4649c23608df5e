"""Where scenarios begin: a lab that is prepared once, and brought back to that before each of them.

Machines are put back by a checkpoint, with all that a scenario broke.  It is kept: the next run with the same
seed number, topology and product neither boots nor prepares.  Processes are mended instead: faults are taken
away and what is dead is started, which is quicker there.
"""

from __future__ import annotations

from typing import Any

from harness import bringup, manifest
from harness.checkpoints.keeper import Keeper
from harness.errors import HarnessError
from harness.providers.base import Provider
from harness.scenarios.stage import LARGE_BYTES, SMALL_BYTES, Stage

NAME = "scenarios"
_ORIGINALS = "originals.jsonl"


def asked(number: int) -> dict[str, Any]:
    """Return what makes a prepared lab another, besides what every checkpoint depends on."""
    return {"number": number, "large": LARGE_BYTES, "small": SMALL_BYTES}


def bring_up(provider: Provider, number: int, *, fresh: bool = False) -> None:
    """Bring a lab up for scenarios, already prepared if it was kept so and is down now."""
    keeper = Keeper(provider)
    if fresh:
        keeper.store.remove(NAME)
    if provider.rewinds and provider.lab.state == "off" and keeper.fits(NAME, asked(number)):
        bringup.revert(provider, keeper, NAME, asked(number))
    else:
        bringup.up(provider, fresh=fresh)


class Rewind:
    """Prepares a stage, and brings its lab back to there."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self._keeper = Keeper(stage.provider)
        self._asked = asked(stage.number)
        self._is_kept = False
        self._is_used = False

    def prepare(self) -> None:
        """Make the stage, by a checkpoint of the same or by writing and saving its tree."""
        stage, keeper = self.stage, self._keeper
        if not stage.provider.rewinds:
            stage.prepare()
            return
        if keeper.fits(NAME, self._asked):
            self._take_over()
            return
        stage.prepare()
        self._save()

    def _take_over(self) -> None:
        """Have the lab as it was kept; `bring_up` has done that already if it was down."""
        stage, keeper = self.stage, self._keeper
        if stage.provider.put_back_to != NAME:
            keeper.revert(NAME, self._asked)
        stage.provider.put_back_to = ""
        kept = keeper.store.find(NAME)
        assert kept is not None
        text = keeper.file(NAME, _ORIGINALS).read_bytes()
        stage.expected, stage.baseline = manifest.parse(text), kept.note["baseline"]
        self._is_kept = True

    def again(self) -> None:
        """Before a scenario: bring the lab back to what it was after `prepare`.  Raises HarnessError."""
        if self._is_kept and self._is_used:
            self._keeper.revert(NAME, self._asked)
        self._is_used = True

    def _save(self) -> None:
        """Keep the stage; a host without room for it mends its lab as well as it can."""
        stage = self.stage
        files = {_ORIGINALS: stage.run.folder / stage.ORIGINALS}
        try:
            self._keeper.save(NAME, asked=self._asked, note={"baseline": stage.baseline}, files=files)
            self._is_kept = True
        except HarnessError as error:
            stage.run.notes.append(f"scenarios begin with a lab that is mended, not put back: {error}")
