"""A restore's way through the connection server: each member, whole, to the feeds that its routes name.

So every owner reads a valid archive of its own members, wherever junctions have moved since the backup, and
whether the whole image is read or, by direct access, some places of it.
"""

from __future__ import annotations

import contextlib
import functools
import socket
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from appliance import feeds
from appliance.archive.errors import ArchiveError, DamagedArchiveError, TruncatedArchiveError
from appliance.archive.frame import END_OF_ARCHIVE, parse_global_header, parse_trailer, stand_in_header
from appliance.archive.index import parse_index
from appliance.archive.kinds import Kind
from appliance.archive.lookup import SourceTable
from appliance.archive.lost import lost_headers
from appliance.archive.member import GlobalHeader, Member
from appliance.archive.quick import Quick, quick
from appliance.archive.reader import MemberReader
from appliance.connection.channel import Channel, FeedEnd
from appliance.connection.gather import Gather
from appliance.connection.losses import Losses
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

    def feeds_below(self, directory: bytes) -> set[int] | None:
        """Feeds for all members of a directory, None if they are not the same for each."""
        found = None if self._by_offset else self._by_path.children(directory.strip(b"/"))
        return None if found is None else {feed for _, feed in found}


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

    def __init__(
        self,
        stream: socket.socket,
        plan: ReadPlan,
        ask: Callable[[int, int], None],
        before: Callable[[], None],
    ) -> None:
        """`before` is called before anything is waited for."""
        self.received = 0
        self._before = before
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
        self._before()
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
        self._given_root = request.root
        self._gather = Gather(self._hand)
        self._losses = Losses()
        self._quick = quick()
        self._is_closing = False  # the list of parts went by
        # Feeds that got members which the next index speaks of.
        self._unchecked: set[int] = set()
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
        delivery = self._delivery = Delivery(stream, self._plan, self._ask, self._gather.flush)
        try:
            if self._root_given:
                self._send(set(self._feeds), stand_in_header(self._channel.job, self._root))
            self._route(delivery)
        except (ArchiveError, OSError) as error:
            self._gather.flush()
            self._log.warning("image ended early", job=self._channel.job, why=str(error))
            self._channel.break_off(f"the image ended early: {error}")
            return DataHaltReason.CONNECT_ERROR
        for number in self._feeds:
            self._send({number}, END_OF_ARCHIVE)
            self._gather.flush()
            self._feeds[number].end(feeds.finish)
        if not self._is_deserted():
            delivery.drain()
        return DataHaltReason.SUCCESSFUL

    def _route(self, delivery: Delivery) -> None:
        plan, reader = self._plan, delivery.reader
        while (place := plan.next_place()) is not None and not self._is_deserted():
            if place > reader.offset:
                self._leave()
            delivery.go_to(place)
            try:
                item = reader.next()
            except TruncatedArchiveError:
                raise
            except DamagedArchiveError as error:
                if plan.is_whole or not plan.is_at_place:
                    if not self._find_way(reader, error):
                        break
                    plan.passed(reader.offset)
                    continue
                # An fh_info that is not one of this image costs the name that it came with.
                self._log.warning("no member", job=self._channel.job, offset=place, why=str(error))
                plan.lost()
                continue
            if item is None:
                if plan.is_whole or not plan.is_at_place:
                    break
                plan.lost()
                continue
            self._losses.met(item)
            if isinstance(item, GlobalHeader):
                plan.passed(reader.offset)
                self._learn(item)
            else:
                self._pass_on(reader, item)
        self._leave()

    def _pass_on(self, reader: MemberReader, item: Member) -> None:
        """Give a member to the feeds that want it."""
        path = self._relative(b"/" + item.name)
        end = item.offset + len(item.raw) + item.data_length
        self._plan.found(path, end, is_directory=item.kind is Kind.DIRECTORY)
        chosen = {n for n in self._table.feeds(path, item) if self._feeds[n].failed is None}
        if chosen:
            self._unchecked |= chosen
            reader.copy(item, functools.partial(self._send, chosen))
        if self._quick is not None and item.kind is Kind.FILE and self._plan.is_to_the_end:
            self._pass_on_neighbours(self._quick, reader, path, item)

    def _pass_on_neighbours(self, quick: Quick, reader: MemberReader, path: bytes, item: Member) -> None:
        """Give the ordinary files (quick.py) that follow one of their directory to those that want them."""
        wanted = self._table.feeds_below(path.rpartition(b"/")[0])
        if wanted is None:
            return
        base, slash, _ = item.name.rpartition(b"/")
        start = reader.offset
        places: list[int] = []

        def take(buffer: memoryview, low: int, high: int) -> int:
            end, found = quick.span(buffer, low, high, base + slash)
            places.extend(start + place - low for place in found)
            return end

        run = reader.take_run(take)
        self._losses.met_members(places)
        self._plan.passed(reader.offset)
        chosen = {n for n in wanted if self._feeds[n].failed is None}
        if run and chosen:
            self._unchecked |= chosen
            self._send(chosen, run)

    def _leave(self) -> None:
        """No index comes for what was read last; damage in it stays without names."""
        self._tell_lost((), is_vague=self._losses.is_open)
        self._losses.restart()

    def _is_deserted(self) -> bool:
        """Whether nobody is left to read for."""
        return all(feed.failed is not None for feed in self._feeds.values())

    def _learn(self, item: GlobalHeader) -> None:
        """Take what a global header says; owners get the image's, and the indexes of their members."""
        try:
            header = parse_global_header(item.records, item.offset)
        except DamagedArchiveError as error:
            self._lose_header(error)
            return
        if header is not None and not self._root_given:
            self._root = header.root
            self._send(set(self._feeds), item.raw)
        try:
            index = parse_index(item.records, item.offset)
            is_trailer = parse_trailer(item.records, item.offset) is not None
        except DamagedArchiveError as error:
            self._losses.broke(error)
            return
        self._is_closing = self._is_closing or is_trailer
        if index is not None:
            self._send(self._unchecked, item.raw)
            self._unchecked = set()
            lost, is_vague = self._losses.at_index(index)
            self._tell_lost(lost, is_vague=is_vague)

    def _lose_header(self, error: DamagedArchiveError) -> None:
        """Do without the image's header, if the asker said what the root is."""
        self._log.warning("damaged header", job=self._channel.job, why=str(error))
        if not self._given_root:
            raise error
        self._root, self._root_given = self._given_root, True
        self._send(set(self._feeds), stand_in_header(self._channel.job, self._root))

    def _find_way(self, reader: MemberReader, error: DamagedArchiveError) -> bool:
        """Go on behind damage; false if only the end of the image was hit.  Raises `error` if all is lost."""
        self._log.warning("damage", job=self._channel.job, offset=error.offset, why=error.what)
        if not error.offset and not self._root_given:
            self._lose_header(error)
        self._losses.broke(error)
        if reader.resync(self._losses.job):
            return True
        if not self._is_closing:
            raise error
        return False

    def _tell_lost(self, paths: Sequence[bytes], *, is_vague: bool) -> None:
        """Tell the owners what they will not get."""
        if paths:
            for header in lost_headers(self._channel.job, paths):
                self._send(set(self._feeds), header)
        if is_vague:
            for header in lost_headers(self._channel.job, ()):
                self._send(set(self._feeds), header)

    def _relative(self, path: bytes) -> bytes:
        """A global path relative to the backup root; one outside it, as no writer makes, stays whole."""
        if self._root == b"/" or not path.startswith(self._root):
            return path
        return path[len(self._root) :] or b"/"

    def _send(self, numbers: set[int], data: bytes | memoryview) -> None:
        self._gather.add(numbers, data)

    def _hand(self, number: int, data: bytes | memoryview) -> None:
        """Hand a piece to a feed, unless it is lost."""
        feed = self._feeds[number]
        if feed.failed is not None:
            return
        try:
            feed.send(data)
        except OSError as error:
            # That owner's files are lost to this restore; the others go on.
            self._log.warning("feed lost", job=self._channel.job, feed=number, why=str(error))
            feed.fail(f"the file server's connection failed: {error}")
