"""A restore: from each image the names asked for, through the same road backwards."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from appliance.backupserver import media, nlist
from appliance.backupserver.backup import BUTYPE
from appliance.backupserver.events import Line
from appliance.backupserver.jobs import Job, Status
from appliance.backupserver.media import Image, Segment
from appliance.backupserver.nlist import Part
from appliance.backupserver.operation import Halts, Operation, drive_failed
from appliance.backupserver.peers import Context, Peers, open_peers, reading
from appliance.backupserver.totals import VENDOR_TOTALS
from appliance.errors import JobError
from appliance.ndmp import messages as m
from appliance.ndmp.enums import (
    ButypeAttr,
    DataHaltReason,
    ErrorCode,
    MoverMode,
    MoverPauseReason,
    RecoveryStatus,
)
from appliance.ndmp.errors import ReplyError
from appliance.ndmp.types import Pval
from appliance.paths import is_at_or_below
from appliance.text import path_json, show_path

EXISTING: Final = b"EXISTING"
"""What to do with files that are there already: overwrite, keep or newer."""

DIRECT: Final = b"DIRECT"
"""y: the nlist's fh_info tell where in the image the names stand (draft-skardal-ndmpv4-04, 3.5.2.4)."""

SECOND_PASS: Final = b"SPANREEL_SECOND_PASS"
LOST_LINK: Final = b"SPANREEL_LOST_LINK"
"""Links whose data is not among the names are returned in the environment, and restored by a second pass.
A foreign file server knows neither variable, and names each link in its log."""

_THIS_RESTORES: Final = frozenset({*VENDOR_TOTALS, EXISTING, DIRECT, b"RECURSIVE", SECOND_PASS, LOST_LINK})

READ_TRIES: Final = 20
READ_RETRY_S: Final = 0.02
"""A mover ends a read within milliseconds of its last byte; a poll of one second would show in every file."""

LINES_MAX: Final = 1000
"""Log lines kept for the result of one restore; all are counted and shown as they come."""


@dataclass(frozen=True)
class Request:
    """What to restore, where to, and through which file server."""

    job: Job
    paths: tuple[bytes, ...]
    to: bytes | None
    existing: str
    entry: str


Path = bytes
"""Another name, because a result has a field of that one."""


@dataclass
class Result:
    """How a restore ended: `targets` by global path that was to be made."""

    job: int
    status: Status = Status.COMPLETE
    bytes: int = 0
    problems: int = 0
    targets: dict[Path, RecoveryStatus] = field(default_factory=dict)
    lines: list[Line] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        """The result for `--json`."""
        return {
            "job": str(self.job),
            "status": self.status.value,
            "bytes": self.bytes,
            "problems": self.problems,
            "names": [
                {**path_json(target), "result": status.name.lower()}
                for target, status in self.targets.items()
            ],
            "messages": [{"severity": line.severity, **path_json(line.text, "text")} for line in self.lines],
        }

    def add(self, part: Part, statuses: Mapping[Path, RecoveryStatus]) -> None:
        """Take how the names of a part ended.  A target is not found only if nothing of it was."""
        for name, target in zip(part.names, part.targets, strict=True):
            status = statuses[name.original_path]
            known = [status, self.targets.get(target, status)]
            bad = [one for one in known if one is not RecoveryStatus.FAILED_NOT_FOUND]
            self.targets[target] = max(bad, default=RecoveryStatus.FAILED_NOT_FOUND)


def run(context: Context, request: Request) -> Result:
    """Run a restore in the foreground.

    Raises ConfigurationError for paths that the job does not hold, SpanreelError when the restore failed.
    """
    overwrites = request.existing == "overwrite"
    parts = nlist.plan(context.catalogue, request.job, request.paths, request.to, overwrites=overwrites)
    for part in parts:
        if part.image.length is None:
            raise JobError(f"job {request.job.id} is {request.job.status.value}: its image has no known end")
    result = Result(request.job.id)
    with (
        reading(context, f"restore of job {request.job.id}") as leases,
        open_peers(context, request.entry, leases) as peers,
    ):
        can_direct = _offers_direct(peers)
        for part in parts:
            _restore(context, peers, request, part, result, can_direct)
        peers.shelf.put_away()
    result.status = _status(result)
    return result


def _status(result: Result) -> Status:
    """All good is complete; nothing found at all is a failure; the rest is in between."""
    missing = [status is RecoveryStatus.FAILED_NOT_FOUND for status in result.targets.values()]
    if missing and all(missing):
        return Status.FAILED
    bad = any(status is not RecoveryStatus.SUCCESSFUL for status in result.targets.values())
    return Status.PROBLEMS if bad or result.problems else Status.COMPLETE


def _restore(
    context: Context, peers: Peers, request: Request, part: Part, result: Result, can_direct: bool
) -> None:
    """Restore a part, and by a second pass the links in it whose data stands elsewhere in the image."""
    first = Reading(context, peers, part, request, result, can_direct)
    statuses = _run(peers, request, part, result, first)
    again, unknown = nlist.second_pass(context.catalogue, part, first.lost_links)
    for link in unknown:
        text = link + b": not restored: a hard link to a file that is not restored along with it"
        peers.events.add_line("warning", text)
    first.take_lines()
    if again.names:
        second = Reading(context, peers, again, request, result, can_direct, is_last=True)
        for link, status in _run(peers, request, again, result, second).items():
            for name in part.names:
                if is_at_or_below(link, name.original_path or b"/"):
                    statuses[name.original_path] = max(statuses[name.original_path], status)
    result.add(part, statuses)


def _run(
    peers: Peers, request: Request, part: Part, result: Result, reading: Reading
) -> dict[bytes, RecoveryStatus]:
    """One pass; how each original path ended.  Raises JobError when the pass itself failed."""
    peers.events.expect({name.original_path for name in part.names})
    try:
        halts = reading.run()
    finally:
        reading.take_lines()
    result.bytes += halts.moved
    found = peers.events.results
    # A server that says nothing of a name, though it must, has halted successfully at least.
    statuses = {
        name.original_path: found.get(name.original_path, RecoveryStatus.SUCCESSFUL) for name in part.names
    }
    if not halts.good:
        result.add(part, statuses)
        raise JobError(_failure(request, part, halts, reading.last_words))
    return statuses


def _failure(request: Request, part: Part, halts: Halts, last_words: str) -> str:
    why = f" ({last_words})" if last_words else ""
    what = f"the restore of {show_path(part.names[0].destination_path)} failed"
    if halts.data in (DataHaltReason.SUCCESSFUL, DataHaltReason.CONNECT_ERROR):
        return f"{what}: the media server stopped with {halts.mover.name}{why}"
    return f"{what}: {request.entry} stopped with {halts.data.name}{why}"


def _asked_for(request: Request, part: Part) -> str:
    """What a restore is of, for people: what was asked for, else all that the image holds."""
    if not request.paths:
        return show_path(part.image.root)
    return show_path(request.paths[0]) + (" ..." if len(request.paths) > 1 else "")


def recover_environment(
    stored: Sequence[tuple[bytes, bytes]],
    root: bytes,
    existing: str,
    *,
    direct: bool = False,
    second_pass: bool = False,
) -> tuple[Pval, ...]:
    """The environment of DATA_START_RECOVER: what the backup returned, and how this restore is to be done.

    `direct`: by the places in the nlist.  `second_pass`: whether one follows for lost links.
    """
    values = [(name, value) for name, value in stored if name not in _THIS_RESTORES]
    if not any(name == b"FILESYSTEM" for name, _ in values):
        values.append((b"FILESYSTEM", root))
    values.append((EXISTING, existing.encode()))
    if direct:
        values.append((DIRECT, b"y"))
    if second_pass:
        values.append((SECOND_PASS, b"y"))
    return tuple(Pval(name, value) for name, value in values)


def _offers_direct(peers: Peers) -> bool:
    """Whether the file server says that it does direct access; who does not answer is not asked for it."""
    try:
        reply = peers.data.call(m.ConfigGetButypeInfoRequest(), m.ConfigGetButypeInfoReply)
    except ReplyError:
        return False
    return any(
        one.butype_name == BUTYPE and one.attrs & ButypeAttr.RECOVER_DIRECT for one in reply.butype_info
    )


def next_segment(
    segments: Sequence[Segment], current: Segment, pause: m.NotifyMoverPausedPost
) -> Segment | None:
    """Where the mover goes on after a pause; None when the image is at its end.

    A seek to a place that the current window holds is none: the mover met the window's end.
    """
    if pause.reason is MoverPauseReason.SEEK and not current.holds(pause.seek_position):
        return next((segment for segment in segments if segment.holds(pause.seek_position)), None)
    later = [segment for segment in segments if segment.start > current.start]
    return later[0] if later else None


class Reading(Operation):
    """One image on its way from tape, from as many cartridges as the data server asks for."""

    def __init__(
        self,
        context: Context,
        peers: Peers,
        part: Part,
        request: Request,
        result: Result,
        can_direct: bool,
        *,
        is_last: bool = False,
    ) -> None:
        """`is_last`: no pass follows, so that lost links are problems."""
        super().__init__(peers)
        self.last_words = ""
        self.lost_links: list[bytes] = []
        self._place = part.first_place if can_direct else None
        self._is_last = is_last
        self._context = context
        self._image: Image = part.image
        self._names = part.names
        self._what = _asked_for(request, part)
        self._existing = request.existing
        self._result = result
        self._segments = [one for one in media.segments(context.catalogue, part.image) if one.length]
        self._current: Segment | None = None
        self._reads: deque[m.NotifyDataReadPost] = deque()
        self._paused = False
        self._drive_failed = False

    def run(self) -> Halts:
        """Restore.  Raises NdmpError or SpanreelError."""
        if not self._segments:
            raise JobError(f"nothing of the image of {show_path(self._image.root)} is on tape")
        try:
            first = self._first_segment()
            self._mount(first)
            self.connect(MoverMode.WRITE, self._image.record_size, first.start, first.length or 0)
            self._start()
            halts = self.watch()
            if halts.good:
                self._take_lost_links()
            self.stop()
        except BaseException:
            self.abort()
            raise
        return halts

    def _take_lost_links(self) -> None:
        # Some servers refuse DATA_GET_ENV after a restore; they have nothing to tell us.
        with contextlib.suppress(ReplyError):
            reply = self.peers.data.call(m.DataGetEnvRequest(), m.DataGetEnvReply)
            self.lost_links = [pair.value for pair in reply.env if pair.name == LOST_LINK]

    def _first_segment(self) -> Segment:
        """The segment that is read first: no cartridge is loaded that holds nothing that is wanted."""
        place = self._place
        if place is None:
            return self._segments[0]
        return next((segment for segment in self._segments if segment.holds(place)), self._segments[0])

    def _start(self) -> None:
        stored = media.environment(self._context.catalogue, self._image)
        environment = recover_environment(
            stored,
            self._image.root,
            self._existing,
            direct=self._place is not None,
            second_pass=not self._is_last,
        )
        try:
            butype = dict(stored).get(b"TYPE", BUTYPE)
            self.peers.data.do(m.DataStartRecoverRequest(environment, self._names, butype))
        except ReplyError as error:
            self.take_lines(show=False)
            raise JobError(
                f"{error.peer} refused the restore to {show_path(self._names[0].destination_path)}: "
                f"{self.last_words or error.code.name}"
            ) from error

    def on_read(self, read: m.NotifyDataReadPost) -> None:
        """Have the mover send what the data server needs."""
        self._reads.append(read)
        self._send_reads()

    def _send_reads(self) -> None:
        """MOVER_READ is legal while the mover is active, one at a time; the others wait their turn."""
        tries = 0
        while self._reads and not self._paused and self.mover_halt is None:
            read = self._reads[0]
            try:
                self.peers.mover.do(m.MoverReadRequest(read.offset, read.length))
            except ReplyError as error:
                tries += 1
                if error.code is ErrorCode.READ_IN_PROGRESS and tries < READ_TRIES:
                    # The data server had the last byte before the mover knew that it had sent it.
                    time.sleep(READ_RETRY_S)
                    continue
                if error.code not in (ErrorCode.READ_IN_PROGRESS, ErrorCode.ILLEGAL_STATE):
                    raise
                # The mover's pause or halt is on the way, or the read is long: the next poll tries again.
                return
            self._reads.popleft()

    def on_paused(self, pause: m.NotifyMoverPausedPost) -> None:
        """Go on with another segment, or drive; at the end of the image, or when nobody listens, close."""
        assert self._current is not None, "the mover runs within a segment"
        again = not self._drive_failed and drive_failed(self.peers.shelf.tape, self._current, pause)
        segment = self._current if again else next_segment(self._segments, self._current, pause)
        if segment is None or self.data_halt is not None:
            self.peers.mover.do(m.MoverCloseRequest())
            return
        self._paused = True
        begin = segment.start
        if again:
            self._drive_failed = True
            begin = self.peers.shelf.mount_again(self._image, segment, pause.seek_position)
        else:
            self._mount(segment)
        self.set_window(begin, max((segment.length or 0) - (begin - segment.start), 0))
        self.peers.mover.do(m.MoverContinueRequest())
        self._paused = False
        self._send_reads()

    def on_poll(self, data: m.DataGetStateReply, mover: m.MoverGetStateReply) -> None:
        """Show how far the restore is."""
        del data
        self.take_lines()
        self._send_reads()
        what = f"restore of {self._what}"
        detail = f"from {self.peers.shelf.tape.barcode}"
        self._context.screen.progress(what, self._result.bytes + mover.bytes_moved, detail)

    def take_lines(self, *, show: bool = True) -> None:
        """Show, keep and count the servers' log lines; those of a refusal become its error instead."""
        lines, uncounted = self.peers.events.take_lines()
        self._result.problems += uncounted + sum(line.is_problem for line in lines)
        for line in lines:
            if show:
                self._context.screen.line(line)
            if line.severity == "error":
                self.last_words = show_path(line.text)
        self._result.lines.extend(lines[: LINES_MAX - len(self._result.lines)])

    def _mount(self, segment: Segment) -> None:
        self.peers.shelf.mount_for_reading(self._image, segment)
        self._current = segment
