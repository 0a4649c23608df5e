"""The contest of `make bench`: how its runs become ratios."""

from __future__ import annotations

import pytest

from tests.bench.meters import Cost, Run
from tests.bench.ratios import best, net, rows, table

RUNS = [
    Run("empty", "backup", "tar", 0.0, {"tar": Cost(0.0, 3.0)}),
    Run("empty", "backup", "token", 0.5, {"fs1": Cost(0.1, 50.0)}),
    Run("large", "backup", "tar", 1.0, {"tar": Cost(0.9, 3.0), "cat": Cost(0.1, 2.0)}),
    Run("large", "backup", "token", 4.0, {"fs1": Cost(1.0, 51.0), "dma": Cost(0.5, 60.0)}),
    Run("large", "backup", "token", 2.5, {"fs1": Cost(1.5, 55.0), "dma": Cost(0.25, 58.0)}),
    Run("large", "stream", "owner", 1.0, {"fs1": Cost(1.0, 50.0)}),
    Run("large", "stream", "owner+conn", 1.1, {"fs1": Cost(1.0, 50.0)}),
]


def test_the_quickest_run_counts_without_what_a_job_costs_by_itself() -> None:
    """2.5 s, of which an empty tree takes 0.5 s, against tar's one second."""
    chosen = best(RUNS)
    ours = chosen["large", "backup", "token"]
    assert (ours.wall, ours.cpu, ours.hungriest) == (2.5, 1.75, ("dma", 58.0))
    assert net(chosen, ours) == 2.0
    (row,) = [row for row in rows(RUNS) if (row["tree"], row["contestant"]) == ("large", "token")]
    assert (row["net/tar"], row["wall/tar"]) == (2.0, 2.5)


def test_the_hop_is_measured_against_the_stream_without_it() -> None:
    """Streams are compared with the file server's own, not with tar."""
    (row,) = [row for row in rows(RUNS) if row["contestant"] == "owner+conn"]
    assert row["net/owner"] == pytest.approx(1.1)


def test_the_table_fits_a_terminal() -> None:
    """80 columns, whatever is the largest process and however long it took."""
    slow = Run("source", "restore", "owner+conn", 1234.56, {"a long name": Cost(123.45, 1234.0)})
    for line in table([*RUNS, slow]).splitlines():
        assert len(line) <= 80, line
