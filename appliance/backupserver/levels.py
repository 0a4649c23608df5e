"""What an incremental backup is based on, as far as the catalogue holds it complete."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from appliance.backupserver import media
from appliance.backupserver.catalogue import Catalogue
from appliance.backupserver.jobs import Status
from appliance.backupserver.media import Image
from appliance.errors import ConfigurationError
from appliance.text import show_path

LEVEL_MAX: Final = 10_000
"""Beyond 9, where dump(8) ends: a backup a day on top of the last one needs a new full one after 27 years."""

DUMP_DATE: Final = b"DUMP_DATE"
BASE_DATE: Final = b"BASE_DATE"
MOVED: Final = b"SPANREEL_MOVED"
"""Set to y it asks our file servers for the directories that were moved since the base; they come back as
values of the same variable: the length of the path, a blank, the path, and the path in the base."""

GOOD: Final = (Status.COMPLETE, Status.PROBLEMS)
"""Jobs that may be a base.  What could not be saved is tried again: problems of files do no harm."""


@dataclass(frozen=True)
class Base:
    """The image that an incremental backup of its root is based on, and the token of it that servers know."""

    image: Image
    token: bytes


def choose(catalogue: Catalogue, root: bytes, level: int | None) -> Base | None:
    """The base of a backup of `root`: the latest of a lower level, or of any level if `level` is None.

    None for level 0.  Raises ConfigurationError where the catalogue holds none that is whole, and of which
    its server returned a token: a server that chose by level might choose another one than we.
    """
    if level == 0:
        return None
    marks = ", ".join("?" * len(GOOD))
    row = catalogue.connection.execute(
        "SELECT image.id, value FROM image JOIN job ON job.id = image.job"  # noqa: S608  (only marks)
        " JOIN environment ON environment.image = image.id AND environment.name = ?"
        f" WHERE image.root = ? AND job.status IN ({marks})"
        " AND image.length IS NOT NULL AND (? IS NULL OR image.level < ?) ORDER BY image.id DESC LIMIT 1",
        (DUMP_DATE, root, *(status.value for status in GOOD), level, level),
    ).fetchone()
    if row is None:
        which = "" if level is None else f" of a level below {level}"
        raise ConfigurationError(
            f"there is no complete backup{which} of {show_path(root)}: `spanreel backup {show_path(root)}` "
            "makes one, of level 0"
        )
    return Base(media.image(catalogue, row["id"]), row["value"])


def parse_moved(values: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
    """Path and path in the base of each directory; values that are not in form are left out."""
    found = []
    for value in values:
        digits, _, paths = value.partition(b" ")
        length = int(digits) if digits.isdigit() and len(digits) < 8 else 0
        if 0 < length < len(paths):
            found.append((paths[:length], paths[length:]))
    return found
