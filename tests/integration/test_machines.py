"""The provider `machines`, for real: an SSH server of this machine, roles under addresses of their own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests import sshmachines
from tests.labrun import Finished, Lab
from tests.sshmachines import Sshd

pytestmark = [
    pytest.mark.process_lab,
    pytest.mark.skipif(bool(sshmachines.missing()), reason=sshmachines.missing()),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    """One SSH server for all tests here."""
    with sshmachines.sshd(tmp_path_factory.mktemp("sshd")) as running:
        yield running


def tree(folder: Path) -> list[str]:
    """Every name below a folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_the_main_job_passes_on_machines_reached_by_ssh(server: Sshd, tmp_path: Path) -> None:
    """`spanreel lab run` deploys the product by SSH, passes the main job, leaves the lease's file only."""
    machine, data = tmp_path / "machine", tmp_path / "disk"
    data.mkdir()
    file = tmp_path / "room.yaml"
    file.write_text(
        server.topology(
            "room", f"{{base: {machine}/base, data: {data}, leases: {machine}/leases, service: process}}"
        )
    )
    machine.mkdir()
    lab = Lab(str(file), "test-machines", tmp_path / "state")
    try:
        done = lab.lab("run", timeout=900)
    finally:
        down = lab.lab("down")
    report = lab.report()
    outcomes = {check["name"]: check["status"] for check in report["checks"]}
    assert done.code == 0, done.out + done.err
    assert set(outcomes.values()) <= {"passed", "left-out"}
    assert outcomes["one backup channel through fs2"] == "passed"
    assert outcomes["local roots are not in the backup server's NDMP traffic"] == "passed"
    assert sum(status == "passed" for status in outcomes.values()) >= 18
    assert down.code == 0
    assert tree(data) == []
    assert tree(machine) == ["leases", "leases/LABLIB0001.json", "leases/lock"]
    assert processes_with(str(machine)) == []
    newest = max((lab.state / "spanreel/labs/test-machines/runs").iterdir())
    assert "ready media-server" in (newest / "journals/media1.log").read_text()


def test_two_harness_hosts_never_have_one_library(server: Sshd, tmp_path: Path) -> None:
    """Who comes second hears who holds the library, or waits for it and then has it."""
    base = tmp_path / "machine"
    file = tmp_path / "room.yaml"
    file.write_text(server.topology("room", f"{{base: {base}, leases: {tmp_path}/leases, service: process}}"))
    one, two = (Lab(str(file), "test-two", tmp_path / host) for host in ("one", "two"))
    taken = lease(one, "take")
    assert taken.code == 0, taken.err
    refused = two.lab("up", "--no-wait")
    assert refused.code == 3
    assert "library LABLIB0001 is held by" in refused.err
    assert "cleaning drive 2" in refused.err
    assert not base.exists()
    with ThreadPoolExecutor(1) as pool:
        up = pool.submit(two.lab, "up")
        try:
            while not lease(one, "list", "--json").json()[0]["waiting"]:
                assert not up.done(), up.result().err
        finally:
            assert "LABLIB0001 is free" in lease(one, "release").out
        try:
            assert up.result().code == 0, up.result().err
            assert "waits, position 1: held by" in up.result().err
            assert "free" in lease(two, "list").out
            assert_a_shell_opens(two)
        finally:
            two.lab("down")
    assert not base.exists()


def assert_a_shell_opens(lab: Lab) -> None:
    """`spanreel lab shell` is on the node, with its configuration; what it ends with is the exit code."""
    shell = lab.lab("shell", "fs2", stdin=b"spanreel gns ls\nexit 7\n")
    assert shell.code == 7, shell.err
    assert "/projects/media" in shell.out


def lease(lab: Lab, verb: str, *words: str) -> Finished:
    """Run `spanreel lab lease VERB` on a lab."""
    more = ("--reason", "cleaning drive 2") if verb == "take" else ()
    which = ("--topology", lab.topology, "--lab", lab.name)
    return lab.spanreel("lab", "lease", verb, *which, *more, *words, timeout=300)


def processes_with(text: str) -> list[str]:
    """Return the command lines of this machine that name something."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if text in words and int(folder.name) != os.getpid():
            found.append(words)
    return found
