"""Scenarios in which nothing is broken: what ordinary days bring."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from contextlib import nullcontext

from harness import guest, manifest
from harness.checks import tapeback
from harness.checks.trees import same_tree
from harness.compare import move
from harness.errors import CheckError
from harness.manifest import Manifest
from harness.scenarios.stage import LARGE_BYTES, USABLE, WHOLE, Stage
from harness.scenarios.tape import WRITE, TapeFaults, hold
from harness.topology import FILE_SERVER

# Days of an incremental chain, the full backup included.
DAYS = 4
# Seconds by which an owner's clock is wrong, day by day; what is changed on a day has that day's times.
# Certificates are good from a day before they were made (appliance/pki.py).
SKEWS = (72_000, -72_000, 36_000, 0)
# Within the largest part of a job.
FULL_AT = 60
VOLUME_OVERFLOW = "0d/00/02"


def clients_write(stage: Stage) -> None:
    """Back up a tree that clients change all the while."""
    chance = stage.chance("clients-write")
    top = stage.fill(stage.large.path, "busy", count=60)
    node, local = stage.local(top)
    quiet = stage.describe(f"{top}/quiet")
    stage.provider.run(node, ["mkdir", "-p", f"{local}/changing"])
    until = f"{stage.provider.paths(node).scratch}/stop-changing"
    argument = {
        "number": chance.randrange(1 << 30),
        "folder": f"{local}/changing",
        "steps": 200,
        "until": until,
    }
    writer = threading.Thread(target=guest.call, args=(stage.provider, node, "change", argument), daemon=True)
    writer.start()
    try:
        job = stage.command(*WHOLE, allowed=USABLE)
    finally:
        stage.provider.run(node, ["touch", until])
        writer.join()
    truthful = job["status"] in ("complete", "problems") and (job["status"] == "problems") == bool(
        job["problems"]
    )
    stage.check(
        "the job says how many files changed", truthful, f"{job['status']}, {job['problems']} problems"
    )
    files = [tapeback.TapeFile(item["barcode"], int(item["file"])) for item in job["media"]]
    found_on_tape = tapeback.extract(stage.provider, stage.provider.topology.libraries[0], files)
    stage.run.check(tapeback.extracts("GNU tar takes the whole image", found_on_tape))
    stage.restore(job["id"], top, allowed=USABLE)
    found = move(stage.describe("/restored/busy/quiet"), b"/restored/busy/quiet", f"{top}/quiet".encode())
    stage.run.check(same_tree("files that nobody wrote are as they were", quiet, found, stage.ignored))


def entry_no_owner(stage: Stage) -> None:
    """Back up and restore what belongs to others than the server that is asked."""
    servers = [node.name for node in stage.provider.topology.with_role(FILE_SERVER)]
    media = stage.media_server.name
    for item in (stage.large, next(each for each in stage.provider.topology.gns if each.owner == servers[0])):
        others = [name for name in servers if name not in (item.owner, media)]
        first, last = others[0], others[-1]
        job = stage.backup("backup", item.path, "--entry", first, "--json")
        stage.restore(job["id"], f"{item.path}/small", "--entry", last)
        name = f"{item.owner}'s part through {first}, back through {last}"
        stage.is_restored(name, f"{item.path}/small", stage.expected)


def junction_moved(stage: Stage) -> None:
    """Move a part to another owner after its backup: it comes back to whom it belongs today."""
    provider, writer = stage.provider, stage.entry
    old, new = stage.owner, stage.entry
    places = {node.name: f"{provider.data_root(node)}/moving-{node.name}" for node in (old, new)}
    for node in (old, new):
        provider.run(node, ["rm", "-rf", places[node.name]])
        provider.run(node, ["mkdir", places[node.name]])
    root = {"local": places[old.name], "files": [(f"{index:02d}", 30000) for index in range(20)]}
    guest.call(provider, old, "seed_plain", {"number": stage.number, "roots": [root]})
    gns = ["spanreel", "gns"]
    provider.run(writer, [*gns, "add", "/moving", "--owner", old.name, "--local", places[old.name]])
    try:
        before = _at(stage, old.name, places[old.name])
        job = stage.backup("backup", "/moving", "--json")
        provider.run(writer, [*gns, "move", "/moving", "--to", new.name, "--local", places[new.name]])
        provider.run(new, ["sh", "-c", f"rm -rf {places[new.name]}/*"])
        provider.run(old, ["sh", "-c", f"rm -rf {places[old.name]}/*"])
        stage.command("restore", job["id"], "/moving", "--json")
        after, left = _at(stage, new.name, places[new.name]), _at(stage, old.name, places[old.name])
        stage.run.check(same_tree("the new owner has the files", before, after, stage.ignored))
        stage.check("the old owner got none", len(left) == 1, f"{len(left) - 1} names")
    finally:
        provider.run(writer, [*gns, "rm", "/moving"], check=False)


def incremental_chain(stage: Stage) -> None:
    """Full and incremental backups of a tree that changes: every day comes back as it was."""
    _chain(stage, "incremental-chain", [0] * DAYS)


def clock_skew(stage: Stage) -> None:
    """The same while the owner's clock is wrong, another way each day: nothing that changed is missed."""
    _chain(stage, "clock-skew", SKEWS)


def _chain(stage: Stage, name: str, skews: Sequence[int]) -> None:
    """Play a chain of so many days, on each of which the owner's clock is wrong by some seconds."""
    chance = stage.chance(name)
    top = stage.fill(stage.large.path, name, size=2000)
    node, local = stage.local(top)
    stage.provider.run(node, ["mkdir", "-p", f"{local}/changing"])
    days: list[tuple[str, Manifest]] = []
    for day, skew in enumerate(skews):
        words = ("--incremental",) if day else ("--level", "0")
        argument = {"number": chance.randrange(1 << 30), "folder": f"{local}/changing", "steps": 12}
        # A file of the same size, of which only contents and times tell that it is another.
        again = {"local": local, "files": [(f"quiet/{day:02d}", 2000)]}
        with stage.provider.wrong_clock(node, skew) if skew else nullcontext():
            job = stage.backup("backup", top, *words, "--json")
            days.append((job["id"], stage.describe(top)))
            guest.call(stage.provider, node, "change", argument)
            seeds = {"number": stage.number + day + 1, "roots": [again]}
            guest.call(stage.provider, node, "seed_plain", seeds)
    for day, (job_id, tree) in enumerate(days):
        stage.comes_back(f"day {day} comes back", job_id, top, tree)


def several_volumes(stage: Stage) -> None:
    """A job that needs several cartridges, and files that lie on two of them."""
    library, config = stage.other_library()
    tape = TapeFaults(stage.provider, library)
    if library.capacity_mib << 20 > LARGE_BYTES:
        # Cartridges of another size are full when the drive says so.
        tape.set({"command": WRITE, "nth": FULL_AT, "sense": VOLUME_OVERFLOW})
    try:
        job = stage.backup(*WHOLE, config=config)
    finally:
        tape.clear()
    used = [item["barcode"] for item in job["media"]]
    stage.check("the job needed several cartridges", len(set(used)) > 1, ", ".join(used))
    stage.comes_back(
        "what lies on several comes back", job["id"], stage.large_file, stage.expected, config=config
    )


def two_jobs(stage: Stage) -> None:
    """Two jobs at once on two drives: held in the middle together, then both complete."""
    servers = [node.name for node in stage.provider.topology.with_role(FILE_SERVER)]
    drives = stage.provider.topology.libraries[0].drives
    if len(drives) < 2:
        raise CheckError("the library has one drive only")
    tape = stage.tape
    tape.set(*(hold(WRITE, 3, serial) for serial in drives[:2]))
    jobs = [
        stage.start("backup", stage.large.path, "--entry", servers[0], "--json"),
        stage.start("backup", "/software", "--entry", servers[1], "--json"),
    ]
    try:
        tape.wait(2, lambda: all(job.runs for job in jobs))
        stage.check("both drives write at once", True, " and ".join(drives[:2]))
    finally:
        tape.clear()
        codes = [job.wait() for job in jobs]
        told = [json.loads(job.out.read_bytes() or b"{}") for job in jobs]
    stage.check(
        "both jobs are complete", codes == [0, 0], f"exit codes {codes}; {jobs[0].said()}; {jobs[1].said()}"
    )
    for job, path in zip(told, (stage.large.path, "/software"), strict=True):
        if job:
            stage.comes_back(f"{path} comes back", job["id"], f"{path}/small", stage.expected)


def _at(stage: Stage, name: str, local: str) -> Manifest:
    """Describe a local directory as /moving."""
    node = stage.provider.topology.node(name)
    return manifest.take_roots(stage.provider, node, [{"global": "/moving", "local": local, "skip": []}])
