"""The map of junctions: examples for people, and properties against a naive oracle."""

from __future__ import annotations

import dataclasses
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.gns.codec import decode_map, encode_map
from appliance.gns.map import (
    JUNCTIONS_MAX,
    GnsMap,
    Junction,
    MapError,
    PathNotFoundError,
    check_path,
    components,
    join,
)
from appliance.paths import is_at_or_below


def junction(path: bytes, owner: str = "fs1", number: int = 0, generation: int = 0) -> Junction:
    """Return a junction whose local directory is its own."""
    local = b"/data/%d" % number if number else b"/data/x" + path.replace(b"/", b"_")
    fileset = hashlib.sha256(b"%s %d" % (path, number)).hexdigest()[:32]
    return Junction(path, owner, local, fileset, generation)


EXAMPLE = GnsMap(
    5,
    (
        junction(b"/restored/fs2", "fs2"),
        junction(b"/projects", "fs1"),
        junction(b"/projects/media", "fs2"),
        junction(b"/projects-old", "fs2"),
        junction(b"/projects/media/raw", "fs1"),
        junction(b"/home/a/b", "fs1"),
    ),
)


@pytest.mark.parametrize(
    ("path", "owner_path", "relative"),
    [
        (b"/projects", b"/projects", b""),
        (b"/projects/x/y", b"/projects", b"x/y"),
        (b"/projects/mediation", b"/projects", b"mediation"),
        (b"/projects/media/a", b"/projects/media", b"a"),
        (b"/projects-old/a", b"/projects-old", b"a"),
    ],
)
def test_the_longest_match_by_component_owns_a_path(path: bytes, owner_path: bytes, relative: bytes) -> None:
    """Names that merely begin alike are different directories."""
    resolution = EXAMPLE.resolve(path)
    assert (resolution.junction.path, resolution.relative) == (owner_path, relative)
    assert resolution.local == join(resolution.junction.local, relative)


@pytest.mark.parametrize("path", [b"/", b"/project", b"/home", b"/home/a"])
def test_a_path_nobody_owns_is_not_found(path: bytes) -> None:
    """The error names the path and the command that lists what there is."""
    with pytest.raises(PathNotFoundError, match=rf"owns {path.decode()}; `spanreel gns ls`"):
        EXAMPLE.resolve(path)


def test_the_parts_of_the_whole_tree() -> None:
    """Every fileset once, in path order, each leaving out the junctions directly below it."""
    assert [(part.path, part.skips) for part in EXAMPLE.parts(b"/")] == [
        (b"/home/a/b", ()),
        (b"/projects", (b"/projects/media",)),
        (b"/projects/media", (b"/projects/media/raw",)),
        (b"/projects/media/raw", ()),
        (b"/projects-old", ()),
        (b"/restored/fs2", ()),
    ]
    assert EXAMPLE.unowned(b"/") == [b"/", b"/home", b"/home/a", b"/restored"]


def test_the_parts_of_a_path_inside_a_junction() -> None:
    """The piece from there on, with only the skips that lie below it, then what is nested."""
    nested = EXAMPLE.add(b"/projects/a/deep/x", "fs2", b"/data/deep", "d" * 32)
    first, second = nested.parts(b"/projects/a")
    assert (first.junction.path, first.path, first.relative) == (b"/projects", b"/projects/a", b"a")
    assert first.skips == (b"/projects/a/deep/x",)
    assert first.local == first.junction.local + b"/a"
    assert second.path == b"/projects/a/deep/x"
    assert nested.unowned(b"/projects/a") == []


def test_an_unknown_path_has_no_parts() -> None:
    """A job on it is refused, with the path; so is one on an empty map."""
    with pytest.raises(PathNotFoundError, match="anything at /nowhere"):
        EXAMPLE.parts(b"/nowhere")
    with pytest.raises(PathNotFoundError, match="anything at /;"):
        GnsMap().parts(b"/")


def test_a_junction_at_the_root_owns_everything() -> None:
    """Then no directory is nobody's."""
    root = GnsMap(1, (junction(b"/"), junction(b"/a/b", "fs2")))
    assert root.resolve(b"/a").relative == b"a"
    assert root.unowned(b"/") == []
    assert [part.path for part in root.parts(b"/")] == [b"/", b"/a/b"]
    assert root.skips(root.at(b"/")) == (b"/a/b",)
    assert root.enclosing(b"/") is None


@pytest.mark.parametrize(
    "path",
    [b"", b"a", b"/a/", b"//a", b"/a//b", b"/a/./b", b"/a/..", b"/a\0", b"/" + b"x" * 256, b"/x" * 2048],
)
def test_a_path_that_is_not_normal_is_refused(path: bytes) -> None:
    """Relative, dotted, doubled, NUL or too long: none gets into the map."""
    with pytest.raises(MapError):
        check_path(path, "global path")
    with pytest.raises(MapError):
        Junction(path, "fs1", b"/data", "0" * 32, 0)
    with pytest.raises(MapError):
        Junction(b"/a", "fs1", path, "0" * 32, 0)


@pytest.mark.parametrize(
    "change",
    [{"owner": "FS 1"}, {"owner": ""}, {"fileset": "x"}, {"generation": -1}, {"path": b"/.spanreel/x"}],
)
def test_a_junction_checks_its_fields(change: dict[str, object]) -> None:
    """Owner, fileset, generation and the reserved name are checked."""
    with pytest.raises(MapError):
        dataclasses.replace(junction(b"/a"), **change)  # type: ignore[arg-type]


def test_a_map_refuses_what_contradicts_itself() -> None:
    """Two junctions at one path, two of one fileset, one from the future, or too many."""
    with pytest.raises(MapError, match="/a has two junctions"):
        GnsMap(0, (junction(b"/a"), junction(b"/a", "fs2")))
    with pytest.raises(MapError, match="same fileset"):
        GnsMap(0, (junction(b"/a"), dataclasses.replace(junction(b"/b"), fileset=junction(b"/a").fileset)))
    with pytest.raises(MapError, match="younger than its map"):
        GnsMap(3, (junction(b"/a", generation=4),))
    with pytest.raises(MapError, match="10000 are allowed"):
        GnsMap(0, (junction(b"/a"),) * (JUNCTIONS_MAX + 1))


@pytest.mark.parametrize(
    ("first", "second"), [(b"/d", b"/d"), (b"/d", b"/d/e"), (b"/d/e/f", b"/d"), (b"/", b"/d")]
)
def test_one_owner_cannot_show_the_same_files_twice(first: bytes, second: bytes) -> None:
    """Equal or nested local directories are refused on one owner and fine on two."""
    start = GnsMap().add(b"/a", "fs1", first, "a" * 32)
    with pytest.raises(MapError, match="would show the same files"):
        start.add(b"/b", "fs1", second, "b" * 32)
    start.add(b"/b", "fs2", second, "b" * 32)


def test_moving_keeps_the_fileset_and_marks_the_generation() -> None:
    """After replace, a request that names the older generation is recognisably stale."""
    before = EXAMPLE.at(b"/projects/media")
    moved = EXAMPLE.replace(b"/projects/media", "fs3", b"/data/new")
    after = moved.at(b"/projects/media")
    assert (after.owner, after.local, after.fileset) == ("fs3", b"/data/new", before.fileset)
    assert after.generation == moved.generation == EXAMPLE.generation + 1
    with pytest.raises(PathNotFoundError, match="no junction at /projects/x"):
        EXAMPLE.replace(b"/projects/x", "fs3", b"/data/new")
    with pytest.raises(MapError, match="is a junction already, of fs2"):
        EXAMPLE.add(b"/projects/media", "fs3", b"/data/new", "e" * 32)


# A few names, so that paths nest and collide often; one with a byte below "/" and one not UTF-8.
NAMES = st.sampled_from([b"a", b"a-", b"b", b"\xff", b"a b"])
PATHS = st.lists(NAMES, max_size=4).map(lambda names: b"/" + b"/".join(names))


@st.composite
def maps(draw: st.DrawFn) -> GnsMap:
    """Draw maps with some junctions of three owners."""
    paths = draw(st.lists(PATHS, unique=True, max_size=8))
    owners = draw(st.lists(st.sampled_from(["fs1", "fs2", "fs3"]), min_size=len(paths), max_size=len(paths)))
    generations = draw(st.lists(st.integers(0, 9), min_size=len(paths), max_size=len(paths)))
    each = zip(paths, owners, generations, strict=True)
    return GnsMap(9, tuple(junction(path, owner, n, age) for n, (path, owner, age) in enumerate(each, 1)))


def _inside(path: bytes, top: bytes) -> bool:
    """Tell whether path is top or below, by components: the oracle of the properties."""
    return components(path)[: len(components(top))] == components(top)


def _owner(gns_map: GnsMap, path: bytes) -> Junction | None:
    matches = [each for each in gns_map.junctions if _inside(path, each.path)]
    return max(matches, key=lambda each: len(components(each.path)), default=None)


@given(maps(), PATHS)
def test_resolve_agrees_with_looking_at_every_junction(gns_map: GnsMap, path: bytes) -> None:
    """Longest match is what a search through all junctions finds."""
    expected = _owner(gns_map, path)
    if expected is None:
        with pytest.raises(PathNotFoundError):
            gns_map.resolve(path)
        return
    resolution = gns_map.resolve(path)
    assert resolution.junction == expected
    assert join(expected.path, resolution.relative) == path


@given(PATHS, PATHS)
def test_below_means_by_components(path: bytes, top: bytes) -> None:
    """is_at_or_below agrees with comparing names one by one."""
    assert is_at_or_below(path, top) == _inside(path, top)


@given(maps(), PATHS, PATHS)
def test_every_path_of_a_job_is_in_exactly_one_place(gns_map: GnsMap, top: bytes, path: bytes) -> None:
    """Below the job's path, parts and unowned directories together cover everything owned, once."""
    if not _inside(path, top):
        path = top + path if top != b"/" else path
        path = path.rstrip(b"/") or b"/"
    try:
        parts = gns_map.parts(top)
    except PathNotFoundError:
        parts = []
    covering = [
        part
        for part in parts
        if _inside(path, part.path) and not any(_inside(path, skip) for skip in part.skips)
    ]
    owner = _owner(gns_map, path)
    assert [part.junction for part in covering] == ([owner] if owner else [])
    leads_on = any(_inside(each.path, path) for each in gns_map.junctions)
    assert (path in gns_map.unowned(top)) == (owner is None and leads_on)


@given(maps(), PATHS)
def test_parts_and_unowned_directories_come_in_path_order(gns_map: GnsMap, top: bytes) -> None:
    """A directory always comes before what lies below it, and nothing comes twice."""
    try:
        paths = [part.path for part in gns_map.parts(top)]
    except PathNotFoundError:
        paths = []
    for found in (paths, gns_map.unowned(top)):
        assert found == sorted(set(found), key=components)


@given(maps())
def test_a_map_survives_being_written_down(gns_map: GnsMap) -> None:
    """Encode and decode give the same map, whatever the bytes of its paths."""
    assert decode_map(encode_map(gns_map)) == gns_map


@given(maps(), st.data())
def test_a_damaged_map_is_never_taken(gns_map: GnsMap, data: st.DataObject) -> None:
    """Any byte changed in a map makes it refused, or leaves its meaning as it was."""
    encoded = bytearray(encode_map(gns_map))
    place = data.draw(st.integers(0, len(encoded) - 1))
    encoded[place] ^= data.draw(st.integers(1, 255))
    try:
        assert decode_map(bytes(encoded)) == gns_map
    except MapError:
        return


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{}", b"\xff", b'{"schema": 0}', b'{"schema": 1, "sha256": "0"}', b"[" * 100_000]
)
def test_what_is_no_map_is_refused(data: bytes) -> None:
    """Foreign data raises MapError and nothing else."""
    with pytest.raises(MapError):
        decode_map(data)


@given(maps(), PATHS)
def test_removing_what_was_added_restores_the_junctions(gns_map: GnsMap, path: bytes) -> None:
    """Add and remove are inverse, but for the generation, which only grows."""
    try:
        added = gns_map.add(path, "fs9", b"/elsewhere", "f" * 32)
    except MapError:
        assert any(each.path == path for each in gns_map.junctions)
        return
    removed = added.remove(path)
    assert removed.junctions == gns_map.junctions
    assert (added.generation, removed.generation) == (10, 11)
