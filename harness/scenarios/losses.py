"""Scenarios in which a node is killed, or its link becomes bad, at a chosen moment of a job.

The moment is a command to the tape drive: the library holds it, the harm is done, and the command goes on.
So nothing depends on time.  Whatever then happens to the job, five things must hold: the command ends,
what it says is true, jobs that need nothing of the victim are complete, everything reported saved can be
had, and the same job works later.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from harness.faults.link import Bad
from harness.scenarios.running import Running
from harness.scenarios.stage import USABLE, WHOLE, Stage
from harness.scenarios.tape import FILEMARK, READ, WRITE, hold
from harness.topology import RESTORED, Node

# What a job that did not save everything may be called.
NOT_WHOLE = ("incomplete", "failed", "aborted")
EXIT_OF = {"complete": 0, "problems": 4, "incomplete": 4, "failed": 1, "aborted": 1, "running": -1}
# In a restore that failed the product may blame itself or the machine.
EXIT_FAILED = (1, 3)


@dataclass(frozen=True)
class Moment:
    """A command of a job to the drive, counted from the job's start.

    Attributes:
        first, last: which; one between them, by chance, if `last` is given.
        lost: the job cannot be complete if its victim goes away then.

    """

    name: str
    operation: str
    command: str
    first: int
    last: int = 0
    lost: bool = True


# A job writes the head of its segment, a filemark, the image, and the filemark behind it.
OPENING = Moment("at its first record", "backup", WRITE, 2)
WITHIN = Moment("within its largest part", "backup", WRITE, 8, 20)
CLOSING = Moment("at its last filemark", "backup", FILEMARK, 2, lost=False)
READING = Moment("at the first record read", "restore", READ, 2)
RESTORING = Moment("within the data read", "restore", READ, 8, 20)

# Two minutes without a sign of life end a session; until then it has its drive.
LET_GO_SECONDS = 150.0
LOOK_SECONDS = 0.5

Victim = Callable[[Stage], Node]


@dataclass(frozen=True)
class Harm:
    """What is done to a node; `later` takes it away when the job has ended.

    `word` tells it from others that one scenario does at the same moment: checks have it in their names.
    """

    do: Callable[[Stage, Node, ExitStack], None]
    word: str = ""


def _kill(stage: Stage, node: Node, _later: ExitStack) -> None:
    stage.provider.kill(node)


def _cut_power(stage: Stage, node: Node, _later: ExitStack) -> None:
    stage.provider.cut_power(node)


KILL, CUT_POWER = Harm(_kill), Harm(_cut_power)


def link(bad: Bad, word: str) -> Harm:
    """Return the harm that a node's link is bad until the job has ended."""

    def do(stage: Stage, node: Node, later: ExitStack) -> None:
        later.enter_context(stage.provider.bad_link(node, bad))

    return Harm(do, word)


def strike_name(moment: Moment, harm: Harm) -> str:
    """Return what checks call it, as `backup within its largest part, deaf`."""
    return f"{moment.operation} {moment.name}" + (f", {harm.word}" if harm.word else "")


def strike(
    stage: Stage, name: str, victim: Node, moment: Moment, harm: Harm, *, survives: bool = False
) -> None:
    """Do harm at a moment of one job and check what came of it.

    `survives`: the harm is one that the job must get over.
    """
    chance = stage.chance(f"{name} {moment.name}")
    nth = chance.randint(moment.first, max(moment.first, moment.last))
    where = strike_name(moment, harm)
    known = {job["id"] for job in stage.jobs()}
    bystander = None
    with ExitStack() as later:
        tape = stage.tape
        later.callback(tape.clear)
        tape.set(hold(moment.command, nth))
        job = _start(stage, moment)
        tape.wait(1, lambda: job.runs)
        if _has_bystander(stage, victim, moment):
            bystander = stage.start("backup", "/archive", "--entry", _other_entry(stage), "--json")
        harm.do(stage, victim, later)
        tape.clear()
        job.wait()
        if bystander is not None:
            code = bystander.wait()
            stage.check(
                f"{where}: another job is complete", code == 0, f"exit code {code}: {bystander.said()}"
            )
    stage.provider.recover(victim)
    _is_let_go(stage, where)
    if moment.operation == "backup":
        _backup_told_truth(stage, where, job, known, lost=moment.lost and not survives, survives=survives)
    else:
        _restore_told_truth(stage, where, job, survives=survives)


def works_again(stage: Stage) -> None:
    """Check that the whole job works now, and that what it saved comes back."""
    job = stage.backup(*WHOLE)
    path = f"{stage.large.path}/small"
    stage.comes_back("a later backup is complete and comes back", job["id"], path, stage.expected)


def _is_let_go(stage: Stage, where: str) -> None:
    """Check that the media server ends the job's sessions, and so gives its drive back."""
    deadline = time.monotonic() + LET_GO_SECONDS * stage.provider.patience
    left = _held(stage)
    while left and time.monotonic() < deadline:
        time.sleep(LOOK_SECONDS)
        left = _held(stage)
    stage.check(f"{where}: the job's sessions end", not left, ", ".join(left) or "none is left")


def _held(stage: Stage) -> list[str]:
    """Return the sessions of DMAs that the media server still has; nobody else runs a job now."""
    node = stage.media_server
    done = stage.provider.run(node, ["spanreel", "session", "list", "--json"])
    return [f"{each['id']} on {node.name}" for each in json.loads(done.stdout)["sessions"] if each["user"]]


def _start(stage: Stage, moment: Moment) -> Running:
    if moment.operation == "backup":
        return stage.start(*WHOLE)
    stage.empty_restored()
    return stage.start("restore", stage.baseline, stage.large.path, "--to", RESTORED, "--json")


def _has_bystander(stage: Stage, victim: Node, moment: Moment) -> bool:
    """Whether another job needs nothing of the victim: one through and of other file servers."""
    others = (stage.connection_server, stage.media_server)
    return moment is WITHIN and victim not in others and bool(_other_entry(stage))


def _other_entry(stage: Stage) -> str:
    """Return a file server that is neither entry nor victim, and owns /archive; "" if there is none."""
    for item in stage.provider.topology.gns:
        if item.path == "/archive" and item.owner not in (stage.entry.name, stage.owner.name):
            return item.owner
    return ""


def _backup_told_truth(
    stage: Stage, where: str, job: Running, known: set[str], *, lost: bool, survives: bool
) -> None:
    """Check status, exit code and reason of the job; and what it says it saved."""
    path = ["/"]
    found = [each for each in stage.jobs() if each["id"] not in known and each["paths"] == path]
    if len(found) != 1:
        stage.check(f"{where}: the catalogue knows the job", False, f"{len(found)} new jobs of /")
        return
    told: dict[str, Any] = found[0]
    status = told["status"]
    allowed = ("complete",) if survives else NOT_WHOLE if lost else ("complete", *NOT_WHOLE)
    fits = job.code == EXIT_OF[status] or (status == "failed" and job.code in EXIT_FAILED)
    reason = status == "complete" or bool(told["reason"] or told["problems"])
    stage.check(
        f"{where}: the status is true",
        status in allowed and fits and reason,
        f"{status}, exit code {job.code}, {told['reason'] or 'no reason'}; {job.said()[-300:]}",
    )
    if status in ("complete", "problems"):
        name = f"{where}: what it reported saved comes back"
        stage.comes_back(name, told["id"], f"{stage.large.path}/small", stage.expected)


def _restore_told_truth(stage: Stage, where: str, job: Running, *, survives: bool) -> None:
    """Check the restore's exit code against what is there."""
    if job.code == 0 or survives:
        stage.is_restored(f"{where}: what it reported restored is there", stage.large.path, stage.expected)
    passed = job.code in (0, *EXIT_FAILED, *USABLE[1:]) and bool(job.said())
    stage.check(f"{where}: the end is told", passed, f"exit code {job.code}: {job.said()[-300:]}")
