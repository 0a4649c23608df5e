"""A signal that ends the process is never lost, whenever it comes."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

WAIT_S = 60

EARLY = """
import os, signal
from appliance.endsignals import EndSignals
ending = EndSignals()
os.kill(os.getpid(), signal.{name})
ending.wait()
print("ended")
"""

LATE = """
import sys
from appliance.endsignals import EndSignals
ending = EndSignals()
print("ready", flush=True)
ending.wait()
print("ended")
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_one_that_came_before_the_wait_counts(name: str) -> None:
    """What arrives between making and waiting ends the wait at once."""
    run = subprocess.run(
        [sys.executable, "-c", EARLY.format(name=name)], capture_output=True, timeout=WAIT_S, check=False
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, b"ended\n", b"")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_one_that_comes_later_ends_the_wait(number: signal.Signals) -> None:
    """The process goes on to its end, and does not die of the signal."""
    with subprocess.Popen([sys.executable, "-c", LATE], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(number)
        assert process.stdout.read() == b"ended\n"
        assert process.wait(WAIT_S) == 0
