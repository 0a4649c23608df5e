"""The entry server: the DATA service that a DMA sees.

It knows the global name space and the connection server; to the DMA it is one NDMP data server with one
file system, "/".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from appliance.archive.errors import ArchiveUsageError
from appliance.dataservice import DataService
from appliance.errors import SpanreelError
from appliance.fileserver import bases, environment, rights
from appliance.fileserver import order as o
from appliance.fileserver.backup_job import BackupJob, BackupOrder
from appliance.fileserver.direct import PART, access, is_yes, part_values
from appliance.fileserver.filehist_job import FilehistJob
from appliance.fileserver.job import Job, JobAbortedError, JobContext, JobFailedError, JobTotals, new_job_name
from appliance.fileserver.owner import check_lists, existing_policy
from appliance.fileserver.plan import clean_path, routes, wishes
from appliance.fileserver.restore_job import RestoreJob
from appliance.gns.map import GnsMap, PathNotFoundError
from appliance.gns.service import MapService
from appliance.local import LocalEnds
from appliance.ndmp import messages as m
from appliance.ndmp.accounts import Account
from appliance.ndmp.enums import AddressType, DataHaltReason, DataState, ErrorCode, LogType
from appliance.ndmp.errors import ConnectionLostError, NdmpError, RefusalError
from appliance.ndmp.networks import NO_RULES, DataRules
from appliance.ndmp.session import Poster
from appliance.ndmp.states import DataEvent
from appliance.ndmp.types import Address, Name, without_environment
from appliance.peers import ChannelSession, Events, Peers
from appliance.text import show_path


class EntryService(DataService):
    """One DMA session's DATA service."""

    def __init__(
        self,
        poster: Poster,
        maps: MapService,
        peers: Peers,
        log: Any = None,
        *,
        user: Callable[[], tuple[str, Account | None]] = lambda: ("", None),
        rules: DataRules = NO_RULES,
        on_outcome: Callable[[str], None] = lambda _: None,
        local: LocalEnds | None = None,
        kinds: Callable[[], tuple[AddressType, ...]] = lambda: (AddressType.TCP,),
        strict: bool = False,
    ) -> None:
        """`user`: who logged in, and with which account; `on_outcome` is told how each job ended.

        `local`: where the session's mover is found, if it has one.  `strict`: by the draft to the letter,
        where DMAs ask for more.
        """
        super().__init__(poster, log)
        self._local = local
        self._kinds = kinds
        self._is_local = False
        self._strict = strict
        if strict:
            self.accept_lag_s = 0.0
        self._user = user
        self._rules = rules
        self._on_outcome = on_outcome
        self._maps = maps
        self._peers = peers
        self._channel: ChannelSession | None = None
        self._mover = Address()
        self._events: Events = Events()
        self._job_name = ""
        self._names_given = False
        self._job: Job | None = None
        self._cancelled = False
        self._tells_moves = False

    def kinds(self) -> tuple[AddressType, ...]:
        """What the session may use: IPv6 is an extension."""
        return self._kinds()

    def listen(self, kind: AddressType) -> Address:
        """The connection server listens: its address is what the mover connects to."""
        try:
            return self._open_channel().listen(kind)
        except NdmpError as error:
            raise self._no_channel(error) from error

    def connect(self, address: Address) -> None:
        """The connection server connects to the mover."""
        try:
            # Without its environment: a token in it would have the connection server trust a stranger.
            address = self._rules.within(without_environment(address))
            self._open_channel().connect(address)
        except NdmpError as error:
            raise self._no_channel(error) from error
        self._mover = address

    def listen_local(self) -> Address:
        """The connection server listens, and the session's own mover is told where."""
        if self._local is None:
            return super().listen_local()
        self._local.listen(self.listen(AddressType.TCP))
        self._is_local = True
        return Address()

    def connect_local(self) -> None:
        """The connection server connects to the session's own mover, by a token."""
        if self._local is None:
            super().connect_local()
            return
        address = self._local.take()
        try:
            self._open_channel().connect(address)
        except NdmpError as error:
            raise self._no_channel(error) from error
        self._is_local = True

    def connection_address(self) -> Address:
        """The mover's endpoint, as the DMA gave it; LOCAL before, and for a mover of the same session."""
        return Address() if self._is_local or self.machine.state is DataState.IDLE else self._mover

    def ask_for(self, offset: int, length: int) -> None:
        """Have the DMA read, or the session's own mover (draft, 4.1.5: no notification for LOCAL)."""
        if self._is_local and self._local is not None:
            self.read_offset, self.read_length = offset, length
            self._local.read(offset, length)
            return
        super().ask_for(offset, length)

    def prepare(self, request: m.CabDataConnPrepareRequest) -> None:
        """Cluster Aware Backup: say early whether the path can be saved.

        Where the data will come from needs no choosing here: the connection server holds the one channel,
        whoever owns the files.  Raises RefusalError, with a line in the log.
        """
        self._check_butype(request.butype_name)
        paths = [pair.value for pair in request.env if pair.name == b"FILESYSTEM"]
        try:
            root = clean_path(paths[-1] if paths else b"")
            self._fresh_map().parts(root)
        except (RefusalError, PathNotFoundError) as error:
            raise self._refuse(ErrorCode.ILLEGAL_ARGS, str(error)) from error
        self._check_backup_rights(root)

    def backup(self, butype: bytes) -> Callable[[], DataHaltReason]:
        """Look the path up, and return what runs the backup.  Raises RefusalError, with a line in the log."""
        try:
            environment.check_backup(self.env, butype)
            order = BackupOrder(
                root=clean_path(self.value(b"FILESYSTEM")),
                history=environment.history_form(self.env, butype),
                exclude=tuple(self.env.get(b"EXCLUDE", ())),
                files=tuple(self.env.get(b"FILES", ())),
                increment=environment.increment(self.env),
                markers=environment.markers(self.env),
            )
        except (RefusalError, ArchiveUsageError) as error:
            raise self._refuse(ErrorCode.ILLEGAL_ARGS, str(error)) from error
        self._check_backup_rights(order.root)
        try:
            job = BackupJob(
                self._context(),
                self._fresh_map(),
                order,
                lambda parts: bases.ask(self._peers, order.root, parts, self.log),
            )
        except (RefusalError, PathNotFoundError, ArchiveUsageError) as error:
            raise self._refuse(ErrorCode.ILLEGAL_ARGS, str(error)) from error
        self.set_value(b"PATHNAME_SEPARATOR", b"/")
        for name in (PART, environment.DUMP_DATE):
            self.env.pop(name, None)
        self._tells_moves = is_yes(self.env, o.MOVED, default=False)
        self.env.pop(o.MOVED, None)
        self._note_user()
        return self._runner(job, lambda: self._run_backup(job, order))

    def recover(self, butype: bytes, names: Sequence[Name]) -> Callable[[], DataHaltReason]:
        """Look the targets up, and return what runs the restore."""
        # TYPE may be that of the backup: every type's image is restored by either name.
        self._check_butype(butype)
        policy = existing_policy(self.value(o.EXISTING))
        existing = policy.value.encode()
        try:
            check_lists(self.env, policy)
            fallback = self.value(b"PREFIX") or self.value(b"FILESYSTEM") or b"/"
            gns = self._fresh_map()
            if self._strict and not names:
                raise RefusalError(ErrorCode.ILLEGAL_ARGS, "an nlist has at least one name")
            wanted = wishes(names, fallback)
            reading = access(self.env, wanted)
            owners = routes(gns, wanted, recursive=reading.recursive)
        except RefusalError as error:
            raise self._refuse(error.code, str(error)) from error
        user, account = self._user()
        self._check_rights(rights.against_restore(account, user, (wish.target for wish in wanted)))
        # LOG_FILE is about names of the nlist (draft-skardal-ndmpv4-04, 4.2.2): none for an empty one.
        self._names_given = bool(names)
        second_pass = is_yes(self.env, o.SECOND_PASS, default=False)
        self.env.pop(o.LOST_LINK, None)
        job = RestoreJob(
            self._context(),
            gns.generation,
            wanted,
            owners,
            existing,
            reading,
            second_pass=second_pass,
            extract=self.value(environment.EXTRACT),
        )
        return self._runner(job, lambda: self._run_restore(job))

    def recover_filehist(self, butype: bytes, names: Sequence[Name]) -> Callable[[], DataHaltReason]:
        """Return what reads the image and tells its file history, in file form."""
        self._check_butype(butype)
        user, account = self._user()
        self._check_rights(rights.against_restore(account, user, ()))
        job = FilehistJob(self._context(), [name.original_path for name in names])
        return self._runner(job, lambda: self._run_filehist(job))

    def cancel(self) -> None:
        """Abort the job; closing its sessions ends what owners and connection server do for it."""
        self._cancelled = True
        if self._job is not None:
            self._job.abort()
        if self._channel is not None:
            self._channel.close()

    def release(self) -> None:
        """Give the channel up; one whose job was finished is closed already."""
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()

    def _open_channel(self) -> ChannelSession:
        self._is_local = False
        name = self._job_name = new_job_name()
        self.begin_job(name)
        self._events = Events()
        try:
            self._channel = ChannelSession(
                self._peers,
                name,
                self._events,
                lambda address: self._mover_came(name, address),
                lambda: self._no_mover_comes(name),
            )
        except NdmpError as error:
            raise ConnectionLostError(f"no connection server: {error}", ErrorCode.CONNECT) from error
        return self._channel

    def _no_channel(self, error: NdmpError) -> RefusalError:
        self.release()
        return self._refuse(_connect_code(error), f"the backup channel cannot be set up: {error}")

    def _mover_came(self, name: str, address: Address) -> None:
        """The mover of the job of that name has connected; it may not be the present job any more."""
        with self.machine.changed:
            if name == self._job_name and self.machine.try_fire(DataEvent.ACCEPTED):
                self._mover = address

    def _no_mover_comes(self, name: str) -> None:
        """The channel is over; a job notices by itself, a listener must be told of."""
        self.halt(
            DataHaltReason.CONNECT_ERROR,
            lambda: name == self._job_name and self.machine.state is DataState.LISTEN,
        )

    def _context(self) -> JobContext:
        assert self._channel is not None, "CONNECTED implies a channel"
        return JobContext(
            self._job_name,
            self._peers,
            self._channel,
            self._events,
            self.poster,
            self._progress,
            self.ask_for,
            self.message,
            self.log,
        )

    def _fresh_map(self) -> GnsMap:
        """The writer's map, or the last good copy while the writer is away.  The job pins it."""
        try:
            self._maps.refresh()
        except SpanreelError as error:
            self.log.warning("map not refreshed, the last good copy is used", why=str(error))
        return self._maps.current()

    def _progress(self, count: int) -> None:
        self.bytes_processed = count

    def _runner(self, job: Job, run: Callable[[], DataHaltReason]) -> Callable[[], DataHaltReason]:
        self._job = job
        self._cancelled = False
        for total in o.TOTALS:
            # A DMA restores with the environment of its backup, whose totals are not this job's.
            self.env.pop(total, None)
        self.set_value(o.JOB, self._job_name)

        def guarded() -> DataHaltReason:
            try:
                return run()
            except (JobAbortedError, JobFailedError, NdmpError, OSError) as error:
                if job.is_aborted:
                    # Whatever it met then: its sessions were closed under its hands.
                    return DataHaltReason.ABORTED
                self.message(LogType.ERROR, f"the job failed: {error}")
            return DataHaltReason.INTERNAL_ERROR

        def counted() -> DataHaltReason:
            reason = DataHaltReason.INTERNAL_ERROR
            try:
                reason = guarded()
            finally:
                status = self.value(o.STATUS).decode()
                self._on_outcome("aborted" if self._cancelled else _outcome(reason, status))
            return reason

        return counted

    def _run_backup(self, job: BackupJob, order: BackupOrder) -> DataHaltReason:
        reason = job.run()
        self.env[PART] = part_values(job.table())
        self.bytes_processed = job.totals.bytes
        self._set_totals(job.totals)
        if order.increment.is_incremental:
            self.set_value(environment.BASE_DATE, job.base.base or 0)
            if self._tells_moves:
                self.env[o.MOVED] = job.moved
        if reason is DataHaltReason.SUCCESSFUL and not job.totals.skipped:
            self._keep_base(job, order.root)
        return reason

    def _keep_base(self, job: BackupJob, root: bytes) -> None:
        """A backup that is whole becomes a base, before the DMA hears that it ended."""
        token = job.base.token
        if token is None:
            return
        for path, why in bases.keep(self._peers, root, token, job.saved).items():
            text = f"{show_path(path)}: the next incremental backup saves all of it: {why}"
            self.message(LogType.NORMAL, text)
        self.set_value(environment.DUMP_DATE, token)

    def _run_filehist(self, job: FilehistJob) -> DataHaltReason:
        reason = job.run()
        self._set_totals(job.totals)
        return reason

    def _run_restore(self, job: RestoreJob) -> DataHaltReason:
        reason = job.run()
        if self._names_given:
            for name, status in job.statuses():
                self.poster.post(m.LogFilePost(name, status))
        self.env[o.LOST_LINK] = job.lost_links
        self._set_totals(job.totals)
        return reason

    def _set_totals(self, totals: JobTotals) -> None:
        self.set_value(o.STATUS, totals.status)
        self.set_value(o.FILES, totals.files)
        self.set_value(o.BYTES, totals.bytes)
        self.set_value(o.PROBLEMS, totals.problems + totals.skipped)

    def _refuse(self, code: ErrorCode, why: str) -> RefusalError:
        """A refusal whose reason the DMA can show: the reply has room for a number only."""
        self.message(LogType.ERROR, why)
        return RefusalError(code, why)

    def _check_backup_rights(self, root: bytes) -> None:
        user, account = self._user()
        self._check_rights(rights.against_backup(account, user, root))

    def _check_rights(self, why: str) -> None:
        if why:
            raise self._refuse(ErrorCode.PERMISSION, why)

    def _check_butype(self, butype: bytes) -> None:
        try:
            environment.check_butype(butype)
        except RefusalError as error:
            raise self._refuse(error.code, str(error)) from error

    def _note_user(self) -> None:
        """USER is accepted; a backup is the file server's own act, and reads every file."""
        user = environment.other_user(self.env)
        if user:
            self.message(LogType.NORMAL, f"USER={show_path(user.encode())} is ignored: all files are read")


def _outcome(reason: DataHaltReason, status: str) -> str:
    """In one word, how a job ended: `status` is that of a job which got to its end."""
    if reason is DataHaltReason.SUCCESSFUL:
        return status
    return "aborted" if reason is DataHaltReason.ABORTED else "failed"


def _connect_code(error: NdmpError) -> ErrorCode:
    return error.code if error.code is ErrorCode.ILLEGAL_ARGS else ErrorCode.CONNECT
