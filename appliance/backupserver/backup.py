"""A backup: one image for each path, one after the other, in one job."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from appliance.backupserver import jobs, levels, media
from appliance.backupserver.catalogue import Catalogue
from appliance.backupserver.connect import explain
from appliance.backupserver.history import HistoryWriter
from appliance.backupserver.jobs import Job, Status
from appliance.backupserver.leases import Leases
from appliance.backupserver.levels import Base
from appliance.backupserver.media import Image, Segment
from appliance.backupserver.operation import Halts, Operation
from appliance.backupserver.peers import Context, Peers, open_peers
from appliance.backupserver.totals import Totals
from appliance.backupserver.wanted import EVERYTHING, Wanted
from appliance.errors import JobError, SpanreelError
from appliance.ndmp import messages as m
from appliance.ndmp.enums import (
    ALL_ONES,
    DataHaltReason,
    ErrorCode,
    MoverHaltReason,
    MoverMode,
    MoverPauseReason,
)
from appliance.ndmp.errors import NdmpError, ReplyError
from appliance.ndmp.types import Pval
from appliance.text import show_path

BUTYPE: Final = b"tar"
"""The backup type where none is chosen: the pax stream that GNU tar reads."""

HISTORY_FORMS: Final = {BUTYPE: b"f", b"dump": b"d"}
"""The backup types, and the form of file history (HIST) that is asked for with each: what servers send by
themselves with a type of that name."""

LISTING: Final = b"d"
"""The form of an incremental backup's history: it has all names of each directory, saved or not."""

STORE_EVERY_POLLS: Final = 5
"""Polls between two updates of the job's row, so that `spanreel jobs` shows it growing."""


@dataclass(frozen=True)
class Request:
    """What to back up.  `level` None: what changed since the last backup, whatever its level."""

    paths: tuple[bytes, ...]
    entry: str
    level: int | None = 0
    butype: bytes = BUTYPE
    wanted: Wanted = EVERYTHING


def without_nested(paths: Sequence[bytes]) -> tuple[bytes, ...]:
    """The paths in their order, without those that another one contains."""
    kept: list[bytes] = []
    for path in dict.fromkeys(paths):
        others = (other for other in paths if other != path)
        if not any(path.startswith(other.rstrip(b"/") + b"/") for other in others):
            kept.append(path)
    return tuple(kept)


def run(context: Context, request: Request) -> Job:
    """Run a backup in the foreground and return how it ended.

    Whatever ends it is in the catalogue.  Raises SpanreelError when it failed, KeyboardInterrupt when it
    was interrupted.
    """
    catalogue = context.catalogue
    bases = {path: levels.choose(catalogue, path, request.level) for path in request.paths}
    job = jobs.create(catalogue, request.paths, request.entry, _level(request, bases))
    leases = Leases(catalogue, f"job {job}")
    try:
        with _recorded(catalogue, job), open_peers(context, request.entry, leases) as peers:
            status = Backup(context, peers, job, request, bases).run()
        jobs.finish(catalogue, job, status)
    finally:
        leases.release_all()
        context.screen.close()
    return jobs.get(catalogue, job)


def _level(request: Request, bases: Mapping[bytes, Base | None]) -> int:
    """The level of a job: what was asked for, else one above the highest that it is based on."""
    if request.level is not None:
        return request.level
    return 1 + max((base.image.level for base in bases.values() if base is not None), default=-1)


@contextmanager
def _recorded(catalogue: Catalogue, job: int) -> Iterator[None]:
    """Enter why a job failed, and say it in one line."""
    try:
        yield
    except KeyboardInterrupt:
        jobs.finish(catalogue, job, Status.ABORTED, "interrupted")
        raise
    except NdmpError as error:
        jobs.finish(catalogue, job, Status.FAILED, str(error))
        raise explain(error) from error
    except BaseException as error:
        jobs.finish(catalogue, job, Status.FAILED, str(error) or type(error).__name__)
        raise


class Backup:
    """The images of one job, over sessions that are open."""

    def __init__(
        self,
        context: Context,
        peers: Peers,
        job: int,
        request: Request,
        bases: Mapping[bytes, Base | None],
    ) -> None:
        self._bases = bases
        self._level = _level(request, bases)
        self._context = context
        self._peers = peers
        self._job = job
        self._request = request
        self._totals = Totals(context, peers.events, job)

    def run(self) -> Status:
        """Write every image.  Raises SpanreelError or NdmpError; what is on tape by then is catalogued."""
        try:
            for number, path in enumerate(self._request.paths, 1):
                self._image(number, path)
            self._peers.shelf.put_away()
        finally:
            self._totals.store()
        return self._totals.status

    def _image(self, number: int, root: bytes) -> None:
        settings = self._context.config.backup_server
        assert settings is not None
        catalogue = self._context.catalogue
        base = self._bases[root]
        image = media.add_image(
            catalogue,
            self._job,
            number,
            root,
            settings.record_size,
            level=self._level,
            base=None if base is None else base.image.uuid,
        )
        history = HistoryWriter(
            catalogue.path,
            image.id,
            lambda text: self._peers.events.add_line("error", text),
            is_incremental=base is not None,
        )
        self._peers.events.history = history.put
        self._totals.begin(history)
        writing = Writing(self._peers, self._totals, catalogue, image, self._request, base)
        try:
            halts = writing.run()
        finally:
            self._peers.events.history = None
            history.finish()
            self._totals.take_lines()
        self._totals.end(self._judged(root, halts, image), writing.environment)

    def _judged(self, root: bytes, halts: Halts, image: Image) -> int:
        """The bytes of the image.  Raises JobError unless everything that was sent is on tape."""
        length = halts.agreed(image.record_size)
        if halts.good and length is not None:
            return length
        what = f"the backup of {show_path(root)} failed"
        if halts.good:
            raise JobError(
                f"{what}: {self._request.entry} sent {halts.processed} bytes, {halts.moved} are on tape"
            )
        if halts.data in (DataHaltReason.SUCCESSFUL, DataHaltReason.CONNECT_ERROR):
            raise JobError(
                f"{what}: the media server stopped with {halts.mover.name}{self._totals.in_brackets()}"
            )
        raise JobError(
            f"{what}: {self._request.entry} stopped with {halts.data.name}{self._totals.in_brackets()}"
        )


class Writing(Operation):
    """One image on its way to tape, over as many cartridges as it takes."""

    def __init__(
        self,
        peers: Peers,
        totals: Totals,
        catalogue: Catalogue,
        image: Image,
        request: Request,
        base: Base | None,
    ) -> None:
        super().__init__(peers)
        self.environment: dict[bytes, bytes] = {}
        self._totals = totals
        self._catalogue = catalogue
        self._image = image
        self._base = base
        self._butype = request.butype
        self._wanted = request.wanted
        self._segment: Segment | None = None
        self._polls = 0

    def run(self) -> Halts:
        """Write the image and the marks behind it.

        Raises NdmpError or SpanreelError, when what is on tape has been catalogued as far as it goes.
        """
        try:
            self._begin_segment(1, 0)
            self.connect(MoverMode.READ, self._image.record_size, 0, ALL_ONES)
            self._start()
            halts = self.watch()
            if halts.good:
                self._keep_environment()
            self.stop()
        except BaseException:
            self._rescue(self.abort())
            raise
        if halts.good:
            length = halts.agreed(self._image.record_size)
            try:
                self._end(halts.moved if length is None else length)
            except JobError:
                self._end_at_what_is_kept()
                raise
        elif halts.mover is MoverHaltReason.MEDIA_ERROR:
            self._rescue_damaged(halts.moved)
        else:
            self._rescue(halts.moved)
        return halts

    def _start(self) -> None:
        values = [
            (b"FILESYSTEM", self._image.root),
            (b"TYPE", self._butype),
            (b"HIST", HISTORY_FORMS[self._butype] if self._base is None else LISTING),
            (b"LEVEL", str(self._image.level).encode()),
            (b"UPDATE", b"y"),
            *self._wanted.variables(),
        ]
        if self._base is not None:
            values.append((levels.BASE_DATE, self._base.token))
        media.set_environment(self._catalogue, self._image, values)
        if self._base is not None:
            values.append((levels.MOVED, b"y"))
        environment = tuple(Pval(name, value) for name, value in values)
        try:
            self.peers.data.do(m.DataStartBackupRequest(self._butype, environment))
        except ReplyError as error:
            self._totals.take_lines(show=False)
            why = self._totals.last_words or _REFUSALS.get(error.code, error.code.name)
            raise JobError(f"{error.peer} refused to back up {show_path(self._image.root)}: {why}") from error

    def _keep_environment(self) -> None:
        reply = self.peers.data.call(m.DataGetEnvRequest(), m.DataGetEnvReply)
        values = [(pair.name, pair.value) for pair in reply.env if pair.name != levels.MOVED]
        if self._base is not None:
            moved = [pair.value for pair in reply.env if pair.name == levels.MOVED]
            media.set_moved(self._catalogue, self._image, levels.parse_moved(moved))
        self.environment = dict(values)
        if values:
            media.set_environment(self._catalogue, self._image, values)

    def on_paused(self, pause: m.NotifyMoverPausedPost) -> None:
        """The cartridge is full, or damaged here: go on with the next one."""
        moved = self.peers.mover.call(m.MoverGetStateRequest(), m.MoverGetStateReply).bytes_moved
        if pause.reason not in (MoverPauseReason.EOM, MoverPauseReason.MEDIA_ERROR):
            raise JobError(f"the mover paused with {pause.reason.name}, which a backup does not expect")
        assert self._segment is not None, "the mover runs within a segment"
        number = self._segment.number
        if self.peers.shelf.tape.had_error():
            segment, self._segment = self._segment, None
            self.peers.shelf.end_failed(self._image, segment, moved - segment.start)
        else:
            self._end_segment(moved)
            self.peers.shelf.set_full()
        if self.data_halt not in (None, DataHaltReason.SUCCESSFUL):
            # There is nothing worth another cartridge.
            self.peers.mover.do(m.MoverCloseRequest())
            return
        self._begin_segment(number + 1, moved)
        self.peers.mover.do(m.MoverSetWindowRequest(moved, ALL_ONES - moved))
        self.peers.mover.do(m.MoverContinueRequest())

    def on_read(self, read: m.NotifyDataReadPost) -> None:
        """A data server that wants to read during a backup."""
        raise JobError(f"the file server asks to read at {read.offset}, during a backup")

    def on_poll(self, data: m.DataGetStateReply, mover: m.MoverGetStateReply) -> None:
        """Show and store how far the image is."""
        del data
        self._polls += 1
        barcode = self.peers.shelf.tape.barcode
        self._totals.show(self._image.root, mover.bytes_moved, barcode)
        if self._polls % STORE_EVERY_POLLS == 0:
            self._totals.store()

    def _begin_segment(self, number: int, start: int) -> None:
        self._segment = self.peers.shelf.begin_segment(self._image, number, start)

    def _end_segment(self, moved: int) -> None:
        segment, self._segment = self._segment, None
        assert segment is not None, "a segment is ended once"
        self.peers.shelf.end_segment(self._image, segment, moved - segment.start)

    def _end(self, moved: int) -> None:
        if self._segment is not None:
            self._end_segment(moved)
        media.end_image(self._catalogue, self._image, moved)

    def _rescue(self, moved: int | None) -> None:
        """Close what a failed image left on tape, so that the cartridge goes on being used.

        Where nothing came after the header, the header is left to be written over by the next job.
        """
        if not moved:
            return
        with contextlib.suppress(NdmpError, SpanreelError):
            if self._segment is not None:
                self._end_segment(moved)
        self._end_at_what_is_kept()

    def _end_at_what_is_kept(self) -> None:
        """Enter the length of an image of which a cartridge holds less than was counted when it was written.

        What was counted on tape is in the segments by now; where one has no end nobody can say.
        """
        segments = media.segments(self._catalogue, self._image)
        lengths = [segment.length for segment in segments]
        if segments and None not in lengths:
            media.end_image(self._catalogue, self._image, segments[-1].start + (lengths[-1] or 0))

    def _rescue_damaged(self, moved: int) -> None:
        """Enter how far an image came that a drive or cartridge ended; nothing more is written there."""
        segment, self._segment = self._segment, None
        if segment is None:
            return
        with contextlib.suppress(NdmpError, SpanreelError):
            shelf = self.peers.shelf
            kept = shelf.close_damaged(self._image, segment, moved - segment.start)
            media.end_image(self._catalogue, self._image, segment.start + kept)


_REFUSALS = {
    ErrorCode.ILLEGAL_ARGS: "no such global path, or a setting it does not know",
    ErrorCode.FILE_NOT_FOUND: "no such global path",
    ErrorCode.PERMISSION: "the account has no right to it",
    ErrorCode.NOT_AUTHORIZED: "the account has no right to it",
}
