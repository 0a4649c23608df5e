"""What a check says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

# "left-out" is for what this lab cannot show (and says so); "error" for a check that could not look;
# "known" for a failure that known-issues.yaml names.
Status = Literal["passed", "failed", "left-out", "error", "known"]


@dataclass(frozen=True)
class CheckResult:
    """One check: its outcome in a line, and what else is worth reading.

    `scenario` is "" for the main job; `evidence` the folder of what was kept, below the run's.
    """

    name: str
    status: Status
    summary: str
    details: tuple[str, ...] = ()
    scenario: str = ""
    evidence: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return it as report.json has it."""
        return asdict(self)


def verdict(name: str, passed: bool, summary: str, details: Sequence[str] = ()) -> CheckResult:
    """Return a passed or failed check."""
    return CheckResult(name, "passed" if passed else "failed", summary, tuple(details))


def left_out(name: str, why: str) -> CheckResult:
    """Return a check that this lab cannot make."""
    return CheckResult(name, "left-out", why)


def error(name: str, why: str) -> CheckResult:
    """Return a check that could not look; it proves nothing, so the run fails."""
    return CheckResult(name, "error", why)
