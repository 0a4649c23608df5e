"""What a process costs: seconds of CPU, and the most memory that it had at once."""

from __future__ import annotations

import os
import resource
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_RESET_PEAK = "5"  # proc_pid_clear_refs(5)


@dataclass(frozen=True)
class Cost:
    """Of one process: CPU in seconds, user and system; VmHWM in MiB."""

    cpu: float
    peak_mib: float


@dataclass(frozen=True)
class Run:
    """One contestant did one thing to one tree."""

    tree: str
    what: str
    contestant: str
    wall: float
    costs: dict[str, Cost] = field(default_factory=dict)

    @property
    def cpu(self) -> float:
        """Seconds of CPU of all its processes."""
        return sum(cost.cpu for cost in self.costs.values())

    @property
    def hungriest(self) -> tuple[str, float]:
        """The process with the highest peak, and that in MiB."""
        name = max(self.costs, key=lambda each: self.costs[each].peak_mib)
        return name, self.costs[name].peak_mib


class Meters:
    """Meters on processes that live longer than what is measured."""

    def __init__(self, pids: dict[str, int]) -> None:
        self._pids = pids
        self._before = {name: cpu_of(pid) for name, pid in pids.items()}
        for pid in pids.values():
            Path(f"/proc/{pid}/clear_refs").write_text(_RESET_PEAK)

    def read(self) -> dict[str, Cost]:
        """What each has cost since."""
        return {
            name: Cost(cpu_of(pid) - self._before[name], peak_of(pid)) for name, pid in self._pids.items()
        }


def cpu_of(pid: int) -> float:
    """Seconds of CPU that a process has taken (proc_pid_stat(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def peak_of(pid: int) -> float:
    """The most memory that a process had resident at once, in MiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0


class Peaks:
    """Looks at children again and again: what wait4(2) says of a peak has our own memory in it."""

    EVERY_S = 0.02

    def __init__(self) -> None:
        self.found: dict[int, float] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Peaks:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(self.EVERY_S):
            for pid in _descendants(os.getpid()):
                with suppress(OSError):
                    self.found[pid] = max(self.found.get(pid, 0.0), peak_of(pid))

    def cost(self, pid: int, usage: resource.struct_rusage) -> Cost:
        """What a child that has ended has cost."""
        return Cost(usage.ru_utime + usage.ru_stime, self.found.get(pid, 0.0))


def _descendants(pid: int) -> Iterator[int]:
    with suppress(OSError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            yield int(child)
            yield from _descendants(int(child))


def await_all(processes: dict[int, str], peaks: Peaks) -> dict[str, Cost]:
    """Wait for children, by their ids; what each has cost.  Raises RuntimeError for one that failed."""
    costs = {}
    for pid, name in processes.items():
        _, status, usage = os.wait4(pid, 0)
        if status:
            raise RuntimeError(f"{name} failed: {os.waitstatus_to_exitcode(status)}")
        costs[name] = peaks.cost(pid, usage)
    return costs


def pipeline(commands: Sequence[tuple[str, Sequence[str]]]) -> tuple[float, dict[str, Cost]]:
    """Run programs joined by pipes, each with a name, the last one's output to nowhere; seconds and costs."""
    started = time.monotonic()
    children = {}
    previous = None
    with Peaks() as peaks:
        for number, (name, words) in enumerate(commands):
            is_last = number == len(commands) - 1
            child = subprocess.Popen(
                words, stdin=previous, stdout=subprocess.DEVNULL if is_last else subprocess.PIPE
            )
            if previous is not None:
                previous.close()
            previous = child.stdout
            children[child.pid] = name
            # Its end is awaited below, with what it has cost.
            child.returncode = 0
        costs = await_all(children, peaks)
        return time.monotonic() - started, costs


def with_usage(words: Sequence[str], name: str, folder: Path) -> tuple[float, Cost, str]:
    """Run a program; seconds, its cost, and what it said on standard output.  Raises RuntimeError."""
    started = time.monotonic()
    with Peaks() as peaks:
        child = subprocess.Popen(words, stdout=subprocess.PIPE, cwd=folder)
        assert child.stdout is not None
        said = child.stdout.read().decode(errors="replace")
        child.returncode = 0
        try:
            cost = await_all({child.pid: name}, peaks)[name]
        except RuntimeError as error:
            raise RuntimeError(f"{' '.join(words)} failed and said: {said}") from error
        return time.monotonic() - started, cost, said
