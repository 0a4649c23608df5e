"""Archives that were damaged or forged at random: read or refused, and never anything else."""

import contextlib
import os

import pytest
from archive_support import directory, image, make_tree, manifest, source_of
from hostile_corpus import CORPUS, patched
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.archive.dumpdir import Dumpdir
from appliance.archive.errors import DamagedArchiveError
from appliance.archive.extract import Extractor
from appliance.archive.kinds import KIND_OF_FLAG
from appliance.archive.member import GlobalHeader, Member
from appliance.archive.outcome import ExtractOptions
from appliance.archive.reader import MemberReader
from appliance.archive.targets import Target
from appliance.archive.ustar import BLOCK
from appliance.archive.verify import Verifier

PIECES = [b"..", b"/", b"\0", b"\xff", b"../outside/secret", b"9" * 30, b"0", b" ", b"=", b"\n", b"7777"]
# Start and length of every field of a header, but for its checksum.
FIELDS = [
    (0, 100),
    (100, 8),
    (108, 8),
    (124, 12),
    (136, 12),
    (156, 1),
    (157, 100),
    (257, 8),
    (329, 8),
    (345, 155),
]
FLAGS = [*KIND_OF_FLAG, b"x", b"g", b"L", b"K", b"D", b"S", b"M", b"V"]


class Silent:
    """An observer that listens to nothing."""

    def restored(self, path: bytes, /) -> None:
        """A member is restored."""

    def problem(self, path: bytes, text: str, /) -> None:
        """A member is not."""

    def entry(self, entry: object, is_whole: bool, /) -> None:
        """A line of an index."""

    def directory(self, path: bytes, dumpdir: Dumpdir, /) -> None:
        """Not looked at."""

    def unlisted(self, member: Member, /) -> None:
        """A member whose index is lost."""


@pytest.fixture(scope="module")
def blocks(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """The blocks of an image with everything in it; long runs of data are cut."""
    root = tmp_path_factory.mktemp("fuzz") / "tree"
    make_tree(root)
    out = bytearray()
    reader = MemberReader(source_of(image(root)))
    for item in reader:
        if isinstance(item, GlobalHeader):
            out += item.raw
        elif item.stored < 4096:
            reader.copy(item, out.extend)
    return [bytes(out[at : at + BLOCK]) for at in range(0, len(out), BLOCK)]


@st.composite
def changes(draw: st.DrawFn) -> list[tuple[int, int, int, bytes]]:
    """Some changes: (what to do, where, which field, with what)."""
    return draw(
        st.lists(
            st.tuples(
                st.integers(0, 5),
                st.integers(0, 10**6),
                st.integers(0, len(FIELDS) - 1),
                st.one_of(st.sampled_from(PIECES), st.sampled_from(FLAGS), st.binary(max_size=12)),
            ),
            min_size=1,
            max_size=12,
        )
    )


def changed(blocks: list[bytes], plan: list[tuple[int, int, int, bytes]]) -> bytes:
    """An archive with changes; half of those to headers come with the right checksum."""
    made = list(blocks)
    for what, where, field, value in plan:
        at = where % len(made)
        start, length = FIELDS[field]
        if what <= 2:
            made[at] = patched(made[at], start, value[:length].ljust(min(length, 12), b"\0"))
        elif what == 3:
            made.insert(at, made[where * 7 % len(made)])
        elif what == 4:
            del made[at]
        else:
            spot = where % BLOCK
            made[at] = (made[at][:spot] + value + made[at][spot + len(value) :])[:BLOCK].ljust(BLOCK, b"\0")
        if not made:
            return b""
    return b"".join(made) + bytes(2 * BLOCK)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(plan=changes())
def test_forged_archives_do_no_harm(
    blocks: list[bytes], plan: list[tuple[int, int, int, bytes]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Extracting ends well or with the archive's own error; nothing outside changes, no descriptor leaks."""
    around = tmp_path_factory.mktemp("around")
    (around / "outside").mkdir()
    (around / "outside" / "secret").write_bytes(b"secret")
    (around / "target").mkdir()
    before = manifest(around / "outside"), os.listdir(around)  # noqa: PTH208
    open_before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    with directory(around / "target") as root, contextlib.suppress(DamagedArchiveError):
        reader = MemberReader(source_of(changed(blocks, plan)), checking=True)
        Extractor(reader, [Target(b"/", root, b"")], Silent(), ExtractOptions(devices=False)).run()
    assert (manifest(around / "outside"), os.listdir(around)) == before  # noqa: PTH208
    assert len(os.listdir("/proc/self/fd")) == open_before  # noqa: PTH208


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(plan=changes())
def test_forged_archives_are_examined_to_their_end(
    blocks: list[bytes], plan: list[tuple[int, int, int, bytes]]
) -> None:
    """Verifying one that is damaged anywhere raises nothing, and does not call it whole and undamaged."""
    data = changed(blocks, plan)
    result = Verifier(source_of(data), Silent(), "job1").run()
    assert result.bytes <= len(data)


def relayed(data: bytes) -> bytes:
    """What the connection server hands on of an archive, member by member, up to the first damage."""
    out = bytearray()
    reader = MemberReader(source_of(data, 4000))
    with contextlib.suppress(DamagedArchiveError):
        for item in reader:
            if isinstance(item, GlobalHeader):
                out += item.raw
            else:
                reader.copy(item, out.extend)
    return bytes(out)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(plan=changes())
def test_forged_archives_are_handed_on_as_they_are(
    blocks: list[bytes], plan: list[tuple[int, int, int, bytes]]
) -> None:
    """Nothing is added, left out or changed before the damage, and nothing but damage is raised."""
    data = changed(blocks, plan)
    assert data.startswith(relayed(data))


@pytest.mark.parametrize("name", CORPUS)
def test_hostile_archives_are_handed_on_as_they_are(name: str) -> None:
    """Likewise; what they say is for the file servers to judge."""
    data = CORPUS[name].members + bytes(2 * BLOCK)
    assert data.startswith(relayed(data))


@pytest.mark.parametrize("name", CORPUS)
def test_hostile_archives_can_be_examined(name: str) -> None:
    """Verifying says what is wrong with them; it raises nothing."""
    Verifier(source_of(CORPUS[name].members + bytes(2 * BLOCK)), Silent()).run()
