"""EXCLUDE and FILES: which paths they mean (draft-skardal-ndmpv4-04, 3.2.5, and vendors' practice)."""

from __future__ import annotations

import pytest

from appliance.archive.errors import ArchiveUsageError
from appliance.archive.selection import EXCLUDES_MAX, FILES_MAX, Reach, Selection

HIT, MISS = True, False


@pytest.mark.parametrize(
    ("value", "path", "hit"),
    [
        (b"core", b"/a/core", HIT),
        (b"core", b"/a/core/x", MISS),  # the directory above is left out, with all in it
        (b"core", b"/a/score", MISS),
        (b"*.o", b"/a/b.o", HIT),
        (b"*.o", b"/a/b.oo", MISS),
        (b"tmp*", b"/tmp-1", HIT),
        (b"tmp*", b"/a/tmp", HIT),
        (b"*mid*", b"/a mid b", HIT),
        (b"a*c", b"/x/abc", HIT),
        (b"a*c*e", b"/abcbcde", HIT),
        (b"a*c*e", b"/abcde/x", MISS),
        (b"*b*b", b"/abab", HIT),
        (b"*b*b", b"/aab", MISS),
        (b"**", b"/any", HIT),
        (b"/a*/b*c", b"/ax/bxc", HIT),
        (b"/a*/b*c", b"/a/x/bc", MISS),
        (b"/a/b", b"/a/b", HIT),
        (b"/a/b", b"/x/a/b", MISS),
        (b"/a/b/", b"/a/b", HIT),
        (b"a/b", b"/a/b", HIT),
        (b"./a/b", b"/a/b", HIT),
        (b"tmp/", b"/x/tmp", HIT),
        (b"/a/b*", b"/a/bcd", HIT),
        (b"/a/b*", b"/a/b/c", MISS),
        (b"/a/*", b"/a/x", HIT),
        (b"/a/*", b"/a", MISS),
        (b"x,/a/b,y", b"/a/b", HIT),
        (b"x,/a/b,y", b"/q/y", HIT),
        (b"x,,y", b"/q/y", HIT),
        (rb"one\,name", b"/one,name", HIT),
        (rb"one\,name", b"/name", MISS),
        (rb"star\*", b"/star*", HIT),
        (rb"star\*", b"/stars", MISS),
        (rb"back\\slash", b"/back\\slash", HIT),
        (b"end\\", b"/end\\", HIT),
        (b"a.c", b"/abc", MISS),
        (b"[ab]", b"/a", MISS),
        (b"\xff*\n", b"/\xff\x80\n", HIT),
        (b" a", b"/ a", HIT),
    ],
)
def test_what_exclude_means(value: bytes, path: bytes, hit: bool) -> None:
    """Items of a comma list: paths from the backup root, or last components; "*" spans no slash."""
    assert Selection([value]).excludes(path, path.rpartition(b"/")[2]) is hit


def test_no_pattern_takes_long() -> None:
    """A pattern of many stars is tried in time that grows with the name, not with its power."""
    name = b"a" * 255
    assert not Selection([b"*a" * 100 + b"b"]).excludes(b"/" + name, name)
    assert Selection((), [b"*a" * 100 + b"b/x"]).reach(b"/" + name) is Reach.NONE


def test_exclude_may_be_repeated() -> None:
    """One variable for each item, as ndmjob sends them, is the same as one list."""
    chosen = Selection([b"a", b"/b,c"])
    assert [chosen.excludes(b"/" + name, name) for name in (b"a", b"b", b"c", b"d")] == [HIT, HIT, HIT, MISS]


@pytest.mark.parametrize(
    ("exclude", "files", "why"),
    [
        ([b"a,b"] * EXCLUDES_MAX, [], "items"),
        ([], [b"a"] * (FILES_MAX + 1), "values"),
        ([b"/"], [], "the whole"),
        ([b"/a/../.."], [], "not name anything below"),
        ([], [b"../a"], "not name anything below"),
        ([b"a\0b"], [], "not name anything below"),
    ],
)
def test_what_cannot_be_meant_is_refused(exclude: list[bytes], files: list[bytes], why: str) -> None:
    """Too many patterns, and those that lead out of the backup, are refused in words."""
    with pytest.raises(ArchiveUsageError, match=why):
        Selection(exclude, files)


@pytest.mark.parametrize(
    ("files", "path", "reach"),
    [
        ([], b"/any", Reach.WHOLE),
        ([b"a/b"], b"/", Reach.WAY),
        ([b"a/b"], b"/a", Reach.WAY),
        ([b"a/b"], b"/a/b", Reach.WHOLE),
        ([b"a/b"], b"/a/b/c/d", Reach.WHOLE),
        ([b"a/b"], b"/a/bc", Reach.NONE),
        ([b"a/b"], b"/b", Reach.NONE),
        ([b"/a/b"], b"/a/b", Reach.WHOLE),
        ([b"./*.c"], b"/x.c", Reach.WHOLE),
        ([b"./*.c"], b"/d/x.c", Reach.NONE),
        ([b"./*"], b"/.hidden", Reach.WHOLE),
        ([b"*/x"], b"/any", Reach.WAY),
        ([b"."], b"/", Reach.WHOLE),
        ([b"a", b"b/c"], b"/b", Reach.WAY),
        ([b"with,comma"], b"/with,comma", Reach.WHOLE),
        ([rb"star\*"], b"/star*", Reach.WHOLE),
    ],
)
def test_how_far_files_reaches(files: list[bytes], path: bytes, reach: Reach) -> None:
    """Each value is a path below the backup root; what lies below a match is selected with it."""
    assert Selection((), files).reach(path) is reach


def test_which_values_of_files_matched() -> None:
    """A value that nothing matches can be named to the user."""
    chosen = Selection((), [b"a", b"b/*", b"c"])
    for path in (b"/", b"/a/deep", b"/b", b"/b/x"):
        chosen.reach(path)
    assert chosen.matched == {0, 1}


@pytest.mark.parametrize(
    ("exclude", "files", "part", "reach"),
    [
        ([b"cache"], [], b"/projects/cache/media", Reach.NONE),
        ([b"/projects/*"], [], b"/projects/media", Reach.NONE),
        ([b"/projects/*"], [], b"/projects", Reach.WHOLE),
        ([], [b"projects/media/x"], b"/projects/media", Reach.WAY),
        ([], [b"home"], b"/projects/media", Reach.NONE),
        ([], [b"projects"], b"/projects/media", Reach.WHOLE),
        ([b"/"[:0]], [], b"/", Reach.WHOLE),
    ],
)
def test_parts_are_chosen_like_directories(
    exclude: list[bytes], files: list[bytes], part: bytes, reach: Reach
) -> None:
    """A part below an excluded directory is none of the backup, whoever owns either."""
    assert Selection(exclude, files).reach_of_part(part) is reach
