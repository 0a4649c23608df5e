"""Failures that are known: they have a ticket and a day on which patience ends."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from fnmatch import fnmatchcase
from importlib import resources
from pathlib import Path
from typing import Any

from harness.checks.result import CheckResult, verdict
from harness.yamlfile import Document, load

MAIN_JOB = "main job"


@dataclass(frozen=True)
class KnownIssue:
    """One entry of the file.

    Attributes:
        check: which checks, `SCENARIO: CHECK` with wild cards.
        pattern: what must be found in the check's words.
        ticket: where it is dealt with.
        expires: the last day on which it excuses anything.

    """

    check: str
    pattern: re.Pattern[str]
    ticket: str
    expires: date

    def matches(self, result: CheckResult) -> bool:
        """Whether a failed check is this issue."""
        words = "\n".join((result.summary, *result.details))
        return fnmatchcase(title(result), self.check) and self.pattern.search(words) is not None


def title(result: CheckResult) -> str:
    """Return a check's full name."""
    return f"{result.scenario or MAIN_JOB}: {result.name}"


def shipped() -> Path:
    """Return the file that comes with the harness."""
    return Path(str(resources.files("harness") / "known-issues.yaml"))


def read(path: Path) -> list[KnownIssue]:
    """Read and check a file.  Raises TopologyError, which names file, line and field."""
    document = load(path, "known-issues.schema.json")
    return [_issue(item, index, document) for index, item in enumerate(document.data["issues"])]


def judge(result: CheckResult, issues: Sequence[KnownIssue], today: date | None = None) -> CheckResult:
    """Return a failed check as known, if it is, with the ticket; anything else unchanged.

    Errors of the infrastructure are never excused: they say nothing about the product.
    """
    if result.status != "failed":
        return result
    for issue in issues:
        if issue.expires >= (today or _today()) and issue.matches(result):
            return replace(result, status="known", summary=f"{issue.ticket}: {result.summary}")
    return result


def expired(issues: Sequence[KnownIssue], today: date | None = None) -> list[CheckResult]:
    """Return a failed check for each entry whose day has passed."""
    day = today or _today()
    return [
        verdict(f"{issue.ticket} is still known", False, f"expired on {issue.expires}: fix it, or extend it")
        for issue in issues
        if issue.expires < day
    ]


def _issue(item: dict[str, Any], index: int, document: Document) -> KnownIssue:
    where: list[str | int] = ["issues", index]
    try:
        pattern = re.compile(item["pattern"])
    except re.error as error:
        raise document.error([*where, "pattern"], f"no regular expression: {error}") from error
    try:
        day = date.fromisoformat(item["expires"])
    except ValueError as error:
        raise document.error([*where, "expires"], str(error)) from error
    return KnownIssue(item["check"], pattern, item["ticket"], day)


def _today() -> date:
    return datetime.now(UTC).date()
