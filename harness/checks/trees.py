"""Proof: a restored tree is the original tree."""

from __future__ import annotations

from collections.abc import Collection

from harness.checks.result import CheckResult, verdict
from harness.compare import compare
from harness.manifest import Manifest


def same_tree(name: str, expected: Manifest, found: Manifest, ignore: Collection[str] = ()) -> CheckResult:
    """Pass if both manifests say the same of the same paths."""
    comparison = compare(expected, found, ignore=ignore)
    note = f" ({', '.join(sorted(ignore))} left out: not root)" if ignore else ""
    return verdict(name, comparison.equal, comparison.summary() + note, comparison.shown())
