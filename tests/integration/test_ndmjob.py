"""A foreign DMA, ndmjob (Debian: amanda-common), against the whole system in the process lab.

It knows nothing of a cluster: to it a file server is one NDMP data server, the media server one tape
server with a robot.  What it restored is judged by reading both trees here, without the product's code.
Its exit code is 0 whatever happens; what counts are its words.
"""

from __future__ import annotations

import hashlib
import os
import random
import re
import shutil
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.labrun import Lab, apart

NDMJOB = Path("/usr/lib/amanda/ndmjob")
JOB_S = 180
OKAY = "Operation ended OKAY"
# Apart from the labs of `make integration` and `make scenarios`, which run at the same time.
SUBNET = "127.76.0."
BLOCKS_OF_512 = "126"
RESTORED = b"/restored"

# ndmjob keeps 31 bytes of a password and has its own meaning for none of these signs.
PASSWORD = "a b\"c\\d#e=f%g$h`i/j'k:l@m&n"

pytestmark = [
    pytest.mark.process_lab,
    pytest.mark.skipif(not NDMJOB.exists(), reason="ndmjob is not installed (Debian: amanda-common)"),
    # It writes its debug log to amanda's folder and aborts where it may not.
    pytest.mark.skipif(os.geteuid() != 0, reason="ndmjob runs as root or as user backup only"),
]


@dataclass(frozen=True)
class Witness:
    """A running lab as ndmjob sees it."""

    info: dict[str, Any]
    folder: Path

    def agent(self, name: str, version: int = 4) -> str:
        """A node in ndmjob's words: version, MD5."""
        node = next(each for each in self.info["nodes"] if each["name"] == name)
        user, password = node["ndmp_user"], node["ndmp_password"]
        return f"{node['address']}:{node['ndmp_port']}/{version}m,{user},{password}"

    @property
    def drive(self) -> str:
        """The drive's NDMP device name."""
        return str(self.info["tape"]["drives"][0]["ndmp_device"])

    def run(self, *words: str) -> str:
        """What ndmjob says to a command line."""
        done = subprocess.run(
            [NDMJOB, *words], cwd=self.folder, capture_output=True, timeout=JOB_S, check=False
        )
        return (done.stdout + done.stderr).decode("utf-8", "replace")

    def robot(self, *words: str) -> str:
        """A command to the robot."""
        media = self.agent(self.info["tape"]["node"])
        changer = self.info["tape"]["changer"]["ndmp_device"]
        return self.run("-v", *words, "-R", media, "-r", changer, "-T", media, "-f", self.drive)

    def job(self, entry: str, *words: str, butype: str = "tar") -> str:
        """A backup or restore through the file server `entry`, on the loaded cartridge."""
        media = self.agent(self.info["tape"]["node"])
        agents = ("-D", self.agent(entry), "-T", media, "-f", self.drive)
        return self.run("-v", *words, *agents, "-B", butype, "-b", BLOCKS_OF_512)

    def places(self) -> list[tuple[bytes, Path]]:
        """Global and local path of every part."""
        return [(each["global_path"].encode(), Path(each["local_path"])) for each in self.info["gns"]]

    def seed(self) -> None:
        """Files of many kinds on every owner."""
        for number, (path, local) in enumerate(self.places()):
            if not _is_below(path, RESTORED):
                _fill(local, random.Random(number))

    def clear(self) -> None:
        """Empty the parts that are restored into: what is there afterwards was restored."""
        for path, local in self.places():
            if _is_below(path, RESTORED):
                for each in local.iterdir():
                    shutil.rmtree(each) if each.is_dir() and not each.is_symlink() else each.unlink()

    def tree(self, root: bytes) -> dict[bytes, tuple[Any, ...]]:
        """Everything at or below a global path, relative to it, as its owners have it."""
        junctions = {path for path, _ in self.places()}
        found: dict[bytes, tuple[Any, ...]] = {}
        for path, local in self.places():
            for name, facts in _walk(local):
                whole = path + name
                # What lies below another junction is hidden by it.
                hidden = any(_is_below(whole, each) and _is_below(each, path) for each in junctions - {path})
                if _is_below(whole, root) and not hidden:
                    found[whole[len(root.rstrip(b"/")) :]] = facts
        return found


def _is_below(path: bytes, top: bytes) -> bool:
    return path == top or path.startswith(top.rstrip(b"/") + b"/")


def _fill(top: Path, rng: random.Random) -> None:
    folder = top / os.fsdecode(b"d\xfc\xffr") / ("n" * 120) / "deep"
    folder.mkdir(parents=True)
    (top / "empty").mkdir()
    for number in range(40):
        path = folder / str(number)
        path.write_bytes(rng.randbytes(rng.randrange(0, 40_000)))
        path.chmod(rng.choice([0o600, 0o644, 0o755, 0o4750]))
        os.utime(path, ns=(0, rng.randrange(10**18, 2 * 10**18)))
    (top / "large").write_bytes(rng.randbytes(3_000_000))
    with (top / "sparse").open("wb") as file:
        file.seek(5_000_000)
        file.write(b"end")
    (folder / "linked").hardlink_to(top / "large")
    (top / "sym").symlink_to(os.fsdecode(b"../\xff/nowhere"))
    os.mkfifo(top / "fifo")
    os.utime(folder, ns=(0, 10**18 + 7))


def _walk(top: Path) -> Iterator[tuple[bytes, tuple[Any, ...]]]:
    """Path below `top`, with a slash in front, and what is there."""
    yield b"", _facts(top)
    for path in top.rglob("*"):
        yield b"/" + bytes(path.relative_to(top)), _facts(path)


def _facts(path: Path) -> tuple[Any, ...]:
    """Kind, mode, owner, time, content, number of links."""
    status = path.lstat()
    content = ""
    if stat.S_ISREG(status.st_mode):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
    elif stat.S_ISLNK(status.st_mode):
        content = str(path.readlink())
    links = 0 if stat.S_ISDIR(status.st_mode) else status.st_nlink
    return (status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns, content, links)


@pytest.fixture(scope="module")
def witness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Witness]:
    """A seeded process lab with a cartridge in the first drive."""
    state = tmp_path_factory.mktemp("state")
    lab = Lab(apart(state, SUBNET), "test-ndmjob", state)
    secrets = lab.state / "spanreel" / "labs" / lab.name / "secrets"
    secrets.mkdir(parents=True, mode=0o700)
    (secrets / "ndmp.password").write_text(PASSWORD)
    (secrets / "ndmp.password").chmod(0o600)
    try:
        up = lab.lab("up")
        assert up.code == 0, up.out + up.err
        made = Witness(lab.lab("info", "--json").json(), tmp_path_factory.mktemp("ndmjob"))
        made.seed()
        slot = made.info["tape"]["slots"][0]["address"]
        assert "Operation complete" in made.robot("-o", f"load={slot}")
        yield made
    finally:
        lab.lab("down")


def comparable(tree: dict[bytes, Any]) -> dict[bytes, Any]:
    """A tree without its root, and without what was restored into it."""
    return {path: facts for path, facts in tree.items() if path and not _is_below(path, RESTORED)}


@pytest.mark.parametrize(("saved_by", "restored_by"), [("fs1", "fs2"), ("fs2", "fs1")])
def test_a_full_backup_and_a_restore(witness: Witness, saved_by: str, restored_by: str) -> None:
    """A foreign DMA saves "/" through one file server and restores it through the other: equal trees."""
    index = f"full-{saved_by}"
    said = witness.job(saved_by, "-c", "-C", "/", "-I", index)
    assert OKAY in said, said
    witness.clear()
    assert comparable(witness.tree(RESTORED)).keys() == {b"/home"}
    said = witness.job(restored_by, "-x", "-C", "/restored", "-J", index)
    assert OKAY in said, said
    before = comparable(witness.tree(b"/"))
    after = comparable(witness.tree(RESTORED))
    assert len(before) > 4 * 45
    assert after == before


@pytest.mark.parametrize("change", ["content", "time", "mode", "gone"])
def test_the_judge_sees_a_difference(tmp_path: Path, change: str) -> None:
    """One flipped byte, one nanosecond, one bit of a mode, one missing file: the trees are not equal."""
    (tmp_path / "file").write_bytes(b"content")
    os.utime(tmp_path / "file", ns=(0, 10**18))
    before = dict(_walk(tmp_path))
    if change == "content":
        (tmp_path / "file").write_bytes(b"cOntent")
    elif change == "mode":
        (tmp_path / "file").chmod(0o640)
    elif change == "gone":
        (tmp_path / "file").rename(tmp_path / "other")
    os.utime(next(tmp_path.iterdir()), ns=(0, 10**18 + (change == "time")))
    assert dict(_walk(tmp_path)) != before


def test_the_index_has_every_name_and_no_local_path(witness: Witness) -> None:
    """File history names each file once, by global path; nothing that ndmjob heard holds a local root."""
    said = witness.job("fs1", "-c", "-C", "/projects", "-I", "names", "-vvvvvvvv")
    assert OKAY in said
    index = (witness.folder / "names").read_text()
    names = [line.split()[1] for line in index.splitlines() if line.startswith("DHf ")]
    assert len(set(names)) == len(names) == len(witness.tree(b"/projects"))
    for node in witness.info["nodes"]:
        if node["local_root"]:
            assert Path(node["local_root"]).name not in said + index


def test_single_files_and_a_name_that_is_not_there(witness: Witness) -> None:
    """One file as it was called, one under a new name on another owner; a missing name is said to be."""
    assert OKAY in witness.job("fs2", "-c", "-C", "/", "-I", "single")
    witness.clear()
    said = witness.job(
        "fs1", "-x", "-C", "/restored/home", "-J", "single", "/projects/large", "/new/copy=/software/large"
    )
    assert OKAY in said
    assert "LOG_FILE messages: 2 OK, 0 ERROR, total 2 of 2" in said
    home, source = witness.tree(RESTORED + b"/home"), witness.tree(b"/")
    assert home[b"/projects/large"][4] == source[b"/projects/large"][4]
    assert home[b"/new/copy"][4] == source[b"/software/large"][4]
    said = witness.job("fs1", "-x", "-C", "/restored/home", "-J", "single", "/projects/nowhere")
    assert "LOG_FILE messages: 0 OK, 1 ERROR, total 1 of 1" in said


def names_by_node(index: str) -> set[str]:
    """The paths of an index in node form, put together from its root (DHr), names (DHd) and nodes (DHn)."""
    lines = [line.split() for line in index.splitlines()]
    (root,) = {line[1] for line in lines if line[0] == "DHr"}
    nodes = {line[1] for line in lines if line[0] == "DHn"}
    inside: dict[str, list[tuple[str, str]]] = {}
    for line in lines:
        if line[0] == "DHd":
            _, above, name, _, node = line
            inside.setdefault(above, []).append((name, node))
    found, waiting = {"/"} if f"{root}" in nodes else set(), [("", root)]
    while waiting:
        path, node = waiting.pop()
        for name, below in inside.get(node, ()):
            if name not in (".", ".."):
                waiting.append((f"{path}/{name}", below))
                found |= {f"{path}/{name}"} if below in nodes else set()
    return found


def test_both_types_give_the_same_names(witness: Witness) -> None:
    """An index of type dump (by node) leads to the same paths as one of type tar (by path)."""
    assert OKAY in witness.job("fs1", "-c", "-C", "/", "-I", "by-path")
    assert OKAY in witness.job("fs2", "-c", "-C", "/", "-I", "by-node", butype="dump")
    by_path = (witness.folder / "by-path").read_text()
    by_node = (witness.folder / "by-node").read_text()
    assert {line.split()[1] for line in by_path.splitlines() if line.startswith("DHf ")} == names_by_node(
        by_node
    )
    assert "DHf " not in by_node


@pytest.mark.parametrize("butype", ["tar", "dump"])
def test_one_file_by_index(witness: Witness, butype: str) -> None:
    """A foreign DMA finds a file of another owner's part in either form of index, and has it restored."""
    index = f"one-{butype}"
    assert OKAY in witness.job("fs1", "-c", "-C", "/", "-I", index, butype=butype)
    witness.clear()
    name = "/projects/media/large"
    said = witness.job("fs2", "-x", "-C", "/restored/home", "-J", index, name, "-vvvvvvvv", butype=butype)
    assert OKAY in said, said
    # What it found in its index: the place in the image.
    assert re.search(rf"fil\[0\] fi=[1-9]\d* {name}", said)
    assert "LOG_FILE messages: 1 OK, 0 ERROR, total 1 of 1" in said
    assert witness.tree(b"/restored/home" + name.encode())[b""][4] == witness.tree(name.encode())[b""][4]


def test_exclude_is_honoured(witness: Witness) -> None:
    """What `-e` names, one variable each, is in neither history nor image."""
    said = witness.job("fs1", "-c", "-C", "/home", "-I", "some", "-e", "large", "-e", "/spa*", butype="dump")
    assert OKAY in said, said
    names = names_by_node((witness.folder / "some").read_text())
    assert {"/large", "/sparse", "/sym"} & names == {"/sym"}


def read_kib(said: str) -> int:
    """How much the mover had read when ndmjob last looked."""
    return int(re.findall(r"MOVER: read (\d+)KB", said)[-1])


def test_a_single_file_and_a_directory_by_their_index(witness: Witness) -> None:
    """With `-E DIRECT=y` a file costs some records, and a directory is whole.

    By itself ndmjob sends no DIRECT, and has the whole image read; it gives no table of parts back, so that
    a directory costs what is behind it.
    """
    assert OKAY in witness.job("fs1", "-c", "-C", "/", "-I", "direct")
    source = witness.tree(b"/")
    restore = ("-x", "-C", "/restored/home", "-J", "direct", "-E", "DIRECT=y")
    witness.clear()
    said = witness.job("fs2", *restore, "/projects/large")
    assert OKAY in said, said
    assert "LOG_FILE messages: 1 OK, 0 ERROR, total 1 of 1" in said
    assert witness.tree(RESTORED + b"/home")[b"/projects/large"][4] == source[b"/projects/large"][4]
    assert read_kib(said) < 3_000_000 // 1024 + 2 * 64
    scanned = witness.job("fs2", *restore[:-2], "/projects/large")
    assert read_kib(scanned) > 2 * read_kib(said)
    witness.clear()
    said = witness.job("fs2", *restore, "/projects")
    assert OKAY in said, said
    assert "LOG_FILE messages: 1 OK, 0 ERROR, total 1 of 1" in said
    found = witness.tree(RESTORED + b"/home")
    whole = {path: facts for path, facts in source.items() if _is_below(path, b"/projects")}
    assert len(whole) > 2 * 45
    assert {path: facts for path, facts in found.items() if _is_below(path, b"/projects")} == whole


def test_a_name_of_a_linked_file_by_its_index(witness: Witness) -> None:
    """The index has the place of the data for each name: the second name alone brings it."""
    assert OKAY in witness.job("fs2", "-c", "-C", "/projects", "-I", "linked")
    witness.clear()
    name = b"/d\xfc\xffr/" + b"n" * 120 + b"/deep/linked"
    words = ("-C", "/restored/home", "-J", "linked", "-E", "DIRECT=y")
    said = witness.job("fs1", "-x", *words, os.fsdecode(name))
    assert OKAY in said, said
    assert "LOG_FILE messages: 1 OK, 0 ERROR, total 1 of 1" in said
    facts = witness.tree(RESTORED + b"/home")[name]
    assert facts[4] == witness.tree(b"/projects")[name][4]


def test_with_the_data_server_listening(witness: Witness) -> None:
    """The other direction of connecting: the mover comes to the connection server, for both jobs."""
    assert OKAY in witness.job("fs2", "-c", "-C", "/home", "-I", "swapped", "-o", "swap-connect")
    said = witness.job("fs1", "-x", "-C", "/restored/swapped", "-J", "swapped", "-o", "swap-connect")
    assert OKAY in said, said
    after = {path: facts for path, facts in witness.tree(RESTORED + b"/swapped").items() if path}
    assert after == {path: facts for path, facts in witness.tree(b"/home").items() if path}


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("-c", "-C", "/nobody", "-I", "none"), "no file server owns anything at /nobody"),
        (("-x", "-C", "/nobody"), "no file server owns /nobody"),
    ],
    ids=["backup", "restore"],
)
def test_what_nobody_owns_is_refused_in_words(witness: Witness, words: tuple[str, ...], reason: str) -> None:
    """The DMA's log has the reason, and the next job runs."""
    said = witness.job("fs1", *words)
    assert OKAY not in said
    assert reason in said
    assert OKAY in witness.job("fs1", "-c", "-C", "/projects/media", "-I", "next")


@pytest.mark.parametrize("entry", ["fs1", "fs2"])
def test_the_data_server_passes_its_conformance_test(witness: Witness, entry: str) -> None:
    """`-o test-data`: every step of the IDLE and LISTEN series, legal and illegal arguments."""
    said = witness.run("-v", "-o", "test-data", "-D", witness.agent(entry), "-B", "tar")
    assert re.search(r"FINAL test-data Passed -- pass=1\d warn=0 fail=0", said), said


def test_a_wrong_password(witness: Witness) -> None:
    """A foreign DMA is not let in, and says so."""
    agent = witness.agent("fs1").replace(PASSWORD, "wrong")
    assert "connect-auth-md5-failed" in witness.run("-q", "-D", agent)
    assert "connect-auth" not in witness.run("-q", "-D", witness.agent("fs1"))


def test_contents_are_read_from_tape(witness: Witness) -> None:
    """`-t` has the file history rebuilt from the image: the same names, at the same places but for links."""
    assert OKAY in witness.job("fs1", "-c", "-C", "/", "-I", "saved")
    said = witness.job("fs2", "-t", "-I", "rebuilt")
    assert OKAY in said, said

    def places(name: str) -> dict[str, str]:
        lines = (line.split() for line in (witness.folder / name).read_text().splitlines())
        return {line[1]: line[-1] for line in lines if line[0] == "DHf"}

    saved, rebuilt = places("saved"), places("rebuilt")
    assert rebuilt.keys() == saved.keys()
    assert len(saved) > 4 * 45
    assert {path for path in saved if saved[path] != rebuilt[path]} <= {
        p for p in saved if p.endswith("/linked")
    }
