"""Scenarios of drives and robots that fail, and of full disks."""

from __future__ import annotations

from typing import Any

from harness.errors import NotPossibleError
from harness.scenarios.losses import EXIT_FAILED, EXIT_OF
from harness.scenarios.stage import WHOLE, Stage
from harness.scenarios.tape import MOVE, READ, WRITE, Fault, TapeFaults
from harness.topology import RESTORED


def write_error(stage: Stage) -> None:
    """A record cannot be written: the job goes on elsewhere, and is complete."""
    job = _with(stage, {"command": WRITE, "nth": 20, "sense": "write error"})
    stage.check("the job got over it", job["status"] in ("complete", "problems"), job["status"])
    stage.comes_back("what it saved comes back", job["id"], stage.large_file, stage.expected)


def drive_gone(stage: Stage) -> None:
    """The drive disappears under the job."""
    job = _with(stage, {"command": WRITE, "nth": 20, "gone": 0})
    if job["status"] == "complete":
        stage.comes_back("what it saved comes back", job["id"], stage.large_file, stage.expected)
    _again(stage)


def read_error(stage: Stage) -> None:
    """One record cannot be read back: the restore says which files that hit, and brings the others."""
    tape = stage.tape
    job = stage.backup(*WHOLE)
    stage.empty_restored()
    tape.set({"command": READ, "nth": 30, "times": 1, "sense": "read error"})
    try:
        done = stage.start("restore", job["id"], stage.large_file, "--to", RESTORED, "--json")
        code = done.wait()
        hit = len(tape.struck())
    finally:
        tape.clear()
    stage.check("the record was not readable", hit == 1, f"{hit} reads failed")
    stage.check("the restore says so", code in (4, *EXIT_FAILED), f"exit code {code}: {done.said()[-300:]}")
    stage.comes_back("read again, all is there", job["id"], stage.large_file, stage.expected)


def slow_drive(stage: Stage) -> None:
    """The drive takes its time now and then; nobody loses patience."""
    job = _with(stage, {"command": WRITE, "nth": 10, "times": 3, "delay": 2.0})
    stage.check("the job is complete", job["status"] == "complete", f"{job['status']}: {job['reason']}")


def robot_stuck(stage: Stage) -> None:
    """The robot is stuck when the next cartridge is wanted; later it is not."""
    library, config = stage.other_library()
    tape = TapeFaults(stage.provider, library)
    tape.set({"command": MOVE, "nth": 1, "times": 0, "sense": "stuck robot"})
    try:
        running = stage.start(*WHOLE, config=config)
        code = running.wait()
        hit = len(tape.struck())
    finally:
        tape.clear()
    stage.check("the robot was stuck", hit > 0, f"{hit} moves failed")
    stage.check("the job says so", code in (4, *EXIT_FAILED), f"exit code {code}: {running.said()[-300:]}")
    job = stage.backup(*WHOLE, config=config)
    name = "a later backup is complete and comes back"
    stage.comes_back(name, job["id"], f"{stage.large.path}/small", stage.expected, config=config)


def full_disk(stage: Stage) -> None:
    """The disk that a restore goes to is full: it says so, and works when there is room."""
    if not stage.provider.is_root:
        raise NotPossibleError("only root can mount a small file system")
    job = stage.backup("backup", f"{stage.large.path}/small", "/software", "--json")
    node, local = stage.local(RESTORED)
    stage.empty_restored()
    stage.provider.run(node, ["mkdir", "-p", f"{local}/software"])
    mount = ["mount", "-t", "tmpfs", "-o", "size=128k", "spanreel-scenario", f"{local}/software"]
    stage.provider.run(node, mount)
    try:
        running = stage.start("restore", job["id"], "/software", "--to", RESTORED, "--json")
        code = running.wait()
    finally:
        stage.provider.run(node, ["umount", f"{local}/software"])
    stage.check(
        "the restore says so", code in (4, *EXIT_FAILED), f"exit code {code}: {running.said()[-300:]}"
    )
    stage.comes_back("with room it comes back", job["id"], "/software", stage.expected)


def _with(stage: Stage, fault: Fault) -> dict[str, Any]:
    """Run the whole backup with a fault; return its job, whatever became of it."""
    tape = stage.tape
    tape.set(fault)
    try:
        running = stage.start(*WHOLE)
        code = running.wait()
        hit = len(tape.struck())
    finally:
        tape.clear()
    job: dict[str, Any] = stage.jobs()[-1]
    status = str(job["status"])
    fits = code == EXIT_OF[status] or (status == "failed" and code in EXIT_FAILED)
    stage.check("the fault happened", hit > 0, f"{hit} times")
    stage.check("the status is true", fits, f"{status}, exit code {code}: {running.said()[-300:]}")
    return job


def _again(stage: Stage) -> None:
    job = stage.backup(*WHOLE)
    path = f"{stage.large.path}/small"
    stage.comes_back("a later backup is complete and comes back", job["id"], path, stage.expected)
