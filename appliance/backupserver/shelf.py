"""Cartridges for one job: chosen, leased, loaded, labelled, and positioned where work begins.

The layout is described in `labels`.  What is on a cartridge is looked at before anything is written:
only a blank cartridge gets a label, and only one whose label and end are as the catalogue says is
appended to.  Everything else is left alone.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, TypeVar

from appliance.backupserver import leases as lease_names
from appliance.backupserver import media
from appliance.backupserver.cartridge import EndOfTapeError, Tape, UnreadyError
from appliance.backupserver.catalogue import Catalogue
from appliance.backupserver.chooser import choose
from appliance.backupserver.labels import RECORD_BYTES, ForeignRecordError, Header, Label
from appliance.backupserver.leases import Leases
from appliance.backupserver.library import Library, RefusedMoveError
from appliance.backupserver.media import Image, Medium, Segment
from appliance.config import BackupServer
from appliance.errors import JobError
from appliance.ndmp.client import Client
from appliance.ndmp.enums import ErrorCode
from appliance.ndmp.errors import ReplyError

Note = Callable[[str], None]


UNWRITABLE_MAX: Final = 2
"""Cartridges in a row on which not even a header can be written."""

DRIVE_FAILURES: Final = frozenset({ErrorCode.IO, ErrorCode.TIMEOUT})
"""With these a drive that is broken or gone answers when it is to be opened."""


T = TypeVar("T")


class UnusableError(Exception):
    """A cartridge cannot be written; the text, after its barcode, says why."""


def now_text() -> str:
    """The time for labels and headers."""
    return datetime.now(UTC).isoformat(timespec="seconds")


class Shelf:
    """The cartridges of one job, in one drive that the job holds the lease of."""

    def __init__(
        self,
        settings: BackupServer,
        catalogue: Catalogue,
        leases: Leases,
        library: Library,
        client: Client,
        serial: str,
        note: Note,
    ) -> None:
        self.tape = Tape(client, serial, settings.device(serial))
        self._settings = settings
        self._catalogue = catalogue
        self._leases = leases
        self._library = library
        self._client = client
        self._note = note
        self._label_uuid = ""
        self._used: set[str] = set()
        self._unwritable = 0
        self._failed_drives: set[str] = set()

    # -- writing -------------------------------------------------------------------------------------
    def begin_segment(self, image: Image, number: int, start: int) -> Segment:
        """Write the header of a segment, on the cartridge in use or on the next one with room.

        Afterwards the tape stands where the image's records go.  Raises JobError when there is no cartridge.
        """
        while True:
            file = self._next_file()
            barcode = self.tape.barcode
            header = Header(
                catalogue=self._catalogue.uuid,
                job=str(image.job),
                image=image.uuid,
                image_number=image.number,
                segment=number,
                offset=start,
                record_size=image.record_size,
                level=image.level,
                root=image.root,
                barcode=barcode,
                label=self._label_uuid,
                written=now_text(),
                base=image.base or "",
            )
            media.begin_segment(self._catalogue, image, number, barcode, file + 1, start)
            try:
                self.tape.write_record(header.record())
                self.tape.write_mark()
            except EndOfTapeError:
                media.drop_segment(self._catalogue, image, number)
                self.set_full()
            except ReplyError as error:
                self._header_failed(image, number, error)
            else:
                return Segment(number, barcode, file + 1, start, None)

    def _header_failed(self, image: Image, number: int, error: ReplyError) -> None:
        """A cartridge that cannot be written takes no more.  Raises ReplyError, JobError.

        Two in a row are the drive's fault rather: it shall not use up the whole library.
        """
        if error.code is not ErrorCode.IO:
            raise error
        media.drop_segment(self._catalogue, image, number)
        self._note(f"{self.tape.barcode} cannot be written: it takes no more")
        self._unwritable += 1
        is_last = self._unwritable >= UNWRITABLE_MAX
        barcode = self.tape.barcode
        try:
            self.set_full()
        except ReplyError:
            is_last = True
        media.set_damaged(self._catalogue, barcode, f"a header could not be written, {now_text()}")
        if is_last:
            raise JobError(
                f"drive {self.tape.serial} cannot write to one cartridge after the other: clean it"
            ) from error

    def end_segment(self, image: Image, segment: Segment, length: int) -> None:
        """Write the file mark behind a segment, and enter both.

        Without a mark the segment is good if all its records are there; the cartridge takes no more then.
        Raises JobError when they are not.
        """
        try:
            self.tape.write_mark()
        except ReplyError as error:
            if error.code is not ErrorCode.IO:
                raise
            kept = self.close_damaged(image, segment, length)
            if kept < length:
                raise JobError(
                    f"{segment.barcode} holds {kept} of the {length} bytes that were written to its tape "
                    f"file {segment.file}"
                ) from error
            return
        self._unwritable = 0
        media.end_segment(self._catalogue, image, segment.number, length)

    def close_damaged(self, image: Image, segment: Segment, length: int) -> int:
        """Enter what is on tape of a segment behind which nothing can be written; return its bytes.

        At most `length`, counted by spacing over the records.  The cartridge takes no more.
        """
        fault = f"writing failed behind tape file {segment.file}, {now_text()}"
        media.set_damaged(self._catalogue, segment.barcode, fault)
        kept = self._count_kept(image, segment, length)
        media.end_segment(self._catalogue, image, segment.number, kept)
        self._note(
            f"{segment.barcode}: writing failed behind tape file {segment.file}, of which {kept} bytes are "
            "there: it takes no more"
        )
        return kept

    def _count_kept(self, image: Image, segment: Segment, length: int) -> int:
        """Count a segment's records on tape, in another drive if this one cannot any more; return bytes."""
        records = -(-length // image.record_size)
        left = self.in_any_drive(segment.barcode, lambda: self._missing_of(segment, records))
        return min(length, (records - left) * image.record_size)

    def _missing_of(self, segment: Segment, records: int) -> int:
        return self.tape.skip_records(records) if self.tape.go_to_file(segment.file) else records

    def set_full(self) -> None:
        """The cartridge in use takes no more: give it back."""
        media.set_full(self._catalogue, self.tape.barcode)
        self._used.add(self.tape.barcode)
        self.put_away()

    def end_failed(self, image: Image, segment: Segment, length: int) -> None:
        """End a segment behind which nothing could be written.

        Cartridge or drive, one of them is at fault: neither is written again, if another drive is free.
        Raises as `end_segment`.
        """
        serial = self.tape.serial
        kept = self.close_damaged(image, segment, length)
        if kept < length:
            raise JobError(f"{segment.barcode} holds {kept} of {length} bytes that were written to it")
        self._used.add(self.tape.barcode)
        try:
            self.put_away()
        except ReplyError as error:
            if error.code not in DRIVE_FAILURES:
                raise
            self._abandon(segment.barcode)
        if self.tape.serial == serial:
            self._take_another_drive()

    def put_away(self) -> None:
        """Rewind and give the drive back; the cartridge stays in it, since the next job likely wants it."""
        if self.tape.barcode:
            self.tape.rewind()
            self.tape.close()
            self._leases.release(lease_names.cartridge(self.tape.barcode))
            self.tape.barcode = ""

    def _next_file(self) -> int:
        """The number of the tape file that is written next, with the tape standing there."""
        if self.tape.barcode:
            return media.media(self._catalogue)[self.tape.barcode].last_file + 1
        return self._mount_for_writing()

    def _mount_for_writing(self) -> int:
        inventory = self._library.inventory()
        present = {element.barcode for element in inventory.elements if element.barcode}
        known = media.media(self._catalogue)
        choice = choose(
            self._settings.writable, present, known, {}, self._library.loaded(inventory, self.tape.serial)
        )
        tried: dict[str, str] = {}
        for barcode in choice.candidates:
            if barcode in self._used:
                continue
            holder = self._leases.take(lease_names.cartridge(barcode))
            if holder is not None:
                tried[barcode] = f"is in use by {holder.holder}"
                continue
            try:
                # Read again under the lease: another job may have ended on it just now.
                return self._prepare(barcode, media.media(self._catalogue).get(barcode))
            except (UnusableError, JobError, UnreadyError) as error:
                tried[barcode] = str(error).removeprefix(f"{barcode} ")
                self._note(f"{barcode} {tried[barcode]}: left alone")
                self._abandon(barcode)
        raise JobError(choice.explain(tried))

    def _abandon(self, barcode: str) -> None:
        self.tape.close_quietly()
        self.tape.barcode = ""
        self._leases.release(lease_names.cartridge(barcode))

    def _prepare(self, barcode: str, medium: Medium | None) -> int:
        """Load a cartridge and make it ready; return the number of the file that is written next."""
        try:
            self._mount(barcode, lambda: self.tape.open_for_writing(barcode, self._settings.writable))
            return self._find_place(barcode, medium)
        except ReplyError as error:
            raise UnusableError(f"cannot be used ({_why(error)})") from error

    def _mount(self, barcode: str, open_drive: Callable[[], None]) -> None:
        """Bring a cartridge into the drive and open it; another drive where this one fails."""
        while True:
            try:
                self._load(barcode)
                return open_drive()
            except ReplyError as error:
                if error.code not in DRIVE_FAILURES or not self._take_another_drive():
                    raise

    def _take_another_drive(self) -> bool:
        """Give up this drive for the rest of the job; False when no other one is free."""
        old = self.tape
        self._failed_drives.add(old.serial)
        for serial in self._settings.drives:
            if serial in self._failed_drives or self._leases.take(lease_names.drive(serial)) is not None:
                continue
            self._note(f"drive {old.serial} cannot be used: going on with drive {serial}")
            old.close_quietly()
            self._leases.release(lease_names.drive(old.serial))
            self.tape = Tape(self._client, serial, self._settings.device(serial))
            return True
        return False

    def _find_place(self, barcode: str, medium: Medium | None) -> int:
        label = self._read_label()
        if label is None:
            return self._write_label(barcode, medium)
        if medium is None or label.uuid != medium.uuid:
            other = "another catalogue" if label.catalogue != self._catalogue.uuid else "an older labelling"
            raise UnusableError(f"has a label of {other}")
        self._label_uuid = label.uuid
        return self._find_end(medium)

    def _read_label(self) -> Label | None:
        """The label; None when the cartridge is blank.  Raises UnusableError for anything else."""
        self.tape.rewind()
        try:
            record = self.tape.read_record(RECORD_BYTES)
            return None if record is None or self.tape.was_end(record) else Label.parse(record)
        except ForeignRecordError as error:
            raise UnusableError(f"holds {error}") from error
        except ReplyError as error:
            # A record of another size, or a damaged one: in both cases it is not for us to overwrite.
            raise UnusableError(
                f"cannot be read ({error.code.name}), so what it holds is not known"
            ) from error

    def _write_label(self, barcode: str, medium: Medium | None) -> int:
        if medium is not None and medium.last_file >= media.FIRST_FREE_FILE:
            raise UnusableError("is blank, but the catalogue knows files on it")
        # Entered first: if we die before the label is on tape, the next job finds an empty medium and
        # writes it; the other way round it would find a label that nobody knows.
        self._label_uuid = medium.uuid if medium is not None else str(uuid.uuid4())
        if medium is None:
            media.add_medium(self._catalogue, barcode, self._label_uuid)
        label = Label(barcode, self._label_uuid, self._catalogue.uuid, media.POOL_DEFAULT, now_text())
        self.tape.rewind()
        try:
            self.tape.write_record(label.record())
        except EndOfTapeError as error:
            raise UnusableError("has no room for a label") from error
        self.tape.write_mark()
        self._note(f"{barcode} labelled")
        return media.FIRST_FREE_FILE

    def _find_end(self, medium: Medium) -> int:
        """Go to the end of data and see that it is where the catalogue says."""
        if medium.unfinished is not None:
            return self._settle(medium, medium.unfinished)
        if not self.tape.go_to_file(medium.last_file + 1):
            raise UnusableError("ends before the last file that the catalogue knows")
        if not self._at_end():
            raise UnusableError("holds data behind the last file that the catalogue knows")
        return medium.last_file + 1

    def _at_end(self) -> bool:
        try:
            return self.tape.was_end(self.tape.read_record(RECORD_BYTES))
        except ReplyError:
            return False

    def _settle(self, medium: Medium, file: int) -> int:
        """Find the end behind a job that died: behind its data file, or before its header."""
        if self.tape.go_to_file(file + 1):
            if not self._at_end():
                raise UnusableError("holds data behind the last file that the catalogue knows")
            media.settle_unfinished(self._catalogue, medium.barcode, file)
            return file + 1
        if not self.tape.go_to_file(file - 1) or not self._is_own_header(medium):
            raise UnusableError("does not end as the catalogue says")
        media.forget_unfinished(self._catalogue, medium.barcode)
        self.tape.go_to_file(file - 1)
        return file - 1

    def _is_own_header(self, medium: Medium) -> bool:
        """Whether a header of a dead job follows, or nothing: what may be written over."""
        try:
            record = self.tape.read_record(RECORD_BYTES)
            if record is None or self.tape.was_end(record):
                return True
            header = Header.parse(record)
            is_dead = not media.is_kept(self._catalogue, medium.barcode, header.image, header.segment)
            return header.label == medium.uuid and is_dead
        except (ForeignRecordError, ReplyError):
            return False

    # -- reading -------------------------------------------------------------------------------------
    def barcodes(self) -> list[str]:
        """The cartridges in the library, in order."""
        return sorted({element.barcode for element in self._library.inventory().elements if element.barcode})

    def open_for_reading(self, barcode: str) -> None:
        """Have a cartridge in the drive, which is open for reading.

        Raises JobError when the cartridge is in use or not in the library.
        """
        if self.tape.barcode == barcode:
            return
        try:
            self.put_away()
        except ReplyError as error:
            if error.code not in DRIVE_FAILURES:
                raise
            # Whether this drive can be used is found out with the next cartridge.
            self._abandon(self.tape.barcode)
        holder = self._leases.take(lease_names.cartridge(barcode))
        if holder is not None:
            raise JobError(str(holder))
        try:
            self._mount(barcode, lambda: self.tape.open_for_reading(barcode))
        except BaseException:
            self._abandon(barcode)
            raise

    def in_any_drive(self, barcode: str, action: Callable[[], T]) -> T:
        """Do something with a cartridge that is in the drive, and once more in another one if this one fails.

        Raises what `action` raises, and what keeps the cartridge from the other drive.
        """
        try:
            return action()
        except ReplyError as error:
            if error.code not in DRIVE_FAILURES or not self._take_another_drive():
                raise
            try:
                self._mount(barcode, lambda: self.tape.open_for_reading(barcode))
            except BaseException:
                self._abandon(barcode)
                raise
            return action()

    def mount_for_reading(self, image: Image, segment: Segment) -> None:
        """Load the cartridge of a segment and go to the segment's first record.

        Another drive is taken where this one fails.  Raises JobError when the cartridge is not what the
        catalogue says, or not in the library.
        """
        self.open_for_reading(segment.barcode)
        self.in_any_drive(segment.barcode, lambda: self._go_to_segment(image, segment))

    def _go_to_segment(self, image: Image, segment: Segment) -> None:
        if not self.tape.go_to_file(segment.file - 1) or not self._is_header_of(image, segment):
            raise JobError(
                f"{segment.barcode}: tape file {segment.file - 1} is not the header that the catalogue knows"
            )
        self.tape.next_file()

    def mount_again(self, image: Image, segment: Segment, offset: int) -> int:
        """Go to the record that a drive failed to read, in another drive if one is free.

        Return the offset in the image at which that record begins; `offset` is a byte of it.  Raises as
        `mount_for_reading`, and JobError when the record is not there.
        """
        failed, barcode = self.tape.serial, self.tape.barcode
        records, within = divmod(offset - segment.start, image.record_size)
        where = f"drive {failed} failed to read {barcode}, tape file {segment.file}, record {records}"
        if self._take_another_drive():
            self._note(f"{where}: looked for in drive {self.tape.serial}; have drive {failed} looked at")
            self._mount(barcode, lambda: self.tape.open_for_reading(barcode))
        else:
            self._note(
                f"{where}: no other drive is free, so it is tried again; have drive {failed} looked at"
            )
        self.mount_for_reading(image, segment)
        if self.tape.skip_records(records):
            raise JobError(f"{barcode}: tape file {segment.file} ends before record {records}")
        return offset - within

    def _is_header_of(self, image: Image, segment: Segment) -> bool:
        try:
            header = Header.parse(self.tape.read_record(RECORD_BYTES) or b"")
        except ForeignRecordError:
            return False
        except ReplyError as error:
            if error.code in DRIVE_FAILURES:
                raise
            return False
        return header.image == image.uuid and header.segment == segment.number

    def close_quietly(self) -> None:
        """Give the drive back on the way out, whichever it is by now."""
        self.tape.close_quietly()

    # -- the robot -----------------------------------------------------------------------------------
    def _load(self, barcode: str) -> None:
        """Bring a cartridge into the drive."""
        inventory = self._library.inventory()
        where = self._library.drive_holding(inventory, barcode)
        if where == self.tape.serial:
            return
        if where is not None:
            self._eject_elsewhere(where, barcode)
        self._note(f"loading {barcode} into drive {self.tape.serial}")
        held = self._library.loaded(inventory, self.tape.serial)
        if held is not None:
            self.tape.eject()
        try:
            self._library.load(barcode, self.tape.serial)
        except RefusedMoveError:
            # What is in the way is perhaps a cartridge that nobody may move.
            if held is None or not self._take_another_drive():
                raise
            self._load(barcode)

    def _eject_elsewhere(self, serial: str, barcode: str) -> None:
        """Have another drive, idle since its job ended, put the cartridge out."""
        resource = lease_names.drive(serial)
        holder = self._leases.take(resource)
        if holder is not None:
            raise JobError(f"{barcode} is in a drive in use: {holder}")
        try:
            Tape(self._client, serial, self._settings.device(serial)).eject()
        finally:
            self._leases.release(resource)


def _why(error: ReplyError) -> str:
    """A reply's error, in words where the name alone would puzzle."""
    if error.code is ErrorCode.PERMISSION:
        return "the media server's configuration does not list it as writable"
    return error.code.name
