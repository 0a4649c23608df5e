"""A restore over several owners: to whoever owns each target today (docs/architecture.md, "A restore")."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from appliance.fileserver import order as o
from appliance.fileserver.direct import Access
from appliance.fileserver.environment import EXTRACT
from appliance.fileserver.job import Job, JobContext, JobFailedError, JobTotals
from appliance.fileserver.plan import OwnerRoutes, Wish
from appliance.ndmp import extension as x
from appliance.ndmp import messages as m
from appliance.ndmp.client import Client
from appliance.ndmp.endpoint import Received
from appliance.ndmp.enums import (
    ALL_ONES,
    DataHaltReason,
    DataOperation,
    LogType,
    MoverHaltReason,
    MoverMode,
    RecoveryStatus,
)
from appliance.ndmp.errors import NdmpError, ReplyError
from appliance.ndmp.types import Name, Pval
from appliance.peers import ChannelSession, Event, FeedSession

ALONE_POLLS = 2
"""When every owner has failed the channel's halt follows, if it is why they did; or the connection server
notices at the next header.  A mover that sends nothing more, during a tape change, is not waited for."""


class _OwnerRun:
    """One owner's share of a running restore."""

    def __init__(self, routes: OwnerRoutes, client: Client, feed: FeedSession) -> None:
        self.routes = routes
        self.client = client
        self.feed = feed
        self.halted: DataHaltReason | None = None
        self.feed_halted = False
        self.lost = False
        self.told = 0
        """LOG_FILE posts so far: they come in the order of the routes."""

    @property
    def done(self) -> bool:
        """Whether both its ends have ended."""
        return self.lost or (self.halted is not None and self.feed_halted)

    @property
    def failed(self) -> bool:
        """Whether it takes nothing more, and did not finish."""
        return self.lost or self.halted not in (None, DataHaltReason.SUCCESSFUL)


class RestoreJob(Job):
    """Runs one restore."""

    def __init__(
        self,
        context: JobContext,
        generation: int,
        wanted: Sequence[Wish],
        routes: Sequence[OwnerRoutes],
        existing: bytes,
        access: Access | None = None,
        *,
        second_pass: bool = False,
        extract: bytes = b"",
    ) -> None:
        """`second_pass`: whether the DMA asks again for links whose data is not among what is restored.

        `extract`: the value of EXTRACT, for the owners.
        """
        super().__init__(context)
        self._access = access or Access()
        self._second_pass = second_pass
        self._extract = extract
        self.lost_links: list[bytes] = []
        self._generation = generation
        self._wanted = wanted
        self._routes = routes
        self._existing = existing
        self._runs: dict[str, _OwnerRun] = {}
        self._channel_halt: DataHaltReason | None = None
        self._polls_alone = 0
        self._statuses: list[list[RecoveryStatus]] = [[] for _ in wanted]
        self.totals = JobTotals()

    def run(self) -> DataHaltReason:
        """Start every owner, route the image, wait for all.

        Raises JobFailedError, JobAbortedError, or NdmpError when a node is lost.
        """
        with contextlib.ExitStack() as held:
            for routes in self._routes:
                self._start_owner(held, routes)
            if not self._runs:
                raise JobFailedError("no file server that owns a target could be reached")
            self.context.channel.start_recover(self._start_request())
            while not self._is_over():
                self._event(self.wait(self._poll))
            for run in self._runs.values():
                self._collect(run)
        self.totals.problems += sum(
            status is RecoveryStatus.FAILED_NOT_FOUND for _, status in self.statuses()
        )
        with contextlib.suppress(NdmpError):
            self._poll()
        if self._channel_halt in (None, DataHaltReason.SUCCESSFUL) and self.totals.skipped == len(
            self._routes
        ):
            self.context.tell(LogType.ERROR, "the job failed: no file server finished its share")
            return DataHaltReason.INTERNAL_ERROR
        assert self._channel_halt is not None, "the loop ends without it only when nobody finished"
        return self._channel_halt

    def _is_over(self) -> bool:
        """Everything has ended, or nobody is left to whom the image could go."""
        runs = self._runs.values()
        if self._polls_alone >= ALONE_POLLS and all(run.failed for run in runs):
            return True
        return self._channel_halt is not None and all(run.done for run in runs)

    def statuses(self) -> list[tuple[bytes, RecoveryStatus]]:
        """How each requested name ended, once each: the worst of its targets and their owners.

        A target is not found only if nobody found it.
        """
        worst: dict[bytes, RecoveryStatus] = {}
        for wish, statuses in zip(self._wanted, self._statuses, strict=True):
            known = [status for status in statuses if status is not RecoveryStatus.FAILED_NOT_FOUND]
            status = max(known, default=RecoveryStatus.FAILED_NOT_FOUND)
            worst[wish.original] = max(status, worst.get(wish.original, RecoveryStatus.SUCCESSFUL))
        return list(worst.items())

    def _start_owner(self, held: contextlib.ExitStack, routes: OwnerRoutes) -> None:
        context = self.context
        feed = FeedSession(context.peers, context.channel.channel, f"feed {routes.owner}", context.events)
        held.enter_context(self.session(feed))
        address = feed.listen(MoverMode.WRITE, 0)
        try:
            client = self._open_owner(routes.owner)
            held.enter_context(self.session(client))
            client.do(m.DataConnectRequest(address))
            client.do(m.DataStartRecoverRequest(self._env(routes), self._names(routes), o.BUTYPE))
        except NdmpError as error:
            self.check_abort()
            self._skip(routes, f"{routes.owner} did not start: {error}")
            return
        self._runs[routes.owner] = _OwnerRun(routes, client, feed)

    def _skip(self, routes: OwnerRoutes, why: str) -> None:
        self.totals.skipped += 1
        self.context.tell(LogType.ERROR, f"not restored: {why}")
        for number, _, _ in routes.routes:
            self._statuses[number].append(RecoveryStatus.FAILED_UNDEFINED_ERROR)

    def _env(self, routes: OwnerRoutes) -> tuple[Pval, ...]:
        return (
            Pval(b"TYPE", o.BUTYPE),
            Pval(o.JOB, self.context.name.encode()),
            Pval(o.GENERATION, b"%d" % self._generation),
            Pval(o.EXISTING, self._existing),
            Pval(EXTRACT, self._extract),
            Pval(o.SECOND_PASS, b"y" if self._second_pass else b"n"),
            *(
                Pval(o.NAME, b"%d %d" % (number, self._offset(number, source)))
                for number, source, _ in routes.routes
            ),
        )

    def _offset(self, number: int, source: bytes) -> int:
        """Where in the image a route's own member stands; all ones when nobody knows."""
        wish = self._wanted[number]
        return wish.fh_info if source == (wish.source or b"/") else ALL_ONES

    @staticmethod
    def _names(routes: OwnerRoutes) -> tuple[Name, ...]:
        return tuple(Name(source, target) for _, source, target in routes.routes)

    def _start_request(self) -> x.ChannelStartRequest:
        access = self._access
        routes = tuple(
            x.Route(number, source, run.feed.number, self._offset(number, source))
            for run in self._runs.values()
            for number, source, _ in run.routes.routes
        )
        # What is only for an owner that did not start is not read.
        needed = {route.entry for route in routes}
        places = tuple(place for number, place in enumerate(access.places) if number in needed)
        return x.ChannelStartRequest(
            DataOperation.RECOVER, routes, int(access.recursive), access.root, places, access.parts
        )

    def _open_owner(self, node: str) -> Client:
        events = self.context.events
        return self.context.peers.open(
            node,
            lambda post: self._owner_post(node, post),
            lambda: events.put(Event(node, None)),
        )

    def _owner_post(self, node: str, post: Received) -> None:
        """In the session's reading thread: log lines go on as they came, the rest is the job's."""
        if isinstance(post.body(), m.LogMessagePost):
            self.context.poster.raw_post(post.code, post.raw)
        else:
            self.context.events.put(Event(node, post))

    def _poll(self) -> None:
        """Fetch the counter, and see who is still there.

        An owner that stops reading holds up the whole image; whether it hangs is judged on its control
        session, since no silence on a feed is too long.
        """
        self.context.progress(self.context.channel.state().bytes_processed)
        if all(run.failed for run in self._runs.values()):
            self._polls_alone += 1
            self.context.events.put(Event("poll", None))
        for run in self._runs.values():
            if run.halted is None and not run.lost:
                try:
                    run.client.do(m.DataGetStateRequest())
                except ReplyError as error:
                    # Whoever answers, whatever it answers, is there.
                    self.context.log.warning("no state", owner=run.client.peer, why=str(error))
                except NdmpError as error:
                    self.check_abort()
                    self._lose(run, str(error))

    def _lose(self, run: _OwnerRun, why: str) -> None:
        """It will not ask to be fed any more, and the image waits for none."""
        if run.halted is None:
            run.lost = True
            self.context.log.warning("owner lost", owner=run.client.peer, why=why)
        run.feed.close()

    def _event(self, event: Event) -> None:
        if event.source == ChannelSession.NAME:
            self._channel_event(event.post)
            return
        for run in self._runs.values():
            if event.source == run.feed.name:
                self._feed_event(run, event.post)
            elif event.source == run.client.peer:
                self._owner_event(run, event.post)

    def _channel_event(self, post: Received | None) -> None:
        if post is None:
            raise JobFailedError("the connection server was lost")
        body = post.body()
        if isinstance(body, m.NotifyDataReadPost):
            # The connection server needs that part of the image: the DMA has the mover send it.
            self.context.ask(body.offset, body.length)
        elif isinstance(body, m.NotifyDataHaltedPost):
            self._channel_halt = body.reason

    def _feed_event(self, run: _OwnerRun, post: Received | None) -> None:
        run.feed_halted = True
        good = post is not None and post.body() == m.NotifyMoverHaltedPost(MoverHaltReason.CONNECT_CLOSED)
        if not good and not run.done:
            self.context.log.warning("feed failed", owner=run.client.peer)

    def _owner_event(self, run: _OwnerRun, post: Received | None) -> None:
        if post is None:
            self._lose(run, "its session ended")
            return
        body = post.body()
        if isinstance(body, m.NotifyDataReadPost):
            try:
                run.feed.read()
            except ReplyError as error:
                # Its feed is broken, and it will notice; the others go on.
                self.context.log.warning("feed not started", owner=run.client.peer, why=str(error))
                run.feed.close()
        elif isinstance(body, m.NotifyDataHaltedPost):
            run.halted = body.reason
            if body.reason is not DataHaltReason.SUCCESSFUL:
                # It takes nothing more; whatever is only for it need not be read.
                run.feed.close()
        elif isinstance(body, m.LogFilePost) and run.told < len(run.routes.routes):
            number, _, _ = run.routes.routes[run.told]
            self._statuses[number].append(body.recovery_status)
            run.told += 1

    def _collect(self, run: _OwnerRun) -> None:
        """An owner's totals; one that was lost, or did not end well, is named."""
        if run.lost or run.halted is not DataHaltReason.SUCCESSFUL:
            how = "was lost" if run.lost or run.halted is None else f"ended by {run.halted.name}"
            self._skip(run.routes, f"{run.client.peer} {how} during the restore")
            if run.lost:
                return
        pairs = run.client.call(m.DataGetEnvRequest(), m.DataGetEnvReply).env
        self.lost_links += [pair.value for pair in pairs if pair.name == o.LOST_LINK]
        env = {pair.name: pair.value for pair in pairs}
        self.totals.bytes += int(env.get(o.BYTES, b"0"))
        self.totals.files += int(env.get(o.FILES, b"0"))
        self.totals.problems += int(env.get(o.PROBLEMS, b"0"))
