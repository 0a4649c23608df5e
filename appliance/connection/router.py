"""A restore's way through the connection server: each member, whole, to the feeds that its routes name.

So every owner reads a valid archive of its own members, wherever junctions have moved since the backup, and
whether the whole image is read or, by direct access, some places of it.
"""

from __future__ import annotations

import contextlib
import functools
import socket
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from appliance import feeds
from appliance.archive.errors import ArchiveError, DamagedArchiveError, TruncatedArchiveError
from appliance.archive.frame import END_OF_ARCHIVE, global_header, parse_global_header
from appliance.archive.kinds import Kind
from appliance.archive.lookup import SourceTable
from appliance.archive.member import GlobalHeader, Member
from appliance.archive.reader import MemberReader
from appliance.connection.channel import Channel, FeedEnd
from appliance.connection.reads import Place, ReadPlan, Stretch
from appliance.ndmp.enums import ALL_ONES, DataHaltReason
from appliance.ndmp.extension import ChannelStartRequest

DRAIN_TIMEOUT_S = 2.0
"""After the end-of-archive the mover may still send the padding of its last record; what has not come
after this pause is not awaited: the image is complete."""


class RouteTable:
    """Which feeds get a member."""

    def __init__(self, request: ChannelStartRequest) -> None:
        self._by_path = SourceTable(
            ((route.entry, route.source.strip(b"/"), route.feed) for route in request.routes),
            recursive=bool(request.recursive),
        )
        self._by_offset: dict[int, set[int]] = defaultdict(set)
        for route in request.routes:
            if route.offset != ALL_ONES:
                self._by_offset[route.offset].add(route.feed)

    def feeds(self, path: bytes, member: Member) -> set[int]:
        """Feeds for a member whose path, relative to the backup root, is `path`.

        What stands where a name's fh_info points is what that name means, whatever the member is called.
        """
        chosen = {feed for _, feed in self._by_path.find(path.strip(b"/"))}
        if member.kind not in (Kind.DIRECTORY, Kind.HARD_LINK):
            chosen |= self._by_offset.get(member.offset, set())
        return chosen


def plan_of(request: ChannelStartRequest) -> ReadPlan:
    """The plan that a request asks for."""
    if not request.places:
        return ReadPlan.whole()
    return ReadPlan(
        [Place(place.offset, place.source) for place in request.places],
        [Stretch(part.offset, part.offset + part.length, part.path) for part in request.parts],
        recursive=bool(request.recursive),
        with_header=not request.root,
    )


class Delivery:
    """The bytes of the channel, which are asked for as the plan says when they are needed."""

    def __init__(self, stream: socket.socket, plan: ReadPlan, ask: Callable[[int, int], None]) -> None:
        self.received = 0
        self.reader = MemberReader(self._readinto)
        self._stream = stream
        self._plan = plan
        self._ask = ask
        self._asked_up_to = 0
        self._left = 0

    @property
    def processed(self) -> int:
        """Bytes that were received and looked at; padding behind an image is not."""
        return self.received - (self._asked_up_to - self._left - self.reader.offset)

    def go_to(self, offset: int) -> None:
        """Have the next header read at `offset`, further on; what was asked for is received first."""
        reader = self.reader
        reader.advance(min(offset, self._asked_up_to))
        if offset > self._asked_up_to:
            reader.jump(offset)
            self._asked_up_to = offset

    def drain(self) -> None:
        """Receive and drop the rest of what was asked for, so that the mover's count is whole."""
        if not self._plan.is_whole:
            # Everything that was wanted is here already; a mover that closes now has sent enough.
            with contextlib.suppress(TruncatedArchiveError, OSError):
                self.reader.advance(self._asked_up_to)
            return
        self._stream.settimeout(DRAIN_TIMEOUT_S)
        with contextlib.suppress(OSError):
            while self._stream.recv(1 << 16):
                pass

    def _readinto(self, view: memoryview) -> int:
        if not self._left:
            read = self._plan.read(self._asked_up_to, self.reader.data_left)
            self._ask(read.offset, read.length)
            self._asked_up_to, self._left = read.end, read.end - read.offset
        count = self._stream.recv_into(view[: min(len(view), self._left)])
        self._left -= count
        self.received += count
        return count


class Router:
    """Runs one restore."""

    def __init__(
        self, channel: Channel, request: ChannelStartRequest, ask: Callable[[int, int], None], log: Any
    ) -> None:
        """`ask` is told which part of the image is needed next: offset and length.

        Raises RefusalError for a route to a feed that the channel does not have.
        """
        self._channel = channel
        self._table = RouteTable(request)
        self._plan = plan_of(request)
        self._ask = ask
        self._feeds: dict[int, FeedEnd] = {route.feed: channel.feed(route.feed) for route in request.routes}
        # An image says itself what its root is; when its beginning is not read, the asker does.
        self._root = (request.root if request.places else b"") or b"/"
        self._root_given = bool(request.places and request.root)
        self._log = log
        self._delivery: Delivery | None = None

    @property
    def received(self) -> int:
        """Bytes that have come so far, for whoever asks while the restore runs."""
        return self._delivery.received if self._delivery is not None else 0

    @property
    def processed(self) -> int:
        """Bytes of the image that were read and looked at; exact at the end."""
        return self._delivery.processed if self._delivery is not None else 0

    def run(self) -> DataHaltReason:
        """Route what the plan reads.  The halt reason says how the channel ended; feeds carry their own."""
        stream = self._channel.stream
        if stream is None:
            return DataHaltReason.CONNECT_ERROR
        delivery = self._delivery = Delivery(stream, self._plan, self._ask)
        try:
            if self._root_given:
                self._send(set(self._feeds), global_header(self._channel.job, self._root))
            self._route(delivery)
        except (ArchiveError, OSError) as error:
            self._log.warning("image ended early", job=self._channel.job, why=str(error))
            self._channel.break_off(f"the image ended early: {error}")
            return DataHaltReason.CONNECT_ERROR
        for number in self._feeds:
            self._send({number}, END_OF_ARCHIVE)
            self._feeds[number].end(feeds.finish)
        if not self._is_deserted():
            delivery.drain()
        return DataHaltReason.SUCCESSFUL

    def _route(self, delivery: Delivery) -> None:
        plan, reader = self._plan, delivery.reader
        while (place := plan.next_place()) is not None and not self._is_deserted():
            delivery.go_to(place)
            try:
                item = reader.next()
            except TruncatedArchiveError:
                raise
            except DamagedArchiveError as error:
                if not plan.is_at_place:
                    raise
                # An fh_info that is not one of this image costs the name that it came with.
                self._log.warning("no member", job=self._channel.job, offset=place, why=str(error))
                plan.lost()
                continue
            if item is None:
                if plan.is_whole or not plan.is_at_place:
                    return
                plan.lost()
                continue
            if isinstance(item, GlobalHeader):
                plan.passed(reader.offset)
                self._learn(item)
                continue
            path = self._relative(b"/" + item.name)
            end = item.offset + len(item.raw) + item.data_length
            plan.found(path, end, is_directory=item.kind is Kind.DIRECTORY)
            chosen = {n for n in self._table.feeds(path, item) if self._feeds[n].failed is None}
            if chosen:
                reader.copy(item, functools.partial(self._send, chosen))

    def _is_deserted(self) -> bool:
        """Whether nobody is left to read for."""
        return all(feed.failed is not None for feed in self._feeds.values())

    def _learn(self, item: GlobalHeader) -> None:
        header = parse_global_header(item.records, item.offset)
        if header is not None and not self._root_given:
            self._root = header.root
            self._send(set(self._feeds), item.raw)

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
