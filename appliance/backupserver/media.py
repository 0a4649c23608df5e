"""Cartridges, images and their segments in the catalogue."""

from __future__ import annotations

import sqlite3
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from appliance.backupserver.catalogue import Catalogue

POOL_DEFAULT = "default"
"""The pool of every cartridge until pools are configured."""

FIRST_FREE_FILE = 1
"""Tape file 0 is the label."""


class MediumState(StrEnum):
    """Whether a labelled cartridge takes more."""

    APPENDABLE = "appendable"
    FULL = "full"


@dataclass(frozen=True)
class Medium:
    """A cartridge that we labelled.

    `last_file` is the last tape file known to end with a mark; `unfinished` the data file of a segment
    whose writer died, behind which nothing is known; `fault` is why it was given up, empty if it was not.
    """

    barcode: str
    uuid: str
    pool: str
    state: MediumState
    last_file: int
    unfinished: int | None = None
    fault: str = ""


@dataclass(frozen=True)
class Segment:
    """A part of an image on one cartridge; `length` None while it is written."""

    number: int
    barcode: str
    file: int
    start: int
    length: int | None

    def holds(self, offset: int) -> bool:
        """Whether the byte at `offset` of the image is in this segment."""
        return self.length is not None and self.start <= offset < self.start + self.length


@dataclass(frozen=True)
class Image:
    """What one DATA_START_BACKUP wrote."""

    id: int
    job: int
    number: int
    uuid: str
    root: bytes
    record_size: int
    length: int | None
    level: int = 0
    base: str | None = None
    """The uuid of the image that an incremental one is based on."""


def add_medium(catalogue: Catalogue, barcode: str, label_uuid: str, pool: str = POOL_DEFAULT) -> None:
    """Enter a cartridge whose label was just written."""
    with catalogue.transaction() as connection:
        connection.execute(
            "INSERT INTO medium (barcode, uuid, pool, state, last_file, labelled) VALUES (?, ?, ?, ?, ?, ?)",
            (barcode, label_uuid, pool, MediumState.APPENDABLE.value, FIRST_FREE_FILE - 1, time.time()),
        )


def media(catalogue: Catalogue) -> dict[str, Medium]:
    """Every cartridge that we labelled, by barcode."""
    rows = catalogue.connection.execute(
        "SELECT medium.*, min(segment.file) AS unfinished FROM medium"
        " LEFT JOIN segment ON segment.barcode = medium.barcode AND segment.length IS NULL"
        " GROUP BY medium.barcode"
    )
    return {row["barcode"]: _medium(row) for row in rows}


def _medium(row: sqlite3.Row) -> Medium:
    return Medium(
        row["barcode"],
        row["uuid"],
        row["pool"],
        MediumState(row["state"]),
        row["last_file"],
        row["unfinished"],
        row["fault"],
    )


def set_full(catalogue: Catalogue, barcode: str) -> None:
    """A cartridge takes no more."""
    with catalogue.transaction() as connection:
        connection.execute("UPDATE medium SET state = ? WHERE barcode = ?", (MediumState.FULL.value, barcode))


def set_damaged(catalogue: Catalogue, barcode: str, fault: str) -> None:
    """A cartridge failed: it takes no more, and this is why."""
    with catalogue.transaction() as connection:
        connection.execute(
            "UPDATE medium SET state = ?, fault = ? WHERE barcode = ?",
            (MediumState.FULL.value, fault, barcode),
        )


def settle_unfinished(catalogue: Catalogue, barcode: str, last_file: int) -> None:
    """A dead job's segment was looked at: the cartridge's last whole file is `last_file`.

    The segment keeps no data that could be vouched for, so it ends with length 0.
    """
    with catalogue.transaction() as connection:
        connection.execute("UPDATE segment SET length = 0 WHERE barcode = ? AND length IS NULL", (barcode,))
        connection.execute("UPDATE medium SET last_file = ? WHERE barcode = ?", (last_file, barcode))


def forget_unfinished(catalogue: Catalogue, barcode: str) -> None:
    """A dead job's segment will be written over."""
    with catalogue.transaction() as connection:
        connection.execute("DELETE FROM segment WHERE barcode = ? AND length IS NULL", (barcode,))


def is_kept(catalogue: Catalogue, barcode: str, image_uuid: str, number: int) -> bool:
    """Whether a segment on a cartridge holds data that the catalogue vouches for."""
    row = catalogue.connection.execute(
        "SELECT 1 FROM segment JOIN image ON image.id = segment.image"
        " WHERE segment.barcode = ? AND image.uuid = ? AND segment.number = ? AND segment.length > 0",
        (barcode, image_uuid, number),
    ).fetchone()
    return row is not None


def add_image(
    catalogue: Catalogue,
    job: int,
    number: int,
    root: bytes,
    record_size: int,
    *,
    level: int = 0,
    base: str | None = None,
) -> Image:
    """Enter an image that begins now."""
    image_uuid = str(uuid.uuid4())
    with catalogue.transaction() as connection:
        cursor = connection.execute(
            "INSERT INTO image (job, number, uuid, root, record_size, level, base)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (job, number, image_uuid, root, record_size, level, base),
        )
    assert cursor.lastrowid is not None
    return Image(cursor.lastrowid, job, number, image_uuid, root, record_size, None, level, base)


_IMAGE = "SELECT id, job, number, uuid, root, record_size, length, level, base FROM image"


def images(catalogue: Catalogue, job: int) -> list[Image]:
    """The images of a job, in order."""
    rows = catalogue.connection.execute(f"{_IMAGE} WHERE job = ? ORDER BY number", (job,))
    return [Image(**dict(row)) for row in rows]


def image(catalogue: Catalogue, number: int) -> Image:
    """The image with this id.  Raises KeyError."""
    row = catalogue.connection.execute(f"{_IMAGE} WHERE id = ?", (number,)).fetchone()
    if row is None:
        raise KeyError(number)
    return Image(**dict(row))


def base_of(catalogue: Catalogue, based: Image) -> Image | None:
    """The image that an incremental one is based on; None if the catalogue does not have it."""
    row = catalogue.connection.execute(f"{_IMAGE} WHERE uuid = ?", (based.base,)).fetchone()
    return None if row is None else Image(**dict(row))


def set_moved(catalogue: Catalogue, owner: Image, moved: Sequence[tuple[bytes, bytes]]) -> None:
    """Store where directories of an incremental image were in its base: (path, path in the base)."""
    with catalogue.transaction() as connection:
        connection.executemany(
            "INSERT OR REPLACE INTO moved VALUES (?, ?, ?)", [(owner.id, *pair) for pair in moved]
        )


def moved(catalogue: Catalogue, owner: Image) -> dict[bytes, bytes]:
    """Those directories: the path in the base by path."""
    rows = catalogue.connection.execute("SELECT path, origin FROM moved WHERE image = ?", (owner.id,))
    return {row["path"]: row["origin"] for row in rows}


def end_image(catalogue: Catalogue, image: Image, length: int) -> None:
    """Store the exact length of an image."""
    with catalogue.transaction() as connection:
        connection.execute("UPDATE image SET length = ? WHERE id = ?", (length, image.id))


def begin_segment(
    catalogue: Catalogue, image: Image, number: int, barcode: str, file: int, start: int
) -> None:
    """Enter a segment before its header is written: from here on the cartridge's end is not certain."""
    with catalogue.transaction() as connection:
        connection.execute(
            "INSERT INTO segment (image, number, barcode, file, start) VALUES (?, ?, ?, ?, ?)",
            (image.id, number, barcode, file, start),
        )


def end_segment(catalogue: Catalogue, image: Image, number: int, length: int) -> None:
    """Store that a segment and its file mark are on tape."""
    with catalogue.transaction() as connection:
        connection.execute(
            "UPDATE segment SET length = ? WHERE image = ? AND number = ?", (length, image.id, number)
        )
        connection.execute(
            "UPDATE medium SET last_file = segment.file FROM segment"
            " WHERE segment.image = ? AND segment.number = ? AND medium.barcode = segment.barcode",
            (image.id, number),
        )


def drop_segment(catalogue: Catalogue, image: Image, number: int) -> None:
    """Forget a segment of which nothing came onto the tape."""
    with catalogue.transaction() as connection:
        connection.execute("DELETE FROM segment WHERE image = ? AND number = ?", (image.id, number))


def segments(catalogue: Catalogue, image: Image) -> list[Segment]:
    """The segments of an image, in order."""
    rows = catalogue.connection.execute(
        "SELECT number, barcode, file, start, length FROM segment WHERE image = ? ORDER BY number",
        (image.id,),
    )
    return [Segment(**dict(row)) for row in rows]


def set_environment(catalogue: Catalogue, image: Image, values: Sequence[tuple[bytes, bytes]]) -> None:
    """Store the environment that a restore of the image needs."""
    with catalogue.transaction() as connection:
        connection.execute("DELETE FROM environment WHERE image = ?", (image.id,))
        connection.executemany(
            "INSERT INTO environment VALUES (?, ?, ?, ?)",
            [(image.id, position, name, value) for position, (name, value) in enumerate(values)],
        )


def environment(catalogue: Catalogue, image: Image) -> list[tuple[bytes, bytes]]:
    """The stored environment, in order."""
    rows = catalogue.connection.execute(
        "SELECT name, value FROM environment WHERE image = ? ORDER BY position", (image.id,)
    )
    return [(row["name"], row["value"]) for row in rows]
