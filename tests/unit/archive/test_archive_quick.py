"""The compiled helper for ordinary files makes and reads what the Python code does, byte for byte."""

import contextlib
import gc
import os
import random
import resource
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from archive_support import (
    IS_ROOT,
    Recorder,
    directory,
    extract,
    image,
    make_tree,
    manifest,
    part,
    source_of,
    try_xattr,
)
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from appliance.archive import quick as helper
from appliance.archive.acl import DEFAULT_ATTRIBUTE
from appliance.archive.checksum import XXH3
from appliance.archive.errors import DamagedArchiveError
from appliance.archive.extract import Extractor
from appliance.archive.index import escape
from appliance.archive.member import GlobalHeader
from appliance.archive.outcome import Existing, ExtractOptions
from appliance.archive.reader import MemberReader
from appliance.archive.targets import Target
from appliance.archive.ustar import BLOCK
from appliance.ndmp.enums import FileType
from appliance.ndmp.fhcoding import node_entry, regular_entries

pytestmark = pytest.mark.skipif(
    helper.quick() is None and shutil.which("cc") is None,
    reason="there is no C compiler, so the helper is not there",
)

BUFFER = 1 << 20
MANY = 700
YEARS = [
    0, 1, 999_999_999_999_999_999, 10**18, 10**18 + 1, 1_234_567_890_000_000_000, -5 * 10**17, 2**33 * 10**9,
    4_300_000_000 * 10**9 + 7, 9_999_999_999 * 10**9,
]  # fmt: skip


def both(monkeypatch: pytest.MonkeyPatch, do: Callable[[], object]) -> tuple[object, object]:
    """What comes of something without the helper, and with it."""
    found = []
    for wanted in ("0", "1"):
        monkeypatch.setenv("SPANREEL_QUICK", wanted)
        assert (helper.quick() is not None) is (wanted == "1"), (
            "run bootstrap/install, which compiles the helper"
        )
        found.append(do())
    return found[0], found[1]


def told(root: Path, **fields: object) -> tuple[object, ...]:
    """All that a part tells: its bytes, its result, its entries, listings, problems and notes."""
    seen = Recorder()
    data, result = part(root, seen, **fields)
    entries = [
        (
            *entry[:5],
            *entry[6:],
            *(getattr(entry.stat, f"st_{what}") for what in ("mode", "ino", "nlink", "uid", "gid", "size")),
            entry.stat.st_mtime_ns,
            entry.stat.st_ctime_ns,
            int(entry.stat.st_mtime),
        )
        for entry in seen.entries
    ]
    return data, result, entries, seen.listings, seen.problems, seen.notes


def make_ordinary(root: Path, chance: random.Random, count: int = 60) -> None:
    """Files that are ordinary, and some in each way that they can just fail to be."""
    bases = [root, root / "below", root / ("d" * 90) / ("e" * 90), root / ("long" * 60) / "f"]
    for base in bases:
        base.mkdir(parents=True, exist_ok=True)
        for number in range(count):
            name = chance.choice(
                ["f", "übung", "back\\slash", "a b", "new\nline", "x" * 99, "y" * 120, "\x7f"]
            )
            path = base / f"{name}{number}"
            size = chance.choice([0, 1, 511, 512, 513, 4096, 70_000, 131_072, 200_000])
            path.write_bytes(chance.randbytes(size))
            path.chmod(chance.choice([0o644, 0o600, 0o000, 0o4755, 0o1777]))
            with contextlib.suppress(OSError, OverflowError):  # a file system with shorter times
                os.utime(path, ns=(chance.choice(YEARS), chance.choice(YEARS)))
            if not number % 9 and IS_ROOT:
                os.chown(path, chance.choice([0, 12345, 2**21, 2**31]), chance.choice([0, 1, 2**21 - 1]))
        (base / "link").symlink_to("nowhere")
        os.link(base / "link", base / "other link", follow_symlinks=False)
        os.mkfifo(base / "fifo")
        (base / "sparse").touch()
        os.truncate(base / "sparse", 30_000)
        (base / "marked").write_bytes(b"with an attribute")
        try_xattr(base / "marked", "user.what", b"ever")


@pytest.mark.parametrize("seed", range(4))
def test_parts_are_the_same(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes, index, entries and listings, whatever files there are."""
    make_ordinary(tmp_path, random.Random(seed))
    python, compiled = both(monkeypatch, lambda: told(tmp_path))
    assert compiled == python


def test_parts_of_everything_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of a tree with everything in it, beneath a directory of the name space and at an offset."""
    make_tree(tmp_path / "tree")
    fields = {
        "member_prefix": b"/a/global path",
        "stream_offset": 10**13,
        "node_base": 2**40,
        "backup_root": b"/a",
    }
    python, compiled = both(monkeypatch, lambda: told(tmp_path / "tree", **fields))
    assert compiled == python


def test_long_directories_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More files than one call takes, than the buffer holds, and than a comment of the index lists."""
    for number in range(MANY):
        (tmp_path / f"{number:05}").write_bytes(bytes([number % 256]) * (number * 7 % 5000))
        below = tmp_path / ("n" * 150)
        below.mkdir(exist_ok=True)
        for more in range(4):
            (below / f"{number:05}{more}{'e' * 90}").touch()
    python, compiled = both(monkeypatch, lambda: told(tmp_path))
    assert compiled == python


def test_a_plain_user_reads_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be opened, or not without a mark on its access time, is told alike."""
    make_ordinary(tmp_path / "tree", random.Random(1), 12)
    monkeypatch.setattr("os.O_NOATIME", 0)
    if IS_ROOT:
        for path in (tmp_path / "tree").iterdir():
            os.chown(path, 12345, 12345, follow_symlinks=False)
    python, compiled = both(monkeypatch, lambda: told(tmp_path / "tree"))
    assert compiled == python


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    """What was listed as something else is not touched, what became something else is left to the caller."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "file").write_bytes(b"data")
    (tmp_path / "directory").mkdir()
    for names in ([None, b"file"], [b"fifo"], [b"link"], [b"directory"], [b"gone"], [b"a\0b"], [b""]):
        assert saved(tmp_path, names)[0] == 0
    assert saved(tmp_path, [b"file", b"file", None, b"file"])[0] == 2


def saved(
    root: Path, names: list[bytes | None], room: int = BUFFER, **fields: int
) -> tuple[int, int, bytes, bytes]:
    """What the helper saves of some names."""
    compiled = helper.quick()
    assert compiled is not None
    owners = {(os.geteuid(), os.getegid()): (b"%07o" % os.geteuid(), b"%07o" % os.getegid(), b"", b"")}
    place = (
        fields.get("first", 0),
        memoryview(bytearray(room)),
        fields.get("used", 0),
        fields.get("reserve", 0),
    )
    with directory(root) as descriptor:
        opened = os.open(".", os.O_RDONLY, dir_fd=descriptor)
        try:
            more = 0, fields.get("job", b"job1"), owners, 1 << 20, XXH3.of, escape
            return compiled.save(opened, b"/", names, range(2, 2 + len(names)), *place, *more)  # type: ignore[arg-type]
        finally:
            os.close(opened)


def test_nothing_is_written_beyond_the_buffer(tmp_path: Path) -> None:
    """A file that does not fit, or a place that is none, is not saved."""
    (tmp_path / "file").write_bytes(b"x" * 1000)
    assert saved(tmp_path, [b"file"], room=5 * BLOCK)[0] == 0
    count, used, lines, rows = saved(tmp_path, [b"file"], room=6 * BLOCK)
    assert (count, used, lines.count(b"\n"), len(rows)) == (1, 5 * BLOCK, 1, helper.ROW.size)
    for used in (-1, 7 * BLOCK):
        assert saved(tmp_path, [b"file"], room=6 * BLOCK, used=used)[0] == 0
    assert saved(tmp_path, [b"file"], first=-1)[0] == 0
    assert saved(tmp_path, [b"file"], first=9)[0] == 0
    assert saved(tmp_path, [b"file"] * 300)[0] == 256
    assert saved(tmp_path, [b"file"] * 9, reserve=BUFFER - 7 * BLOCK)[0] == 2


def test_what_is_no_place_is_refused() -> None:
    """A mistake of the caller is an error, and no byte beyond the buffer is read."""
    compiled = helper.quick()
    assert compiled is not None
    for low, high in ((-1, 10), (11, 10), (0, 4097)):
        with pytest.raises(ValueError, match="not within the buffer"):
            compiled.span(memoryview(bytes(4096)), low, high, b"")
    assert compiled.span(memoryview(bytes(4096)), 0, 4096, b"") == (0, [])


def restored(
    data: bytes,
    where: Path,
    existing: Existing = Existing.OVERWRITE,
    targets: tuple[bytes, bytes] = (b"/", b""),
) -> tuple[object, ...]:
    """All that comes of a restore, with the tree that is there afterwards."""
    where.mkdir(exist_ok=True)
    seen = Recorder()
    why = ""
    with directory(where) as root:
        source, path = targets
        reader = MemberReader(source_of(data, 300_000), checking=True)
        options = ExtractOptions(devices=False, existing=existing)
        extractor = Extractor(reader, [Target(source, root, path)], seen, options)
        try:
            extractor.run()
        except DamagedArchiveError as error:
            why = str(error)
    return vars(extractor.result), seen.problems, seen.done, why, manifest(where, directory_times=not why)


def afresh(
    where: Path, do: Callable[[], tuple[object, ...]], before: Callable[[], object] = lambda: None
) -> object:
    """The same, in a directory that is new."""
    shutil.rmtree(where, ignore_errors=True)
    where.mkdir()
    where.chmod(0o755)
    before()
    return do()


@pytest.mark.parametrize("seed", range(3))
def test_restores_are_the_same(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files with data, owners, modes and times, and the order in which they are told."""
    make_ordinary(tmp_path / "in", random.Random(seed))
    data = image(tmp_path / "in")
    out = tmp_path / "out"
    python, compiled = both(monkeypatch, lambda: afresh(out, lambda: restored(data, out)))
    assert compiled == python


@pytest.mark.parametrize("existing", Existing)
def test_what_is_there_is_treated_the_same(
    existing: Existing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that is taken, by a file, a link, a FIFO or a directory, by each policy."""
    chance = random.Random(5)
    for name in "abcdefgh":
        (tmp_path / "in" / "d").mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / "d" / name).write_bytes(b"new" + name.encode())
    data = image(tmp_path / "in")
    out = tmp_path / "out"

    def take() -> None:
        (out / "d").mkdir()
        (out / "d" / "b").write_bytes(b"old")
        os.utime(out / "d" / "b", ns=(1, 1))
        (out / "d" / "d").symlink_to(tmp_path / "secret")
        os.mkfifo(out / "d" / "f")
        (out / "d" / "g").mkdir()
        (out / "d" / "h").write_bytes(b"newer")
        os.utime(out / "d" / "h", ns=(2**61, 2**61))

    (tmp_path / "secret").write_bytes(b"secret")
    python, compiled = both(
        monkeypatch, lambda: _steady(afresh(out, lambda: restored(data, out, existing), take))
    )
    assert compiled == python
    assert (tmp_path / "secret").read_bytes() == b"secret"
    assert chance


def _steady(found: object) -> object:
    """A result without the times of directories, which differ where the restore left them alone."""
    assert isinstance(found, tuple)
    tree = {path: what for path, what in found[-1].items() if not what[0].startswith("0o4")}
    return [repr(value) for value in found[:-1]], {
        path: what for path, what in tree.items() if what[0].startswith("0o100")
    }


@pytest.mark.parametrize(
    ("source", "path"), [(b"/below", b"here/there"), (b"/below/f1", b"one"), (b"/", b"x")]
)
def test_targets_are_kept_to(
    source: bytes, path: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a directory whose files go to several places, or nowhere, each goes where it was asked for."""
    for number in range(12):
        (tmp_path / "in" / "below").mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / "below" / f"f{number}").write_bytes(bytes([number]) * 600)
        (tmp_path / "in" / f"g{number}").write_bytes(bytes([number]) * 600)
    data = image(tmp_path / "in")
    out = tmp_path / "out"
    python, compiled = both(
        monkeypatch, lambda: afresh(out, lambda: restored(data, out, targets=(source, path)))
    )
    assert _steady(compiled) == _steady(python)


def test_a_file_of_a_directory_that_is_asked_for_twice_comes_twice(tmp_path: Path) -> None:
    """Its neighbours come once."""
    for number in range(9):
        (tmp_path / "in" / "d").mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / "d" / f"{number}").write_bytes(bytes([number]))
    (tmp_path / "out").mkdir()
    with directory(tmp_path / "out") as root:
        targets = [Target(b"/d", root, b"all"), Target(b"/d/5", root, b"five", entry=1)]
        Extractor(MemberReader(source_of(image(tmp_path / "in"))), targets, Recorder()).run()
    assert len(list((tmp_path / "out" / "all").iterdir())) == 9
    assert (tmp_path / "out" / "five").read_bytes() == b"\5"


def test_acls_that_a_directory_hands_down_are_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files of a directory with a default ACL come without it, as they were."""
    (tmp_path / "in" / "d").mkdir(parents=True)
    for number in range(9):
        (tmp_path / "in" / "d" / f"{number}").touch(mode=0o640)
    data = image(tmp_path / "in")
    out = tmp_path / "out"
    acl = bytes.fromhex(
        "0200000001000700ffffffff02000700d204000004000500ffffffff10000700ffffffff20000500ffffffff"
    )

    def bequeath() -> None:
        (out / "d").mkdir()
        if not try_xattr(out / "d", DEFAULT_ATTRIBUTE, acl):
            pytest.skip("this file system has no ACLs")

    python, compiled = both(monkeypatch, lambda: _steady(afresh(out, lambda: restored(data, out), bequeath)))
    assert compiled == python
    assert "system.posix_acl_access" not in os.listxattr(out / "d" / "5")


@contextlib.contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Writing more than `size` bytes to a file fails (setrlimit(2); Python ignores the signal)."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_file_that_cannot_be_written_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those before and behind it are there, it is told, and no half of it is left."""
    (tmp_path / "in").mkdir()
    for number in range(9):
        (tmp_path / "in" / f"{number}").write_bytes(bytes(9000 if number == 5 else 100))
    data = image(tmp_path / "in")
    out = tmp_path / "out"

    def run() -> tuple[object, ...]:
        with largest_file(5000):
            return restored(data, out)

    python, compiled = both(monkeypatch, lambda: _steady(afresh(out, run)))
    assert compiled == python
    assert sorted(path.name for path in out.iterdir()) == list("01234678")


@pytest.fixture(scope="module")
def ordinary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the image of few and small files, most of which are ordinary."""
    root = tmp_path_factory.mktemp("ordinary")
    (root / "d").mkdir()
    for number in range(10):
        (root / "d" / f"file{number}").write_bytes(bytes([number]) * (number * 100))
        os.utime(root / "d" / f"file{number}", ns=(10**18 + number, 10**18 + number * (number % 2)))
    file = root / "image"
    file.write_bytes(image(root))
    return file


FIELDS = [
    0,
    90,
    100,
    108,
    116,
    124,
    136,
    148,
    154,
    156,
    157,
    257,
    263,
    265,
    329,
    345,
    500,
    512,
    521,
    531,
    541,
    560,
]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    where=st.integers(0, 39),
    field=st.one_of(st.sampled_from(FIELDS), st.integers(0, 3 * BLOCK)),
    value=st.one_of(
        st.binary(min_size=1, max_size=8), st.sampled_from([b"../x", b"/etc", b"./", b"..", b"7777777"])
    ),
    mend=st.booleans(),
)
@example(where=25, field=0, value=b"../", mend=True)
def test_forged_headers_are_read_the_same(
    ordinary: Path,
    where: int,
    field: int,
    value: bytes,
    mend: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """What the helper takes of a forged archive has the same outcome as what Python takes."""
    data = forged(ordinary.read_bytes(), where, field, value, mend)
    out = tmp_path_factory.getbasetemp() / "forged"
    with pytest.MonkeyPatch.context() as patch:
        python, compiled = both(patch, lambda: _steady(afresh(out, lambda: restored(data, out))))
    assert compiled == python


def forged(data: bytes, where: int, field: int, value: bytes, mend: bool) -> bytes:
    """An image with other bytes from one of its blocks on; `mend`: with the block's checksum made right."""
    at = where * BLOCK + field
    made = bytearray(data)
    made[at : at + len(value)] = value
    if mend:
        start = at // BLOCK * BLOCK
        block = made[start : start + BLOCK]
        total = sum(block[:148]) + sum(block[156:]) + 8 * 0x20
        made[start + 148 : start + 156] = b"%06o\0 " % total
    return bytes(made)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    where=st.integers(0, 39),
    field=st.integers(0, 3 * BLOCK),
    value=st.binary(min_size=1, max_size=8),
    mend=st.booleans(),
)
def test_a_span_is_of_members_that_python_reads(
    ordinary: Path, where: int, field: int, value: bytes, mend: bool
) -> None:
    """Each place in it is one at which the reader finds a sound member of that directory."""
    data = forged(ordinary.read_bytes(), where, field, value, mend)
    compiled = helper.quick()
    assert compiled is not None
    places = {}
    with contextlib.suppress(DamagedArchiveError):
        for item in MemberReader(source_of(data)):
            if not isinstance(item, GlobalHeader):
                places[item.offset] = item.offset + len(item.raw) + item.data_length, item.name
    for start, (_, name) in list(places.items()):
        base = name.rpartition(b"/")[0] + b"/" if b"/" in name else b""
        end, found = compiled.span(memoryview(data), start, len(data), base)
        assert all(
            place in places and places[place][1].rpartition(b"/")[0] == base.rstrip(b"/") for place in found
        )
        assert not found or places[found[-1]][0] == end


@given(
    files=st.lists(
        st.tuples(
            st.binary(min_size=1, max_size=40),
            st.integers(1, 2**63),
            st.tuples(*[st.integers(0, 2**40)] * 3, st.integers(0, 2**33 * 10**9), st.just(0),
                      st.integers(0, 0o7777), *[st.integers(0, 2**32 - 1)] * 2),
        ),
        max_size=5,
    ),
    with_path=st.booleans(),
)  # fmt: skip
def test_history_of_many_is_that_of_each(
    files: list[tuple[bytes, int, tuple[int, ...]]], with_path: bool
) -> None:
    """Entries made of rows are those made one by one, also where a number has 32 bits only."""
    wanted = []
    for path, node, (offset, inode, size, mtime, _, mode, uid, gid) in files:
        times = 0, mtime // 10**9, 0, 0.0, float(mtime // 10**9), 0.0
        status = os.stat_result((0o100000 | mode, inode, 0, 1, uid, gid, size, *times))
        wanted.append(node_entry(FileType.REG, status, node, offset, path if with_path else None))
    rows = [(path if with_path else None, node, row) for path, node, row in files]
    assert regular_entries(rows) == wanted


def test_without_the_helper_all_is_done_in_python(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A product that was installed without a compiler saves and restores."""
    monkeypatch.setattr(helper, "_quick", None)
    assert helper.quick() is None
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "file").write_bytes(b"data")
    assert extract(image(tmp_path / "in"), tmp_path / "out").files == 2
    assert (tmp_path / "out" / "file").read_bytes() == b"data"


def test_nothing_is_kept_of_what_was_done(tmp_path: Path) -> None:
    """Objects made for thousands of files are gone when the caller lets go of them."""
    for number in range(100):
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / f"ü{number}").write_bytes(bytes(number))
    names: list[bytes | None] = [f"ü{number}".encode() for number in range(100)]
    data = image(tmp_path / "in")

    def work() -> int:
        assert saved(tmp_path / "in", names)[0] == 100
        for name in list((tmp_path / "out").glob("*")):
            name.unlink()
        assert extract(data, tmp_path / "out").files == 101
        gc.collect()
        return sys.getallocatedblocks()

    (tmp_path / "out").mkdir()
    work()
    before = min(work() for _ in range(3))
    assert min(work() for _ in range(10)) < before + 100
