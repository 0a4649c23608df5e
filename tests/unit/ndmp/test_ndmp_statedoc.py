"""docs/states.md is the tables."""

from __future__ import annotations

from pathlib import Path

from appliance.ndmp import statedoc
from appliance.ndmp.states import MACHINES

DOCS = Path(__file__).resolve().parents[3] / "docs"


def test_the_committed_page_is_current() -> None:
    """What people read is what the code does: `python -m appliance.ndmp.statedoc > docs/states.md`."""
    assert (DOCS / "states.md").read_text(encoding="utf-8") == statedoc.page()


def test_every_step_is_drawn_and_in_the_table() -> None:
    """No transition is missing from diagram or table."""
    page = statedoc.page()
    for spec in MACHINES:
        section = page.partition(f"## {spec.name}\n")[2].partition("\n## ")[0]
        for (before, event), after in spec.table.items():
            arrows = [line for line in section.splitlines() if f"{before.name} --> {after.name}: " in line]
            assert event.value in arrows[0].partition(": ")[2]
            row = next(line for line in section.splitlines() if line.startswith(f"| {event.value} |"))
            assert row.split(" | ")[1 + spec.states.index(before)].rstrip(" |") == after.name
