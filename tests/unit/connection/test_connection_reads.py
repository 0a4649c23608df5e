"""The plan of a restore's reads, driven without any I/O over images that are only described."""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest

from appliance.connection.reads import AHEAD_MAX, FIRST_BYTES, Place, Read, ReadPlan, Stretch
from appliance.ndmp.enums import ALL_ONES
from appliance.paths import is_at_or_below

K = 1024


@dataclass(frozen=True)
class Member:
    """A member of a described image: a directory has a path that ends with a slash."""

    path: bytes
    offset: int
    end: int


def image(*members: tuple[bytes, int], start: int = 1 * K) -> list[Member]:
    """Members one after the other, of these lengths."""
    found = []
    for path, length in members:
        found.append(Member(path, start, start + length))
        start += length
    return found


def drive(plan: ReadPlan, members: list[Member], header: int = 512) -> tuple[list[Read], list[bytes]]:
    """Do what the router does: the reads that were asked for, and the paths whose headers were looked at.

    Checks what holds for every plan: reads ascend, none overlaps the one before, a length of all ones is
    at offset 0 only.
    """
    at = {member.offset: member for member in members}
    total = members[-1].end
    reads: list[Read] = []
    looked: list[bytes] = []
    up_to = 0

    def need(position: int, missing_to: int) -> None:
        nonlocal up_to
        while up_to < position:
            data = missing_to - up_to if missing_to else 0
            read = plan.read(up_to, data)
            assert read.length > 0
            assert read.length < ALL_ONES or read.offset == 0
            assert read.offset == up_to
            reads.append(read)
            up_to = read.end

    while (place := plan.next_place()) is not None and place < total:
        up_to = max(up_to, place)
        member = at.get(place)
        if member is None:
            need(place + header, 0)
            plan.passed(place + 1 * K) if place == 0 else plan.lost()
            continue
        need(place + header, 0)
        looked.append(member.path)
        plan.found(member.path.rstrip(b"/") or b"/", member.end, is_directory=member.path.endswith(b"/"))
        need(member.end, member.end)
    assert [read.offset for read in reads] == sorted(read.offset for read in reads)
    return reads, looked


def test_a_small_file_is_one_read_of_64_kib() -> None:
    """Nothing but the first read at its place is asked for."""
    members = image((b"/", 1 * K), (b"/a", 2 * K), (b"/b", 2 * K))
    reads, looked = drive(ReadPlan([Place(4 * K, b"/b")], ()), members)
    assert reads == [Read(4 * K, FIRST_BYTES)]
    assert looked == [b"/b"]


def test_a_large_file_is_64_kib_and_then_exactly_the_rest() -> None:
    """The header tells the length, and not a byte more is read."""
    members = image((b"/a", 1000 * K), (b"/b", 2 * K))
    reads, _ = drive(ReadPlan([Place(1 * K, b"/a")], ()), members)
    assert reads == [Read(1 * K, FIRST_BYTES), Read(65 * K, 1000 * K - FIRST_BYTES)]


def test_places_are_served_in_the_order_of_the_image() -> None:
    """Whatever the order of the names; two within one read cost one."""
    members = image((b"/a", 1000 * K), (b"/b", 2 * K), (b"/c", 2 * K), (b"/d", 500 * K), (b"/e", 2 * K))
    places = [
        Place(members[4].offset, b"/e"),
        Place(members[2].offset, b"/c"),
        Place(members[1].offset, b"/b"),
    ]
    reads, looked = drive(ReadPlan(places, ()), members)
    assert looked == [b"/b", b"/c", b"/e"]
    assert [read.offset for read in reads] == [members[1].offset, members[4].offset]


def test_two_names_of_one_member_are_one_place() -> None:
    """Names of a linked file have the same fh_info."""
    members = image((b"/a", 2 * K), (b"/b", 2 * K))
    reads, looked = drive(ReadPlan([Place(1 * K, b"/a"), Place(1 * K, b"/link")], ()), members)
    assert (len(reads), looked) == (1, [b"/a"])


TREE = image(
    (b"/", 1 * K),
    (b"/p/", 1 * K),
    (b"/p/a", 300 * K),
    (b"/p/d/", 1 * K),
    (b"/p/d/x", 300 * K),
    (b"/p/d/sub/", 1 * K),
    (b"/p/d/sub/y", 90 * K),
    (b"/p/d-no", 700 * K),
    (b"/p/e/", 1 * K),
    (b"/p/e/z", 9000 * K),
    (b"/p/d/media/", 1 * K),
    (b"/p/d/media/m", 400 * K),
    (b"/q/", 1 * K),
    (b"/q/w", 400 * K),
)
AT = {member.path.rstrip(b"/") or b"/": member for member in TREE}
PARTS = [
    Stretch(0, AT[b"/p"].offset, b"/"),
    Stretch(AT[b"/p"].offset, AT[b"/p/d/media"].offset, b"/p"),
    Stretch(AT[b"/p/d/media"].offset, AT[b"/q"].offset, b"/p/d/media"),
    Stretch(AT[b"/q"].offset, AT[b"/q/w"].end, b"/q"),
]


def ask(path: bytes, parts: list[Stretch] | None = PARTS, *, recursive: bool = True) -> ReadPlan:
    """A plan for one name of TREE."""
    return ReadPlan([Place(AT[path].offset, path)], parts, recursive=recursive)


def test_a_directory_is_read_up_to_the_first_member_that_is_not_below_it() -> None:
    """The members below follow it; a name that only begins alike ends it, and its data is not read."""
    _, looked = drive(ask(b"/p/d", [PARTS[1]]), TREE)
    assert looked[:-1] == [b"/p/d/", b"/p/d/x", b"/p/d/sub/", b"/p/d/sub/y"]
    assert looked[-1] == b"/p/d-no"


def test_parts_of_other_owners_below_a_directory_are_read_where_they_are() -> None:
    """What lies between is passed over."""
    reads, looked = drive(ask(b"/p/d"), TREE)
    assert looked[-2:] == [b"/p/d/media/", b"/p/d/media/m"]
    assert b"/p/e/z" not in looked
    assert b"/q/" not in looked
    held = sum(member.end - member.offset for member in TREE if is_at_or_below(member.path, b"/p/d"))
    assert sum(read.length for read in reads) <= 2 * held + FIRST_BYTES


def test_reads_within_a_directory_grow_and_stay_in_its_part() -> None:
    """Many small files do not cost a question each, and nobody asks beyond what there is."""
    members = image((b"/d/", 1 * K), *((b"/d/%06d" % n, 2 * K) for n in range(100_000)))
    end = members[-1].end
    reads, looked = drive(ReadPlan([Place(1 * K, b"/d")], [Stretch(1 * K, end, b"/")]), members)
    assert len(looked) == len(members)
    assert len(reads) < 20
    assert max(read.length for read in reads) <= AHEAD_MAX
    assert reads[-1].end == end


def test_a_whole_part_is_one_read() -> None:
    """The table tells its length."""
    reads, looked = drive(ask(b"/q"), TREE)
    assert looked == [b"/q/", b"/q/w"]
    assert reads == [Read(AT[b"/q"].offset, AT[b"/q/w"].end - AT[b"/q"].offset)]


def test_the_root_is_every_part() -> None:
    """Everything is looked at, and nothing behind the last part is."""
    reads, looked = drive(ask(b"/"), TREE)
    assert set(looked) == {member.path for member in TREE}
    assert reads[-1].end == TREE[-1].end


@pytest.mark.parametrize("parts", [None, [], [Stretch(AT[b"/q"].offset, AT[b"/q/w"].end, b"/q")]])
def test_without_the_table_all_behind_a_directory_is_read(parts: list[Stretch] | None) -> None:
    """Rather than miss a part of another owner; in one read, whose length is not all ones."""
    reads, looked = drive(ask(b"/p/d", parts), TREE)
    start = AT[b"/p/d"].offset
    assert looked == [member.path for member in TREE if member.offset >= start]
    assert reads == [Read(start, FIRST_BYTES), Read(start + FIRST_BYTES, ALL_ONES - start - FIRST_BYTES)]


def test_not_recursive_is_the_directory_alone() -> None:
    """Neither what is below it nor parts of others below it are read."""
    reads, looked = drive(ask(b"/p/d", recursive=False), TREE)
    assert (len(reads), looked) == (1, [b"/p/d/"])


def test_a_directory_at_the_end_of_its_part() -> None:
    """The next part is not looked into to find that it does not belong."""
    _, looked = drive(ask(b"/p/e"), TREE)
    assert looked == [b"/p/e/", b"/p/e/z"]


def test_a_name_within_a_directory_that_is_asked_for_too() -> None:
    """Nothing is read twice."""
    places = [Place(AT[path].offset, path) for path in (b"/p/d", b"/p/d/sub", b"/p/d/x", b"/q/w")]
    _, looked = drive(ReadPlan(places, PARTS), TREE)
    assert len(looked) == len(set(looked))
    assert looked[-1] == b"/q/w"


def test_an_offset_at_another_directory_does_not_read_its_tree() -> None:
    """An fh_info of another image costs one read, not a wrong tree."""
    _, looked = drive(ReadPlan([Place(AT[b"/p/e"].offset, b"/p/d")], PARTS[:2]), TREE)
    assert looked == [b"/p/e/"]


def test_an_offset_in_the_middle_of_a_member_is_given_up() -> None:
    """The other names are served."""
    places = [Place(AT[b"/p/a"].offset + 5 * K, b"/p/a"), Place(AT[b"/q/w"].offset, b"/q/w")]
    _, looked = drive(ReadPlan(places, PARTS), TREE)
    assert looked == [b"/q/w"]


def test_the_header_of_the_image_is_read_first_when_it_is_needed() -> None:
    """64 KiB at offset 0, then on to the place; a place within these costs nothing more."""
    plan = ReadPlan([Place(AT[b"/q/w"].offset, b"/q/w")], (), with_header=True)
    reads, _ = drive(plan, TREE)
    assert [read.offset for read in reads][:2] == [0, AT[b"/q/w"].offset]
    assert reads[0].length == FIRST_BYTES
    reads, _ = drive(ReadPlan([Place(1 * K, b"/")], (), recursive=False, with_header=True), TREE)
    assert reads == [Read(0, FIRST_BYTES)]


def test_a_whole_image_is_one_read_of_all_ones() -> None:
    """At offset 0, where that is legal."""
    plan = ReadPlan.whole()
    assert plan.next_place() == 0
    assert plan.read(0, 0) == Read(0, ALL_ONES)
    plan.passed(1 * K)
    assert plan.next_place() == 1 * K


def test_a_header_longer_than_the_first_read() -> None:
    """64 KiB more each time, until its member is known."""
    plan = ReadPlan([Place(0, b"/a")], ())
    assert plan.next_place() == 0
    assert plan.read(0, 0) == Read(0, FIRST_BYTES)
    assert plan.read(FIRST_BYTES, 0) == Read(FIRST_BYTES, FIRST_BYTES)


def grown(bits: random.Random, path: bytes, depth: int, junctions: list[bytes]) -> list[tuple[bytes, int]]:
    """A directory as the writer walks it: itself, its files, its directories; some of those are junctions."""
    sizes = (1, 1, 2, 70, 300)
    members = [(path + b"/" if path else b"/", 1 * K)]
    members += [(path + b"/f%d" % n, bits.choice(sizes) * K) for n in range(bits.randrange(4))]
    for n in range(bits.randrange(4) if depth > 0 else 0):
        below = path + b"/" + bits.choice((b"d", b"d-", b"d.x")) + b"%d" % n
        if bits.random() < 0.2:
            junctions.append(below)
        else:
            members += grown(bits, below, depth - 1, junctions)
    return members


@pytest.mark.parametrize("seed", range(200))
def test_any_names_of_any_image(seed: int) -> None:
    """Everything that was asked for is looked at once, with the table and without; little else is read."""
    bits = random.Random(seed)
    junctions = [b""]
    members: list[Member] = []
    parts: list[Stretch] = []
    for top in junctions:  # grows while it is walked
        start = members[-1].end if members else 1 * K
        members += image(*grown(bits, top, 4 - top.count(b"/"), junctions), start=start)
        parts.append(Stretch(start, members[-1].end, top or b"/"))
    wanted = bits.sample(members, min(len(members), bits.randrange(1, 6)))
    places = [Place(member.offset, member.path.rstrip(b"/") or b"/") for member in wanted]
    recursive = bits.random() < 0.8
    needed = {
        member.path
        for member in members
        if any(
            member.path == top.path
            or (recursive and top.path.endswith(b"/") and is_at_or_below(member.path, top.path))
            for top in wanted
        )
    }
    for table in (parts, None):
        reads, looked = drive(ReadPlan(places, table, recursive=recursive), members)
        assert len(looked) == len(set(looked))
        assert needed <= set(looked)
        if table is not None:
            held = sum(member.end - member.offset for member in members if member.path in needed)
            assert sum(read.length for read in reads) <= 2 * held + 2 * FIRST_BYTES * (
                len(wanted) + len(parts)
            )
