"""A backup over several owners: one image, one channel, one file history (docs/architecture.md, "A backup").

The image is: global header and the directories that nobody owns (fed by the entry server), every part
(fed by its owner), trailer and end-of-archive (fed by the entry server).
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from appliance import feeds
from appliance.archive.errors import SinkError
from appliance.archive.frame import END_OF_ARCHIVE, PartSummary, global_header, trailer
from appliance.archive.markers import NO_MARKERS, Markers
from appliance.archive.part import history_path
from appliance.archive.selection import Reach, Selection
from appliance.archive.writer import write_directories
from appliance.fileserver import order as o
from appliance.fileserver.bases import Known, choose
from appliance.fileserver.environment import ALL_OF_IT, HistoryForm, Increment
from appliance.fileserver.history import History
from appliance.fileserver.job import Job, JobContext, JobFailedError, JobTotals
from appliance.fileserver.skeleton import Skeleton
from appliance.fileserver.snapshot_round import Snapshots, take_snapshots
from appliance.gns.map import GnsMap, Part
from appliance.ndmp import dataconn
from appliance.ndmp import messages as m
from appliance.ndmp.client import Client
from appliance.ndmp.declare import CODES
from appliance.ndmp.endpoint import Received
from appliance.ndmp.enums import (
    DataHaltReason,
    ErrorCode,
    LogType,
    MoverHaltReason,
    MoverMode,
)
from appliance.ndmp.errors import ConnectionLostError, NdmpError, RemoteFaultError
from appliance.ndmp.types import Address
from appliance.peers import ChannelSession, Event, FeedSession
from appliance.text import show_path

_DATA_HALTED = CODES[m.NotifyDataHaltedPost][1]
_MOVER_HALTED = CODES[m.NotifyMoverHaltedPost][1]


@dataclass
class _Halts:
    """How the two ends of a part ended; None while they run."""

    owner: DataHaltReason | None = None
    feed: MoverHaltReason | None = None


Knowing = Callable[[Sequence[Part]], Sequence[Known]]


@dataclass(frozen=True)
class BackupOrder:
    """What a DMA asked for: global path of the root, form of file history, what of it is saved.

    Raises ArchiveUsageError for patterns that cannot be meant.
    """

    root: bytes
    history: HistoryForm
    exclude: tuple[bytes, ...] = ()
    files: tuple[bytes, ...] = ()
    markers: Markers = NO_MARKERS
    increment: Increment = ALL_OF_IT

    def __post_init__(self) -> None:
        self.selection()

    def selection(self) -> Selection:
        """The patterns, compiled."""
        return Selection(self.exclude, self.files)


class BackupJob(Job):
    """Runs one backup."""

    def __init__(self, context: JobContext, gns: GnsMap, order: BackupOrder, known: Knowing) -> None:
        """`known` tells what the owners of the parts have as bases.  Raises RefusalError for no base."""
        super().__init__(context)
        self._gns = gns
        self._order = order
        self._root = order.root
        selection = order.selection()
        self._wanted = [
            part
            for part in gns.parts(order.root)
            if selection.reach_of_part(history_path(part.path, order.root)) is not Reach.NONE
        ]
        self.base = choose(order.increment, known(self._wanted), order.root)
        self._skeleton = Skeleton(order.root, self._wanted)
        self._matched: set[int] = set()
        self._parts: list[PartSummary] = []
        self._start_length = 0
        self._skipped: list[str] = []
        self._next_node = self._skeleton.next_node
        self._own_feed: socket.socket | None = None
        self._snapshots = Snapshots()
        self._saved_from: dict[bytes, bool] = {}
        self.totals = JobTotals()
        self.saved: list[Part] = []
        self.moved: list[bytes] = []

    def abort(self) -> None:
        """End the job, also where it feeds the image itself and the connection server does not read."""
        super().abort()
        dataconn.shut(self._own_feed)

    def run(self) -> DataHaltReason:
        """Have snapshots made, feed every part in turn and close the image.

        Raises JobFailedError, JobAbortedError, or NdmpError when a node is lost.
        """
        parts = self._wanted
        self.context.channel.start_backup()
        with contextlib.ExitStack() as held:
            self._snapshots = take_snapshots(
                self.context.peers,
                self.context.name,
                self._gns.generation,
                parts,
                lambda client: held.enter_context(self.session(client)),
                self.check_abort,
                self.context.log,
            )
            self.check_abort()
            self._feed_own("start", self._write_start)
            self._start_length = self.totals.bytes
            for part in parts:
                self._feed_part(part)
        if parts and self.totals.skipped == len(parts):
            raise JobFailedError(f"nothing was saved: {self._skipped[0]}")
        self._tell_unmatched()
        for line in self._snapshots.lines(self._saved_from):
            self.context.tell(LogType.NORMAL, line)
        self._feed_own("end", self._write_end)
        return self._finish()

    @property
    def _version(self) -> int:
        """Of what nodes say to each other: the highest that all speak that have to do with the image."""
        return min(self._snapshots.agreed, self.context.channel.agreed)

    @property
    def _format(self) -> int:
        """The format of the image."""
        return o.image_format(self._version)

    def table(self) -> list[tuple[int, int, bytes]]:
        """What the image consists of: offset, length and global path, the entry server's beginning first."""
        parts = [(part.offset, part.bytes, part.path) for part in self._parts]
        return [(0, self._start_length, self._root), *parts]

    # What the entry server feeds itself.

    def _write_start(self, sink: Callable[[bytes | memoryview], object]) -> None:
        header = global_header(self.context.name, self._root, self.base.token, version=self._format)
        sink(header)
        now = int(time.time())
        nodes = self._skeleton.nodes(None)
        attributes = [
            (path, _plain_directory(now)) for path in self._gns.unowned(self._root) if path in nodes
        ]
        history = History(self.context.poster, self._order.history)
        result = write_directories(
            attributes,
            sink,
            history,
            job=self.context.name,
            backup_root=self._root,
            stream_offset=len(header),
            nodes=nodes,
            is_incremental=self._order.increment.is_incremental,
            version=self._format,
        )
        history.flush()
        self.totals.files += result.files

    def _write_end(self, sink: Callable[[bytes | memoryview], object]) -> None:
        sink(trailer(self.context.name, self._parts, self.totals.bytes, version=self._format))
        sink(END_OF_ARCHIVE)

    def _feed_own(self, name: str, write: Callable[[Callable[[bytes | memoryview], object]], None]) -> None:
        """Feed what `write` writes, as an owner would."""
        offset = self.totals.bytes
        feed = self._feed_session(name)
        sent = 0
        with self.session(feed):
            address = feed.listen(MoverMode.READ, offset)
            stream = feeds.connect(address, self.context.peers.address, self.context.peers.tls)

            def sink(data: bytes | memoryview) -> None:
                nonlocal sent
                stream.sendall(data)
                sent += len(data)

            self._own_feed = stream
            with contextlib.closing(stream):
                self.check_abort()
                try:
                    write(sink)
                except SinkError as error:
                    raise JobFailedError(
                        f"the connection server took no more of the image: {error}"
                    ) from error
                feeds.finish(stream)
            halts = _Halts(owner=DataHaltReason.SUCCESSFUL)
            self._await_halts(feed, None, halts, offset)
            self._check_counts(feed, halts, name, sent)
        self.totals.bytes += sent
        self.context.progress(self.totals.bytes)

    # What the owners feed.

    def _feed_part(self, part: Part) -> None:
        """Have the owner feed its part; skip it, named, when the owner cannot even start."""
        path = show_path(part.path)
        forbidden = self._snapshots.forbidden.get(part.path)
        if forbidden is not None:
            owner_name = part.junction.owner
            self._skip(part, f"not saved, {owner_name} wants a snapshot and has none: {forbidden}")
            return
        feed = self._feed_session(path)
        with self.session(feed), contextlib.ExitStack() as held:
            address = feed.listen(MoverMode.READ, self.totals.bytes)
            try:
                owner = self._open_owner(part.junction.owner, _owner_of(feed))
                held.enter_context(self.session(owner))
                self._start_owner(owner, part, address)
            except NdmpError as error:
                self.check_abort()
                self._skip_for(part, error)
                return
            self._run_part(part, owner, feed)

    def _skip_for(self, part: Part, error: NdmpError) -> None:
        """Go on without a part whose owner did not start."""
        if error.code is ErrorCode.FILE_NOT_FOUND:
            # The owner has told the DMA so itself.
            self._skip(part, "is not there", is_told=True)
        else:
            self._skip(part, f"skipped, its file server {part.junction.owner} did not start: {error}")

    def _skip(self, part: Part, why: str, *, is_told: bool = False) -> None:
        """Go on without a part."""
        path = show_path(part.path)
        self.context.log.warning("part skipped", path=path, why=why)
        self._skipped.append(f"{path} {why}" if is_told else f"{path}: {why}")
        if not is_told:
            self.context.tell(LogType.ERROR, self._skipped[-1])
        self.totals.skipped += 1
        history = History(self.context.poster, self._order.history)
        self._skeleton.tell_missing(part.path, history)
        history.flush()

    def _tell_unmatched(self) -> None:
        """Name what FILES asks for and nobody has."""
        for index, value in enumerate(self._order.files):
            if index not in self._matched:
                self.totals.problems += 1
                self.context.tell(LogType.WARNING, f"FILES: there is nothing at {show_path(value)}")

    def _start_owner(self, owner: Client, part: Part, address: Address) -> None:
        order = o.PartOrder(
            path=part.path,
            root=self._root,
            job=self.context.name,
            fileset=part.junction.fileset,
            generation=self._gns.generation,
            local_path=part.local,
            offset=self.totals.bytes,
            node_base=self._next_node,
            parent_node=self._skeleton.parent(part.path),
            skip=part.skips,
            exclude=self._order.exclude,
            files=self._order.files,
            markers=self._order.markers,
            nodes=self._skeleton.nodes(part.path),
            history=self._order.history,
            level=self._order.increment.level,
            token=self.base.token,
            base=self.base.base if part.path in self.base.paths else None,
            is_incremental=self._order.increment.is_incremental,
            snapshot=part.path in self._snapshots.taken,
            version=self._version,
        )
        if o.image_format(owner.agreed) < self._format:
            what = f"it speaks version {owner.agreed} now, and would not write format {self._format}"
            raise RemoteFaultError(what, ErrorCode.CONNECT)
        owner.do(m.DataConnectRequest(address))
        owner.do(m.DataStartBackupRequest(o.BUTYPE, order.to_env()))

    def _run_part(self, part: Part, owner: Client, feed: FeedSession) -> None:
        path, offset, halts = show_path(part.path), self.totals.bytes, _Halts()
        try:
            self._await_halts(feed, owner, halts, offset)
        except NdmpError as error:
            self.check_abort()
            raise JobFailedError(f"{path}: {owner.peer} was lost within its part: {error}") from error
        if halts.owner is not DataHaltReason.SUCCESSFUL:
            raise JobFailedError(f"{path}: {owner.peer} failed within its part")
        env = owner.call(m.DataGetEnvRequest(), m.DataGetEnvReply).env
        try:
            totals = o.PartTotals.from_env(env)
        except (KeyError, ValueError) as error:
            raise JobFailedError(f"{path}: {owner.peer} gave no totals of its part") from error
        self._check_counts(feed, halts, path, totals.length)
        self._parts.append(PartSummary(owner.peer, part.path, offset, totals.length, totals.files))
        self.totals.bytes += totals.length
        self.totals.files += totals.files
        self.totals.problems += totals.problems
        self._next_node += totals.nodes
        self._matched |= totals.matched
        self.moved += totals.moved
        self.saved.append(part)
        self._saved_from[part.path] = totals.snapshot
        self.context.progress(self.totals.bytes)
        self.context.log.info(
            "part saved",
            path=path,
            owner=owner.peer,
            bytes=totals.length,
            files=totals.files,
            snapshot=totals.snapshot,
        )

    def _check_counts(self, feed: FeedSession, halts: _Halts, path: str, sent: int) -> None:
        """A part counts only when it ended cleanly and everybody counted the same bytes."""
        moved = feed.state().bytes_moved
        if halts.feed is not MoverHaltReason.CONNECT_CLOSED or moved != sent:
            reason = halts.feed.name if halts.feed is not None else "nothing"
            raise JobFailedError(
                f"{path}: {sent} bytes were sent, {moved} arrived, the feed ended by {reason}"
            )

    # Sessions and events.

    def _feed_session(self, name: str) -> FeedSession:
        context = self.context
        return FeedSession(context.peers, context.channel.channel, f"feed {name}", context.events)

    def _open_owner(self, node: str, source: str) -> Client:
        """A session to an owner; file history and log lines go straight on to the DMA, as they came.

        `source` marks its events: word of the end of one part's session comes while the next part of the
        same owner runs, and is not about that.
        """
        events = self.context.events

        def on_post(post: Received) -> None:
            if post.code == _DATA_HALTED:
                events.put(Event(source, post))
            else:
                self.context.poster.raw_post(post.code, post.raw)

        return self.context.peers.open(node, on_post, lambda: events.put(Event(source, None)))

    def _await_halts(self, feed: FeedSession, owner: Client | None, halts: _Halts, offset: int) -> None:
        """Wait until owner and feed halted.  Raises JobFailedError when one of them is lost."""

        def poll() -> None:
            if owner is not None and halts.owner is None:
                state = owner.call(m.DataGetStateRequest(), m.DataGetStateReply)
                self.context.progress(offset + state.bytes_processed)

        while halts.owner is None or halts.feed is None:
            event = self.wait(poll)
            if event.source == ChannelSession.NAME:
                raise JobFailedError("the backup channel was lost")
            if event.source == feed.name:
                halts.feed = _mover_reason(event, feed.name)
                if halts.feed is not MoverHaltReason.CONNECT_CLOSED and owner is None:
                    return
            elif owner is not None and event.source == _owner_of(feed):
                if event.post is None:
                    raise ConnectionLostError("its session ended")
                body = event.post.body()
                assert isinstance(body, m.NotifyDataHaltedPost)
                halts.owner = body.reason

    def _finish(self) -> DataHaltReason:
        """Close the channel, and wait for the connection server's word that it is closed."""
        self.context.channel.finish(self.totals.bytes)
        while True:
            event = self.wait(lambda: None)
            if event.source != ChannelSession.NAME:
                continue
            if event.post is None:
                raise JobFailedError("the connection server was lost at the end of the job")
            if event.post.code == _DATA_HALTED:
                body = event.post.body()
                assert isinstance(body, m.NotifyDataHaltedPost)
                return body.reason


def _owner_of(feed: FeedSession) -> str:
    """What the events of the owner that feeds this feed are marked with."""
    return f"owner for {feed.name}"


def _mover_reason(event: Event, name: str) -> MoverHaltReason:
    if event.post is None:
        raise JobFailedError(f"the connection server was lost ({name})")
    if event.post.code != _MOVER_HALTED:
        raise JobFailedError(f"{name}: {event.post.name} is not expected of a feed")
    body = event.post.body()
    assert isinstance(body, m.NotifyMoverHaltedPost)
    return body.reason


def _plain_directory(now: int) -> os.stat_result:
    """The attributes of a directory that nobody owns: root's, 0755, the job's time in seconds."""
    fields = (stat.S_IFDIR | 0o755, 0, 0, 2, 0, 0, 0, now, now, now)
    return os.stat_result(fields, {"st_mtime_ns": now * 10**9})
