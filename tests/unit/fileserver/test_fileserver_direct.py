"""What a restore's environment and nlist say about direct access."""

from __future__ import annotations

import pytest

from appliance.fileserver.direct import DIRECT, PARTS_MAX, Access, access, is_yes, parse_parts, part_values
from appliance.fileserver.plan import Wish
from appliance.ndmp import extension as x
from appliance.ndmp.enums import ALL_ONES

NASTY = b"/p/\xff%20 \n=\\"
TABLE = [(0, 1024, b"/p"), (1024, 512, b"/p/a"), (1536, 4096, NASTY)]


@pytest.mark.parametrize(
    ("value", "default", "expected"),
    [
        (b"y", False, True),
        (b"Y", False, True),
        (b"T", False, True),
        (b"true", False, True),
        (b"n", True, False),
        (b"F", True, False),
        (b"No", True, False),
        (b"", True, True),
        (b"maybe", False, False),
    ],
)
def test_yes_and_no_in_their_spellings(value: bytes, default: bool, expected: bool) -> None:
    """The last of repeated variables counts; what is neither means the default."""
    assert is_yes({DIRECT: [b"n" if expected else b"y", value]}, DIRECT, default) is expected


def test_the_table_comes_back_as_it_went() -> None:
    """Any bytes of a path survive as printable text; a DMA gets global paths, the reader relative ones."""
    values = part_values(TABLE)
    assert all(value.isascii() and value.decode().isprintable() for value in values)
    assert parse_parts(values, b"/p") == (
        x.Stretch(0, 1024, b"/"),
        x.Stretch(1024, 512, b"/a"),
        x.Stretch(1536, 4096, NASTY[2:]),
    )


def test_a_long_table_is_not_given() -> None:
    """A DMA with room for so many variables only must not be hurt; more is read instead."""
    assert len(part_values([(0, 1, b"/")] * PARTS_MAX)) == PARTS_MAX
    assert part_values([(0, 1, b"/")] * (PARTS_MAX + 1)) == []


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"x",
        b"1 2",
        b"1 2 3 4",
        b"-1 2 /p",
        b"1 x /p",
        b"9 -2 /p",
        b"1 2 p",
        b"1 2 /q",
        b"1 2 /p/../q",
        b"1 99999999999999999999 /p",
    ],
)
def test_a_damaged_table_is_no_table(value: bytes) -> None:
    """Nothing is read by numbers that may be wrong: one bad value spoils all."""
    assert parse_parts([*part_values(TABLE), value], b"/p") == ()


def test_direct_access_needs_a_place_for_every_name() -> None:
    """DIRECT=y alone is not enough, and places alone are not asked for."""
    wishes = [Wish(b"/a", b"/a", b"/t", 512), Wish(b"", b"", b"/u", 1024)]
    env = {DIRECT: [b"y"], b"FILESYSTEM": [b"/p/"], b"SPANREEL_PART": part_values(TABLE)}
    found = access(env, wishes)
    assert found.places == (x.Place(512, b"/a"), x.Place(1024, b"/"))
    assert (found.root, len(found.parts)) == (b"/p", 3)
    assert access({}, wishes) == Access()
    assert access(env, [*wishes, Wish(b"/b", b"/b", b"/t", ALL_ONES)]) == Access(root=b"/p")
    assert access({**env, b"RECURSIVE": [b"n"]}, wishes).recursive is False


def test_without_filesystem_the_table_is_of_no_use() -> None:
    """Paths relative to a root that nobody knows cannot be compared."""
    env = {DIRECT: [b"y"], b"SPANREEL_PART": part_values(TABLE)}
    found = access(env, [Wish(b"/a", b"/a", b"/t", 512)])
    assert (found.root, found.parts, len(found.places)) == (b"", (), 1)
