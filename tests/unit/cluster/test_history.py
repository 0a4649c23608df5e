"""File history in node form: one tree over several owners (draft-skardal-ndmpv4-04, 4.3.2 and 4.3.3)."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

import pytest

from appliance.fileserver import history
from appliance.ndmp import messages as m
from appliance.ndmp.enums import DataHaltReason, FileType
from appliance.ndmp.messages.fh import FhDir, FhNode
from tests.unit.cluster.conftest import Cluster, Dma

PARTS = (
    ("/projects", "fs1", "p"),
    ("/projects/media", "fs2", "m"),
    ("/projects/way/deep", "fs2", "d"),
    ("/projects/no/such/way", "fs2", "n"),
    ("/home", "fs2", "h"),
    ("/a/b/c", "fs1", "c"),
)


def seed(cluster: Cluster) -> None:
    """Six parts of two owners; three lie below a directory of the first owner's, one where it has none."""
    cluster.add(*PARTS)
    projects = cluster.local("fs1", "p")
    (projects / "a.txt").write_text("of fs1")
    (projects / "media").mkdir()
    (projects / "media" / "hidden").write_text("below a junction: not in the tree")
    (projects / "way" / "deep").mkdir(parents=True)
    (projects / "way" / "beside").write_text("beside a junction")
    (projects / "empty").mkdir()
    (projects / "a.link").hardlink_to(projects / "a.txt")
    (projects / "way" / "link").hardlink_to(projects / "a.txt")
    (projects / "sym").symlink_to("nowhere")
    (projects / os.fsdecode(b"\xff")).write_text("no text")
    for node, name in (("fs2", "m"), ("fs2", "d"), ("fs2", "n"), ("fs2", "h"), ("fs1", "c")):
        local = cluster.local(node, name)
        (local / "x" / "y").mkdir(parents=True)
        (local / "x" / "file").write_text(name)


def expected(cluster: Cluster) -> dict[bytes, FileType]:
    """What the tree must hold, from the file systems of the owners alone."""
    found = dict.fromkeys((b"/", b"/a", b"/a/b"), FileType.DIR)
    junctions = {path.encode() for path, _, _ in PARTS}
    for path, node, name in PARTS:
        top = cluster.local(node, name)
        for each in (top, *top.rglob("*")):
            relative = bytes(each.relative_to(top))
            whole = path.encode() + (b"" if relative == b"." else b"/" + relative)
            inside = whole[len(path) :]
            hidden = any(
                inside.startswith(j[len(path) :] + b"/") or (inside and whole == j)
                for j in junctions
                if j.startswith(path.encode() + b"/")
            )
            if not hidden:
                kind = (
                    FileType.SLINK if each.is_symlink() else FileType.DIR if each.is_dir() else FileType.REG
                )
                found[whole] = kind
    return found


@dataclass
class Tree:
    """A tree put together as a DMA does, while the draft's rules are checked."""

    root: int = -1
    names: dict[int, dict[bytes, int]] = field(default_factory=dict)
    above: dict[int, int] = field(default_factory=dict)
    nodes: dict[int, FhNode] = field(default_factory=dict)
    _listed: set[int] = field(default_factory=set)
    _current: int = -1

    def read(self, posts: list[m.FhAddDirPost | m.FhAddNodePost]) -> Tree:
        for post in posts:
            for each in post.dirs if isinstance(post, m.FhAddDirPost) else post.nodes:
                self._dir(each) if isinstance(each, FhDir) else self._node(each)
        return self

    def _dir(self, entry: FhDir) -> None:
        name = entry.names[0].path
        if name == b".":
            assert entry.node == entry.parent
            assert entry.node not in self.names, "a directory is listed once"
            self.names[entry.node] = {}
            self._current = entry.node
            if self.root < 0:
                self.root = entry.node
                self._listed.add(entry.node)
            return
        assert entry.parent == self._current, "all entries of a directory are contiguous"
        if name == b"..":
            assert not self.names[entry.parent]
            assert entry.parent not in self.above
            self.above[entry.parent] = entry.node
            return
        assert entry.parent in self.above, "'..' is the second entry"
        assert name not in self.names[entry.parent]
        self.names[entry.parent][name] = entry.node
        self._listed.add(entry.node)

    def _node(self, node: FhNode) -> None:
        assert node.node in self._listed, "ADD_DIR of a node comes before its ADD_NODE"
        assert node.node not in self.nodes, "one ADD_NODE for a node"
        self.nodes[node.node] = node

    def paths(self) -> dict[bytes, FhNode | None]:
        """Every path, with its node where there was an ADD_NODE."""
        assert self.above[self.root] == self.root, "'..' of the root is the root"
        found: dict[bytes, FhNode | None] = {b"/": self.nodes.get(self.root)}
        waiting = [(b"", self.root)]
        while waiting:
            path, node = waiting.pop()
            for name, below in self.names[node].items():
                whole = path + b"/" + name
                assert whole not in found
                found[whole] = self.nodes.get(below)
                if below in self.names:
                    assert self.above[below] == node, "'..' is the directory above"
                    waiting.append((whole, below))
        return found


def types(dma: Dma) -> dict[bytes, FileType]:
    """Path and type of everything that has an ADD_NODE."""
    paths = Tree().read(dma.tree).paths()
    return {path: node.stats[0].ftype for path, node in paths.items() if node is not None}


@pytest.mark.parametrize("batch", [1, 3, 512])
def test_the_tree_closes_over_all_owners(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    """The directories and nodes make one tree, equal to the file systems', in the order of the rules."""
    monkeypatch.setattr(history, "BATCH", batch)
    seed(cluster)
    dma, _, reason = cluster.backup("fs2", b"/", b"dump")
    assert (reason, dma.log, dma.history) == (DataHaltReason.SUCCESSFUL, [], {})
    assert types(dma) == expected(cluster)


@pytest.mark.parametrize(
    ("butype", "hist", "in_nodes"),
    [
        (b"tar", b"y", False),
        (b"dump", b"Y", True),
        (b"dump", b"t", True),
        (b"tar", b"dir", True),
        (b"tar", b"D", True),
        (b"dump", b"f", False),
        (b"dump", b"FILE", False),
        (b"dump", b"n", None),
        (b"tar", b"", None),
    ],
)
def test_who_chooses_the_form(cluster: Cluster, butype: bytes, hist: bytes, in_nodes: bool | None) -> None:
    """HIST=f and d choose the form whatever the type, y leaves it to the type, n and nothing mean none."""
    seed(cluster)
    dma, _, reason = cluster.backup("fs1", b"/a/b/c", butype, (b"HIST", hist))
    assert reason is DataHaltReason.SUCCESSFUL
    assert (bool(dma.history), bool(dma.tree)) == (in_nodes is False, in_nodes is True)


def test_both_forms_say_the_same(cluster: Cluster) -> None:
    """Each path has the same fh_info in either form, links that of the data; links have one node."""
    seed(cluster)
    in_files, image, _ = cluster.backup("fs1", b"/")
    in_nodes, other, _ = cluster.backup("fs1", b"/", b"dump")
    assert len(image.image) == len(other.image)
    paths = {path: node for path, node in Tree().read(in_nodes.tree).paths().items() if node is not None}
    assert {path: node.fh_info for path, node in paths.items()} == in_files.history
    names = (b"/projects/a.txt", b"/projects/a.link", b"/projects/way/link")
    assert len({paths[name].node for name in names}) == 1
    assert paths[names[0]].stats[0].links == 3


@pytest.mark.parametrize("lost", ["fs1", "fs2"])
def test_the_tree_closes_without_an_owner(cluster: Cluster, lost: str) -> None:
    """What other owners saved below a part that is missing hangs on names without attributes."""
    seed(cluster)
    there = expected(cluster)
    entry = "fs2" if lost == "fs1" else "fs1"
    cluster.backup(entry)  # so that fs2 has the map
    cluster.roles.pop(lost).stop()
    dma, _, reason = cluster.backup(entry, b"/", b"dump")
    assert reason is DataHaltReason.SUCCESSFUL
    owners = {path.encode(): node for path, node, _ in PARTS}

    def owner(path: bytes) -> str:
        tops = [top for top in owners if path == top or path.startswith(top + b"/")]
        return owners[max(tops, key=len)] if tops else ""

    assert types(dma) == {path: kind for path, kind in there.items() if owner(path) != lost}


@pytest.mark.parametrize(
    ("root", "prefix"),
    [(b"/projects/way", b"/projects/way"), (b"/a", b"/a"), (b"/projects/media/x", b"/projects/media/x")],
)
def test_nothing_is_told_of_what_leads_to_the_root(cluster: Cluster, root: bytes, prefix: bytes) -> None:
    """The first entries are "." and ".." of the backup root; directories above it are never named."""
    seed(cluster)
    dma, _, _ = cluster.backup("fs2", root, b"dump")
    first = dma.tree[0]
    assert isinstance(first, m.FhAddDirPost)
    top = first.dirs[0].node
    assert [(d.names[0].path, d.node, d.parent) for d in first.dirs[:2]] == [
        (b".", top, top),
        (b"..", top, top),
    ]
    there = {
        path[len(prefix) :] or b"/": kind
        for path, kind in expected(cluster).items()
        if (path + b"/").startswith(prefix + b"/")
    }
    assert types(dma) == there


def test_a_root_that_is_a_file(cluster: Cluster) -> None:
    """A backup of one file has one node, the root's."""
    seed(cluster)
    dma, _, _ = cluster.backup("fs2", b"/projects/a.txt", b"dump")
    assert types(dma) == {b"/": FileType.REG}


def test_a_file_where_a_directory_should_lead_to_a_junction(cluster: Cluster) -> None:
    """The junction's part still hangs in the tree, below the name of the file."""
    seed(cluster)
    (cluster.local("fs1", "p") / "no").write_text("in the way")
    dma, _, _ = cluster.backup("fs1", b"/", b"dump")
    found = types(dma)
    assert found[b"/projects/no"] is FileType.REG
    assert found[b"/projects/no/such/way/x/file"] is FileType.REG
