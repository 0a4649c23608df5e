"""How durations and throughput went over the runs, as small line plots."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from dataclasses import dataclass
from statistics import median

WIDTH, HEIGHT, MARGIN = 260, 64, 6
# So many runs are drawn; older ones are in the history.
RUNS_MAX = 60
# Fewer values than this have no median worth a word.
KNOWN_MIN = 5
MIB = 1024 * 1024


@dataclass(frozen=True)
class Trend:
    """One line: what, the newest value with its unit, and the points in the plot's own units."""

    topology: str
    name: str
    latest: str
    change: str
    points: str
    last: tuple[float, float]


def trends(history: sqlite3.Connection, night: str) -> list[Trend]:
    """Return a line for each phase of a night that ran more than once, over all runs of its topology.

    MiB/s where bytes were moved, else seconds.
    """
    rows = history.execute(
        "SELECT run.topology, phase.name, phase.seconds, phase.bytes FROM phase"
        " JOIN run ON run.id = phase.run WHERE phase.seconds > 0 AND (run.topology, phase.name) IN"
        " (SELECT tonight.topology, mine.name FROM phase AS mine JOIN run AS tonight ON tonight.id = mine.run"
        " WHERE tonight.night = ?) ORDER BY topology, run.id",
        (night,),
    )
    values: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for row in rows:
        unit = "MiB/s" if row["bytes"] else "s"
        value = row["bytes"] / MIB / row["seconds"] if row["bytes"] else row["seconds"]
        values[row["topology"], row["name"], unit].append(value)
    return [trend(*key, found[-RUNS_MAX:]) for key, found in values.items() if len(found) > 1]


def trend(topology: str, name: str, unit: str, values: list[float]) -> Trend:
    """Lay out one line; the plot begins at zero, so that heights can be compared."""
    top = max(values) or 1.0
    step = (WIDTH - 2 * MARGIN) / (len(values) - 1)
    places = [
        (MARGIN + index * step, HEIGHT - MARGIN - value / top * (HEIGHT - 2 * MARGIN))
        for index, value in enumerate(values)
    ]
    change = f"{len(values)} runs"
    if len(values) > KNOWN_MIN:
        change = f"{(values[-1] / median(values[:-1]) - 1) * 100:+.0f} % against the median of {change}"
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    return Trend(topology, name, f"{values[-1]:.1f} {unit}", change, points, places[-1])
