"""JUnit's XML of a run, for machines that know nothing else."""

from __future__ import annotations

from typing import Any
from xml.sax.saxutils import escape, quoteattr

# XML 1.0 has no way to write these.
_FORBIDDEN = {code: "?" for code in range(32) if code not in (9, 10, 13)}


def render(data: dict[str, Any]) -> str:
    """Return the XML of a report's data: one test case a check, one class a scenario."""
    checks = data["checks"]
    count = {status: sum(check["status"] == status for check in checks) for status in STATUSES}
    skipped = count["left-out"] + count["known"]
    suite = (
        f'<testsuite name={quoteattr("spanreel " + data["lab"]["topology"])} tests="{len(checks)}"'
        f' failures="{count["failed"]}" errors="{count["error"]}" skipped="{skipped}"'
        f' time="{data["seconds"]}" timestamp={quoteattr(data["started"])}>'
    )
    lines = ['<?xml version="1.0" encoding="UTF-8"?>', "<testsuites>", suite]
    lines += [line for check in checks for line in _case(check)]
    lines += ["</testsuite>", "</testsuites>"]
    return "\n".join(lines).translate(_FORBIDDEN) + "\n"


STATUSES = {"passed": "", "failed": "failure", "error": "error", "left-out": "skipped", "known": "skipped"}


def _case(check: dict[str, Any]) -> list[str]:
    head = f"<testcase classname={quoteattr(check['scenario'] or 'main job')} name={quoteattr(check['name'])}"
    kind = STATUSES[check["status"]]
    if not kind:
        return [head + "/>"]
    text = "\n".join((*check["details"], *([f"evidence: {check['evidence']}"] if check["evidence"] else [])))
    return [f"{head}><{kind} message={quoteattr(check['summary'])}>{escape(text)}</{kind}></testcase>"]
