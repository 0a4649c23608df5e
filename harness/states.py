"""The states of a lab, as a graph.  Pure: no I/O, no clock; whoever walks it (`bringup`) asks here.

    off ──boot──► booted ──configure──► ready ──seed──► seeded
     ▲                                    ▲                ▲
     └──down── from every state           └────────────────┴──revert── from every state, off included,
                                                               to one that is kept as a checkpoint

An edge has a limit of time.  The first error on an edge is remembered and told again to whoever asks for a
state beyond it in the same run: a lab that does not boot is not booted forty times by forty tests.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from harness.errors import HarnessError, UsageError

OFF, BOOTED, READY, SEEDED = STATES = ("off", "booted", "ready", "seeded")
# What is worth a checkpoint; what is only booted is configured in seconds.
KEPT = (READY, SEEDED)


@dataclass(frozen=True)
class Step:
    """One edge to walk: `does` says how; `seconds` is its limit."""

    does: str
    source: str
    target: str
    seconds: float

    @property
    def name(self) -> str:
        """As people are told it."""
        return (
            f"{self.does} ({self.source} → {self.target})" if self.source else f"{self.does} to {self.target}"
        )


# The limits are for a busy host with emulated processors, and are far from what is measured (docs/vm-lab.md);
# the first `boot` builds the image from a slow mirror.
BOOT = Step("boot", OFF, BOOTED, 2400.0)
CONFIGURE = Step("configure", BOOTED, READY, 900.0)
SEED = Step("seed", READY, SEEDED, 3600.0)
EDGES = (BOOT, CONFIGURE, SEED)
DOWN_SECONDS = 300.0
REVERT_SECONDS = 600.0


def rank(state: str) -> int:
    """Return how far a state is from off.  Raises UsageError for what is no state."""
    if state not in STATES:
        raise UsageError(f"{state!r} is no state of a lab", hint=f"states: {', '.join(STATES)}")
    return STATES.index(state)


def revert(state: str) -> Step:
    """Return the edge from anywhere to a checkpoint of a state."""
    return Step("revert", "", state, REVERT_SECONDS)


def down(state: str) -> Step:
    """Return the edge from a state to off."""
    return Step("down", state, OFF, DOWN_SECONDS)


def way(present: str, wanted: str, kept: Collection[str] = (), *, fresh: bool = False) -> tuple[Step, ...]:
    """Return the steps from one state to another.

    Args:
        present: where the lab is.
        wanted: where it is to be; a lab beyond that is left where it is.
        kept: states there are checkpoints of; the nearest to what is wanted saves the steps before it.
        fresh: walk every edge from off, whatever is there.

    """
    wanted_rank, steps = rank(wanted), []
    at = rank(present)
    if fresh:
        if at:
            steps.append(down(present))
        at, kept = 0, ()
    elif wanted_rank == 0:
        return (down(present),) if at else ()
    best = max((rank(state) for state in kept if rank(state) <= wanted_rank), default=0)
    if best > at:
        steps.append(revert(STATES[best]))
        at = best
    return (*steps, *EDGES[at:wanted_rank])


class RememberedError(HarnessError):
    """A state that was not reached before in this run, and is not tried again."""

    def __init__(self, step: Step, first: HarnessError) -> None:
        super().__init__(f"not tried again, {step.name} failed in this run: {first.message}", hint=first.hint)
        self.exit_code = first.exit_code


class Memory:
    """The first error of each edge, for one run."""

    def __init__(self) -> None:
        self._first: dict[tuple[str, str], HarnessError] = {}

    def failed(self, step: Step, error: HarnessError) -> None:
        """Remember why a step failed; only the first time counts."""
        self._first.setdefault((step.does, step.target), error)

    def require_untried(self, step: Step) -> None:
        """Raise RememberedError, from the first error, if this step failed before."""
        first = self._first.get((step.does, step.target))
        if first is not None:
            raise RememberedError(step, first) from first

    def forget(self) -> None:
        """Begin anew: somebody brought the lab down, so the next try has a chance."""
        self._first.clear()
