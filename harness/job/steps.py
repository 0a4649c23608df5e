"""What the main job does with the product and with data; nothing is judged here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from harness import manifest, parts, seed
from harness.checks.connections import Connection
from harness.checks.observe import observing
from harness.checks.tapeback import TapeFile
from harness.errors import CheckError
from harness.job.command import jobs, spanreel
from harness.job.record import Run
from harness.manifest import Manifest
from harness.nodeconfig import local_root, use_library
from harness.topology import BACKUP_SERVER, RESTORED, Library, Node

EXIT_PROBLEMS = 4
# What the catalogue must say of a job.
JOB_FIELDS = frozenset({"id", "status", "paths", "files", "bytes", "problems", "media"})
# A file worth restoring by itself: neither empty nor most of the seed.
FILE_MIN, FILE_MAX = 1000, 4 * 1024 * 1024


@dataclass(frozen=True)
class Backup:
    """A backup that ran: what the catalogue says of it, and what was seen from outside.

    `config` is the backup server's configuration that uses the library.
    """

    entry: str
    library: Library
    config: str
    job: dict[str, Any]
    files: tuple[TapeFile, ...]
    connections: set[Connection]


def write_seed(run: Run) -> Manifest:
    """Seed the owners and describe what is there."""
    with run.phase("seed") as phase:
        seeded = seed.seed(run.provider)
        phase.bytes = seeded.bytes
        phase.detail = f"{seeded.files} files and the nasty corner"
    run.notes += [f"seed left out {what}: {why}" for what, why in seeded.left_out.items()]
    with run.phase("manifest of the originals") as phase:
        made = manifest.take(run.provider, parts.originals(run.provider), run.folder / "originals.jsonl")
        phase.detail = f"{len(made)} names"
    run.files = len(made)
    return made


def back_up(run: Run, entry: Node, index: int) -> Backup:
    """Back up the whole tree through one file server onto one library, watched from outside."""
    label = f"backup-{entry.name}"
    topology = run.provider.topology
    library, config = (
        topology.libraries[index],
        use_library(run.provider, topology.only(BACKUP_SERVER), index),
    )
    with run.phase(f"backup / through {entry.name}") as phase:
        with observing(run.provider, run.folder / f"{label}.pcap") as seen:
            words = ("backup", "/", "--entry", entry.name, "--json")
            spanreel(run, label, *words, config=config, allowed=(0, EXIT_PROBLEMS))
        listed = jobs(run, f"jobs-{entry.name}", config)
        if not listed:
            raise CheckError("the backup ended well, but the catalogue knows no job")
        job = listed[-1]
        missing = JOB_FIELDS - job.keys()
        if missing:
            raise CheckError(f"`spanreel jobs --json` says nothing of {', '.join(sorted(missing))}")
        phase.bytes = int(job["bytes"])
        phase.detail = f"job {job['id']} on {library.changer}: {job['files']} files"
    files = tuple(TapeFile(item["barcode"], int(item["file"])) for item in job["media"])
    return Backup(entry.name, library, config, job, files, seen())


def restore_all(run: Run, backup: Backup) -> Manifest:
    """Restore the whole tree below /restored and describe what is there."""
    empty_restored(run)
    label = f"restore-{backup.entry}"
    with run.phase(f"restore / --to {RESTORED} through {backup.entry}") as phase:
        with observing(run.provider, run.folder / f"{label}.pcap"):
            _restore(run, backup, label, "/", "--to", RESTORED)
        phase.bytes = int(backup.job["bytes"])
    return manifest.take(
        run.provider, parts.restored(run.provider), run.folder / f"restored-{backup.entry}.jsonl"
    )


def restore_one(run: Run, backup: Backup, path: str, what: str) -> Manifest:
    """Restore one file or directory below /restored and describe it, wherever its owner put it."""
    empty_restored(run)
    label = f"restore-{what}-{backup.entry}"
    with run.phase(f"restore one {what} through {backup.entry}") as phase:
        phase.detail = path
        _restore(run, backup, label, path, "--to", RESTORED)
    target = f"{RESTORED}/{path.rpartition('/')[2]}"
    junction = parts.owner_of(run.provider, target)
    if junction is None:
        raise CheckError(f"{target} has no owner")
    local = local_root(run.provider, junction.path) + target.removeprefix(junction.path)
    root = {"global": target, "local": local, "skip": parts.junctions_below(run.provider, target)}
    node = run.provider.topology.node(junction.owner)
    if run.provider.run(node, ["test", "-e", local], check=False).code != 0:
        raise CheckError(f"{node.name}: {target} is not there after the restore")
    return manifest.take_roots(run.provider, node, [root])


def restore_in_place(run: Run, backup: Backup) -> Manifest:
    """Delete the originals, restore them where they were, and describe what is there."""
    empty_restored(run)
    with run.phase(f"delete the originals before {backup.entry}") as phase:
        removed = seed.wipe(run.provider, parts.originals(run.provider))
        phase.detail = f"{removed} names"
    if removed == 0:
        raise CheckError("there were no originals to delete, so restoring them would prove nothing")
    with run.phase(f"restore / in place through {backup.entry}") as phase:
        _restore(run, backup, f"restore-in-place-{backup.entry}", "/")
        phase.bytes = int(backup.job["bytes"])
    return manifest.take(
        run.provider, parts.originals(run.provider), run.folder / f"in-place-{backup.entry}.jsonl"
    )


def _restore(run: Run, backup: Backup, label: str, *what: str) -> None:
    words = ("restore", "latest", *what, "--entry", backup.entry, "--json")
    spanreel(run, label, *words, config=backup.config)


def empty_restored(run: Run) -> None:
    """Empty the place of restores."""
    seed.wipe(run.provider, parts.restored(run.provider))


def pick_file(expected: Manifest, owner_parts: list[str]) -> str:
    """Return a plain file of one of these parts: the first of a fair size that is not linked."""
    for path, entry in expected.items():
        name = path.decode("utf-8", "surrogateescape")
        plain = entry["type"] == "file" and "links" not in entry and entry["path"] == name
        if (
            plain
            and FILE_MIN <= entry["size"] <= FILE_MAX
            and any(parts.at_or_below(name, part) for part in owner_parts)
        ):
            return name
    raise CheckError(f"the seed has no plain file below {', '.join(owner_parts)}")


def pick_directory(run: Run, expected: Manifest, owner: str) -> str:
    """Return the nasty corner of an owner."""
    for junction in parts.originals(run.provider):
        path = f"{junction.path}/{seed.NASTY}"
        if junction.owner == owner and path.encode() in expected:
            return path
    raise CheckError(f"the seed has no nasty corner on {owner}")
