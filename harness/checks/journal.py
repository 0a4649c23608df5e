"""Proof: no node wrote what no node should ever write.

A failure that nobody noticed otherwise stands in the journals: a traceback, an internal error, a kernel's
oops.  What is known to be harmless is in the allow list below, each with its reason.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.checks.result import CheckResult, error, verdict

# What is never right, on any node.
PATTERNS = tuple(
    re.compile(text)
    for text in (
        r"Traceback \(most recent call last\)",
        r"(?i)\binternal error\b(?!\))",
        r"level=critical",
        r"Fatal Python error",
        r"\b(BUG|Oops): ",
        r"Kernel panic",
        r"general protection fault",
        r"blocked for more than \d+ seconds",
        r"\bsoft lockup\b",
        r"Out of memory: Killed process",
        r"\bI/O error, dev sd",
    )
)
# A complaint is shown with this many lines after it: a traceback's last line says most.
CONTEXT_LINES = 40


@dataclass(frozen=True)
class Allowed:
    """Lines that match are no complaint, for a reason."""

    pattern: re.Pattern[str]
    why: str


ALLOWED: tuple[Allowed, ...] = (
    Allowed(re.compile(r"(?i)halt\w*[ =(:\"']+internal[ _]error"), "NDMP's halt reason has that name"),
    Allowed(re.compile(r"INTERNAL_ERROR"), "the name of an NDMP halt reason"),
)


def complaints(text: str, allowed: Sequence[Allowed] = ALLOWED) -> list[str]:
    """Return the places of a journal that no node should write, each with some lines after it."""
    lines = text.splitlines()
    found = []
    for index, line in enumerate(lines):
        if any(pattern.search(line) for pattern in PATTERNS) and not _harmless(line, allowed):
            found.append("\n".join(lines[index : index + CONTEXT_LINES]))
    return found


def judge(found: Mapping[str, Sequence[str]]) -> list[CheckResult]:
    """Pass if no node complained; `found` has every node that was looked at."""
    name = "journals are clean"
    if not found:
        return [error(name, "no journal was there to read")]
    bad = {node: places for node, places in found.items() if places}
    details = [f"{node}: {place}" for node, places in bad.items() for place in places]
    first = details[0].splitlines()[0] if details else ""
    summary = (
        f"{len(details)} complaints of {', '.join(bad)}; first: {first}" if bad else f"{len(found)} journals"
    )
    return [verdict(name, not bad, summary, details)]


def _harmless(line: str, allowed: Sequence[Allowed]) -> bool:
    return any(each.pattern.search(line) for each in allowed)
