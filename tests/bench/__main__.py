"""`make bench`: measure in one run, print a table, keep build/bench.json."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.bench import figures, history, replies, sessions, tape
from tests.bench.dma import Dma
from tests.labrun import ROOT, Lab

OUTPUT = ROOT / "build" / "bench.json"
MEMORY = Path("/dev/shm")


def main() -> None:
    """Everything against one process lab, on a tmpfs where there is one."""
    place = MEMORY if MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="spanreel-bench-", dir=place) as folder:
        lab = Lab("process", "bench", Path(folder))
        up = lab.lab("up")
        assert up.code == 0, up.out + up.err
        try:
            found = measure(lab)
        finally:
            lab.lab("down")
        found += tape.run(Path(folder))
    sys.stdout.write(figures.table(found) + "\n")
    OUTPUT.parent.mkdir(exist_ok=True)
    figures.keep(found, OUTPUT)
    sys.stdout.write(f"kept in {OUTPUT.relative_to(ROOT)}\n")


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
