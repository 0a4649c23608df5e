"""A lost catalogue, made again from cartridges alone: labels, headers, and the index in each image.

What tape does not hold is not there afterwards: log lines of old jobs, their exact times, the server that a
job was asked of.  A cartridge takes more only if all on it was understood, up to its last file mark.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from appliance.archive.verify import Examined, Verifier
from appliance.backupserver import jobs, media, rebuildrows
from appliance.backupserver.cartridge import UnreadyError
from appliance.backupserver.imagestream import UNKNOWN_LENGTH, ImageStream, ReadInto
from appliance.backupserver.indexrows import IndexRows
from appliance.backupserver.jobs import Status
from appliance.backupserver.labels import ForeignRecordError, Header
from appliance.backupserver.levels import LEVEL_MAX
from appliance.backupserver.library import RefusedMoveError
from appliance.backupserver.media import Image, Segment
from appliance.backupserver.peers import Context, MediaPeers, open_media, reading
from appliance.backupserver.rebuildrows import REBUILT
from appliance.backupserver.survey import Contents, Found, UnreadableError, survey
from appliance.config import BackupServer
from appliance.errors import ConfigurationError, JobError
from appliance.ndmp.errors import ReplyError
from appliance.text import path_json, show_path
from tape.commands import MAX_TRANSFER_6

SEGMENTS_MAX: Final = 1 << 20
"""Cartridges of one image, and images of one job: more than any library holds."""


@dataclass
class Result:
    """What came back.  `problems`: (path or empty, text)."""

    cartridges: list[str] = field(default_factory=list)
    jobs: list[int] = field(default_factory=list)
    images: int = 0
    files: int = 0
    problems: list[tuple[bytes, str]] = field(default_factory=list)

    @property
    def status(self) -> Status:
        """Complete, or with problems."""
        return Status.PROBLEMS if self.problems else Status.COMPLETE

    def document(self) -> dict[str, Any]:
        """The result for `--json`."""
        return {
            "status": self.status.value,
            "cartridges": self.cartridges,
            "jobs": [str(job) for job in self.jobs],
            "images": self.images,
            "files": self.files,
            "messages": [{**path_json(path), "text": text} for path, text in self.problems],
        }


def run(context: Context, barcodes: Sequence[str], *, force: bool = False) -> Result:
    """Read cartridges (none named: all in the library) and enter what is on them.

    With `force` a catalogue that has jobs gets those that it lacks; without, it raises ConfigurationError.
    Raises SpanreelError when tape cannot be read at all.
    """
    if not force and next(jobs.list_all(context.catalogue), None) is not None:
        raise ConfigurationError(
            f"the catalogue {context.catalogue.path} has jobs: --force adds what it lacks to them"
        )
    with reading(context, "rebuild of the catalogue") as leases, open_media(context, leases) as peers:
        result = _Rebuild(context, peers).run(barcodes)
        try:
            peers.shelf.put_away()
        except ReplyError as error:
            # All is entered, and told; a drive that fails now must not cost that.
            result.problems.append((b"", f"the last drive was not given back in order: {error}"))
    return result


class _Rebuild:
    """One rebuild, with the drive at hand."""

    def __init__(self, context: Context, peers: MediaPeers) -> None:
        self._context = context
        self._catalogue = context.catalogue
        self._peers = peers
        self._result = Result()

    def run(self, barcodes: Sequence[str]) -> Result:
        contents = self._survey(barcodes)
        found: dict[str, list[tuple[str, Found]]] = {}
        for cartridge in contents:
            for segment in cartridge.segments:
                if not _is_sane(segment.header):
                    self._problem(f"{cartridge.barcode}: tape file {segment.file - 1} has impossible numbers")
                    continue
                found.setdefault(segment.header.image, []).append((cartridge.barcode, segment))
        continued = {
            barcode
            for segments in found.values()
            for barcode, segment in segments
            if any(other.header.segment > segment.header.segment for _, other in segments)
        }
        for cartridge in contents:
            is_full = bool(cartridge.trouble) or cartridge.barcode in continued
            rebuildrows.enter_medium(self._catalogue, cartridge, is_full=is_full)
        known = rebuildrows.known_images(self._catalogue)
        order = sorted(found, key=lambda image: _order(found[image][0][1]))
        for image in order:
            if image not in known:
                self._image(_in_order(found[image]))
        return self._result

    def _survey(self, barcodes: Sequence[str]) -> list[Contents]:
        """Look through the cartridges; those of another catalogue, or of nobody, are left alone."""
        shelf, contents = self._peers.shelf, []
        for barcode in barcodes or shelf.barcodes():
            self._context.screen.note(f"looking through {barcode}")
            try:
                cartridge = survey(shelf, barcode)
            except ForeignRecordError as error:
                self._context.screen.note(f"{barcode} holds {error}: left alone")
                if barcodes:
                    self._problem(f"{barcode} holds {error}")
                continue
            except RefusedMoveError as error:
                self._context.screen.note(f"{barcode}: {error}: left alone")
                if barcodes:
                    self._problem(f"{barcode}: {error}")
                continue
            except (ReplyError, UnreadyError, UnreadableError) as error:
                self._problem(f"{barcode} cannot be read, so what it holds is not known: {error}")
                continue
            rebuildrows.adopt(self._catalogue, cartridge.label.catalogue)
            if cartridge.label.catalogue != self._catalogue.uuid:
                self._problem(f"{barcode} is of another catalogue, {cartridge.label.catalogue}: left alone")
                continue
            if cartridge.label.barcode != barcode:
                self._problem(f"{barcode} has the label of {cartridge.label.barcode}: left alone")
                continue
            if cartridge.trouble:
                self._problem(f"{barcode}: {cartridge.trouble}")
            contents.append(cartridge)
            self._result.cartridges.append(barcode)
        return contents

    def _problem(self, text: str, path: bytes = b"") -> None:
        self._result.problems.append((path, text))

    def _image(self, found: list[tuple[str, Found]]) -> None:
        """Enter one image, and read it for its index."""
        header = found[0][1].header
        entry = self._context.config.section(BackupServer).entry
        job = rebuildrows.enter_job(self._catalogue, header, entry)
        image = rebuildrows.enter_image(self._catalogue, job, header)
        if job not in self._result.jobs:
            self._result.jobs.append(job)
        segments = _segments(found)
        rebuildrows.enter_segments(self._catalogue, image, segments)
        missing = self._missing(image, segments)
        examined, rows = self._examine(image, segments)
        is_whole = examined.complete and not missing
        if is_whole:
            media.end_image(self._catalogue, image, examined.bytes)
        if examined.header is not None and examined.header.dump_date is not None:
            rebuildrows.enter_token(self._catalogue, image, examined.header.dump_date)
        last = segments[-1]
        if last.length == UNKNOWN_LENGTH:
            rebuildrows.end_segment(self._catalogue, image, last.number, max(0, examined.bytes - last.start))
        for path, text in rows.problems:
            self._problem(text, path)
        self._result.images += 1
        self._result.files += rows.rows
        rebuildrows.count_job(self._catalogue, job, rows.problem_count)
        self._finish(job)

    def _missing(self, image: Image, segments: Sequence[Segment]) -> bool:
        """Whether cartridges of the image are not there; they are told."""
        numbers = {segment.number for segment in segments}
        gone = sorted(set(range(1, max(numbers) + 1)) - numbers)
        if gone:
            listed = ", ".join(map(str, gone))
            self._problem(
                f"segment {listed} of the image of {show_path(image.root)} is on none of these cartridges"
            )
        return bool(gone)

    def _finish(self, job: int) -> None:
        """Store how the job stands by what is on tape of it."""
        broken = [image for image in media.images(self._catalogue, job) if image.length is None]
        if broken:
            why = f"{REBUILT}: the image of {show_path(broken[0].root)} is not whole there"
            jobs.finish(self._catalogue, job, Status.FAILED, why)
        else:
            problems = jobs.get(self._catalogue, job).problems
            status = Status.PROBLEMS if problems else Status.COMPLETE
            jobs.finish(self._catalogue, job, status, REBUILT)

    def _examine(self, image: Image, segments: Sequence[Segment]) -> tuple[Examined, IndexRows]:
        rows = IndexRows(self._catalogue.path, image)

        def consume(readinto: ReadInto) -> Examined:
            try:
                examined = Verifier(readinto, rows).run()
                rows.finish()
            finally:
                rows.close()
            return examined

        def progress(count: int) -> None:
            detail = f"{rows.rows} files, from {self._peers.shelf.tape.barcode}"
            self._context.screen.progress(f"index of {show_path(image.root)}", count, detail)

        stream: ImageStream[Examined] = ImageStream(
            self._peers, self._context.config.node.address, image, segments, progress
        )
        try:
            return stream.read(consume), rows
        except (JobError, ReplyError) as error:
            rows.problem(b"", str(error))
            return Examined(), rows


def _is_sane(header: Header) -> bool:
    """Whether a header's numbers are such as we write."""
    return (
        0 < header.record_size <= MAX_TRANSFER_6
        and 0 <= header.offset < UNKNOWN_LENGTH
        and 0 < header.segment <= SEGMENTS_MAX
        and 0 < header.image_number <= SEGMENTS_MAX
        and 0 <= header.level <= LEVEL_MAX
    )


def _in_order(found: Sequence[tuple[str, Found]]) -> list[tuple[str, Found]]:
    """The segments of an image by number; of one that was begun twice the later."""
    by_time = sorted(found, key=lambda each: each[1].header.written)
    by_number = {each[1].header.segment: each for each in by_time}
    return [by_number[number] for number in sorted(by_number)]


def _order(found: Found) -> tuple[int, str, int]:
    """Images in the order in which they were made."""
    header = found.header
    return int(header.job) if header.job.isdigit() else 0, header.job, header.image_number


def _segments(found: Sequence[tuple[str, Found]]) -> list[Segment]:
    """The segments of an image, each as long as the next one says; of the last nobody knows."""
    segments = []
    for position, (barcode, each) in enumerate(found):
        header = each.header
        following = found[position + 1][1].header if position + 1 < len(found) else None
        length = UNKNOWN_LENGTH
        if following is not None and following.segment == header.segment + 1:
            length = max(0, following.offset - header.offset)
        segments.append(Segment(header.segment, barcode, each.file, header.offset, length))
    return segments
