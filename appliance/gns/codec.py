"""The map as JSON, for the store and for the way between nodes.

    {"schema": 1, "generation": 7, "junctions": [{"path": …, "path_base64": …, "owner": …, "local": …,
     "local_base64": …, "fileset": …, "generation": …}], "sha256": …}

Paths are any bytes: the base64 form counts, the text form is for people.  The checksum covers the
rest, so that a damaged copy is known for one and never decides who owns what.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Final

from appliance.gns.map import GnsMap, Junction, MapError
from appliance.schema import DocumentSchema, NewerSchemaError, SchemaError
from appliance.text import path_from_json, path_json

MAP: Final = DocumentSchema("map", 1, {})

UPGRADE_THIS: Final = "upgrade this node; until then it goes by the map that it has"
"""The remedy where another node's map is newer."""

# JUNCTIONS_MAX junctions of usual length; what is larger is no map of ours.
MAP_SIZE_MAX: Final = 16 * 1024 * 1024


def encode_map(gns_map: GnsMap) -> bytes:
    """Return `gns_map` as JSON with its checksum."""
    document = {
        "schema": MAP.newest,
        "generation": gns_map.generation,
        "junctions": [junction_json(junction) for junction in gns_map.junctions],
    }
    return json.dumps({**document, "sha256": _checksum(document)}, indent=1).encode("ascii") + b"\n"


def junction_json(junction: Junction) -> dict[str, Any]:
    """Return one junction as a JSON object."""
    return {
        **path_json(junction.path),
        "owner": junction.owner,
        **path_json(junction.local, "local"),
        "fileset": junction.fileset,
        "generation": junction.generation,
    }


def decode_map(data: bytes, where: str = "the map", remedy: str = UPGRADE_THIS) -> GnsMap:
    """Return the map that `encode_map` wrote, of this release or one before.

    Raises MapError saying what is wrong with the data; NewerSchemaError, which names `where` it is from and
    ends with `remedy`.
    """
    document = _document(data)
    # The number first: a newer form may have another checksum.
    try:
        MAP.require_known(document, where, remedy)
    except NewerSchemaError:
        raise
    except SchemaError as error:
        raise MapError(f"not a map: {error}") from error
    if document.pop("sha256", None) != _checksum(document):
        raise MapError("the map's checksum does not match its content")
    document = MAP.current(document, where, remedy)
    try:
        junctions = tuple(_decode_junction(entry) for entry in document["junctions"])
        return GnsMap(_integer(document, "generation"), junctions)
    except (KeyError, TypeError, ValueError) as error:
        raise MapError(f"not a map: {error!r}") from error


def schema_of(data: bytes) -> int:
    """The schema number of a map.  Raises MapError for what is none."""
    try:
        return MAP.number(_document(data), "the map")
    except SchemaError as error:
        raise MapError(f"not a map: {error}") from error


def _document(data: bytes) -> dict[str, Any]:
    if len(data) > MAP_SIZE_MAX:
        raise MapError(f"{len(data)} bytes are too many for a map; {MAP_SIZE_MAX} are allowed")
    try:
        document = json.loads(data)
    # A deeply nested document exhausts the parser's stack: damage like any other.
    except (ValueError, RecursionError) as error:
        raise MapError(f"not a map: {error}") from error
    if not isinstance(document, dict):
        raise MapError("not a map: no JSON object")
    return document


def _decode_junction(entry: dict[str, Any]) -> Junction:
    return Junction(
        path=path_from_json(entry),
        owner=str(entry["owner"]),
        local=path_from_json(entry, "local"),
        fileset=str(entry["fileset"]),
        generation=_integer(entry, "generation"),
    )


def _integer(entry: dict[str, Any], key: str) -> int:
    value = entry[key]
    if type(value) is not int:
        raise TypeError(f"{key!r} must be an integer")
    return value


def _checksum(document: dict[str, Any]) -> str:
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()
