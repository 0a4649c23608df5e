"""Progress as one stream of events; what people see are only its subscribers.

A step is one thing that takes time on one node (or on the lab: node "").  Providers and jobs call
`Events.step` or, better, the context manager `Events.stepping`; they never print.  Subscribers are
called in the order of subscription, one event at a time, from whichever thread stepped.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, TextIO

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

State = Literal["start", "progress", "done", "failed", "skipped"]

# A live table is redrawn this often: fast enough to look alive, slow enough for a serial line.
REDRAW_PER_SECOND = 4

_STYLE: dict[State, str] = {
    "start": "cyan",
    "progress": "cyan",
    "done": "green",
    "failed": "bold red",
    "skipped": "yellow",
}


@dataclass(frozen=True)
class Event:
    """One change of one step.  `seconds` is the time since the step started."""

    time: float
    node: str
    name: str
    state: State
    detail: str
    seconds: float


Subscriber = Callable[[Event], None]


class Events:
    """The bus.  Thread-safe: nodes come up in parallel."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._subscribers: list[Subscriber] = []
        self._started: dict[tuple[str, str], float] = {}

    def subscribe(self, subscriber: Subscriber) -> None:
        """Send every later event to `subscriber` too."""
        with self._lock:
            self._subscribers.append(subscriber)

    def step(self, node: str, name: str, state: State, detail: str = "") -> None:
        """Say that step `name` on `node` started, went on, or ended."""
        with self._lock:
            now = self._clock()
            key = (node, name)
            if state == "start" or key not in self._started:
                self._started[key] = now
            event = Event(now, node, name, state, detail, now - self._started[key])
            for subscriber in self._subscribers:
                subscriber(event)

    @contextmanager
    def stepping(self, node: str, name: str, detail: str = "") -> Iterator[Callable[[str], None]]:
        """Start a step, end it as done or failed; yields a function that reports progress."""
        self.step(node, name, "start", detail)
        last = [detail]

        def progress(text: str) -> None:
            last[0] = text
            self.step(node, name, "progress", text)

        try:
            yield progress
        except BaseException as error:
            self.step(
                node, name, "failed", str(error).splitlines()[0] if str(error) else type(error).__name__
            )
            raise
        self.step(node, name, "done", last[0])


# Between two lines of mere progress in a log: enough to see life, not enough to fill it.
PROGRESS_INTERVAL_S = 15.0


class JsonLines:
    """Appends every event to a file, one JSON object a line."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8", buffering=1)

    def __call__(self, event: Event) -> None:
        """Write one event."""
        self._file.write(json.dumps(asdict(event)) + "\n")

    def close(self) -> None:
        """Close the file; later events are an error."""
        self._file.close()


_VERBS = {"start": "...", "progress": "...", "done": "ok", "failed": "FAILED", "skipped": "skipped"}


class PlainLines:
    """One line per start and end, for logs and pipes; progress when nothing else was said for a while."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._last = 0.0

    def __call__(self, event: Event) -> None:
        """Print one event; progress only when nothing was printed for a while."""
        if event.state == "progress" and event.time - self._last < PROGRESS_INTERVAL_S:
            return
        self._last = event.time
        verb = _VERBS[event.state]
        seconds = "" if event.state == "start" else f" [{event.seconds:.1f}s]"
        detail = f": {event.detail}" if event.detail else ""
        self._stream.write(f"{event.node or 'lab':<10} {event.name} {verb}{seconds}{detail}\n")
        self._stream.flush()

    def __enter__(self) -> PlainLines:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.flush()


class LiveTable:
    """A table on a terminal: one row a node, with its present step, state and elapsed time."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.time) -> None:
        self._console = console
        self._clock = clock
        self._rows: dict[str, Event] = {}
        self._live = Live(console=console, refresh_per_second=REDRAW_PER_SECOND, get_renderable=self.table)

    def __call__(self, event: Event) -> None:
        """Remember the node's newest event; lasting ones are also printed above the table."""
        self._rows[event.node] = event
        if event.state in ("done", "failed", "skipped"):
            self._console.print(_line(event))

    def table(self) -> Table:
        """Return the table as it is now."""
        table = Table(box=None, padding=(0, 1), show_header=False)
        for node, event in list(self._rows.items()):
            if event.state in ("start", "progress"):
                elapsed = event.seconds + (self._clock() - event.time)
                table.add_row(
                    Text(node or "lab", style="bold"),
                    Text(event.name, style=_STYLE[event.state]),
                    f"{elapsed:5.1f}s",
                    Text(event.detail, overflow="ellipsis", no_wrap=True),
                )
        return table

    def __enter__(self) -> LiveTable:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()


def view_for(stream: TextIO) -> PlainLines | LiveTable:
    """Return the live table where `stream` is a terminal, plain lines elsewhere."""
    if stream.isatty():
        return LiveTable(Console(file=stream))
    return PlainLines(stream)


def _line(event: Event) -> Text:
    """One lasting event as a coloured line."""
    mark = {"done": "✓", "failed": "✗", "skipped": "-"}.get(event.state, "·")
    line = Text(f"{mark} ", style=_STYLE[event.state])
    line.append(f"{event.node or 'lab':<8} ", style="bold")
    line.append(event.name)
    line.append(f"  {event.seconds:.1f}s  ", style="dim")
    line.append(event.detail)
    return line
