"""What a contest came to: the best run of each, without what a job costs by itself, against tar's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from tests.bench.meters import Run

EMPTY = "empty"
RIVALS = {"backup": ("tar", "ndmjob"), "restore": ("tar", "ndmjob"), "stream": ("owner", "owner")}


def best(runs: Sequence[Run]) -> dict[tuple[str, str, str], Run]:
    """The quickest run of each tree, thing done and contestant."""
    found: dict[tuple[str, str, str], Run] = {}
    for run in runs:
        key = run.tree, run.what, run.contestant
        if key not in found or run.wall < found[key].wall:
            found[key] = run
    return found


def net(runs: dict[tuple[str, str, str], Run], run: Run) -> float:
    """Seconds without those that the same job takes for an empty tree, where that was measured."""
    fixed = runs.get((EMPTY, run.what, run.contestant))
    return run.wall if fixed is None or run.tree == EMPTY else max(run.wall - fixed.wall, 0.01)


def rows(runs: Sequence[Run]) -> list[dict[str, object]]:
    """For machines: every best run with its ratios, costs by process included."""
    chosen = best(runs)
    made = []
    for run in chosen.values():
        row: dict[str, object] = {**asdict(run), "net": net(chosen, run), "cpu": run.cpu}
        for rival in dict.fromkeys(RIVALS[run.what]):
            other = chosen.get((run.tree, run.what, rival))
            if other is not None and other is not run and run.tree != EMPTY:
                row[f"net/{rival}"] = net(chosen, run) / net(chosen, other)
                row[f"wall/{rival}"] = run.wall / other.wall
        made.append(row)
    return made


def table(runs: Sequence[Run]) -> str:
    """For people, 80 columns."""
    chosen = best(runs)
    head = f"{'tree':<7} {'':<7} {'by':<10} {'wall s':>7} {'net s':>7} {'net/tar':>7} {'CPU s':>6}"
    lines = [f"{head}  largest process"]
    before = ""
    for run in chosen.values():
        rival = chosen.get((run.tree, run.what, RIVALS[run.what][0]))
        ratio = ""
        if rival is not None and rival is not run and run.tree != EMPTY:
            ratio = f"{net(chosen, run) / net(chosen, rival):.2f}"
        name, peak = run.hungriest
        tree, before = ("" if run.tree == before else run.tree), run.tree
        lines.append(
            f"{tree:<7} {run.what:<7} {run.contestant:<10} {run.wall:>7.2f} {net(chosen, run):>7.2f}"
            f" {ratio:>7} {run.cpu:>6.2f}  {name[:8]:<8} {peak:>4.0f} MiB"
        )
    lines.append("stream: net/tar is the ratio to the stream without the connection server")
    return "\n".join(lines)
