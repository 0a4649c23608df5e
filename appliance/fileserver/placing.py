"""Where on this file server a global path lies, by a map at least as new as whoever asks has."""

from __future__ import annotations

from appliance.errors import SpanreelError
from appliance.gns.map import GnsMap, PathNotFoundError, Resolution
from appliance.gns.service import MapService
from appliance.ndmp.enums import ErrorCode
from appliance.ndmp.errors import RefusalError
from appliance.text import show_path


def map_of(maps: MapService, generation: int) -> GnsMap:
    """The map, of that generation or newer.  Raises RefusalError."""
    gns = maps.current()
    if gns.generation < generation:
        try:
            maps.refresh()
        except SpanreelError as error:
            raise RefusalError(ErrorCode.ILLEGAL_ARGS, f"an order with a newer map: {error}") from error
        gns = maps.current()
    if gns.generation < generation:
        raise RefusalError(ErrorCode.ILLEGAL_ARGS, "this server's map is older than the order's")
    return gns


def place_of(gns: GnsMap, node: str, path: bytes) -> Resolution:
    """Where `path` lies.  Raises RefusalError unless `node` owns it."""
    try:
        place = gns.resolve(path)
    except PathNotFoundError as error:
        raise RefusalError(ErrorCode.FILE_NOT_FOUND, str(error)) from error
    if place.junction.owner != node:
        raise RefusalError(ErrorCode.ILLEGAL_ARGS, f"{show_path(path)} is not owned here: stale order")
    return place
