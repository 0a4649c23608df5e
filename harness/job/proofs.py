"""What the main job checks, and when."""

from __future__ import annotations

from harness import parts
from harness.checks import clientview, tapeback, tapetools, token
from harness.checks.connections import one_channel
from harness.checks.result import left_out, verdict
from harness.checks.trees import same_tree
from harness.compare import OWNER_FIELDS, move, without
from harness.job import steps
from harness.job.record import Run
from harness.job.steps import Backup
from harness.manifest import Manifest
from harness.nodeconfig import catalogue
from harness.topology import (
    BACKUP_SERVER,
    CLIENT,
    CONNECTION_SERVER,
    FILE_SERVER,
    MACHINES,
    MADE_BY_THE_LAB,
    PROCESS_MODEL,
    RESTORED,
)

MOUNTINFO = "/proc/self/mountinfo"


def ignored(run: Run) -> frozenset[str]:
    """Return the fields that this lab cannot compare."""
    return frozenset() if run.provider.is_root else OWNER_FIELDS


def client_view(run: Run, expected: Manifest) -> None:
    """Mount every file server on the client: one tree, no local path in its mount table."""
    name = "local roots are not in the client's mount table"
    topology, token_text = run.provider.topology, run.provider.lab.token
    if not any(run.provider.paths(node).exports for node in topology.with_role(FILE_SERVER)):
        run.check(left_out(name, "this lab has no kernel NFS, so nothing is mounted"))
        return
    with run.guard("client sees one tree"), run.phase("client mounts every file server"):
        try:
            for result in clientview.look(run.provider, expected):
                run.check(result)
            client = topology.only(CLIENT)
            run.check(token.on_node(name, token_text, run.provider, client, [MOUNTINFO], MOUNTINFO))
        finally:
            for server in topology.with_role(FILE_SERVER):
                clientview.unmount(run.provider, server)


def backup_complete(run: Run, backup: Backup) -> None:
    """Check that the catalogue says complete, and that one channel carried it."""
    job = backup.job
    summary = f"job {job['id']} is {job['status']}, {job['files']} files, {job['problems']} problems"
    passed = job["status"] == "complete" and not job["problems"] and bool(backup.files)
    run.check(verdict(f"backup through {backup.entry} is complete", passed, summary))
    topology = run.provider.topology
    media = topology.node(backup.library.node)
    control = {topology.ndmp_port, topology.cluster_port}
    name = f"one backup channel through {backup.entry}"
    connection_server = topology.only(CONNECTION_SERVER).address
    run.check(one_channel(name, backup.connections, connection_server, media.address, control))


def tape(run: Run, backup: Backup, expected: Manifest) -> None:
    """Check the tape with foreign tools."""
    with run.guard(f"tape of {backup.entry} is readable"):
        with run.phase(f"read the tape of {backup.entry} with GNU tar") as phase:
            found = tapeback.extract(run.provider, backup.library, backup.files)
            phase.bytes = found.bytes
        run.check(tapeback.extracts(f"tape of {backup.entry} extracts with GNU tar", found))
        run.check(
            same_tree(f"tape of {backup.entry} holds the originals", expected, found.tree, ignored(run))
        )
        run.check(tapeback.no_local_root(f"local roots are not on the tape of {backup.entry}", found))


def library(run: Run, backup: Backup) -> None:
    """Ask a library by foreign tools, and make the product's own checks of it where the lab made it."""
    used = backup.library
    if used.transport == PROCESS_MODEL:
        name = f"foreign tools see {used.changer} as Spanreel does"
        run.check(left_out(name, "the library is a model in a process: no tool can reach it"))
        return
    with run.guard(f"foreign tools see {used.changer} as Spanreel does"):
        with run.phase(f"mtx, mt, sg3-utils and GNU tar on {used.changer}"):
            seen = tapetools.look(run.provider, used, backup.files[0])
        for result in tapetools.judge(seen, backup.files[0], backup.job):
            run.check(result)
    if used.transport in MADE_BY_THE_LAB and run.provider.topology.provider != MACHINES:
        with run.guard(f"{used.changer} does what is relied on"):
            with run.phase(f"spanreel tape check on {used.changer}"):
                result = tapetools.conforms(run.provider, used)
            run.check(result)


def restores(run: Run, backup: Backup, expected: Manifest) -> None:
    """Restore in every way and compare."""
    entry, ignore = backup.entry, ignored(run)
    name = f"restore to {RESTORED} through {entry}"
    with run.guard(name):
        found = move(steps.restore_all(run, backup), RESTORED.encode(), b"")
        found.pop(b"", None)
        run.check(same_tree(name, expected, without(found, RESTORED.encode()), ignore))
    # What belongs to another server than the one asked: that is the way that may go wrong.
    owner = next(
        (node.name for node in run.provider.topology.with_role(FILE_SERVER) if node.name != entry), entry
    )
    theirs = [item.path for item in parts.originals(run.provider) if item.owner == owner]
    for what in ("file", "directory"):
        name = f"restore of one {what} through {entry}"
        with run.guard(name):
            path = (
                steps.pick_file(expected, theirs)
                if what == "file"
                else steps.pick_directory(run, expected, owner)
            )
            target = f"{RESTORED}/{path.rpartition('/')[2]}"
            found = move(steps.restore_one(run, backup, path, what), target.encode(), path.encode())
            run.check(same_tree(name, move(expected, path.encode(), path.encode()), found, ignore))


def in_place(run: Run, backup: Backup, expected: Manifest) -> bool:
    """Delete the originals and restore them; return whether they are back."""
    name = f"restore in place through {backup.entry}"
    with run.guard(name):
        found = steps.restore_in_place(run, backup)
        return run.check(same_tree(name, expected, found, ignored(run)))
    return False


def no_local_roots(run: Run) -> None:
    """Search everything the backup server saw, said or keeps."""
    provider, text = run.provider, run.provider.lab.token
    with run.guard("local roots stay with their owners"), run.phase("search for local roots"):
        name = "local roots are not in the backup server's NDMP traffic"
        if provider.bridge is None:
            run.check(token.in_files(name, text, provider.ndmp_recordings()))
        else:
            for path in sorted(run.folder.glob("*.pcap")):
                run.check(token.in_capture(f"{name}: {path.stem}", text, path, provider.topology.ndmp_port))
        node = provider.topology.only(BACKUP_SERVER)
        kept = provider.paths(node)
        name = "local roots are not in the catalogue"
        run.check(token.on_node(name, text, provider, node, [kept.state], catalogue(kept)))
        said = list((run.folder / "commands").glob("*"))
        run.check(token.in_files("local roots are not in what the backup server printed", text, said))
