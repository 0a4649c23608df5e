"""The HTML page: one file, nothing loaded from anywhere."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from harness.report.plot import plot

UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def render(data: dict[str, Any]) -> str:
    """Return the page of a report's data."""
    environment = Environment(
        loader=PackageLoader("harness.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["size"] = size
    template = environment.get_template("report.html.j2")
    counts = {status: _count(data, status) for status in ("passed", "failed", "error", "left-out", "known")}
    return template.render(
        data=data, plot=plot(data["phases"]), counts=counts, local=local_time(data["started"])
    )


def size(count: int) -> str:
    """Return bytes as people write them."""
    value = float(count)
    unit = 0
    while value >= 1024 and unit < len(UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{value:.0f} {UNITS[unit]}" if unit == 0 else f"{value:.1f} {UNITS[unit]}"


def local_time(stored: str) -> str:
    """Return a stored UTC time in the reader's zone, with the zone's name."""
    moment = datetime.strptime(stored, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).astimezone()
    return moment.strftime("%Y-%m-%d %H:%M:%S %Z")


def _count(data: dict[str, Any], status: str) -> int:
    """How many checks ended so."""
    return sum(check["status"] == status for check in data["checks"])
