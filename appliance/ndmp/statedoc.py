"""docs/states.md, made from the tables: `python -m appliance.ndmp.statedoc > docs/states.md`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from enum import Enum

from appliance.ndmp.states import MACHINES, Spec

HEAD = """# State machines

Made from the tables in `appliance/ndmp/states.py` by `python -m appliance.ndmp.statedoc > docs/states.md`; a
test checks that this page is current.

What a table does not have is not legal: a request is answered with NDMP_ILLEGAL_STATE_ERR and changes
nothing.  Events whose names are no messages happen by themselves.
"""


def page() -> str:
    """The whole page."""
    return "\n".join([HEAD, *(_section(spec) for spec in MACHINES)])


def _section(spec: Spec) -> str:
    diagram = ["```mermaid", "stateDiagram-v2", *(f"    {line}" for line in _diagram(spec)), "```"]
    return "\n".join([f"## {spec.name}", "", spec.about, "", *diagram, "", *_table(spec), ""])


def _diagram(spec: Spec) -> Iterator[str]:
    """One arrow for all events that lead from one state to another."""
    yield f"[*] --> {spec.initial.name}"
    arrows: dict[tuple[Enum, Enum], list[str]] = {}
    for (before, event), after in spec.table.items():
        arrows.setdefault((before, after), []).append(str(event.value))
    for (before, after), events in arrows.items():
        yield f"{before.name} --> {after.name}: {', '.join(events)}"


def _table(spec: Spec) -> Iterator[str]:
    yield "| event | " + " | ".join(state.name for state in spec.states) + " |"
    yield "| --- |" + " --- |" * len(spec.states)
    for event in spec.events:
        cells = (spec.table.get((state, event)) for state in spec.states)
        yield f"| {event.value} | " + " | ".join("" if cell is None else cell.name for cell in cells) + " |"


if __name__ == "__main__":
    sys.stdout.write(page())
