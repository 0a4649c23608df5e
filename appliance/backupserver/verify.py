"""Examining what a job has on tape: every checksum, index and count, without any file server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from appliance.archive.dumpdir import Dumpdir
from appliance.archive.index import IndexEntry
from appliance.archive.member import Member
from appliance.archive.verify import Examined, Verifier
from appliance.backupserver import history, media
from appliance.backupserver.imagestream import ImageStream
from appliance.backupserver.jobs import Job, Status
from appliance.backupserver.media import Image
from appliance.backupserver.peers import Context, MediaPeers, open_media, reading
from appliance.errors import ConfigurationError, JobError
from appliance.paths import is_at_or_below
from appliance.text import path_json, show_path

PROBLEMS_MAX: Final = 10_000
"""Problems kept of one job; all are counted.  As many as the catalogue keeps of a backup."""


@dataclass
class Result:
    """What was found; paths are global, an empty one is what stands between the files."""

    job: int
    status: Status = Status.COMPLETE
    length: int = 0
    files: int = 0
    damaged: int = 0
    unchecked: int = 0
    problem_count: int = 0
    problems: list[tuple[bytes, str]] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        """The result for `--json`."""
        return {
            "job": str(self.job),
            "status": self.status.value,
            "bytes": self.length,
            "files": self.files,
            "damaged": self.damaged,
            "unchecked": self.unchecked,
            "problems": self.problem_count,
            "messages": [{**path_json(path), "text": text} for path, text in self.problems],
        }


def run(context: Context, job: Job, paths: Sequence[bytes]) -> Result:
    """Examine the images of a job that hold any of `paths`; none means all.

    Raises ConfigurationError for paths that the job does not hold, SpanreelError when tape cannot be read.
    """
    images = _images(context, job, paths)
    result = Result(job.id)
    with reading(context, f"verify of job {job.id}") as leases, open_media(context, leases) as peers:
        for image in images:
            _examine(context, peers, image, paths, result)
        peers.shelf.put_away()
    result.status = Status.PROBLEMS if result.problem_count else Status.COMPLETE
    return result


def _images(context: Context, job: Job, paths: Sequence[bytes]) -> list[Image]:
    images = media.images(context.catalogue, job.id)
    if not images:
        raise JobError(f"job {job.id} is {job.status.value}: nothing of it is on tape")
    for path in paths:
        if not any(_overlap(path, image.root) for image in images):
            raise ConfigurationError(
                f"job {job.id} does not hold {show_path(path)}: `spanreel ls {job.id}` shows it"
            )
    return [image for image in images if not paths or any(_overlap(path, image.root) for path in paths)]


def _overlap(path: bytes, other: bytes) -> bool:
    return is_at_or_below(path, other) or is_at_or_below(other, path)


class _Findings:
    """The verifier's observer."""

    def __init__(self, result: Result, paths: Sequence[bytes]) -> None:
        self._result = result
        self._paths = paths

    def entry(self, entry: IndexEntry, is_whole: bool, /) -> None:
        """A file whose checksum was compared."""
        if self._wanted(entry.path):
            self._result.files += is_whole
            self._result.damaged += not is_whole

    def unlisted(self, member: Member, /) -> None:
        """A file that nothing vouches for."""
        self._result.unchecked += self._wanted(b"/" + member.name)

    def directory(self, path: bytes, dumpdir: Dumpdir, /) -> None:
        """Its checksum says whether it is whole."""

    def problem(self, path: bytes, text: str, /) -> None:
        """Damage: of what was asked for, or of what holds the image together."""
        if path and not self._wanted(path):
            return
        self._result.problem_count += 1
        if len(self._result.problems) < PROBLEMS_MAX:
            self._result.problems.append((path, text))

    def _wanted(self, path: bytes) -> bool:
        return not self._paths or any(is_at_or_below(path, wanted) for wanted in self._paths)


def _examine(
    context: Context, peers: MediaPeers, image: Image, paths: Sequence[bytes], result: Result
) -> None:
    segments = media.segments(context.catalogue, image)
    if not any(segment.length for segment in segments):
        raise JobError(f"nothing of the image of {show_path(image.root)} is on tape")
    findings = _Findings(result, paths)
    before = result.length

    def progress(count: int) -> None:
        detail = f"from {peers.shelf.tape.barcode}"
        detail += f", {result.problem_count} problems" if result.problem_count else ""
        context.screen.progress(f"verify of {show_path(image.root)}", before + count, detail)

    stream: ImageStream[Examined] = ImageStream(peers, context.config.node.address, image, segments, progress)
    examined = stream.read(lambda readinto: Verifier(readinto, findings).run())
    result.length += examined.bytes
    if stream.unreadable:
        findings.problem(b"", f"{stream.unreadable} records on tape cannot be read")
    if examined.header is None and not examined.members:
        findings.problem(b"", f"the image of {show_path(image.root)} is none of Spanreel's file servers")
    else:
        _compare(context, image, examined, findings)


def _compare(context: Context, image: Image, examined: Examined, findings: _Findings) -> None:
    """Compare what the tape holds with what the catalogue knows."""
    root = show_path(image.root)
    if examined.complete and image.length is not None and examined.bytes != image.length:
        findings.problem(
            b"", f"the image of {root} has {examined.bytes} bytes; the catalogue knows {image.length}"
        )
    known = history.count(context.catalogue, image.id)
    found = examined.members + examined.damaged + examined.unchecked
    if known and known != found:
        findings.problem(b"", f"the image of {root} holds {found} names; the catalogue knows {known}")
