"""The report of a run: report.json for machines, one self-contained HTML page for people."""

from __future__ import annotations

import json
from pathlib import Path

from harness.job.record import Run
from harness.report.data import collect
from harness.report.page import render


def write(run: Run) -> Path:
    """Write both into the run's folder; return the page."""
    data = collect(run)
    (run.folder / "report.json").write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
    page = run.folder / "report.html"
    page.write_text(render(data), encoding="utf-8")
    return page
