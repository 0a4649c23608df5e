"""The rules of a restore, one by one, each by a scan of the whole image and by direct access."""

from __future__ import annotations

import pytest

from appliance.ndmp import messages as m
from appliance.ndmp.enums import ALL_ONES, DataHaltReason, ErrorCode, RecoveryStatus
from appliance.ndmp.errors import ReplyError
from appliance.ndmp.types import Name
from tests.unit.cluster.conftest import Cluster, Dma, Mover

PARTS = (("/s", "fs1", "s"), ("/s/in", "fs2", "in"), ("/t", "fs1", "t"), ("/t/two", "fs2", "t2"))
GOOD = RecoveryStatus.SUCCESSFUL


class Restorer:
    """Restores names of one image, in one of the two ways."""

    def __init__(self, cluster: Cluster, direct: bool) -> None:
        self.cluster = cluster
        self.direct = direct
        cluster.add(*PARTS)
        (cluster.local("fs1", "s") / "a").write_text("a of fs1")
        (cluster.local("fs1", "s") / "d").mkdir()
        (cluster.local("fs1", "s") / "d" / "b").write_text("b of fs1")
        (cluster.local("fs2", "in") / "c").write_text("c of fs2")
        dma, mover, reason = cluster.backup("fs2", b"/s")
        assert reason is DataHaltReason.SUCCESSFUL
        self.image = mover.image
        self.at = dma.history | {b"": dma.history[b"/"]}

    def run(self, *names: Name, **env: bytes) -> tuple[Dma, Mover]:
        """Restore; the halt must be a good one."""
        nlist = tuple(
            Name(
                name.original_path,
                name.destination_path,
                name.name,
                fh_info=self.at.get(name.original_path, 0),
            )
            for name in names
        )
        dma, mover = self.cluster.start_direct("fs1", self.image, *nlist, **{"DIRECT": self.way, **env})
        assert dma.await_halt() is DataHaltReason.SUCCESSFUL
        mover.reads.put(None)
        return dma, mover

    @property
    def way(self) -> bytes:
        """The value of DIRECT."""
        return b"y" if self.direct else b"n"

    def tree(self) -> dict[str, str]:
        """All files at the targets, by their names below /t."""
        found = {}
        for node, name, prefix in (("fs1", "t", ""), ("fs2", "t2", "two/")):
            top = self.cluster.local(node, name)
            found |= {prefix + str(p.relative_to(top)): p.read_text() for p in top.rglob("*") if p.is_file()}
        return found


@pytest.fixture(params=[True, False], ids=["direct", "scan"])
def restorer(cluster: Cluster, request: pytest.FixtureRequest) -> Restorer:
    """A saved tree, and a way to restore it."""
    return Restorer(cluster, request.param)


def results(dma: Dma) -> list[tuple[bytes, RecoveryStatus]]:
    """The LOG_FILE posts, in order."""
    return [(post.name, post.recovery_status) for post in dma.files]


def test_several_targets_of_one_source(restorer: Restorer) -> None:
    """One source goes to two places, of two owners; LOG_FILE comes once for it."""
    dma, _ = restorer.run(Name(b"/a", b"/t/x"), Name(b"/a", b"/t/two/y"))
    assert restorer.tree() == {"x": "a of fs1", "two/y": "a of fs1"}
    assert results(dma) == [(b"/a", GOOD)]


def test_the_worst_of_several_targets_counts(restorer: Restorer) -> None:
    """One good and one bad target of a source make one LOG_FILE, a bad one."""
    (restorer.cluster.local("fs2", "t2") / "y" / "full").mkdir(parents=True)
    dma, _ = restorer.run(Name(b"/a", b"/t/x"), Name(b"/a", b"/t/two/y"))
    assert restorer.tree() == {"x": "a of fs1"}
    assert results(dma) == [(b"/a", RecoveryStatus.FAILED_IO_ERROR)]


def test_renaming_by_destination_and_name(restorer: Restorer) -> None:
    """With a `name`, the destination is the directory that it appears in; missing ones are made."""
    dma, _ = restorer.run(Name(b"/a", b"/t/new/deep", b"called"), Name(b"/d", b"/t/two", b"dd"))
    assert restorer.tree() == {"new/deep/called": "a of fs1", "two/dd/b": "b of fs1"}
    assert results(dma) == [(b"/a", GOOD), (b"/d", GOOD)]


def test_two_names_at_once_one_below_the_other(restorer: Restorer) -> None:
    """A directory, and a file in it under another name: each entry gets all that is its own."""
    dma, _ = restorer.run(Name(b"/d", b"/t/d"), Name(b"/d/b", b"/t/single"), Name(b"/in", b"/t/two/in"))
    assert restorer.tree() == {"d/b": "b of fs1", "single": "b of fs1", "two/in/c": "c of fs2"}
    assert results(dma) == [(b"/d", GOOD), (b"/d/b", GOOD), (b"/in", GOOD)]


@pytest.mark.parametrize("names", [(), (Name(b"", b"/t/all"),)], ids=["empty nlist", "empty path"])
def test_an_empty_nlist_and_an_empty_path_mean_everything(
    restorer: Restorer, names: tuple[Name, ...]
) -> None:
    """All that the image holds; LOG_FILE only for a name that was given."""
    dma, _ = restorer.run(*names, PREFIX=b"/t/all")
    assert restorer.tree() == {"all/a": "a of fs1", "all/d/b": "b of fs1", "all/in/c": "c of fs2"}
    assert results(dma) == [(name.original_path, GOOD) for name in names]


def test_a_directory_with_one_failed_file_counts_as_failed(restorer: Restorer) -> None:
    """Over two owners: one LOG_FILE after both, with the worst status; the other files are restored."""
    (restorer.cluster.local("fs2", "t2") / "in" / "c" / "full").mkdir(parents=True)
    dma, _ = restorer.run(Name(b"", b"/t/two"), Name(b"/d", b"/t/d"))
    assert restorer.tree() == {"two/a": "a of fs1", "two/d/b": "b of fs1", "d/b": "b of fs1"}
    assert results(dma) == [(b"", RecoveryStatus.FAILED_IO_ERROR), (b"/d", GOOD)]


def test_log_file_comes_after_all_owners(restorer: Restorer) -> None:
    """When the DMA hears of a name, everything of it is on disk: after the last log line, before the halt."""
    (restorer.cluster.local("fs2", "t2") / "a" / "full").mkdir(parents=True)
    dma, mover = restorer.cluster.start_direct(
        "fs1",
        restorer.image,
        Name(b"/a", b"/t/x", fh_info=restorer.at[b"/a"]),
        Name(b"/a", b"/t/two/a", fh_info=restorer.at[b"/a"]),
        DIRECT=restorer.way,
    )
    said = []
    while (post := dma.client.posts.get(timeout=60)) is not None:
        body = post.body()
        said.append(type(body))
        if isinstance(body, m.NotifyDataReadPost):
            mover.reads.put(body)
        elif isinstance(body, m.NotifyDataHaltedPost):
            break
    mover.reads.put(None)
    assert said[-3:] == [m.LogMessagePost, m.LogFilePost, m.NotifyDataHaltedPost]


def test_what_was_asked_for_is_drained_before_the_close(restorer: Restorer) -> None:
    """Every byte that the mover was asked for is received; its count and ours agree."""
    dma, mover = restorer.run(Name(b"/a", b"/t/x"))
    asked = sum(read.length for read in dma.reads)
    expected = min(asked, len(restorer.image))
    assert dma.state().bytes_processed == mover.sent == expected


def test_a_name_that_is_not_there(restorer: Restorer) -> None:
    """Not found, once for its name, and the others are restored."""
    dma, _ = restorer.run(Name(b"/no", b"/t/no"), Name(b"/no", b"/t/two/no"), Name(b"/d/b", b"/t/b"))
    assert results(dma) == [(b"/no", RecoveryStatus.FAILED_NOT_FOUND), (b"/d/b", GOOD)]
    assert restorer.tree() == {"b": "b of fs1"}


@pytest.mark.parametrize("name", [Name(b"/a", b"/t", b"x/y"), Name(b"/a", b"")], ids=["slash", "no target"])
def test_what_the_draft_forbids_is_refused(restorer: Restorer, name: Name) -> None:
    """A separator in `name`, and an empty destination, are ILLEGAL_ARGS."""
    with pytest.raises(ReplyError) as refused:
        restorer.cluster.start_direct("fs1", restorer.image, name, DIRECT=restorer.way)
    assert refused.value.code is ErrorCode.ILLEGAL_ARGS


def test_owners_are_not_told_where_in_the_image_a_name_stands(
    restorer: Restorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their nlist has fh_info of all ones: each reads an archive of its own members, from its beginning."""
    from appliance.fileserver.owner import OwnerService

    seen: list[int] = []
    recover = OwnerService.recover

    def spy(service: OwnerService, butype: bytes, names: tuple[Name, ...]) -> object:
        seen.extend(name.fh_info for name in names)
        return recover(service, butype, names)

    monkeypatch.setattr(OwnerService, "recover", spy)
    restorer.run(Name(b"/a", b"/t/x"), Name(b"/in", b"/t/two/in"))
    assert seen == [ALL_ONES, ALL_ONES]
