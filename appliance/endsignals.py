"""Waiting for SIGTERM or Ctrl-C without losing one.

A thread that waits for a threading.Event sleeps on if the signal comes in the moment before it falls asleep:
the interpreter has noted it, and looks again when the thread wakes.  A pipe that the interpreter's own
handler writes to (signal.set_wakeup_fd) has no such moment.
"""

from __future__ import annotations

import os
import signal

ENDING = (signal.SIGTERM, signal.SIGINT)


class EndSignals:
    """From its making on, the signals that end a process do no more than wake `wait`; main thread only."""

    def __init__(self) -> None:
        self._told, tell = os.pipe()
        os.set_blocking(tell, False)
        signal.set_wakeup_fd(tell)
        for number in ENDING:
            signal.signal(number, lambda *_: None)

    def wait(self) -> None:
        """Return when one of them came, also if that was before."""
        while os.read(self._told, 1)[0] not in ENDING:
            pass
