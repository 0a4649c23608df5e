"""Where a node keeps its copy of the map: a file, replaced whole, with the copy before beside it.

The writer's file is the truth of the cluster, so a damaged one is never silently replaced by the older
copy: that would take back changes that other nodes have seen.  Readers may start from their last good
copy, because they pull the truth anyway.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

from appliance.errors import InfrastructureError
from appliance.files import replace_file
from appliance.gns.codec import MAP, MAP_SIZE_MAX, decode_map, encode_map, schema_of
from appliance.gns.map import GnsMap, MapError
from appliance.ndmp.lazylog import get_logger
from appliance.schema import kept_copy, newest_copy

_FOLDER: Final = "gns"
_CURRENT: Final = "map.json"
_PREVIOUS: Final = "map.previous.json"
_LOCK: Final = "lock"

# The map names local paths, which are for the file servers only.
_MODE: Final = 0o600

_CLOSED: Final = -1

_log = get_logger()


class MapDamagedError(InfrastructureError):
    """The map's file is there and is no map."""


class MapStore:
    """The map below a node's state directory; one process at a time, enforced by a lock.

    Raises InfrastructureError at construction when another process has it open, or the state
    directory cannot be written.
    """

    def __init__(self, state: Path) -> None:
        folder = state / _FOLDER
        self.file = folder / _CURRENT
        self.previous_file = folder / _PREVIOUS
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _MODE)
        except OSError as error:
            raise InfrastructureError(f"cannot keep the map in {folder}: {error.strerror}") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            raise InfrastructureError(
                f"{folder} is in use by another process; stop the `spanreel serve` that runs already"
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the store up to another process; closing again does nothing."""
        if self._lock != _CLOSED:
            os.close(self._lock)
            self._lock = _CLOSED

    def load(self) -> GnsMap:
        """Return the map; an empty one of generation 0 when there is none yet.

        Raises MapDamagedError naming the file and, when it is good, the copy before it; NewerSchemaError.
        """
        try:
            return _read(self.file)
        except FileNotFoundError:
            return GnsMap()
        except MapError as error:
            raise MapDamagedError(f"{self.file}: {error}; {self._advice()}") from error

    def load_last_good(self) -> GnsMap:
        """Return the newest copy that is not damaged, an empty map when none is; for readers only.

        Raises NewerSchemaError: what a newer Spanreel wrote is no damage, and is not to be written over.
        """
        for file in (self.file, self.previous_file):
            with suppress(FileNotFoundError, MapError):
                return _read(file)
        return GnsMap()

    def save(self, gns_map: GnsMap) -> None:
        """Keep `gns_map` durably, and the copy before it; raises InfrastructureError.

        A map of an earlier release is kept as it was, too, as `map.json.schemaN`.
        """
        self._keep_older()
        self._keep_previous()
        replace_file(self.file, encode_map(gns_map), mode=_MODE)

    def _keep_older(self) -> None:
        with suppress(FileNotFoundError, MapError):
            content = _content(self.file)
            number = schema_of(content)
            if number < MAP.newest:
                copy = kept_copy(self.file, number)
                replace_file(copy, content, mode=_MODE)
                told = {"store": MAP.what, "file": str(self.file), "was": number, "now": MAP.newest}
                _log.info("schema brought up to date", **told, copy=str(copy))

    def _keep_previous(self) -> None:
        """Keep the present file as the previous one, unless it is missing or damaged."""
        with suppress(FileNotFoundError, MapError):
            replace_file(self.previous_file, encode_map(_read(self.file)), mode=_MODE)

    def _advice(self) -> str:
        try:
            generation = _read(self.previous_file).generation
        except (FileNotFoundError, MapError):
            return "there is no good copy; restore it from another file server's"
        return (
            f"the copy before it, generation {generation}, is {self.previous_file}: look at it, and rename it"
        )


def _read(file: Path) -> GnsMap:
    """Return the map in `file`; raises FileNotFoundError, MapError, NewerSchemaError, InfrastructureError."""
    remedy = (
        f"use the newer Spanreel; or, where the map is only read, move {file} away, and it is pulled anew"
    )
    copy = newest_copy(file, MAP.newest)
    if copy is not None:
        remedy += f"; or go back to {copy}, which lacks all that came later"
    return decode_map(_content(file), str(file), remedy)


def _content(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            return stream.read(MAP_SIZE_MAX + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise InfrastructureError(f"cannot read the map {file}: {error.strerror}") from error
