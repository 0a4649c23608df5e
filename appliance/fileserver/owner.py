"""The owner's half: save and restore parts of this file server, on the order of an entry server.

A DATA service whose mover is a feed of the connection server.  Local paths come from this server's own
map; the one in an order is only compared with it.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from appliance import feeds
from appliance.archive.beneath import open_directory, split_path
from appliance.archive.changes import Changes
from appliance.archive.errors import ArchiveError
from appliance.archive.extract import Extractor
from appliance.archive.frame import END_OF_ARCHIVE, global_header
from appliance.archive.outcome import Existing, ExtractOptions, SourceStatus
from appliance.archive.part import Frozen, PartRequest, history_path
from appliance.archive.reader import MemberReader
from appliance.archive.targets import Target
from appliance.archive.treestate import BaseState, NextState, StateError, why
from appliance.archive.writer import write_part
from appliance.dataservice import DataService
from appliance.fileserver import order as o
from appliance.fileserver.dumps import Dump, Dumps
from appliance.fileserver.environment import follows_lists
from appliance.fileserver.history import History
from appliance.fileserver.placing import map_of, place_of
from appliance.gns.map import Resolution, join
from appliance.gns.service import MapService
from appliance.ndmp import dataconn
from appliance.ndmp import messages as m
from appliance.ndmp.enums import AddressType, DataHaltReason, DataState, ErrorCode, LogType, RecoveryStatus
from appliance.ndmp.errors import RefusalError
from appliance.ndmp.logcontext import carrying
from appliance.ndmp.session import Poster
from appliance.ndmp.states import DataEvent
from appliance.ndmp.types import Address, Name
from appliance.peers import Peers
from appliance.snapshots.keeper import Keeper, View
from appliance.text import show_path

_ROOT_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW


class OwnerService(DataService):
    """One session's orders; at most one part at a time."""

    def __init__(
        self,
        poster: Poster,
        node: str,
        maps: MapService,
        peers: Peers,
        dumps: Dumps,
        snapshots: Keeper,
        log: Any = None,
        *,
        needs_snapshots: bool = False,
        feed_tls: ssl.SSLContext | None,
        ports: range | None = None,
    ) -> None:
        """`feed_tls`: what a part that moves here comes in; None for plain TCP opened by token.

        `ports`: what is listened on for it.  `needs_snapshots`: nothing is saved that is not in one.
        """
        super().__init__(poster, log)
        self._feed_tls = feed_tls
        self._ports = ports
        self._node = node
        self._maps = maps
        self._peers = peers
        self._dumps = dumps
        self._snapshots = snapshots
        self._needs_snapshots = needs_snapshots
        self._view: View | None = None
        self._stream: socket.socket | None = None
        self._listener: feeds.FeedListener | None = None
        self._stop = threading.Event()

    def listen(self, kind: AddressType) -> Address:
        """Listen for another owner's feed: a part moves from one file server to the other."""
        del kind  # feeds are IPv4
        listener = self._listener = feeds.FeedListener(self._peers.address, self._feed_tls, self._ports)
        worker = threading.Thread(target=carrying(self._accept), args=(listener,), daemon=True)
        self.poster.after_reply(worker.start)
        return listener.address()

    def connect(self, address: Address) -> None:
        """Open the feed."""
        self._stream = feeds.connect(address, self._peers.address, self._peers.tls)

    def connection_address(self) -> Address:
        """The connection server's endpoint."""
        return dataconn.peer_address(self._stream)

    def backup(self, butype: bytes) -> Callable[[], DataHaltReason]:
        """Check the order of a part; refuse one made with another map, or for what is not there."""
        _check_butype(butype)
        part = o.PartOrder.from_env(self.env)
        self.begin_job(part.job)
        place = self._resolve(part.path, part.generation)
        if place.junction.fileset != part.fileset or place.local != part.local_path:
            raise RefusalError(
                ErrorCode.ILLEGAL_ARGS, f"{show_path(part.path)} has moved: the order is stale"
            )
        root = self._open_part(part, place)
        try:
            _look(root, place.relative)
        except OSError as error:
            os.close(root)
            self.message(LogType.ERROR, f"{show_path(part.path)}: {error.strerror}")
            raise RefusalError(ErrorCode.FILE_NOT_FOUND, f"{show_path(part.path)} is not there") from error
        self._stop.clear()
        stream = self._feed()
        return lambda: self._save(stream, part, place, root)

    def recover(self, butype: bytes, names: Sequence[Name]) -> Callable[[], DataHaltReason]:
        """Check the targets: every one must be owned here, today."""
        _check_butype(butype)
        if not names or len(self.env.get(o.NAME, names)) != len(names):
            raise RefusalError(ErrorCode.ILLEGAL_ARGS, "an owner needs names, and to know of each what it is")
        self.begin_job(self.value(o.JOB).decode("ascii", "replace"))
        generation = int(self.value(o.GENERATION, b"0"))
        existing = existing_policy(self.value(o.EXISTING))
        check_lists(self.env, existing)
        with contextlib.ExitStack() as opened:
            targets = []
            filesets: dict[bytes, int] = {}
            said = self.env.get(o.NAME, [])
            for number, name in enumerate(names):
                place = self._resolve(name.destination_path, generation)
                if self.value(o.MAKE_ROOT) == b"y":
                    self._make_root(Path(os.fsdecode(place.junction.local)))
                # One descriptor a fileset: an nlist may be as long as a DMA likes.
                root = filesets.get(place.junction.path, -1)
                if root < 0:
                    root = filesets[place.junction.path] = self._open_root(place)
                    opened.callback(os.close, root)
                entry, offset = o.name_of(said[number]) if said else (number, None)
                targets.append(Target(name.original_path or b"/", root, place.relative, offset, entry))
            roots = opened.pop_all()
        self._stop.clear()
        stream = self._feed()
        return lambda: self._restore(stream, names, targets, existing, roots)

    def cancel(self) -> None:
        """Stop between two blocks; a blocked read or write of the feed wakes."""
        self._stop.set()
        if self._listener is not None:
            self._listener.close()
        dataconn.shut(self._stream)

    def release(self) -> None:
        """Close the feed; the part's snapshot is done with."""
        self._release_view()
        self._listener = None
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    def _release_view(self) -> None:
        view, self._view = self._view, None
        if view is not None:
            view.close()

    def _accept(self, listener: feeds.FeedListener) -> None:
        """Take the other owner's feed, unless the listener was given up meanwhile."""
        try:
            stream = listener.accept()
        except RefusalError:
            self.halt(DataHaltReason.CONNECT_ERROR, lambda: self._listener is listener)
            return
        with self.machine.changed:
            if self._listener is listener and self.machine.state is DataState.LISTEN:
                self._stream = stream
                self.machine.fire(DataEvent.ACCEPTED)
                return
        stream.close()

    def _resolve(self, path: bytes, generation: int) -> Resolution:
        """Who owns `path` in a map at least as new as the order's.  Raises RefusalError unless it is us."""
        return place_of(map_of(self._maps, generation), self._node, path)

    def _make_root(self, local: Path) -> None:
        """Make the directory that a part moves to.  Raises RefusalError when it holds anything.

        Files of another time would become part of the tree: those that were deleted since the part was here
        last, for one.
        """
        try:
            local.mkdir(parents=True, exist_ok=True)
            why = "is not empty; name another, or empty it" if any(local.iterdir()) else ""
        except OSError as error:
            why = f"cannot be made: {error.strerror}"
        if why:
            self.message(LogType.ERROR, f"the directory for it {why}")
            raise RefusalError(ErrorCode.ILLEGAL_ARGS, f"the directory of a move {why}")

    def _open_part(self, part: o.PartOrder, place: Resolution) -> int:
        """Open what the part is read from: the fileset in the job's snapshot, or as it is."""
        self._release_view()
        self.set_value(o.SNAPSHOT, b"n")
        if part.framed:
            return self._open_root(place)
        path = show_path(part.path)
        self._view = self._snapshots.view(part.job, part.path, part.fileset) if part.snapshot else None
        if self._view is not None:
            self.set_value(o.SNAPSHOT, b"y")
            return os.dup(self._view.root)
        if self._needs_snapshots:
            self.message(
                LogType.ERROR, f"{path}: not saved: there is no snapshot, and it is not read without"
            )
            raise RefusalError(ErrorCode.ILLEGAL_ARGS, f"{path}: snapshots are required here")
        if part.snapshot:
            self.message(LogType.WARNING, f"{path}: its snapshot is gone; it is read as it is by now")
        return self._open_root(place)

    def _open_root(self, place: Resolution) -> int:
        try:
            return os.open(place.junction.local, _ROOT_FLAGS)
        except OSError as error:
            path = show_path(place.junction.path)
            self.log.error("fileset not there", fileset=place.junction.fileset, why=error.strerror)
            self.message(LogType.ERROR, f"{path}: the directory behind it is not there: {error.strerror}")
            raise RefusalError(ErrorCode.FILE_NOT_FOUND, f"{path}: its directory cannot be opened") from error

    def _feed(self) -> socket.socket:
        """The feed, for the operation's thread: an abort may close it before that thread begins."""
        assert self._stream is not None, "CONNECTED implies a feed"
        return self._stream

    def _save(self, stream: socket.socket, part: o.PartOrder, place: Resolution, root: int) -> DataHaltReason:
        history = History(self.poster, part.history)
        request = PartRequest(
            root=root,
            member_prefix=place.junction.path,
            job=part.job,
            start=place.relative,
            skip=frozenset(part.skip),
            exclude=part.exclude,
            files=part.files,
            markers=part.markers,
            backup_root=part.root,
            stream_offset=part.offset,
            node_base=part.node_base,
            parent_node=part.parent_node,
            nodes=part.nodes,
            frozen=_frozen(self._view),
            version=o.image_format(part.version),
        )
        is_late = part.snapshot and self._view is None
        changes = self._changes(part, place)
        try:
            sink = self._sink(stream)
            if part.framed:
                sink(global_header(part.job, part.root, version=request.version))
            result = write_part(request, sink, history, self._stop.is_set, changes)
            if part.framed:
                sink(END_OF_ARCHIVE)
            history.flush()
            changes.finish()
            feeds.finish(stream)
        except (ArchiveError, OSError) as error:
            self.log.warning("part not finished", path=show_path(part.path), why=str(error))
            return DataHaltReason.CONNECT_ERROR
        finally:
            changes.close()
            os.close(root)
        for failure in changes.failures:
            self.message(LogType.WARNING, f"{show_path(part.path)}: {failure}")
        self.env[o.MOVED] = [o.moved_value(*pair) for pair in _origins(part, changes)]
        self.set_value(o.BYTES, result.bytes)
        self.set_value(o.FILES, result.files)
        self.set_value(o.NODES, result.nodes)
        self.set_value(o.PROBLEMS, result.problems + is_late)
        self.set_value(o.MATCHED, " ".join(map(str, sorted(result.matched))))
        self.bytes_processed = result.bytes
        return DataHaltReason.SUCCESSFUL

    def _changes(self, part: o.PartOrder, place: Resolution) -> Changes:
        """What the part is compared with, and where its own state goes; without them it is saved whole."""
        fileset, failures = place.junction.fileset, []
        base = following = None
        try:
            if part.base is not None:
                path = self._dumps.path(fileset, part.root, part.path, part.base)
                base = None if path is None else BaseState(path)
        except (StateError, OSError) as error:
            failures.append(f"{why(error)}; the part is saved whole")
        try:
            if part.token is not None:
                dump = Dump(part.token, part.level)
                following = NextState(self._dumps.begin(fileset, part.root, part.path, dump))
        except (StateError, OSError) as error:
            failures.append(
                f"no state is kept: {why(error)}; the next incremental backup saves the part whole"
            )
        changes = Changes(base, following, is_incremental=part.is_incremental)
        changes.failures += failures
        return changes

    def _sink(self, stream: socket.socket) -> Callable[[bytes | memoryview], object]:
        def sink(data: bytes | memoryview) -> None:
            stream.sendall(data)
            self.bytes_processed += len(data)

        return sink

    def _source(self, stream: socket.socket) -> Callable[[memoryview], int]:
        """What a restore reads from; a feed that breaks has ended early, which is no fault of a file."""
        receiver = feeds.Receiver(stream)

        def source(view: memoryview) -> int:
            try:
                return receiver.into(view)
            except OSError as error:
                self.log.warning("feed broke", why=str(error))
                return 0

        return source

    def _restore(
        self,
        stream: socket.socket,
        names: Sequence[Name],
        targets: Sequence[Target],
        existing: Existing,
        roots: contextlib.ExitStack,
    ) -> DataHaltReason:
        reader = MemberReader(self._source(stream), checking=True)
        observer = _RestoreLog(self)
        self.ask_for_image()
        with roots:
            second_pass = self.value(o.SECOND_PASS) == b"y"
            incremental = follows_lists(self.env)
            options = ExtractOptions(existing=existing, second_pass=second_pass, incremental=incremental)
            extractor = Extractor(reader, targets, observer, options)
            try:
                extractor.run()
                feeds.finish(stream)
                reason = DataHaltReason.SUCCESSFUL
            except (ArchiveError, OSError) as error:
                self.log.warning("restore not finished", why=str(error))
                reason = DataHaltReason.CONNECT_ERROR
        result = extractor.result
        self.bytes_processed = reader.offset
        self.set_value(o.FILES, result.files)
        self.set_value(o.BYTES, result.data_bytes)
        self.set_value(o.PROBLEMS, result.problem_count)
        self.env[o.LOST_LINK] = result.lost_links
        if result.removed:
            gone = f"{self._node} removed {result.removed} names that were not there when the backup was made"
            self.message(LogType.NORMAL, gone)
        if result.kept:
            left = f"{self._node} left {result.kept} names that were there already as they are"
            self.message(LogType.NORMAL, f"{left} (existing: {existing.value})")
        for name, source in zip(names, result.sources, strict=True):
            self.poster.post(m.LogFilePost(name.original_path, _recovery_status(source)))
        return reason


class _RestoreLog:
    """The extractor's observer: problems become lines of the DMA's log."""

    def __init__(self, service: OwnerService) -> None:
        self._service = service

    def restored(self, path: bytes, /) -> None:
        """Nothing to say: names are counted."""

    def problem(self, path: bytes, text: str, /) -> None:
        """One member, or something of it, was not restored."""
        self._service.message(LogType.WARNING, f"{show_path(path)}: {text}")


def _frozen(view: View | None) -> Frozen | None:
    return None if view is None else Frozen(view.moment, view.mounted, view.stub_inode)


def _origins(part: o.PartOrder, changes: Changes) -> list[tuple[bytes, bytes]]:
    """Where each directory that was moved is and was, from the backup root."""

    def path(relative: bytes) -> bytes:
        return history_path(join(part.path, relative), part.root)

    return [(path(new), path(old)) for new, old in changes.moves.origins]


def _recovery_status(source: SourceStatus) -> RecoveryStatus:
    if not source.members:
        return RecoveryStatus.FAILED_NOT_FOUND
    return RecoveryStatus.FAILED_IO_ERROR if source.problems else RecoveryStatus.SUCCESSFUL


def _look(root: int, relative: bytes) -> None:
    """Raise OSError unless there is something at `relative`, reached through no symbolic link."""
    components = split_path(relative)
    above = open_directory(root, components[:-1])
    try:
        os.stat(components[-1] if components else b".", dir_fd=above, follow_symlinks=False)
    finally:
        os.close(above)


def _check_butype(butype: bytes) -> None:
    if butype not in (o.BUTYPE, b""):
        raise RefusalError(ErrorCode.ILLEGAL_ARGS, f"backup type {butype!r} is not offered")


def check_lists(env: Mapping[bytes, Sequence[bytes]], existing: Existing) -> None:
    """Raise RefusalError(ILLEGAL_ARGS) for a restore that removes what is not listed, yet keeps files."""
    if follows_lists(env) and existing is not Existing.OVERWRITE:
        raise RefusalError(
            ErrorCode.ILLEGAL_ARGS,
            f"EXTRACT=n makes the tree of that day, EXISTING={existing.value} keeps what is there: send one",
        )


def existing_policy(value: bytes) -> Existing:
    """What EXISTING in the environment asks for; absent means overwrite.  Raises RefusalError."""
    try:
        return Existing(value.decode("ascii", "replace") or Existing.OVERWRITE.value)
    except ValueError:
        raise RefusalError(ErrorCode.ILLEGAL_ARGS, f"EXISTING={value!r} is not known") from None
