"""Cartridges for one job: chosen, leased, loaded, labelled, and positioned where work begins.

The layout is described in `labels`.  What is on a cartridge is looked at before anything is written:
only a blank cartridge gets a label, and only one whose label and end are as the catalogue says is
appended to.  Everything else is left alone.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, datetime

from appliance.backupserver import leases as lease_names
from appliance.backupserver import media
from appliance.backupserver.cartridge import EndOfTapeError, Tape
from appliance.backupserver.catalogue import Catalogue
from appliance.backupserver.chooser import choose
from appliance.backupserver.labels import RECORD_BYTES, ForeignRecordError, Header, Label
from appliance.backupserver.leases import Leases
from appliance.backupserver.library import Library
from appliance.backupserver.media import Image, Medium, Segment
from appliance.config import BackupServer
from appliance.errors import JobError
from appliance.ndmp.client import Client
from appliance.ndmp.errors import ReplyError

Note = Callable[[str], None]


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
            else:
                return Segment(number, barcode, file + 1, start, None)

    def end_segment(self, image: Image, segment: Segment, length: int) -> None:
        """Write the file mark behind a segment, and enter both."""
        self.tape.write_mark()
        media.end_segment(self._catalogue, image, segment.number, length)

    def set_full(self) -> None:
        """The cartridge in use takes no more: give it back."""
        media.set_full(self._catalogue, self.tape.barcode)
        self._used.add(self.tape.barcode)
        self.put_away()

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
            except (UnusableError, JobError) as error:
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
        self._load(barcode)
        self.tape.open_for_writing(barcode, self._settings.writable)
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
            return Header.parse(record).label == medium.uuid
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
        self.put_away()
        holder = self._leases.take(lease_names.cartridge(barcode))
        if holder is not None:
            raise JobError(str(holder))
        self._load(barcode)
        self.tape.open_for_reading(barcode)

    def mount_for_reading(self, image: Image, segment: Segment) -> None:
        """Load the cartridge of a segment and go to the segment's first record.

        Raises JobError when the cartridge is not what the catalogue says, or not in the library.
        """
        self.open_for_reading(segment.barcode)
        if not self.tape.go_to_file(segment.file - 1) or not self._is_header_of(image, segment):
            raise JobError(
                f"{segment.barcode}: tape file {segment.file - 1} is not the header that the catalogue knows"
            )
        self.tape.next_file()

    def _is_header_of(self, image: Image, segment: Segment) -> bool:
        try:
            header = Header.parse(self.tape.read_record(RECORD_BYTES) or b"")
        except (ForeignRecordError, ReplyError):
            return False
        return header.image == image.uuid and header.segment == segment.number

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
        if self._library.loaded(inventory, self.tape.serial) is not None:
            self.tape.eject()
        self._library.load(barcode, self.tape.serial)

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
