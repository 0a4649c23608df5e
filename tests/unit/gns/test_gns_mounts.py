"""Bind mounts: how mountinfo is read, and real mounts in a mount namespace of their own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.gns.mounts import is_bound_to_itself, parse_mountinfo

CHECKOUT = Path(__file__).resolve().parents[3]

MOUNTINFO = rb"""84 60 254:0 / / rw - ext4 /dev/vda rw
90 84 254:0 /srv/gns/a\040b /srv/gns/a\040b rw shared:1 - ext4 /dev/vda rw
91 84 254:0 /data/b /srv/gns/b rw - ext4 /dev/vda rw
92 91 254:0 /data/b/\134x /srv/gns/b/\134x rw - ext4 /dev/vda rw
93 84 254:1 /srv/gns/c /srv/gns/c rw - ext4 /dev/vdb rw
"""


def test_mountinfo_is_read_with_its_escapes_and_tells_self_binds() -> None:
    """A directory bound to itself is known, also inside another bind; other binds are not taken for it."""
    mounts = parse_mountinfo(MOUNTINFO)
    assert mounts[1].point == b"/srv/gns/a b"
    assert mounts[3].point == rb"/srv/gns/b/\x"
    assert [is_bound_to_itself(each, mounts) for each in mounts] == [False, True, False, True, False]


def test_mountinfo_tells_what_is_mounted_and_whether_all_of_it_is_read_only() -> None:
    """Whatever optional fields stand before; a read-only mount of a writable file system is not meant."""
    lines = b"""91 84 0:40 /@ /data ro shared:1 master:2 - btrfs /dev/mapper/a\\040b rw,subvolid=256
92 84 0:41 / /other rw - btrfs /dev/vdc ro,space_cache=v2
"""
    mounts = parse_mountinfo(lines)
    assert [(each.kind, each.source) for each in mounts] == [
        (b"btrfs", b"/dev/mapper/a b"),
        (b"btrfs", b"/dev/vdc"),
    ]
    assert [each.is_read_only for each in mounts] == [False, True]


def _can_unshare() -> bool:
    try:
        return subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


needs_mounts = pytest.mark.skipif(
    not _can_unshare(), reason="needs the right to make a mount namespace (root)"
)

PROLOGUE = """
import os, sys
from pathlib import Path
from appliance.gns.mounts import parse_mountinfo, reconcile
from appliance.gns.nfs_plan import Mount
from appliance.errors import InfrastructureError

base = Path(sys.argv[1])
top, one, two = base / "top", base / "one", base / "two"
for each in (top, one, two):
    each.mkdir()
(one / "in-one").touch()
(two / "in-two").touch()

def show(*wanted):
    reconcile(bytes(top), [Mount(position, source and bytes(source)) for position, source in wanted])

def mounts():
    below = [each for each in parse_mountinfo(Path("/proc/self/mountinfo").read_bytes())
             if each.point.startswith(bytes(top) + b"/")]
    return {each.point.removeprefix(bytes(top)): each.number for each in below}, len(below)
"""


@pytest.fixture
def in_namespace(tmp_path: Path) -> Callable[[str], None]:
    """Return a function that runs Python with real mounts that nobody else sees."""

    def run(program: str) -> None:
        command = ["unshare", "-m", sys.executable, "-c", PROLOGUE + program, str(tmp_path)]
        process = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
        assert process.returncode == 0, process.stderr

    return run


@needs_mounts
def test_mounts_become_what_is_wanted_and_stay(in_namespace: Callable[[str], None]) -> None:
    """Own parts show their files, a stranger's part inside gets its mount point, again changes nothing."""
    in_namespace("""
wanted = [(b"/a", one), (b"/a/x/\\xff", None), (b"/way/to/b", two), (b"/r", None)]
show(*wanted)
assert (top / "a/in-one").exists() and (top / "way/to/b/in-two").exists()
assert (one / os.fsdecode(b"x/\\xff")).is_dir()
first = mounts()
assert set(first[0]) == {position for position, _ in wanted} and first[1] == 4
show(*wanted)
assert mounts() == first
""")


@needs_mounts
def test_only_what_changed_is_mounted_anew(in_namespace: Callable[[str], None]) -> None:
    """After a move, the moved part and what is inside are new, others untouched, the gone are gone."""
    in_namespace("""
show((b"/a", one), (b"/a/x", None), (b"/keep", two), (b"/gone/deep", None))
before, _ = mounts()
# As long as it is held, no other mount gets its number.
held = os.open(top / "keep", os.O_PATH)
show((b"/a", two), (b"/a/x", None), (b"/keep", two))
after, count = mounts()
assert count == 3 and set(after) == {b"/a", b"/a/x", b"/keep"}
assert after[b"/keep"] == before[b"/keep"]
assert (top / "a/in-two").exists() and not (top / "gone").exists()
show((b"/a", None), (b"/keep", two))
assert not (top / "a/in-two").exists() and mounts()[1] == 2
assert (one / "in-one").exists() and (one / "x").is_dir()
show()
assert mounts() == ({}, 0) and list(top.iterdir()) == []
assert (two / "in-two").exists()
""")


@needs_mounts
def test_a_mount_that_hides_ours_is_cleared_away(in_namespace: Callable[[str], None]) -> None:
    """Whatever was mounted over a part, afterwards the part is there once."""
    in_namespace("""
import subprocess
show((b"/a", one), (b"/a/x", None))
subprocess.run(["mount", "--bind", two, top / "a"], check=True)
for _ in range(2):
    show((b"/a", one), (b"/a/x", None))
    assert (top / "a/in-one").exists() and mounts()[1] == 2
""")


@needs_mounts
def test_a_symbolic_link_in_the_way_is_not_followed(in_namespace: Callable[[str], None]) -> None:
    """A user's link below a part cannot lead a mount, nor a new directory, out of it."""
    in_namespace("""
(one / "link").symlink_to(two)
try:
    show((b"/a", one), (b"/a/link/x", None))
except InfrastructureError as error:
    assert "/a/link/x" in str(error) and str(base) not in str(error)
else:
    raise AssertionError("followed")
assert not (two / "x").exists()
""")


@needs_mounts
def test_a_missing_local_directory_is_named_by_its_global_path(in_namespace: Callable[[str], None]) -> None:
    """The error is for logs that people pass on, so it has no local path."""
    in_namespace("""
try:
    show((b"/a", base / "missing"))
except InfrastructureError as error:
    assert "/a" in str(error) and str(base) not in str(error)
else:
    raise AssertionError("mounted")
""")
