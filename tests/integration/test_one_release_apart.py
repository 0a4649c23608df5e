"""Nodes of the release before work together with those of this one, while a cluster is upgraded."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import lab as labs
from harness.compare import OWNER_FIELDS, compare, move
from harness.session import provider_of
from harness.topology import Node
from tests.labrun import ROOT, Lab
from tests.releases import site
from tests.releases.stores import TOP, TOPOLOGY

pytestmark = pytest.mark.process_lab

FORMER = "f4dc836db"
"""The code of the release before.  Until there is one: the last commit whose nodes agree on nothing."""

IGNORED = {"extents", *(OWNER_FIELDS if os.geteuid() else ())}
RESTORED = b"/restored"


@pytest.fixture(scope="module")
def former(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The product as it was then, from the repository's history."""
    found = subprocess.run(
        ["git", "archive", FORMER, "appliance", "tape"], cwd=ROOT, capture_output=True, check=False
    )
    if found.returncode:
        pytest.skip(f"the history does not have {FORMER}: {found.stderr.decode().strip()}")
    folder = tmp_path_factory.mktemp("former")
    subprocess.run(["tar", "-x"], cwd=folder, input=found.stdout, check=True)
    return folder


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """A process lab with the small tree of releases over two file servers."""
    made = Lab(str(TOPOLOGY), "test-apart", tmp_path)
    try:
        up = made.lab("up")
        assert up.code == 0, up.out + up.err
        parts = site.parts(made)
        site.fill(parts[TOP], parts[b"/projects/media"])
        yield made
    finally:
        made.lab("down")


def restart(lab: Lab, name: str, code: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Restart a node with the product in `code`."""
    monkeypatch.setenv("XDG_STATE_HOME", str(lab.state))
    provider = provider_of(labs.require(lab.name))
    usual = provider._environment  # type: ignore[attr-defined]

    def environment(node: Node) -> dict[str, str]:
        return usual(node) | {"PYTHONPATH": str(code)}

    monkeypatch.setattr(provider, "_environment", environment)
    provider.start(next(node for node in provider.topology.nodes if node.name == name))
    process = provider.lab.provider_data["processes"][name]["pid"]
    assert f"PYTHONPATH={code}".encode() in Path(f"/proc/{process}/environ").read_bytes().split(b"\0")


def spanreel(lab: Lab, node: str, *words: str | bytes) -> str:
    """Run a command on a node, which must end well; return what it printed."""
    done = lab.on(node, *words)
    assert done.code == 0, done.out + done.err
    return done.out


def files_of_backup(lab: Lab, *words: str) -> int:
    """Save the tree; return how many files were saved."""
    files = json.loads(spanreel(lab, "backup1", "backup", TOP, *words, "--json"))["files"]
    assert isinstance(files, int)
    return files


def backup_and_restore(lab: Lab, entry: str) -> None:
    """Save the tree through a file server, restore it elsewhere through it, and compare."""
    parts = site.parts(lab)
    saved = {path: local for path, local in parts.items() if path.startswith(TOP)}
    target = {path: local for path, local in parts.items() if path.startswith(RESTORED)}
    assert files_of_backup(lab, "--entry", entry) == len(site.describe(saved))
    files_of_backup(lab, "--entry", entry, "--incremental")
    spanreel(lab, "backup1", "restore", "latest", TOP, "--to", RESTORED, "--entry", entry)
    found = site.describe(target)
    found.pop(RESTORED)
    expected = move(site.describe(saved), TOP, RESTORED + TOP)
    assert compare(expected, found, ignore=IGNORED).shown() == []


@pytest.mark.parametrize("node", ["fs1", "fs2", "conn1"])
def test_a_node_of_the_release_before(
    lab: Lab, former: Path, node: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The map's writer, a reader, or the connection server may be the last to be upgraded, and the first too.

    Through both file servers the tree is saved, whole and its changes, and restored.  Then the node is
    upgraded in its place, and the others follow the map.
    """
    restart(lab, node, former, monkeypatch)
    for entry in ("fs1", "fs2"):
        backup_and_restore(lab, entry)
    more = lab.node_folder("fs2") / "more"
    more.mkdir()
    spanreel(lab, "fs2", "gns", "add", "/more", "--owner", "fs2", "--local", str(more))
    restart(lab, node, ROOT, monkeypatch)
    spanreel(lab, "fs2", "gns", "resolve", "/more/file")
    # What the release before knows as a base is one to this release.
    assert files_of_backup(lab, "--incremental") < files_of_backup(lab, "--level", "0")
    backup_and_restore(lab, "fs1")
