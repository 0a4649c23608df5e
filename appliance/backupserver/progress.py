"""What a job shows while it runs: one live line on a terminal, a plain line now and then elsewhere.

Everything goes to standard error; standard output is for results.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Final, TextIO

from appliance.backupserver.events import Line
from appliance.text import show_path

if TYPE_CHECKING:
    from rich.live import Live

PLAIN_INTERVAL_S: Final = 10.0
"""Seconds between two lines of progress in a log file: enough to see life, not enough to fill it."""

LINES_SHOWN_MAX: Final = 200
"""Problems shown; the catalogue has them all.  A broken disk must not scroll everything else away."""

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_STEP = 1024


def show_size(size: float) -> str:
    """A number of bytes for people: "1.5 GiB"."""
    unit = 0
    while size >= _STEP and unit < len(_UNITS) - 1:
        size /= _STEP
        unit += 1
    return f"{size:.0f} {_UNITS[unit]}" if unit == 0 else f"{size:.1f} {_UNITS[unit]}"


class Screen:
    """Where a job's progress and lines go; `quiet` shows problems only."""

    def __init__(self, stream: TextIO | None = None, *, quiet: bool = False) -> None:
        self._stream = stream or sys.stderr
        self._quiet = quiet
        self._live: Live | None = None
        self._started = time.monotonic()
        self._next_plain = 0.0
        self._shown = 0

    def progress(self, what: str, size: int, detail: str = "") -> None:
        """Show how far the job is: what it does, bytes so far, and what else is worth telling."""
        if self._quiet:
            return
        elapsed = time.monotonic() - self._started
        rate = size / elapsed if elapsed > 0 else 0.0
        text = f"{what}: {show_size(size)}, {show_size(rate)}/s, {elapsed:.0f} s"
        text += f", {detail}" if detail else ""
        if self._stream.isatty():
            self._show_live(text)
        elif time.monotonic() >= self._next_plain:
            self._next_plain = time.monotonic() + PLAIN_INTERVAL_S
            self._print(text)

    def note(self, text: str) -> None:
        """Print a line that is worth knowing."""
        if not self._quiet:
            self._print(text)

    def line(self, line: Line) -> None:
        """Print a server's log line, if it is a problem."""
        if not line.is_problem:
            return
        self._shown += 1
        if self._shown <= LINES_SHOWN_MAX:
            self._print(f"{line.severity}: {show_path(line.text)}")
        elif self._shown == LINES_SHOWN_MAX + 1:
            self._print("more problems follow; the catalogue has them all")

    def close(self) -> None:
        """End the live line."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _show_live(self, text: str) -> None:
        from rich.console import Console  # costs 0.1 s, and only a terminal needs it
        from rich.live import Live
        from rich.text import Text

        if self._live is None:
            self._live = Live(console=Console(file=self._stream), auto_refresh=False, transient=True)
            self._live.start()
        self._live.update(Text(text, no_wrap=True, overflow="ellipsis"), refresh=True)

    def _print(self, text: str) -> None:
        if self._live is not None:
            self._live.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            print(text, file=self._stream, flush=True)
