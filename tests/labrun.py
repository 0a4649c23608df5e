"""Running `spanreel` from tests, as a person would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import topology as topologies

ROOT = Path(__file__).resolve().parents[1]


# The addresses in the shipped process topology.
SUBNET = "127.77.0."


def apart(folder: Path, subnet: str) -> str:
    """Write the shipped process topology with other addresses than SUBNET; return its path.

    A lab takes addresses on which nobody listens, so labs of two test runs at once might take the same ones:
    each run that is beside others has addresses of its own.
    """
    made = folder / "process.yaml"
    made.write_text(topologies.find("process").read_text().replace(SUBNET, subnet))
    return str(made)


@dataclass(frozen=True)
class Finished:
    """A command that ended."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """Standard output as JSON."""
        return json.loads(self.out)


@dataclass(frozen=True)
class Lab:
    """A lab by its name, with a state of its own; `code` is the checkout whose `spanreel` runs it."""

    topology: str
    name: str
    state: Path
    code: Path = ROOT

    def spanreel(self, *args: str | bytes, timeout: float, stdin: bytes = b"") -> Finished:
        """Run `spanreel` with this standard input; a hang is cut off after `timeout` seconds."""
        command: list[str | bytes] = [sys.executable, "-m", "appliance.cli", *args]
        run = subprocess.run(
            command,
            cwd=self.code,
            env=self._environment(),
            input=stdin,
            capture_output=True,
            timeout=timeout,
            check=False,
        )
        return Finished(
            run.returncode, run.stdout.decode(errors="replace"), run.stderr.decode(errors="replace")
        )

    def watch(self, verb: str, *args: str, timeout: float) -> int:
        """Run `spanreel lab VERB` with its output where the test's own goes; return the exit code."""
        command = [sys.executable, "-m", "appliance.cli", "lab", verb, "--topology", self.topology]
        command += ["--lab", self.name, *args]
        return subprocess.run(
            command, cwd=self.code, env=self._environment(), timeout=timeout, check=False
        ).returncode

    def begin(self, verb: str, *args: str, stderr: int = subprocess.PIPE) -> subprocess.Popen[str]:
        """Start `spanreel lab VERB` on this lab, and do not wait for it."""
        command = [sys.executable, "-m", "appliance.cli", "lab", verb, "--topology", self.topology]
        return subprocess.Popen(
            [*command, "--lab", self.name, *args],
            cwd=self.code,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            errors="replace",
        )

    def _environment(self) -> dict[str, str]:
        code = {"PYTHONPATH": str(self.code)}
        return {**os.environ, **code, "XDG_STATE_HOME": str(self.state), "NO_COLOR": "1"}

    def lab(self, verb: str, *args: str | bytes, timeout: float = 300, stdin: bytes = b"") -> Finished:
        """Run `spanreel lab VERB` on this lab."""
        which = ("--topology", self.topology, "--lab", self.name)
        return self.spanreel("lab", verb, *which, *args, timeout=timeout, stdin=stdin)

    def on(self, node: str, *command: str | bytes, timeout: float = 300) -> Finished:
        """Run `spanreel COMMAND` on a node."""
        return self.lab("exec", node, "--", "spanreel", *command, timeout=timeout)

    @property
    def folder(self) -> Path:
        """Where the lab is kept."""
        return self.state / "spanreel" / "labs" / self.name

    def node_folder(self, node: str) -> Path:
        """Where a node of a process lab keeps all it has."""
        return self.folder / "nodes" / node

    def complaints(self) -> list[str]:
        """Warnings and errors of the product in the journals of the newest run, by node."""
        newest = max((self.folder / "runs").iterdir())
        return [
            f"{journal.stem}: {line}"
            for journal in sorted(newest.glob("journals/*.log"))
            for line in journal.read_text(errors="replace").splitlines()
            if "level=warning" in line or "level=error" in line
        ]

    def report(self) -> Any:
        """The newest run's report.json."""
        newest = max((self.folder / "runs").iterdir())
        return json.loads((newest / "report.json").read_text())
