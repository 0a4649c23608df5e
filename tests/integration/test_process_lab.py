"""The process lab with the real product: two labs side by side, and nothing left of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from harness import topology as topologies
from harness.nodeconfig import METRICS_PORT

pytestmark = pytest.mark.process_lab

# Apart from a developer's own process lab on this machine.
SUBNET = "127.77.210."
COMMAND_SECONDS = 600
INTERRUPTED = 130


@pytest.fixture
def topology(tmp_path: Path) -> Path:
    """The shipped topology, elsewhere."""
    text = topologies.find("process").read_text().replace("127.77.0.", SUBNET)
    path = tmp_path / "process.yaml"
    path.write_text(text)
    return path


def lab(state: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run `spanreel lab WORDS` with a state folder of its own."""
    environment = os.environ | {"XDG_STATE_HOME": str(state)}
    argv = [sys.executable, "-m", "appliance.cli", "lab", *words]
    return subprocess.run(
        argv, env=environment, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False
    )


def listeners() -> list[str]:
    """Sockets that listen in this test's subnet, as the kernel writes them."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    mine = "".join(f"{int(octet):02X}" for octet in reversed(SUBNET.rstrip(".").split(".")))
    return [row[1] for row in rows if row[3] == "0A" and row[1][2:8] == mine]


def test_a_run_that_is_ended_by_sigterm_ends_its_lab(topology: Path, tmp_path: Path) -> None:
    """What a service manager or a CI job sends does what Ctrl-C does: nothing of the lab goes on."""
    state = tmp_path / "state"
    argv = [sys.executable, "-m", "appliance.cli", "lab", "run", "--topology", str(topology), "--lab", "one"]
    with subprocess.Popen(
        argv,
        env=os.environ | {"XDG_STATE_HOME": str(state)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            before = next(line for line in process.stdout if "seed" in line or "passed" in line)
            assert "seed" in before, "the lab is up by now, and the job has begun"
            assert listeners()
            process.send_signal(signal.SIGTERM)
            said = process.stdout.read()
            assert process.wait(COMMAND_SECONDS) == INTERRUPTED, said
        finally:
            process.kill()
            lab(state, "clean", "--lab", "one")
    assert "Traceback" not in said
    assert not listeners()


def test_two_labs_live_side_by_side(topology: Path, tmp_path: Path) -> None:
    """Two labs of one topology run at the same time, and ending one leaves the other alone."""
    state = tmp_path / "state"
    try:
        for name in ("one", "two"):
            done = lab(state, "up", "--topology", str(topology), "--lab", name)
            assert done.returncode == 0, done.stderr
        # Of lab one: eight services, five times figures, four relays; and the look sees them.
        assert len(listeners()) == 17
        addresses = [
            json.loads(lab(state, "info", "--lab", name, "--json").stdout)["nodes"][0]["address"]
            for name in ("one", "two")
        ]
        assert addresses == [f"{SUBNET}11", "127.77.211.11"]
        with urllib.request.urlopen(f"http://{addresses[0]}:{METRICS_PORT}/metrics", timeout=20) as reply:
            assert b"spanreel_sessions" in reply.read()
        sessions = lab(state, "exec", "--lab", "one", "fs1", "--", "spanreel", "session", "list", "--json")
        assert (sessions.returncode, list(json.loads(sessions.stdout))) == (0, ["sessions"]), sessions.stderr
        assert lab(state, "down", "--lab", "one").returncode == 0
        jobs = lab(state, "exec", "--lab", "two", "backup1", "--", "spanreel", "jobs", "--json")
        assert (jobs.returncode, json.loads(jobs.stdout)) == (0, [])
        wrong = lab(state, "exec", "--lab", "one", "backup1", "--", "true")
        assert (wrong.returncode, "Traceback" in wrong.stderr) == (3, False)
    finally:
        for name in ("one", "two"):
            lab(state, "clean", "--lab", name)
    assert not list(state.glob("spanreel/labs/*"))
    assert not listeners()
