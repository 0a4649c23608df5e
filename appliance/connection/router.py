"""A restore's way through the connection server: each member, whole, to the feeds that its routes name.

So every owner reads a valid archive of its own members, wherever junctions have moved since the backup.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from appliance import feeds
from appliance.archive.errors import ArchiveError
from appliance.archive.frame import END_OF_ARCHIVE, parse_global_header
from appliance.archive.member import GlobalHeader, Member
from appliance.archive.reader import MemberReader
from appliance.connection.channel import Channel, FeedEnd
from appliance.ndmp.enums import DataHaltReason
from appliance.ndmp.extension import Route

DRAIN_TIMEOUT_S = 2.0
"""After the end-of-archive the mover may still send the padding of its last record; what has not come
after this pause is not awaited: the image is complete."""


class RouteTable:
    """Which feeds get a path: for each nlist entry the longest source that is at or above it."""

    def __init__(self, routes: Sequence[Route]) -> None:
        entries: dict[int, list[tuple[bytes, int]]] = defaultdict(list)
        for route in routes:
            entries[route.entry].append((route.source.rstrip(b"/"), route.feed))
        self._entries = [sorted(entry, key=lambda item: -len(item[0])) for entry in entries.values()]

    def feeds(self, path: bytes) -> set[int]:
        """Feeds for `path`, which is relative to the backup root and starts with a slash."""
        chosen = set()
        for entry in self._entries:
            for source, feed in entry:
                if not source or path == source or path.startswith(source + b"/"):
                    chosen.add(feed)
                    break
        return chosen


class Router:
    """Runs one restore."""

    def __init__(self, channel: Channel, routes: Sequence[Route], log: Any) -> None:
        """Raises RefusalError for a route to a feed that the channel does not have."""
        self._channel = channel
        self._table = RouteTable(routes)
        self._feeds: dict[int, FeedEnd] = {route.feed: channel.feed(route.feed) for route in routes}
        self._root = b"/"
        self._log = log
        self.received = 0

    def run(self) -> DataHaltReason:
        """Route the whole image.  The halt reason says how the channel ended; feeds carry their own."""
        stream = self._channel.stream
        if stream is None:
            return DataHaltReason.CONNECT_ERROR
        reader = MemberReader(stream.recv_into)
        try:
            for item in reader:
                self._pass_on(reader, item)
                self.received = reader.offset
        except (ArchiveError, OSError) as error:
            self.received = reader.offset
            self._log.warning("image ended early", job=self._channel.job, why=str(error))
            self._channel.break_off(f"the image ended early: {error}")
            return DataHaltReason.CONNECT_ERROR
        self.received = reader.offset
        for number in self._feeds:
            self._send({number}, END_OF_ARCHIVE)
            self._feeds[number].end(feeds.finish)
        self._drain()
        return DataHaltReason.SUCCESSFUL

    def _pass_on(self, reader: MemberReader, item: Member | GlobalHeader) -> None:
        if isinstance(item, GlobalHeader):
            header = parse_global_header(item.records, item.offset)
            if header is not None:
                self._root = header.root
                self._send(set(self._feeds), item.raw)
            return
        chosen = self._table.feeds(self._relative(b"/" + item.name))
        if chosen:
            reader.copy(item, lambda data: self._send(chosen, data))

    def _relative(self, path: bytes) -> bytes:
        """A global path relative to the backup root; one outside it, as no writer makes, stays whole."""
        if self._root == b"/" or not path.startswith(self._root):
            return path
        return path[len(self._root) :] or b"/"

    def _send(self, numbers: set[int], data: bytes | memoryview) -> None:
        for number in numbers:
            feed = self._feeds[number]
            if feed.failed is not None:
                continue
            try:
                feed.send(data)
            except OSError as error:
                # That owner's files are lost to this restore; the others go on.
                self._log.warning("feed lost", job=self._channel.job, feed=number, why=str(error))
                feed.fail(f"the file server's connection failed: {error}")

    def _drain(self) -> None:
        stream = self._channel.stream
        if stream is None:
            return
        stream.settimeout(DRAIN_TIMEOUT_S)
        try:
            while stream.recv(1 << 16):
                pass
        except OSError:
            return
