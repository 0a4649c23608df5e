"""One measured figure, and how figures are shown and kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Figure:
    """`value` in `unit`; `aim` is what we want it to be, in words; `ratio` to the peer in the same run."""

    what: str
    value: float
    unit: str
    aim: str = ""
    ratio: float | None = None


def percentile(values: Sequence[float], percent: float) -> float:
    """The value that so many per cent of `values` do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def rss_mib(pid: int) -> float:
    """Resident memory of a process (proc(5))."""
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) / 1024


def serving(state: Path) -> dict[str, int]:
    """The process of each served node of the process lab whose state folder this is."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"serve" in words:
            config = words[words.index(b"--config") + 1].decode()
            if config.startswith(str(state)):
                found[Path(config).parent.name] = int(folder.name)
    return found


def table(figures: Sequence[Figure]) -> str:
    """For people, 80 columns."""
    lines = [f"{'':<46} {'value':>12} {'ratio':>6}  aim"]
    for each in figures:
        ratio = f"{each.ratio:.2f}" if each.ratio is not None else ""
        lines.append(f"{each.what:<46} {each.value:>7.1f} {each.unit:<4} {ratio:>6}  {each.aim}")
    return "\n".join(lines)


def plain(figures: Sequence[Figure]) -> list[dict[str, object]]:
    """For machines."""
    return [asdict(each) for each in figures]
