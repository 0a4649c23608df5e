"""The process lab: processes that outlive their command, are found again, and are ended exactly."""

from __future__ import annotations

import _thread
import io
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from harness_support import fast_topology

from harness import lab as labs
from harness import product
from harness.cli import ending_like_ctrl_c
from harness.errors import CommandError, InfrastructureError, TerminatedError
from harness.events import Events, PlainLines
from harness.providers.base import NodeFile
from harness.providers.process import processes
from harness.providers.process.provider import ProcessProvider

# A role that only listens, as `spanreel serve ROLE --config FILE` would.
ROLE = """
import socket, sys, time
if "broken" in open(sys.argv[4]).read():
    sys.exit("spanreel: no such key: broken")
for role in sys.argv[2].split(","):
    print("ready", role, "127.0.0.1:1", flush=True)
time.sleep(600)
"""


@pytest.fixture
def provider(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ProcessProvider]:
    """A process lab whose roles are `ROLE`; everything it started is ended."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(product, "argv", lambda *words: [sys.executable, "-c", ROLE, *words])
    topology = fast_topology(tmp_path)
    lab = labs.create("unit", topology)
    # Apart from any process lab that may run on this machine.
    lab.subnet = "127.77.201.0/24"
    lab.save()
    made = ProcessProvider(lab.topology(), lab, Events())
    yield made
    made.down()


def again(provider: ProcessProvider) -> ProcessProvider:
    """The provider that the next command would make."""
    lab = labs.load(provider.lab.name)
    assert lab is not None
    return ProcessProvider(lab.topology(), lab, Events())


def started(provider: ProcessProvider, name: str) -> processes.Started:
    """A remembered process."""
    return processes.Started(**provider.lab.provider_data["processes"][name])


def start(provider: ProcessProvider, node: str, config: bytes = b"") -> None:
    """Configure and start one node."""
    found = provider.topology.node(node)
    provider.install(found, [NodeFile(provider.paths(found).config, config)])
    provider.start(found)


def test_next_command_finds_and_ends_the_processes(provider: ProcessProvider) -> None:
    """A role started by one command runs on, is found by the next one, and `down` ends exactly it."""
    provider.check()
    provider.up()
    start(provider, "fs1")
    later = again(provider)
    assert later.alive()["fs1"]
    assert not later.alive()["fs2"]
    process = started(later, "fs1")
    assert os.getsid(process.pid) == process.pid
    relay = started(later, "relay-fs1")
    later.down()
    assert not processes.alive(process)
    assert not processes.alive(relay)
    assert again(provider).lab.provider_data["processes"] == {}


def test_a_reused_process_id_is_never_signalled(provider: ProcessProvider) -> None:
    """A remembered id that now belongs to another process is left alone."""
    stranger = subprocess.Popen(["sleep", "60"])
    try:
        true = processes.Started(
            stranger.pid, 12345, Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        )
        assert not processes.alive(true)
        processes.stop(true)
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_role_that_ends_at_once_is_quoted(provider: ProcessProvider) -> None:
    """The error of a role that does not start is its own last line, and names its log."""
    provider.up()
    with pytest.raises(InfrastructureError, match="no such key: broken") as caught:
        start(provider, "fs1", b"broken")
    assert "console.log" in caught.value.hint


def test_a_port_in_use_is_one_clear_line(provider: ProcessProvider) -> None:
    """An address that somebody else uses is named before anything is started."""
    with socket.create_server(("127.77.201.11", 10000)), pytest.raises(InfrastructureError) as caught:
        provider.check()
    assert "fs1: 127.77.201.11:10000 cannot be used: Address already in use" in caught.value.message
    assert "\n" not in str(caught.value)
    provider.check()


def test_check_names_the_space_that_is_missing(
    provider: ProcessProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too small a disk is refused with both numbers before anything is made."""
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=5 << 20))
    with pytest.raises(InfrastructureError, match="5 MiB free, the process lab needs 8"):
        provider.check()


def test_exec_passes_everything_through(provider: ProcessProvider) -> None:
    """Input, both outputs, exit code and the node's environment pass through."""
    node = provider.topology.node("fs1")
    script = 'cat; echo "$SPANREEL_CONFIG" >&2; exit 7'
    result = provider.run(node, ["sh", "-c", script], stdin=b"in\x00put", check=False)
    assert (result.code, result.stdout) == (7, b"in\x00put")
    assert result.stderr.decode().strip() == provider.paths(node).config
    with pytest.raises(CommandError, match="exit code 7"):
        provider.run(node, ["sh", "-c", script])


def test_exec_ends_what_takes_too_long(provider: ProcessProvider) -> None:
    """A command beyond its time is ended and named."""
    node = provider.topology.node("fs1")
    begin = time.monotonic()
    with tempfile.TemporaryFile() as out, pytest.raises(InfrastructureError, match="fs1: sleep runs longer"):
        provider.exec(node, ["sleep", "60"], stdin=None, stdout=out, stderr=out, timeout=0.2)  # type: ignore[arg-type]
    assert time.monotonic() - begin < 20


@pytest.fixture
def interruptible() -> Iterator[None]:
    """SIGINT as at a terminal: a shell starts what is in the background with SIGINT ignored, for good."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("is_sigterm", [False, True])
def test_an_interruption_leaves_a_command_the_time_to_abort(
    provider: ProcessProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_sigterm: bool
) -> None:
    """What is interrupted ends by itself, as a backup that aborts its job; then so does the harness."""
    node, pid, ended = provider.topology.node("fs1"), tmp_path / "pid", tmp_path / "ended"
    os.mkfifo(pid)
    trap = f"trap 'sleep 0.3; echo itself >{ended}; exit 42' INT"
    script = f"{trap}; echo $$ >{pid}; while :; do sleep 0.05; done"

    waiting = threading.Event()
    wait = subprocess.Popen.wait

    def noted_wait(child: subprocess.Popen[bytes], timeout: float | None = None) -> int:
        waiting.set()
        return wait(child, timeout)

    monkeypatch.setattr(subprocess.Popen, "wait", noted_wait)

    def interrupt() -> None:
        child = int(pid.read_text())
        # Before that, a Ctrl-C would end the start of the command, and this test.
        waiting.wait()
        if is_sigterm:
            _thread.interrupt_main(signal.SIGTERM)
        else:
            # A terminal's Ctrl-C reaches both.
            os.kill(child, signal.SIGINT)
            _thread.interrupt_main()

    threading.Thread(target=interrupt).start()
    with (
        tempfile.TemporaryFile() as out,
        pytest.raises(TerminatedError if is_sigterm else KeyboardInterrupt),
        ending_like_ctrl_c(),
    ):
        provider.exec(node, ["sh", "-c", script], stdin=None, stdout=out, stderr=out)  # type: ignore[arg-type]
    assert ended.read_text() == "itself\n"


def test_unknown_command_is_an_error_of_its_node(provider: ProcessProvider) -> None:
    """A program that is not there is one line with the node's name."""
    with pytest.raises(InfrastructureError, match="fs1: cannot run no-such-program"):
        provider.run(provider.topology.node("fs1"), ["no-such-program"])


def test_secrets_are_private(provider: ProcessProvider) -> None:
    """Secret files are 0600 from the first moment, also when they replace an open one."""
    node = provider.topology.node("fs1")
    path = Path(provider.paths(node).password)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("old")
    path.chmod(0o644)
    provider.install(node, [NodeFile(str(path), b"secret", secret=True)])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_local_roots_carry_the_token_and_nothing_else_does(provider: ProcessProvider) -> None:
    """Only the data folder's path holds the token: everything else may be seen by others."""
    for node in provider.topology.nodes:
        paths = provider.paths(node)
        assert provider.lab.token in paths.data
        others = (
            paths.config,
            paths.accounts,
            paths.password,
            paths.tls,
            paths.state,
            paths.library,
            paths.scratch,
        )
        assert not any(provider.lab.token in path for path in others)


def test_plain_lines_name_node_step_and_outcome() -> None:
    """Off a terminal each step is a line at its start and one at its end, with the reason of a failure."""
    stream = io.StringIO()
    events = Events(clock=lambda: 5.0)
    events.subscribe(PlainLines(stream))

    def boot() -> None:
        with events.stepping("fs1", "boot") as progress:
            progress("half way")
            raise InfrastructureError("no answer", hint="look")

    with pytest.raises(InfrastructureError):
        boot()
    assert stream.getvalue().splitlines() == [
        "fs1        boot ...",
        "fs1        boot FAILED [0.0s]: no answer (look)",
    ]


def test_plain_lines_break_a_long_silence_with_progress() -> None:
    """A step that goes on for long shows how far it is, but not at every move."""
    stream, now = io.StringIO(), [0.0]
    events = Events(clock=lambda: now[0])
    events.subscribe(PlainLines(stream))
    with events.stepping("fs1", "boot") as progress:
        for now[0] in (1.0, 14.0, 16.0, 17.0, 32.0):
            progress(f"second {now[0]:.0f}")
    assert [line.partition(": ")[2] for line in stream.getvalue().splitlines()] == [
        "", "second 16", "second 32", "second 32",
    ]  # fmt: skip
