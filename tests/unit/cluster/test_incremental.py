"""Incremental backups over several owners: bases, levels, tokens, and the chain back."""

from __future__ import annotations

import shutil
import subprocess
import threading
from pathlib import Path

import pytest

from appliance.archive import treestate
from appliance.fileserver.bases import Known, choose
from appliance.fileserver.environment import Increment
from appliance.ndmp import messages as m
from appliance.ndmp.enums import DataHaltReason, ErrorCode
from appliance.ndmp.errors import RefusalError, ReplyError
from appliance.ndmp.types import Pval
from tests.unit.cluster.conftest import Cluster, Dma, Mover

PARTS = (("/projects", "fs1", "p"), ("/projects/media", "fs2", "m"), ("/home", "fs2", "h"))


@pytest.fixture(autouse=True)
def trusted_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """Change times are trusted at once: tests do not wait for them to grow old."""
    monkeypatch.setattr(treestate, "SETTLED_NS", -(10**18))


@pytest.fixture
def seeded(cluster: Cluster) -> Cluster:
    """A tree of two owners; one part of the second lies below a directory of the first."""
    cluster.add(*PARTS)
    for owner, part, name in (("fs1", "p", "a/one"), ("fs2", "m", "b/two"), ("fs2", "h", "c/three")):
        file = cluster.local(owner, part) / name
        file.parent.mkdir()
        file.write_text(name)
    return cluster


def save(cluster: Cluster, entry: str, **more: bytes) -> tuple[Dma, Mover, dict[bytes, bytes]]:
    """A backup of everything that must end well and in silence; its environment."""
    variables = [(name.encode(), value) for name, value in more.items()]
    dma, mover, reason = cluster.backup(entry, b"/", b"tar", *variables)
    assert (reason, dma.log) == (DataHaltReason.SUCCESSFUL, [])
    return dma, mover, dma.env()


def change(cluster: Cluster) -> None:
    """Delete, write, rename: on both owners."""
    shutil.rmtree(cluster.local("fs1", "p") / "a")
    (cluster.local("fs1", "p") / "new").write_text("new")
    (cluster.local("fs2", "m") / "b").rename(cluster.local("fs2", "m") / "d")
    (cluster.local("fs2", "h") / "c/three").write_text("changed")


def tree_of(cluster: Cluster) -> dict[str, str | None]:
    """The tree that clients see: global path and content, None for directories."""
    found: dict[str, str | None] = {}
    for path, owner, part in PARTS:
        for file in sorted(cluster.local(owner, part).rglob("*")):
            name = f"{path}/{file.relative_to(cluster.local(owner, part))}"
            found[name] = None if file.is_dir() else file.read_text()
    return found


def tree_at(top: Path) -> dict[str, str | None]:
    """The tree below a directory, in the same form, without the tops of parts."""
    files = sorted(top.rglob("*"))
    found = {f"/{file.relative_to(top)}": None if file.is_dir() else file.read_text() for file in files}
    return {name: text for name, text in found.items() if name not in [path for path, _, _ in PARTS]}


def test_a_level_saves_what_changed_on_all_owners(seeded: Cluster, tmp_path: Path) -> None:
    """Level 1, asked of another file server than level 0, is small; GNU tar makes that day's tree of both."""
    out = tmp_path / "out"
    out.mkdir()
    _, full, _ = save(seeded, "fs1")
    change(seeded)
    dma, changed, env = save(seeded, "fs2", LEVEL=b"1")
    assert set(dma.history) == {
        b"/", b"/projects", b"/projects/new", b"/projects/media", b"/projects/media/d", b"/home", b"/home/c",
        b"/home/c/three",
    }  # fmt: skip
    assert env[b"SPANREEL_STATUS"] == b"complete"
    for image in (full.image, changed.image):
        tar = ["tar", "-C", out, "--incremental", "-xpf", "-"]
        assert subprocess.run(tar, input=image, capture_output=True, check=True).stderr == b""
    assert tree_at(out) == tree_of(seeded)


def test_a_dma_restores_the_chain_with_extract_n(seeded: Cluster) -> None:
    """Full and incremental restored in order elsewhere, with EXTRACT=n, give exactly that day's tree."""
    _, full, _ = save(seeded, "fs1")
    change(seeded)
    _, changed, _ = save(seeded, "fs1", LEVEL=b"1")
    seeded.add(("/back", "fs1", "back"))
    for mover in (full, changed):
        dma, reason = seeded.restore("fs2", mover.image, (b"", b"/back"), EXTRACT=b"n")
        assert reason is DataHaltReason.SUCCESSFUL
    assert any("removed" in line for line in dma.log)
    assert tree_at(seeded.local("fs1", "back")) == tree_of(seeded)


def test_without_extract_n_nothing_is_removed(seeded: Cluster) -> None:
    """A plain restore of an incremental image adds and replaces; it never takes away."""
    save(seeded, "fs1")
    change(seeded)
    _, changed, _ = save(seeded, "fs1", LEVEL=b"1")
    seeded.add(("/back", "fs1", "back"))
    (seeded.local("fs1", "back") / "projects").mkdir()
    (seeded.local("fs1", "back") / "projects/mine").write_text("mine")
    seeded.restore("fs1", changed.image, (b"", b"/back"))
    assert (seeded.local("fs1", "back") / "projects/mine").exists()


def test_a_token_names_the_base(seeded: Cluster) -> None:
    """BASE_DATE is the DUMP_DATE of an earlier backup, also of an older one than the last."""
    _, _, first = save(seeded, "fs1", BASE_DATE=b"0")
    change(seeded)
    _, _, second = save(seeded, "fs2", BASE_DATE=first[b"DUMP_DATE"], LEVEL=b"17")
    assert int(second[b"DUMP_DATE"]) > int(first[b"DUMP_DATE"])
    after_second, _, _ = save(seeded, "fs1", BASE_DATE=second[b"DUMP_DATE"], LEVEL=b"18")
    after_first, _, _ = save(seeded, "fs1", BASE_DATE=first[b"DUMP_DATE"], LEVEL=b"18")
    assert b"/projects/new" not in after_second.history
    assert b"/projects/new" in after_first.history


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"LEVEL": b"1"}, "no file server knows a backup of a level below 1 of /"),
        ({"BASE_DATE": b"12345"}, "no file server knows a backup of BASE_DATE 12345 of /"),
        ({"LEVEL": b"x"}, "LEVEL=x is no number"),
        ({"LEVEL": b"2", "BASE_DATE": b"0"}, "send one"),
        ({"BASE_DATE": b"18446744073709551615"}, "send what DUMP_DATE returned"),
    ],
)
def test_a_base_that_is_not_there_is_refused(seeded: Cluster, more: dict[str, bytes], words: str) -> None:
    """No full backup is made in the place of an incremental one; the log says what to do."""
    dma = seeded.dma("fs1")
    with pytest.raises(ReplyError) as caught:
        _start(seeded, dma, more)
    assert caught.value.code is ErrorCode.ILLEGAL_ARGS
    dma.client.close()
    assert any(words in line for line in _last_words(dma))


def _start(cluster: Cluster, dma: Dma, more: dict[str, bytes]) -> None:
    mover = cluster.mover()
    mover.take()
    dma.client.do(m.DataConnectRequest(mover.address))
    env = (Pval(b"FILESYSTEM", b"/"), *(Pval(name.encode(), value) for name, value in more.items()))
    dma.client.do(m.DataStartBackupRequest(b"tar", env))


def _last_words(dma: Dma) -> list[str]:
    lines = []
    while (post := dma.client.posts.get(timeout=60)) is not None:
        body = post.body()
        if isinstance(body, m.LogMessagePost):
            lines.append(body.entry.decode())
    return lines


def test_update_n_makes_no_base(seeded: Cluster) -> None:
    """A backup with UPDATE=n leaves no trace for later ones, and returns no DUMP_DATE."""
    _, _, env = save(seeded, "fs1", UPDATE=b"n")
    assert b"DUMP_DATE" not in env
    with pytest.raises(ReplyError):
        seeded.backup("fs1", b"/", b"tar", (b"LEVEL", b"1"))


def test_levels_are_kept_for_each_path(seeded: Cluster) -> None:
    """A full backup of one path is no base for another one."""
    seeded.backup("fs1", b"/projects")
    with pytest.raises(ReplyError):
        seeded.backup("fs1", b"/", b"tar", (b"LEVEL", b"1"))
    _, _, reason = seeded.backup("fs2", b"/projects", b"tar", (b"LEVEL", b"1"))
    assert reason is DataHaltReason.SUCCESSFUL


def test_an_aborted_backup_is_no_base(seeded: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what ended as SUCCESSFUL counts: here the mover goes away in the middle."""
    (seeded.local("fs2", "h") / "large").write_bytes(bytes(64 << 20))
    dma, mover = seeded.dma("fs1"), seeded.mover()

    def leave() -> None:
        with mover._accept() as stream:
            stream.recv(1 << 20)

    leaving = threading.Thread(target=leave, daemon=True)
    leaving.start()
    dma.client.do(m.DataConnectRequest(mover.address))
    dma.client.do(m.DataStartBackupRequest(b"tar", (Pval(b"FILESYSTEM", b"/"),)))
    assert dma.await_halt() is not DataHaltReason.SUCCESSFUL
    leaving.join(60)
    with pytest.raises(ReplyError):
        seeded.backup("fs1", b"/", b"tar", (b"LEVEL", b"1"))


def test_a_part_without_the_base_is_saved_whole(seeded: Cluster) -> None:
    """A junction that is newer than the base is saved whole within the incremental backup."""
    save(seeded, "fs1")
    seeded.add(("/late", "fs1", "late"))
    (seeded.local("fs1", "late") / "file").write_text("late")
    dma, _, _ = save(seeded, "fs2", LEVEL=b"1")
    assert b"/late/file" in dma.history
    assert b"/home/c/three" not in dma.history


def test_a_damaged_base_costs_time_and_nothing_else(seeded: Cluster) -> None:
    """An owner whose state of the base is damaged saves its part whole, and says so."""
    save(seeded, "fs1")
    for state in (seeded.folder / "fs2/state/dumps").rglob("*.state"):
        state.write_bytes(b"not a database")
    dma, _, reason = seeded.backup("fs1", b"/", b"tar", (b"LEVEL", b"1"))
    assert reason is DataHaltReason.SUCCESSFUL
    assert b"/home/c/three" in dma.history
    assert any("/home: the state of a backup" in line and "whole" in line for line in dma.log)


def test_a_state_that_cannot_be_kept_is_told_without_local_paths(seeded: Cluster) -> None:
    """The backup goes on; the DMA reads what the disk says, and not where on the file server that was."""
    (seeded.folder / "fs2/state/dumps").write_text("in the way")
    dma, _, reason = seeded.backup("fs1")
    assert reason is DataHaltReason.SUCCESSFUL
    assert any("/home: no state is kept: " in line for line in dma.log)
    assert not any(str(seeded.folder) in line for line in dma.log)


def test_tokens_follow_the_order_of_backups_not_of_clocks() -> None:
    """A file server whose clock is behind gives a larger token than the last backup has, all the same."""
    known = [Known(5_000_000, 0, frozenset((b"/",)))]
    assert choose(Increment(level=1), known, b"/", now=1.0).token == 5_000_001


def test_a_level_is_based_on_the_latest_lower_one() -> None:
    """As with dump(8): level 3 after 0, 3, 2, 5 is based on the 2."""
    known = [Known(n, level, frozenset()) for n, level in enumerate((0, 3, 2, 5), 1)]
    assert choose(Increment(level=3), known, b"/").base == 3
    assert choose(Increment(level=2), known, b"/").base == 1
    with pytest.raises(RefusalError, match="level 0"):
        choose(Increment(level=1), known[1:], b"/")
