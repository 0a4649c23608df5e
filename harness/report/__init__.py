"""The report of a run: one self-contained HTML page for people; JSON, JSON lines and JUnit for machines."""

from __future__ import annotations

import json
from pathlib import Path

from harness.job.record import Run
from harness.report import junit
from harness.report.data import collect
from harness.report.page import render


def write(run: Run) -> Path:
    """Write all of them into the run's folder; return the page."""
    data = collect(run)
    (run.folder / "report.json").write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
    lines = "".join(json.dumps(check) + "\n" for check in data["checks"])
    (run.folder / "checks.jsonl").write_text(lines, encoding="utf-8")
    (run.folder / "junit.xml").write_text(junit.render(data), encoding="utf-8")
    page = run.folder / "report.html"
    page.write_text(render(data), encoding="utf-8")
    return page
