"""The bases that a file server keeps: which stay, which go, and what a crash leaves."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.fileserver.dumps import TOKENS_KEPT, Dump, Dumps

FILESET = "f" * 32


@pytest.fixture
def dumps(tmp_path: Path) -> Dumps:
    """An empty store."""
    return Dumps(tmp_path)


def save(dumps: Dumps, token: int, level: int = 0, *, keep: bool = True, root: bytes = b"/") -> None:
    """A backup that wrote its state, and ended well if it is kept."""
    dumps.begin(FILESET, root, b"/p", Dump(token, level)).write_text(str(token))
    if keep:
        assert dumps.keep(FILESET, root, b"/p", token)


def test_a_state_counts_when_its_backup_ended_well(dumps: Dumps) -> None:
    """What was written is no base until it is kept; then it is found by its token."""
    save(dumps, 7, 2, keep=False)
    assert dumps.bases(FILESET, b"/", b"/p") == []
    assert dumps.path(FILESET, b"/", b"/p", 7) is None
    assert dumps.keep(FILESET, b"/", b"/p", 7)
    assert dumps.bases(FILESET, b"/", b"/p") == [Dump(7, 2)]
    path = dumps.path(FILESET, b"/", b"/p", 7)
    assert path is not None
    assert path.read_text() == "7"


def test_what_was_never_written_is_not_kept(dumps: Dumps) -> None:
    """Keeping a token that has no state says so."""
    assert not dumps.keep(FILESET, b"/", b"/p", 7)


def test_an_unfinished_state_goes(dumps: Dumps) -> None:
    """A state whose backup never ended well goes at the next one that does, or at the next start."""
    save(dumps, 1, keep=False)
    save(dumps, 2)
    assert not dumps.keep(FILESET, b"/", b"/p", 1)
    save(dumps, 3, keep=False)
    dumps.forget_unfinished()
    assert not dumps.keep(FILESET, b"/", b"/p", 3)
    assert dumps.bases(FILESET, b"/", b"/p") == [Dump(2, 0)]


def test_roots_have_nothing_to_do_with_each_other(dumps: Dumps) -> None:
    """A backup of another path does not count."""
    save(dumps, 1)
    assert dumps.bases(FILESET, b"/other", b"/p") == []


def test_the_newest_stay_and_the_newest_of_each_level(dumps: Dumps) -> None:
    """A year of daily backups keeps the last full one, the last of each level, and the last few."""
    save(dumps, 1, 0)
    save(dumps, 2, 1)
    for token in range(3, 3 + 2 * TOKENS_KEPT):
        save(dumps, token, 2)
    kept = dumps.bases(FILESET, b"/", b"/p")
    assert kept[:2] == [Dump(1, 0), Dump(2, 1)]
    assert len(kept) == 2 + TOKENS_KEPT


def test_parts_of_others_are_forgotten(dumps: Dumps) -> None:
    """What was known of a part that moved away is no base if it comes back."""
    save(dumps, 1)
    dumps.keep_only({FILESET})
    assert dumps.bases(FILESET, b"/", b"/p")
    dumps.keep_only({"0" * 32})
    assert not dumps.bases(FILESET, b"/", b"/p")
