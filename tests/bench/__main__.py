"""`make bench`: measure in one run, print tables, keep build/bench.json.

Figures are what the process lab's servers do; the contest is the whole path beside tar and ndmjob, on the
same trees; tape is the way to the library model without a guest, guest the way to drives in one, beside dd.
A short run: `make bench BENCH="--only contest --trees empty,large --by tar,token"`.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from tests.bench import figures, guest, history, ratios, replies, sessions, tape
from tests.bench.contestants import CONTESTANTS, contest
from tests.bench.dma import Dma
from tests.bench.meters import Run
from tests.bench.trees import all_trees
from tests.labrun import ROOT, Lab

PARTS = ("figures", "tape", "contest", "guest")
OUTPUT = ROOT / "build" / "bench.json"
MEMORY = Path("/dev/shm")


TINY_FILES = 200_000
"""A million of them takes ten minutes more, and says the same: memory is flat, and names a second are."""

REPEAT = 3
"""Runs of each, of which the quickest counts: others may be at work on the machine."""


def main() -> None:
    """Everything, on a tmpfs where there is one."""
    asked = arguments()
    place = asked.place or (MEMORY if MEMORY.is_dir() else None)
    kept: dict[str, object] = {}
    with tempfile.TemporaryDirectory(prefix="spanreel-bench-", dir=place) as folder:
        if asked.only in (None, "figures"):
            kept["figures"] = shown(in_lab(Path(folder)))
        if asked.only in (None, "tape"):
            kept["tape"] = shown(tape.run(Path(folder)))
        if asked.only in (None, "contest"):
            kept["contest"] = ratios.rows(contested(asked, Path(folder)))
        keep(kept)
        # Last: where there can be no guest, all else is kept.
        if asked.only in (None, "guest"):
            try:
                kept["guest"] = shown(guest.run(Path(folder), asked.repeat))
            except guest.GuestError as error:
                sys.exit(f"the comparison in a guest failed: {error}")
            keep(kept)
    sys.stdout.write(f"kept in {OUTPUT.relative_to(ROOT)}\n")


def keep(kept: dict[str, object]) -> None:
    """Write what is known so far."""
    OUTPUT.parent.mkdir(exist_ok=True)
    OUTPUT.write_text(json.dumps(kept, indent=1) + "\n")


def shown(found: list[figures.Figure]) -> list[dict[str, object]]:
    """Print figures, and return them for machines."""
    sys.stdout.write(figures.table(found) + "\n")
    return figures.plain(found)


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    trees = [tree.name for tree in all_trees(0)]
    parser.add_argument("--only", choices=PARTS, help="leave the others out")
    parser.add_argument("--trees", default=",".join(trees), help="of these: %(default)s")
    parser.add_argument("--by", default=",".join(CONTESTANTS), help="contestants, of these: %(default)s")
    parser.add_argument("--tiny", type=int, default=TINY_FILES, help="files of the tree tiny (%(default)s)")
    parser.add_argument("--repeat", type=int, default=REPEAT, help="runs of each (%(default)s)")
    parser.add_argument("--place", type=Path, help=f"folder for trees and tapes, 4 GiB (default: {MEMORY})")
    asked = parser.parse_args()
    for given, known in ((asked.trees, trees), (asked.by, CONTESTANTS)):
        unknown = set(given.split(",")) - set(known)
        if unknown:
            parser.error(f"{', '.join(sorted(unknown))} is none of {', '.join(known)}")
    return asked


def contested(asked: argparse.Namespace, folder: Path) -> list[Run]:
    """All runs of the contest, shown as they come and then as a table."""
    trees = [tree for tree in all_trees(asked.tiny) if tree.name in asked.trees.split(",")]
    runs = []
    for run in contest(trees, asked.by.split(","), folder, asked.repeat):
        sys.stderr.write(f"{run.tree:<8} {run.what:<8} {run.contestant:<10} {run.wall:7.2f} s\n")
        runs.append(run)
    sys.stdout.write(ratios.table(runs) + "\n")
    return runs


def in_lab(folder: Path) -> list[figures.Figure]:
    """The figures of a process lab."""
    lab = Lab("process", "bench", folder)
    up = lab.lab("up")
    assert up.code == 0, up.out + up.err
    try:
        found = measure(lab)
    finally:
        lab.lab("down")
    return found


def measure(lab: Lab) -> list[figures.Figure]:
    """All figures."""
    info = lab.lab("info", "--json").json()
    local = {each["global_path"]: Path(each["local_path"]) for each in info["gns"]}
    found = sessions.run(info, figures.serving(lab.state))
    dma = Dma(info, "fs1")
    dma.load(info["tape"]["slots"][-3]["barcode"])
    found += replies.run(dma, local["/software"], b"/software")
    history.seed(local["/projects"])
    found += history.to_dma(dma, b"/projects")
    dma.close()
    found += history.to_catalogue(lab, "/projects")
    return found


if __name__ == "__main__":
    main()
