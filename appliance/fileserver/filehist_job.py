"""File history from an image: DATA_START_RECOVER_FILEHIST (draft-skardal-ndmpv4-04, 3.5.2.9).

The entry server reads the whole image as an owner would in a restore, and tells the DMA what is in it, in
file form.  An image knows names, not inodes: each name gets a number of its own, and a hard link its own
place.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Sequence

from appliance import feeds
from appliance.archive.errors import ArchiveError
from appliance.archive.frame import parse_global_header
from appliance.archive.member import GlobalHeader, Member
from appliance.archive.reader import MemberReader
from appliance.archive.targets import relative_name
from appliance.archive.ustar import BLOCK
from appliance.fileserver.history import BATCH, FILE_TYPES
from appliance.fileserver.job import Job, JobContext, JobFailedError, JobTotals
from appliance.ndmp import dataconn
from appliance.ndmp import extension as x
from appliance.ndmp import messages as m
from appliance.ndmp.enums import (
    DataHaltReason,
    DataOperation,
    FileStatUnsupported,
    FileType,
    FsType,
    MoverMode,
)
from appliance.ndmp.logcontext import carrying
from appliance.ndmp.types import FileName, FileStat
from appliance.paths import is_at_or_below
from appliance.peers import ChannelSession, Event, FeedSession

_FEED, _READ = "feed history", "history read"
_U32_MAX = 0xFFFFFFFF


def file_stat(member: Member) -> FileStat:
    """What a member says of its file; raises DamagedArchiveError."""
    return FileStat(
        int(FileStatUnsupported.ATIME | FileStatUnsupported.CTIME),
        FsType.UNIX,
        FILE_TYPES.get(member.kind, FileType.OTHER),
        min(max(member.mtime_ns // 10**9, 0), _U32_MAX),
        owner=member.uid,
        group=member.gid,
        fattr=member.mode,
        size=member.size,
        links=1,
    )


class FilehistJob(Job):
    """Reads one image, and posts its file history.  `wanted`: paths relative to its root, none for all."""

    def __init__(self, context: JobContext, wanted: Sequence[bytes]) -> None:
        super().__init__(context)
        self._wanted = [b"/" + path.strip(b"/") for path in wanted if path.strip(b"/")]
        self._batch: list[m.FhFile] = []
        self._failure = ""
        self._stream: socket.socket | None = None
        self.totals = JobTotals()

    def abort(self) -> None:
        """End the job, also where it waits for the image."""
        super().abort()
        dataconn.shut(self._stream)

    def run(self) -> DataHaltReason:
        """Have the image read.  Raises JobFailedError, JobAbortedError, or NdmpError when a node is lost."""
        context = self.context
        feed = FeedSession(context.peers, context.channel.channel, _FEED, context.events)
        with self.session(feed):
            address = feed.listen(MoverMode.WRITE, 0)
            stream = self._stream = feeds.connect(address, context.peers.address, context.peers.tls)
            with contextlib.closing(stream):
                self.check_abort()
                route = x.Route(0, b"/", feed.number)
                context.channel.start_recover(x.ChannelStartRequest(DataOperation.RECOVER, (route,)))
                reader = threading.Thread(target=carrying(self._read), args=(stream,), daemon=True)
                reader.start()
                feed.read()
                try:
                    reason = self._await()
                finally:
                    dataconn.shut(stream)
                    reader.join()
        if self._failure:
            raise JobFailedError(self._failure)
        return reason

    def _await(self) -> DataHaltReason:
        """Until the image is read and the channel has halted."""
        halt, is_read = None, False
        while halt is None or not is_read:
            event = self.wait(self._poll)
            if event.source == _READ:
                is_read = True
            elif event.source == ChannelSession.NAME:
                if event.post is None:
                    raise JobFailedError("the connection server was lost")
                body = event.post.body()
                if isinstance(body, m.NotifyDataReadPost):
                    self.context.ask(body.offset, body.length)
                elif isinstance(body, m.NotifyDataHaltedPost):
                    halt = body.reason
        return halt

    def _poll(self) -> None:
        self.context.progress(self.context.channel.state().bytes_processed)

    def _read(self, stream: socket.socket) -> None:
        """In a thread of its own: the feed's end."""
        reader = MemberReader(stream.recv_into)
        root = b"/"
        try:
            for item in reader:
                if isinstance(item, GlobalHeader):
                    header = parse_global_header(item.records, item.offset)
                    root = root if header is None else header.root
                else:
                    self._member(item, root)
            self._flush()
            feeds.finish(stream)
        except (ArchiveError, OSError) as error:
            self._failure = f"the image ended early: {error}"
        finally:
            self.totals.bytes = reader.offset
            self.context.events.put(Event(_READ, None))

    def _member(self, member: Member, root: bytes) -> None:
        path = b"/" + relative_name(member.name, root)
        if self._wanted and not any(is_at_or_below(path, each) for each in self._wanted):
            return
        offset = member.offset if member.image_offset is None else member.image_offset
        # Members begin on blocks, so that this numbers them, and from 2 on.
        node = 2 + offset // BLOCK
        self._batch.append(m.FhFile((FileName(path),), (file_stat(member),), node, offset))
        self.totals.files += 1
        if len(self._batch) >= BATCH:
            self._flush()

    def _flush(self) -> None:
        if self._batch:
            self.context.poster.post(m.FhAddFilePost(tuple(self._batch)))
            self._batch.clear()
