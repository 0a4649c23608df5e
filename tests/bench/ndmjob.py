"""ndmjob against itself over TCP: its DMA, data, mover and tape agents, with GNU tar as formatter.

Runs by itself in a network namespace, because its daemon listens on every address:
`unshare --net python -m tests.bench.ndmjob TREE OUT FOLDER SPARSE`.  Prints JSON: seconds and costs of a
backup and of a restore.  It has no file history here, which only a formatter of its own could give: GNU tar
alone is the fastest that it can be.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from tests.bench.meters import Cost, Peaks, await_all
from tests.integration.foreign.support import NDMJOB, NDMJOB_CONF, PASSWORD, PORT, USER

_PR_SET_CHILD_SUBREAPER = 36  # prctl(2)
AGENT = f"127.0.0.1:{PORT}/4m,{USER},{PASSWORD}"

WRAPPER = """#!/bin/sh
op=; FILESYSTEM=/; PREFIX=/
while [ $# -gt 0 ]; do case $1 in
  -c|-x) op=$1;;
  -E) shift; case $1 in FILESYSTEM=*) FILESYSTEM=${{1#*=}};; PREFIX=*) PREFIX=${{1#*=}};; esac;;
  -B) shift;;
esac; shift; done
case $op in
  -c) exec tar {sparse} -C "$FILESYSTEM" -cf - . ;;
  -x) echo "DR 0 9223372036854775807" >&3; exec tar -C "$PREFIX" -xf - ;;
esac
"""


def main(tree: str, out: str, folder: Path, sparse: str) -> dict[str, object]:
    """Back up and restore."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    wrapper = folder / "bin" / "wrap_tar"
    wrapper.parent.mkdir()
    wrapper.write_text(WRAPPER.format(sparse="-S" if sparse == "y" else ""))
    wrapper.chmod(0o755)
    (folder / "ndmjob.conf").write_text(NDMJOB_CONF.replace("HIST y", "HIST n"))
    tape = folder / "tape"
    tape.touch()
    index = folder / "index"
    common = ["-D", AGENT, "-T", AGENT, "-f", str(tape), "-B", "tar", "-b", "126"]
    return {
        "backup": job(folder, tape, ["-v", "-c", *common, "-C", tree, "-I", str(index)]),
        "restore": job(folder, tape, ["-v", "-x", *common, "-C", out, "-J", str(index)]),
    }


def job(folder: Path, tape: Path, words: list[str]) -> dict[str, object]:
    """One job with a daemon of its own, whose processes are all counted when they have ended."""
    for left in tape.parent.glob("tape.lck"):
        left.unlink()
    env = {**os.environ, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}
    command = [str(NDMJOB), "-o", "test-daemon", "-p", str(PORT), "-o", f"config-file={folder}/ndmjob.conf"]
    daemon = subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert daemon.stdout is not None
    assert daemon.stdin is not None
    assert b"READY" in daemon.stdout.readline()
    with Peaks() as peaks:
        started = time.monotonic()
        dma = subprocess.Popen([NDMJOB, *words], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert dma.stdout is not None
        said = dma.stdout.read().decode(errors="replace")
        costs = await_all({dma.pid: "dma"}, peaks)
        wall = time.monotonic() - started
        assert "Operation ended OKAY" in said, said
        daemon.stdin.close()
        costs |= await_all({daemon.pid: "daemon"}, peaks)
        costs |= _orphans(peaks)
    daemon.stdout.close()
    dma.returncode = daemon.returncode = 0
    return {"wall": wall, "costs": {name: asdict(cost) for name, cost in costs.items()}}


def _orphans(peaks: Peaks) -> dict[str, Cost]:
    """What the daemon's children have cost: its agents, and the formatter."""
    costs: dict[str, Cost] = {}
    with suppress(ChildProcessError):
        while True:
            pid, _, usage = os.wait3(0)
            costs[f"agent{len(costs) + 1}"] = peaks.cost(pid, usage)
    return costs


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), sys.argv[4])))
