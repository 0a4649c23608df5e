"""What is told of files that damage on tape cost."""

from appliance.archive.errors import DamagedArchiveError
from appliance.archive.formats import FORMAT
from appliance.archive.index import Index
from appliance.archive.kinds import Kind
from appliance.archive.member import Member
from appliance.connection.losses import SEEN_MAX, Losses


def member(offset: int) -> Member:
    """A member of ours."""
    raw = b"./PaxHeaders/spanreel-job1-%d" % offset
    return Member(b"x", b"", Kind.FILE, 0, 0, 0, offset, raw.ljust(512, b"\0"), {}, ())


def index(*offsets: int, start: int = 0, sound: bool = True) -> Index:
    """An index of members at these places, each with its place as its name."""
    lines = [b"%d 512 %032d 0 1 %d 0 0 0 0 0 /%d\n" % (offset, 0, offset, offset) for offset in offsets]
    return Index(start, len(lines), sound, b"".join(lines), FORMAT)


def test_what_did_not_come_by_is_lost() -> None:
    """Only where the framing broke, and each name once."""
    losses = Losses()
    for offset in (0, 1024):
        losses.met(member(offset))
    losses.broke(DamagedArchiveError("no header", 512))
    assert losses.is_open
    assert losses.at_index(index(0, 512, 1024)) == ([b"/512"], False)
    assert losses.job == b"job1"
    assert not losses.is_open
    losses.met(member(4096))
    assert losses.at_index(index(2048, 4096, start=2048)) == ([], False)


def test_what_was_not_read_is_not_lost() -> None:
    """After a jump to another place nothing is said of what stands before it."""
    losses = Losses()
    losses.met(member(0))
    losses.restart()
    losses.met(member(2048))
    losses.broke(DamagedArchiveError("no header", 2560))
    assert losses.at_index(index(0, 512, 2048, 2560)) == ([b"/2560"], False)


def test_damage_before_the_index_or_to_it_stays_without_names() -> None:
    """An index explains what stands between its start and itself, and only if it is sound."""
    losses = Losses()
    losses.broke(DamagedArchiveError("no header", 512))
    assert losses.at_index(index(4096, start=4096))[1]
    losses.broke(DamagedArchiveError("no header", 8192))
    assert losses.at_index(index(8192, start=8192, sound=False))[1]


def test_memory_is_bounded_where_no_index_comes() -> None:
    """An archive without indexes is forgotten bit by bit, and none of it is called lost."""
    losses = Losses()
    for number in range(SEEN_MAX + 10):
        losses.met(member(number * 512))
    losses.broke(DamagedArchiveError("no header", 0))
    lost, _ = losses.at_index(index(*range(0, 512 * (SEEN_MAX + 10), 512)))
    assert lost == []
