"""Starts, ends and looks at one daemon on a machine: a transient systemd unit, or a process.

Argument: {"action": "start" | "stop" | "alive", "name": NAME, "systemd": bool, "folder": DIR,
           "argv": [...], "environment": {...}, "ready": [ROLE...], "seconds": N}
Prints:   {"state": "ready" | "ended" | "silent" | "running" | "stopped", "said": [LINE...]}

A daemon says `ready ROLE ADDRESS:PORT` when it listens; `start` waits for that of each role.  A process is
remembered by its id, its start time and the boot, so that an id that now is somebody else's is never
signalled.  A transient unit leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from typing import Any

STOP_SECONDS = 15.0
POLL_SECONDS = 0.05
LINES_MAX = 6
# Field 22 of /proc/PID/stat, counted after the command name: start time in clock ticks.
STARTTIME_AFTER_NAME = 19


def started(pid: int) -> int:
    """Return a process's start time, 0 if it is gone or a zombie."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return 0 if fields[0] in ("Z", "X") else int(fields[STARTTIME_AFTER_NAME])


def boot() -> str:
    """Return the name of the present boot."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


class Process:
    """A daemon as a process of its own session, its output in a log."""

    def __init__(self, wanted: dict[str, Any]) -> None:
        self.wanted = wanted
        stem = os.path.join(wanted["folder"], wanted["name"])
        self.record, self.log = stem + ".json", stem + ".log"
        self.offset = 0

    def start(self) -> None:
        """Start it and remember it."""
        os.makedirs(self.wanted["folder"], exist_ok=True)
        self.offset = os.path.getsize(self.log) if os.path.exists(self.log) else 0
        with open(self.log, "ab") as output:
            child = subprocess.Popen(
                self.wanted["argv"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **self.wanted["environment"]},
                cwd=self.wanted["folder"],
                start_new_session=True,
            )
        with open(self.record, "w", encoding="ascii") as file:
            json.dump({"pid": child.pid, "started": started(child.pid), "boot": boot()}, file)

    def pid(self) -> int:
        """Return its id while it runs, else 0."""
        try:
            with open(self.record, encoding="ascii") as file:
                kept = json.load(file)
        except (FileNotFoundError, ValueError):
            return 0
        with contextlib.suppress(ChildProcessError):
            os.waitpid(kept["pid"], os.WNOHANG)
        runs = kept["boot"] == boot() and kept["started"] and started(kept["pid"]) == kept["started"]
        return int(kept["pid"]) if runs else 0

    def alive(self) -> bool:
        """Return whether it runs."""
        return self.pid() != 0

    def said(self) -> list[str]:
        """Return the lines since its start."""
        with open(self.log, "rb") as file:
            file.seek(self.offset)
            return file.read().decode("utf-8", "backslashreplace").splitlines()

    def stop(self) -> None:
        """End it and its group: politely, then by force."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            deadline = time.monotonic() + STOP_SECONDS
            pid = self.pid()
            if pid:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, number)
            while self.pid() and time.monotonic() < deadline:
                time.sleep(POLL_SECONDS)


class Unit:
    """A daemon as a transient unit, its output in the journal."""

    def __init__(self, wanted: dict[str, Any]) -> None:
        self.wanted = wanted
        self.unit = wanted["name"] + ".service"
        self.refusal: list[str] = []

    def start(self) -> None:
        """Start it."""
        subprocess.run(["systemctl", "reset-failed", self.unit], stderr=subprocess.DEVNULL, check=False)
        settings = [f"--setenv={key}={value}" for key, value in self.wanted["environment"].items()]
        settings += ["--property=Type=exec", f"--property=TimeoutStopSec={STOP_SECONDS:.0f}"]
        settings += ["--property=LimitNOFILE=65536", "--property=UMask=0077"]
        program, *arguments = self.wanted["argv"]
        # The manager looks for programs elsewhere than we do.
        program = shutil.which(program, path=self.wanted["environment"].get("PATH")) or program
        words = ["systemd-run", "--quiet", f"--unit={self.unit}", *settings, "--", program, *arguments]
        # A unit that ends at once is reported by its own words, which are in the journal.
        done = subprocess.run(words, stderr=subprocess.PIPE, check=False)
        self.refusal = done.stderr.decode("utf-8", "backslashreplace").splitlines()

    def show(self, key: str) -> str:
        """Return one property."""
        done = subprocess.run(
            ["systemctl", "show", "--value", "-p", key, self.unit], stdout=subprocess.PIPE, check=True
        )
        return done.stdout.decode().strip()

    def alive(self) -> bool:
        """Return whether it runs."""
        return self.show("ActiveState") in ("active", "activating", "reloading")

    def said(self) -> list[str]:
        """Return the lines of this start."""
        match = f"_SYSTEMD_INVOCATION_ID={self.show('InvocationID')}"
        done = subprocess.run(["journalctl", "-q", "-o", "cat", match], stdout=subprocess.PIPE, check=False)
        return self.refusal + done.stdout.decode("utf-8", "backslashreplace").splitlines()

    def stop(self) -> None:
        """End it; not there is fine."""
        for verb in ("stop", "reset-failed"):
            subprocess.run(["systemctl", verb, self.unit], stderr=subprocess.DEVNULL, check=False)


def wait(daemon: Process | Unit, roles: list[str], seconds: float) -> dict[str, Any]:
    """Wait until every role is ready, or it ends, or the time is over."""
    deadline = time.monotonic() + seconds
    while True:
        runs = daemon.alive()
        lines = daemon.said()
        if all(any(line.startswith(f"ready {role} ") for line in lines) for role in roles):
            return {"state": "ready", "said": []}
        if not runs or time.monotonic() > deadline:
            return {"state": "silent" if runs else "ended", "said": lines[-LINES_MAX:]}
        time.sleep(POLL_SECONDS)


def main(argument: dict[str, Any]) -> dict[str, Any]:
    """Do one thing."""
    daemon: Process | Unit = Unit(argument) if argument["systemd"] else Process(argument)
    if argument["action"] == "start":
        daemon.stop()
        daemon.start()
        return wait(daemon, argument["ready"], argument["seconds"])
    if argument["action"] == "stop":
        daemon.stop()
    return {"state": "running" if daemon.alive() else "stopped", "said": []}


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
