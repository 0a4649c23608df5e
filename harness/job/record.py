"""What one run keeps: phases with their times, checks with their outcomes, notes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from harness import known_issues
from harness.checks.result import CheckResult, Status
from harness.errors import (
    EXIT_COMPLETE,
    EXIT_FAILED,
    EXIT_INFRASTRUCTURE,
    CheckError,
    CommandError,
    HarnessError,
)
from harness.events import Events
from harness.known_issues import KnownIssue
from harness.providers.base import Provider

MIB = 1024 * 1024


@dataclass
class Phase:
    """One timed part of a run; `bytes` where throughput means something."""

    name: str
    begin: float
    seconds: float = 0.0
    bytes: int = 0
    detail: str = ""
    status: Status = "passed"

    @property
    def mib_per_second(self) -> float:
        """Throughput, 0 where it means nothing."""
        return self.bytes / MIB / self.seconds if self.seconds > 0 else 0.0

    def to_json(self) -> dict[str, Any]:
        """Return it as report.json has it."""
        return asdict(self) | {"mib_per_second": round(self.mib_per_second, 2)}


@dataclass
class Run:
    """A run of the main job, while it happens and afterwards."""

    provider: Provider
    folder: Path
    started: float = field(default_factory=time.time)
    phases: list[Phase] = field(default_factory=list)
    checks: list[CheckResult] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    files: int = 0
    seconds: float = 0.0
    # The number that everything left to chance comes from.
    number: int = 0
    # The scenario that runs now, "" for the main job.
    scenario: str = ""
    known: Sequence[KnownIssue] = ()

    @property
    def events(self) -> Events:
        """Where progress goes."""
        return self.provider.events

    @contextmanager
    def phase(self, name: str) -> Iterator[Phase]:
        """Time a part of the run and show it."""
        phase = Phase(name, time.time() - self.started)
        self.phases.append(phase)
        clock = time.monotonic()
        try:
            with self.events.stepping("", name) as progress:
                yield phase
                phase.seconds = time.monotonic() - clock
                rate = f"{phase.mib_per_second:.1f} MiB/s" if phase.bytes else ""
                progress(", ".join(filter(None, (phase.detail, rate))))
        except BaseException:
            phase.seconds = time.monotonic() - clock
            phase.status = "failed"
            raise

    def check(self, result: CheckResult) -> bool:
        """Keep and show a check; return whether it holds."""
        result = known_issues.judge(replace(result, scenario=self.scenario), self.known)
        self.checks.append(result)
        state = {"passed": "done", "left-out": "skipped", "known": "skipped"}.get(result.status, "failed")
        self.events.step("check", result.name, "start")
        self.events.step("check", result.name, state, result.summary)  # type: ignore[arg-type]
        return result.status == "passed"

    @contextmanager
    def guard(self, name: str) -> Iterator[None]:
        """Keep an expected error as a check that went wrong, and go on after the block.

        The product's failures and the machine's are told apart: failed, error.
        """
        try:
            yield
        except CheckError as problem:
            self.check(CheckResult(name, "failed", problem.message, (problem.hint,) if problem.hint else ()))
        except HarnessError as problem:
            details = (
                (problem.output.decode("utf-8", "backslashreplace"),)
                if isinstance(problem, CommandError)
                else ()
            )
            self.check(CheckResult(name, "error", str(problem), details))
        except OSError as problem:
            # What nobody put into words: a full disk of this host, a right that was refused.
            self.check(CheckResult(name, "error", str(problem)))

    def mark_evidence(self, first: int, folder: str) -> None:
        """Say of the bad checks from number `first` on where their evidence is."""
        for index in range(first, len(self.checks)):
            if self.checks[index].status in ("failed", "error", "known"):
                self.checks[index] = replace(self.checks[index], evidence=folder)

    def count(self, status: Status) -> int:
        """Return how many checks ended so."""
        return sum(check.status == status for check in self.checks)

    @property
    def exit_code(self) -> int:
        """0 only if something was proved and nothing went wrong."""
        if self.count("failed"):
            return EXIT_FAILED
        if self.count("error"):
            return EXIT_INFRASTRUCTURE
        return EXIT_COMPLETE if self.count("passed") or self.count("known") else EXIT_FAILED
