"""What a rebuild enters in the catalogue, row by row."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime

from appliance.backupserver import levels, media, process
from appliance.backupserver.backup import BUTYPE, HISTORY_FORMS
from appliance.backupserver.catalogue import REAPED, Catalogue
from appliance.backupserver.imagestream import UNKNOWN_LENGTH
from appliance.backupserver.labels import Header
from appliance.backupserver.media import Image, MediumState, Segment
from appliance.backupserver.survey import Contents

REBUILT = "rebuilt from tape"
"""How the reason of a job begins that a rebuild entered."""

_JOB_MAX = 2**53
"""A larger number on tape was not given by a catalogue, and would use up all numbers to come."""


def adopt(catalogue: Catalogue, uuid: str) -> None:
    """Make an empty catalogue the one that wrote a label, so that its cartridges are its own again."""
    with catalogue.transaction() as connection:
        (used,) = connection.execute(
            "SELECT EXISTS (SELECT 1 FROM job) OR EXISTS (SELECT 1 FROM medium)"
        ).fetchone()
        if used:
            return
        connection.execute("UPDATE catalogue SET uuid = ?", (uuid,))
    catalogue.uuid = uuid


def known_images(catalogue: Catalogue) -> set[str]:
    """The images that are left as they are: all but those that a rebuild did not read to the end."""
    rows = catalogue.connection.execute(
        "SELECT uuid FROM image JOIN job ON job.id = image.job WHERE length IS NOT NULL"
        " OR status = 'running' OR reason NOT LIKE ? AND reason != ?",
        (REBUILT + "%", REAPED),
    )
    return {row["uuid"] for row in rows}


def enter_medium(catalogue: Catalogue, contents: Contents, *, is_full: bool) -> None:
    """Enter a cartridge, if it is not known."""
    if contents.barcode in media.media(catalogue):
        return
    label = contents.label
    media.add_medium(catalogue, contents.barcode, label.uuid, label.pool)
    state = MediumState.FULL if is_full else MediumState.APPENDABLE
    with catalogue.transaction() as connection:
        connection.execute(
            "UPDATE medium SET state = ?, last_file = ?, labelled = ? WHERE barcode = ?",
            (state.value, contents.last_file, moment(label.written), contents.barcode),
        )


def moment(text: str) -> float:
    """The time in a label or header; now where it is none."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return time.time()


def enter_job(catalogue: Catalogue, header: Header, entry: str) -> int:
    """Enter the job of an image, under its own number if that is free, and return its number.

    Another image of the same job joins it.
    """
    wanted = int(header.job) if header.job.isascii() and header.job.isdigit() else 0
    with catalogue.transaction() as connection:
        row = connection.execute("SELECT id, paths, reason FROM job WHERE id = ?", (wanted,)).fetchone()
        taken = connection.execute(
            "SELECT 1 FROM image WHERE job = ? AND number = ? AND uuid != ?",
            (wanted, header.image_number, header.image),
        ).fetchone()
        if row is not None and not taken:
            paths = set(row["paths"].split(b"\0")[:-1])
            if header.root not in paths:
                joined = row["paths"] + header.root + b"\0"
                connection.execute("UPDATE job SET paths = ? WHERE id = ?", (joined, wanted))
            return wanted
        number = wanted if row is None and 0 < wanted < _JOB_MAX else None
        cursor = connection.execute(
            "INSERT INTO job (id, status, paths, entry, level, started, process)"
            " VALUES (?, 'running', ?, ?, ?, ?, ?)",
            (
                number,
                header.root + b"\0",
                entry,
                header.level,
                moment(header.written),
                process.identity(),
            ),
        )
    assert cursor.lastrowid is not None
    return cursor.lastrowid


def enter_image(catalogue: Catalogue, job: int, header: Header) -> Image:
    """Enter an image, in place of one of the same identity that was not read to its end."""
    with catalogue.transaction() as connection:
        connection.execute("DELETE FROM image WHERE uuid = ?", (header.image,))
        cursor = connection.execute(
            "INSERT INTO image (job, number, uuid, root, record_size, level, base)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                job,
                header.image_number,
                header.image,
                header.root,
                header.record_size,
                header.level,
                header.base or None,
            ),
        )
    assert cursor.lastrowid is not None
    image = media.image(catalogue, cursor.lastrowid)
    values = [
        (b"FILESYSTEM", header.root),
        (b"TYPE", BUTYPE),
        (b"HIST", HISTORY_FORMS[BUTYPE]),
        (b"LEVEL", str(header.level).encode()),
    ]
    media.set_environment(catalogue, image, values)
    return image


def enter_token(catalogue: Catalogue, image: Image, token: int) -> None:
    """Enter under which token file servers may know the backup as a base."""
    values = [*media.environment(catalogue, image), (levels.DUMP_DATE, b"%d" % token)]
    media.set_environment(catalogue, image, values)


def enter_segments(catalogue: Catalogue, image: Image, segments: Sequence[Segment]) -> None:
    """Enter where an image lies; a length that nobody knows yet is 0."""
    with catalogue.transaction() as connection:
        connection.executemany(
            "INSERT INTO segment (image, number, barcode, file, start, length) VALUES (?, ?, ?, ?, ?, ?)",
            [
                (
                    image.id,
                    segment.number,
                    segment.barcode,
                    segment.file,
                    segment.start,
                    0 if segment.length == UNKNOWN_LENGTH else segment.length,
                )
                for segment in segments
            ],
        )


def end_segment(catalogue: Catalogue, image: Image, number: int, length: int) -> None:
    """Store how long the last segment of an image turned out to be."""
    with catalogue.transaction() as connection:
        connection.execute(
            "UPDATE segment SET length = ? WHERE image = ? AND number = ?", (length, image.id, number)
        )


def count_job(catalogue: Catalogue, job: int, problems: int) -> None:
    """Store what the images of a job come to; `problems` are added."""
    with catalogue.transaction() as connection:
        connection.execute(
            "UPDATE job SET problems = problems + ?,"
            " files = (SELECT count(*) FROM file JOIN image ON image.id = file.image"
            " WHERE image.job = job.id),"
            " bytes = (SELECT coalesce(sum(length), 0) FROM image WHERE image.job = job.id) WHERE id = ?",
            (problems, job),
        )
