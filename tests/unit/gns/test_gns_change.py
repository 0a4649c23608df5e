"""Changes of the map as data."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Any

import pytest

from appliance.gns.change import (
    add_change,
    apply_change,
    batch_change,
    remove_change,
    replace_change,
)
from appliance.gns.map import GnsMap, MapError, PathNotFoundError


def _numbers() -> Callable[[], str]:
    counter = itertools.count(1)
    return lambda: f"{next(counter):032x}"


NUMBERS = _numbers()


def _apply(gns_map: GnsMap, *changes: dict[str, Any]) -> GnsMap:
    for change in changes:
        # Through JSON, because that is how changes travel.
        gns_map = apply_change(gns_map, json.loads(json.dumps(change)), NUMBERS)
    return gns_map


START = _apply(GnsMap(), add_change(b"/a\xff", "fs1", b"/data/\xfe"), add_change(b"/b", "fs2", b"/data"))


def test_added_junctions_are_there_with_their_exact_bytes() -> None:
    """Paths that are not UTF-8 travel unharmed; each gets a fileset of its own."""
    first, second = sorted(START.junctions, key=lambda each: each.fileset)
    assert (first.path, first.owner, first.local, first.generation) == (b"/a\xff", "fs1", b"/data/\xfe", 1)
    assert (second.path, second.generation, START.generation) == (b"/b", 2, 2)


def test_the_same_again_changes_nothing() -> None:
    """Adding what is there, alone or in a batch, keeps map and generation."""
    again = add_change(b"/b", "fs2", b"/data")
    assert apply_change(START, again) is START
    assert apply_change(START, batch_change([again, again])) is START
    with pytest.raises(MapError, match="/b is a junction already, of fs2"):
        apply_change(START, add_change(b"/b", "fs1", b"/data"))


def test_a_batch_is_one_generation() -> None:
    """However many junctions a batch makes, readers see one step, and old junctions keep their age."""
    after = _apply(
        START,
        batch_change(
            [add_change(b"/c", "fs1", b"/c"), add_change(b"/d", "fs1", b"/d"), remove_change(b"/b")]
        ),
    )
    assert after.generation == START.generation + 1
    assert [(each.path, each.generation) for each in after.junctions] == [
        (b"/a\xff", 1),
        (b"/c", 3),
        (b"/d", 3),
    ]


def test_a_batch_is_all_or_nothing() -> None:
    """One impossible change refuses the batch."""
    with pytest.raises(PathNotFoundError):
        apply_change(START, batch_change([add_change(b"/c", "fs1", b"/c"), remove_change(b"/nowhere")]))


def test_a_replacement_decided_on_an_old_map_is_refused() -> None:
    """Two moves of one part at a time: the second does not undo the first unseen."""
    junction = START.at(b"/b")
    moved = _apply(START, replace_change(junction, "fs1", b"/new"))
    assert (moved.at(b"/b").owner, moved.at(b"/b").fileset) == ("fs1", junction.fileset)
    with pytest.raises(MapError, match="has changed meanwhile"):
        apply_change(moved, replace_change(junction, "fs3", b"/other"))
    assert apply_change(moved, replace_change(moved.at(b"/b"), "fs1", b"/new")) is moved


def test_removing_takes_only_the_junction_named() -> None:
    """The others stay; a junction that is not there is an error."""
    assert [each.path for each in _apply(START, remove_change(b"/b")).junctions] == [b"/a\xff"]
    with pytest.raises(PathNotFoundError):
        apply_change(START, remove_change(b"/a"))


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"op": "format"},
        {"op": ["add"]},
        {"op": "rm"},
        {"op": "rm", "path": 3},
        {"op": "rm", "path": "/b", "owner": "fs1"},
        {"op": "add", "path": "/c", "owner": "fs1"},
        {"op": "add", "path": "/c", "local": "/c"},
        {"op": "add", "path": "/c", "local": "/c", "owner": 1},
        {"op": "add", "path": "c", "local": "/c", "owner": "fs1"},
        {"op": "batch", "changes": {}},
        {"op": "batch", "changes": ["add"]},
        {"op": "batch", "changes": [{"op": "batch", "changes": []}]},
        "add",
    ],
)
def test_a_malformed_change_is_refused(change: Any) -> None:
    """What comes over the network can only be applied or raise MapError."""
    with pytest.raises(MapError):
        apply_change(START, change)
