"""Runs the product's commands on the backup server, shows their progress, keeps what they print."""

from __future__ import annotations

import json
import shlex
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.errors import EXIT_COMPLETE, LAST_WORDS_BYTES, CheckError
from harness.job.record import Run
from harness.topology import BACKUP_SERVER

# How often the last line of a running command is shown.
FOLLOW_SECONDS = 0.5


def spanreel(
    run: Run, label: str, *words: str, config: str = "", allowed: Sequence[int] = (EXIT_COMPLETE,)
) -> tuple[int, bytes]:
    """Run `spanreel WORDS` on the backup server; return its code and output.

    `config` is a configuration there, "" the node's own.  Output and messages are kept as
    commands/LABEL.out and .err.  A code that is not allowed is the product's failure, unless the product
    itself blames the machine.
    """
    node = run.provider.topology.only(BACKUP_SERVER)
    folder = run.folder / "commands"
    folder.mkdir(exist_ok=True)
    out, err = folder / f"{label}.out", folder / f"{label}.err"
    argv = ["spanreel", *words, *(["--config", config] if config else [])]
    with (
        out.open("wb") as stdout,
        err.open("wb") as stderr,
        following(err, lambda line: _show(run, node.name, line)),
    ):
        run.events.step(node.name, shlex.join(argv), "start")
        code = run.provider.exec(node, argv, stdin=None, stdout=stdout, stderr=stderr)
    run.events.step(node.name, shlex.join(argv), "done" if code in allowed else "failed", f"exit code {code}")
    if code not in allowed:
        said = err.read_bytes()[-LAST_WORDS_BYTES:].decode("utf-8", "backslashreplace").strip()
        message = (
            f"{node.name}: `{shlex.join(argv)}` ended with exit code {code}: {said or 'it said nothing'}"
        )
        raise CheckError(message, hint=f"all of it: {err}")
    return code, out.read_bytes()


def jobs(run: Run, label: str, config: str) -> list[dict[str, Any]]:
    """Return the jobs of a configuration's catalogue, oldest first."""
    _, output = spanreel(run, label, "jobs", "--json", config=config)
    try:
        listed = json.loads(output)
    except ValueError as error:
        raise CheckError(f"`spanreel jobs --json` printed no JSON: {error}") from error
    if not isinstance(listed, list) or not all(isinstance(item, dict) for item in listed):
        raise CheckError("`spanreel jobs --json` printed no list of jobs")
    return listed


@contextmanager
def following(path: Path, show: Callable[[str], None]) -> Iterator[None]:
    """Call `show` with the newest line of a growing file while entered."""
    stop = threading.Event()
    thread = threading.Thread(
        target=_follow, args=(path, show, stop), name=f"follow {path.name}", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _follow(path: Path, show: Callable[[str], None], stop: threading.Event) -> None:
    """Look at the end of a file until told to stop."""
    shown = ""
    while not stop.wait(FOLLOW_SECONDS):
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - LAST_WORDS_BYTES))
            # A progress display may rewrite its line: what stands after the last return counts.
            lines = [line for line in file.read().replace(b"\r", b"\n").split(b"\n") if line.strip()]
        line = lines[-1].decode("utf-8", "replace").strip() if lines else ""
        if line and line != shown:
            shown = line
            show(line)


def _show(run: Run, node: str, line: str) -> None:
    """Show a line of a running command as progress."""
    run.events.step(node, "spanreel", "progress", line)
