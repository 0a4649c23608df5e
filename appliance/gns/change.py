"""Changes of the map as data, so that they can travel to the node that holds the writable copy.

    {"op": "add", "path": …, "owner": …, "local": …}           the same again changes nothing
    {"op": "rm", "path": …}
    {"op": "replace", "path": …, "owner": …, "local": …, "fileset": …, "generation": …}
    {"op": "batch", "changes": […]}                            all of them or none, one generation

Paths are written as in `codec.py`.  `replace` may name the fileset and generation it was decided on:
when the junction has changed since, it is refused.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from appliance.gns.map import JUNCTIONS_MAX, GnsMap, Junction, MapError
from appliance.text import path_from_json, path_json, show_path

Change = Mapping[str, Any]

_COMMON_KEYS: Final = frozenset({"op", "path", "path_base64"})
_PLACE_KEYS: Final = frozenset({"owner", "local", "local_base64"})
_KEYS: Final[dict[str, frozenset[str]]] = {
    "add": _COMMON_KEYS | _PLACE_KEYS,
    "rm": _COMMON_KEYS,
    "replace": _COMMON_KEYS | _PLACE_KEYS | {"fileset", "generation"},
    "batch": frozenset({"op", "changes"}),
}


def add_change(path: bytes, owner: str, local: bytes) -> dict[str, Any]:
    """Return the change that adds a junction."""
    return {"op": "add", **path_json(path), "owner": owner, **path_json(local, "local")}


def remove_change(path: bytes) -> dict[str, Any]:
    """Return the change that removes the junction at `path`; its files stay where they are."""
    return {"op": "rm", **path_json(path)}


def replace_change(junction: Junction, owner: str, local: bytes) -> dict[str, Any]:
    """Return the change that gives `junction`, as it is now, another owner or local directory."""
    return {
        "op": "replace",
        **path_json(junction.path),
        "owner": owner,
        **path_json(local, "local"),
        "fileset": junction.fileset,
        "generation": junction.generation,
    }


def batch_change(changes: Sequence[Change]) -> dict[str, Any]:
    """Return the change that makes all of `changes` or none."""
    return {"op": "batch", "changes": [dict(change) for change in changes]}


def new_fileset() -> str:
    """Return a fresh fileset id: random, so that it tells nothing."""
    return uuid.uuid4().hex


def apply_change(gns_map: GnsMap, change: Change, fileset: Callable[[], str] = new_fileset) -> GnsMap:
    """Return the map after `change`: the same object when it changes nothing, else one generation on.

    Raises MapError for a change that is malformed or not possible, PathNotFoundError for a path that
    has no junction.
    """
    operation = _check_keys(change)
    if operation == "batch":
        return _apply_batch(gns_map, change, fileset)
    try:
        path = path_from_json(change)
        local = path_from_json(change, "local") if operation != "rm" else b""
    except ValueError as error:
        raise MapError(f"malformed change of the map: {error}") from error
    if operation == "rm":
        return gns_map.remove(path)
    owner = _owner(change)
    if operation == "add":
        return _apply_add(gns_map, path, owner, local, fileset)
    return _apply_replace(gns_map, change, path, owner, local)


def _check_keys(change: Change) -> str:
    operation = change.get("op") if isinstance(change, Mapping) else None
    if not isinstance(operation, str) or operation not in _KEYS:
        raise MapError(f"malformed change of the map: 'op' must be one of {', '.join(_KEYS)}")
    unknown = sorted(str(key) for key in change if key not in _KEYS[operation])
    if unknown:
        raise MapError(f"malformed change of the map: {operation!r} has no {', '.join(unknown)}")
    return operation


def _owner(change: Change) -> str:
    owner = change.get("owner")
    if not isinstance(owner, str):
        raise MapError("malformed change of the map: 'owner' must be a node name")
    return owner


def _apply_add(gns_map: GnsMap, path: bytes, owner: str, local: bytes, fileset: Callable[[], str]) -> GnsMap:
    same = any((each.path, each.owner, each.local) == (path, owner, local) for each in gns_map.junctions)
    return gns_map if same else gns_map.add(path, owner, local, fileset())


def _apply_replace(gns_map: GnsMap, change: Change, path: bytes, owner: str, local: bytes) -> GnsMap:
    junction = gns_map.at(path)
    for key, actual in (("fileset", junction.fileset), ("generation", junction.generation)):
        if change.get(key, actual) != actual:
            raise MapError(
                f"{show_path(path)} has changed meanwhile; look at `spanreel gns ls` and try again"
            )
    if (junction.owner, junction.local) == (owner, local):
        return gns_map
    return gns_map.replace(path, owner, local)


def _apply_batch(gns_map: GnsMap, change: Change, fileset: Callable[[], str]) -> GnsMap:
    changes = change.get("changes")
    if not isinstance(changes, list) or len(changes) > JUNCTIONS_MAX:
        raise MapError(f"malformed change of the map: 'changes' must be a list of up to {JUNCTIONS_MAX}")
    if any(isinstance(each, Mapping) and each.get("op") == "batch" for each in changes):
        raise MapError("malformed change of the map: a batch holds no batch")
    changed = gns_map
    for each in changes:
        changed = apply_change(changed, each, fileset)
    if changed is gns_map:
        return gns_map
    return _as_next_generation(gns_map, changed)


def _as_next_generation(before: GnsMap, after: GnsMap) -> GnsMap:
    """Number everything that changed between two maps with the one generation after `before`."""
    generation = before.generation + 1
    junctions = tuple(
        Junction(each.path, each.owner, each.local, each.fileset, min(each.generation, generation))
        for each in after.junctions
    )
    return GnsMap(generation, junctions)
