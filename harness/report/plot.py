"""The plot of a run, as SVG: when each phase ran, how long, how fast."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

ROW = 24
LABEL = 330
WIDTH = 1000
# Room right of a bar for its numbers.
VALUES = 150
# A bar thinner than this could not be seen.
THINNEST = 2.0
TICKS = 6


@dataclass(frozen=True)
class Bar:
    """One phase on the plot."""

    name: str
    y: int
    x: float
    width: float
    text: str
    failed: bool


@dataclass(frozen=True)
class Plot:
    """Everything the template draws."""

    width: int
    height: int
    left: int
    bars: tuple[Bar, ...]
    ticks: tuple[tuple[float, str], ...]


def plot(phases: list[dict[str, Any]]) -> Plot:
    """Lay out the bars."""
    end = max((phase["begin"] + phase["seconds"] for phase in phases), default=0.0) or 1.0
    scale = (WIDTH - LABEL - VALUES) / end
    bars = tuple(
        Bar(
            phase["name"],
            index * ROW,
            LABEL + phase["begin"] * scale,
            max(THINNEST, phase["seconds"] * scale),
            _text(phase),
            phase["status"] == "failed",
        )
        for index, phase in enumerate(phases)
    )
    step = _step(end / TICKS)
    count = int(end / step)
    ticks = tuple((LABEL + number * step * scale, f"{number * step:g} s") for number in range(count + 1))
    return Plot(WIDTH, len(phases) * ROW + ROW, LABEL, bars, ticks)


def _text(phase: dict[str, Any]) -> str:
    """Numbers beside a bar."""
    rate = f", {phase['mib_per_second']:.1f} MiB/s" if phase["bytes"] else ""
    return f"{phase['seconds']:.1f} s{rate}"


def _step(rough: float) -> float:
    """Round up to 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
