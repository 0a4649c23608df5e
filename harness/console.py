"""Records serial consoles, from before power on until the lab goes down.

One background process per lab, a thread per console.  It outlives the command that started it:
`spanreel lab up` returns, and a panic an hour later is still on file.  Every line of the log starts
with the UTC time at which its first byte arrived.

    python -m harness.console URL=LOG [URL=LOG ...]

A URL is whatever pyserial opens: `/dev/pts/3`, `/dev/ttyUSB0`, `rfc2217://host:port`, `socket://host:port`,
and may end in its speed: `/dev/ttyUSB0,9600`.
The process prints `ready` once every console is open, and ends on SIGTERM.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import serial

from harness import netns
from harness.errors import InfrastructureError

# A reader wakes this often to see whether it should end.
_POLL_SECONDS = 0.5
_READ_BYTES = 4096
# What consoles of servers and virtual machines have, in bits a second.
_BAUD = 115200
# Opening a console takes milliseconds; a serial server on the network may take a moment.
_OPEN_SECONDS = 15.0


def _utc_now() -> datetime:
    return datetime.now(UTC)


class LineStamper:
    """Writes bytes to a log, each line headed by the time of its first byte.

    Partial lines are written at once: a login prompt or the last words before a hang have no newline.
    Carriage returns, which consoles send with every newline, are dropped.
    """

    def __init__(self, log: BinaryIO, now: Callable[[], datetime] = _utc_now) -> None:
        self._log = log
        self._now = now
        self._at_line_start = True

    def feed(self, data: bytes) -> None:
        """Append what the console sent."""
        for line in data.replace(b"\r", b"").splitlines(keepends=True):
            if self._at_line_start:
                stamp = self._now().strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3]
                self._log.write(f"{stamp}Z ".encode())
            self._log.write(line)
            self._at_line_start = line.endswith(b"\n")
        self._log.flush()


def record(port: serial.SerialBase, log: Path, stop: threading.Event) -> None:
    """Copy one console to its log until `stop` is set or the console is gone."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as out:
        stamper = LineStamper(out)
        while not stop.is_set():
            data = b""
            try:
                data = port.read(1)
                data += port.read(min(getattr(port, "in_waiting", 0), _READ_BYTES))
            except (OSError, serial.SerialException):
                # The machine was switched off: its pty is gone, and so is what we could read.
                stamper.feed(data + b"\n[console closed]\n")
                return
            stamper.feed(data)


def split_speed(place: str) -> tuple[str, int]:
    """Take URL,BAUD apart."""
    url, comma, baud = place.rpartition(",")
    return (url, int(baud)) if comma else (place, _BAUD)


def main(arguments: list[str]) -> int:
    """Record the consoles named by URL=LOG arguments until SIGTERM or until all are closed."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda _number, _frame: stop.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is meant for the command, not for us
    threads = []
    for argument in arguments:
        place, _, log = argument.rpartition("=")
        url, baud = split_speed(place)
        try:
            port = serial.serial_for_url(url, baudrate=baud, timeout=_POLL_SECONDS)
        except (OSError, serial.SerialException) as error:
            sys.stdout.write(f"cannot open console {url}: {error}\n")
            return 1
        threads.append(threading.Thread(target=record, args=(port, Path(log), stop), daemon=True))
    for thread in threads:
        thread.start()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for thread in threads:
        # A join without a limit would keep the main thread from handling the signal.
        while thread.is_alive():
            thread.join(_POLL_SECONDS)
    return 0


def start_recorder(consoles: Mapping[str, Path], errors: Path, namespace: str | None = None) -> int:
    """Start the background recorder; return its process id once every console is open.

    It runs in the lab's network namespace: there it reaches consoles on the lab's network, and is found
    when the lab goes down.
    """
    command = [sys.executable, "-m", "harness.console", *(f"{url}={log}" for url, log in consoles.items())]
    if namespace is not None:
        command = netns.argv_inside(namespace, command)
    root = str(Path(__file__).resolve().parents[1])
    with errors.open("ab") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=root,
            start_new_session=True,
        )
    assert process.stdout is not None
    # A recorder that hangs while opening is ended, which ends the read as well.
    watchdog = threading.Timer(_OPEN_SECONDS, process.kill)
    watchdog.start()
    answer = process.stdout.readline().decode(errors="replace").strip()
    watchdog.cancel()
    process.stdout.close()
    if answer != "ready":
        process.kill()
        process.wait()
        raise InfrastructureError(
            f"the console recorder did not start: {answer or 'no answer'}", hint=f"its errors are in {errors}"
        )
    # It outlives us: nobody will wait for this object.
    process.returncode = 0
    return process.pid


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
