"""Everything a report says, as plain data."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from harness.errors import EXIT_COMPLETE
from harness.evidence import repro
from harness.job.record import Run

# Programs of the host whose version explains a result.
TOOLS = {
    "tar": ["tar", "--version"],
    "tcpdump": ["tcpdump", "--version"],
    "qemu": ["qemu-system-x86_64", "--version"],
    "libvirt": ["libvirtd", "--version"],
    "tgt": ["tgtd", "--version"],
}
TOOL_SECONDS = 10.0


def collect(run: Run) -> dict[str, Any]:
    """Return the report's data."""
    provider = run.provider
    topology, lab = provider.topology, provider.lab
    return {
        "schema": 1,
        "passed": run.exit_code == EXIT_COMPLETE,
        "exit_code": run.exit_code,
        "scenarios": list(dict.fromkeys(check.scenario for check in run.checks if check.scenario)),
        "repeat": repro(run, "", run.number).splitlines()[-1],
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(run.started)),
        "seconds": round(run.seconds, 2),
        "lab": {
            "name": lab.name,
            "topology": topology.name,
            "provider": topology.provider,
            "subnet": lab.subnet,
            "root": provider.is_root,
            "folder": str(lab.folder),
        },
        "seed": {
            "number": run.number,
            "size_mib": topology.seed.size_mib,
            "small_files": topology.seed.small_files,
            "names": run.files,
        },
        "nodes": [_node(run, node.name) for node in topology.nodes],
        "gns": [{"path": item.path, "owner": item.owner} for item in topology.gns],
        "libraries": [
            {
                "node": item.node,
                "transport": item.transport,
                "drives": len(item.drives),
                "slots": len(item.slots),
            }
            for item in topology.libraries
        ],
        "phases": [phase.to_json() for phase in run.phases],
        "checks": [check.to_json() for check in run.checks],
        "notes": run.notes,
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Return what this ran with."""
    found = {
        "spanreel": _distribution("spanreel"),
        "commit": commit(),
        "Python": sys.version.split()[0],
        "kernel": platform.release(),
        "host": f"{os.cpu_count()} CPUs, {platform.machine()}",
    }
    for name, argv in TOOLS.items():
        if shutil.which(argv[0]):
            found[name] = _first_line(argv)
    return found


def commit() -> str:
    """Return the commit of this tree, and whether it was changed since."""
    here = str(Path(__file__).parent)
    name = _first_line(["git", "-C", here, "rev-parse", "--short=12", "HEAD"])
    if not name:
        return "not a git tree"
    changed = _first_line(["git", "-C", here, "status", "--porcelain", "--untracked-files=no"])
    return f"{name} and changes" if changed else name


def _node(run: Run, name: str) -> dict[str, Any]:
    """One node, with its console relative to the report."""
    node = run.provider.topology.node(name)
    console = run.provider.consoles().get(name)
    link = os.path.relpath(console, run.folder) if console and console.exists() else None
    return {"name": name, "roles": list(node.roles), "address": node.address, "console": link}


def _distribution(name: str) -> str:
    """Version of an installed distribution."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "from a checkout"


def _first_line(argv: list[str]) -> str:
    """First line of a program's output, "" if it fails."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=TOOL_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    lines = (done.stdout or done.stderr).splitlines()
    return lines[0].strip() if lines and done.returncode == 0 else ""
