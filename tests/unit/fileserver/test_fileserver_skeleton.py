"""The numbers that parts of one backup agree on before the first of them runs."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from appliance.fileserver.skeleton import FIRST_NODE, Skeleton
from appliance.gns.map import GnsMap, Junction, PathNotFoundError


def skeleton(root: bytes, *junctions: bytes) -> Skeleton:
    """The skeleton of a backup of `root`, each junction on a server of its own."""
    return Skeleton(root, gns(junctions).parts(root))


def gns(junctions: Iterable[bytes]) -> GnsMap:
    """A map."""
    made = [
        Junction(path, f"fs{number}", b"/srv", f"{number:032x}", 1) for number, path in enumerate(junctions)
    ]
    return GnsMap(1, tuple(made))


def test_who_knows_which_numbers() -> None:
    """An owner knows its own top, the junctions below it and the way there; the entry server the rest."""
    made = skeleton(b"/", b"/a/b", b"/a/b/x/y", b"/c")
    assert made.nodes(None) == {b"/": 2, b"/a": 3, b"/a/b": 4, b"/c": 7}
    assert made.nodes(b"/a/b") == {b"/a/b": 4, b"/a/b/x": 5, b"/a/b/x/y": 6}
    assert made.nodes(b"/a/b/x/y") == {b"/a/b/x/y": 6}
    assert made.nodes(b"/c") == {b"/c": 7}
    assert [made.parent(top) for top in (b"/a/b", b"/a/b/x/y", b"/c")] == [3, 5, 2]
    assert made.next_node == 8


def test_a_root_within_a_part() -> None:
    """The backup root has the first number and is its own parent; nothing above it has one."""
    made = skeleton(b"/a/b", b"/a", b"/a/b/c", b"/elsewhere")
    assert made.nodes(b"/a/b") == {b"/a/b": FIRST_NODE, b"/a/b/c": 3}
    assert (made.nodes(None), made.parent(b"/a/b"), made.next_node) == ({}, FIRST_NODE, 4)


class Listings:
    """An observer of listings."""

    def __init__(self) -> None:
        self.seen: dict[int, tuple[int, dict[bytes, int]]] = {}

    def listing(self, node: int, parent: int, names: Iterable[tuple[bytes, int]]) -> None:
        """Keep one."""
        assert node not in self.seen
        self.seen[node] = (parent, dict(names))

    def entry(self, entry: object) -> None:
        """Never: nothing of it was saved."""
        raise AssertionError

    def problem(self, path: bytes, text: str) -> None:
        """Never."""
        raise AssertionError

    def note(self, path: bytes, text: str) -> None:
        """Never."""
        raise AssertionError


NAME = st.sampled_from([b"a", b"b", b"c"])
PATHS = st.lists(NAME, max_size=4).map(lambda names: b"/" + b"/".join(names))


@given(st.sets(PATHS, min_size=1, max_size=6), PATHS)
def test_the_skeleton_is_one_tree(junctions: set[bytes], root: bytes) -> None:
    """With all parts missing, what is listed for each still leads from the root to every junction."""
    try:
        parts = gns(junctions).parts(root)
    except PathNotFoundError:
        return
    made = Skeleton(root, parts)
    seen = Listings()
    tops = {part.path for part in parts}
    if root not in tops:
        nodes = made.nodes(None)
        for path in gns(junctions).unowned(root):
            inner = {
                p.rpartition(b"/")[2]: n
                for p, n in nodes.items()
                if p != b"/" and (p.rpartition(b"/")[0] or b"/") == path
            }
            above = nodes[path] if path == root else nodes[path.rpartition(b"/")[0] or b"/"]
            seen.listing(nodes[path], above, inner.items())
    for part in parts:
        made.tell_missing(part.path, seen)
    found = {root: FIRST_NODE}
    waiting = [(root, FIRST_NODE)]
    while waiting:
        path, node = waiting.pop()
        for name, below in seen.seen[node][1].items():
            whole = path.rstrip(b"/") + b"/" + name
            found[whole] = below
            assert seen.seen[below][0] == node
            waiting.append((whole, below))
    assert tops <= found.keys()
    assert {number: path for path, number in found.items()}.keys() == seen.seen.keys()
    assert {top: found[top] for top in tops} == {top: made.nodes(top)[top] for top in tops}
