from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from dma_support import Site, site

from appliance.cli import run
from appliance.errors import ExitCode
from appliance.ndmp.enums import DataHaltReason, LogType

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Site]:
    """A site whose file server has three names."""
    with site(tmp_path) as made:
        made.script.names = (b"/", b"/d", b"/d/\xff")
        yield made


@pytest.fixture
def call(lab: Site, capsys: pytest.CaptureFixture[str]) -> Call:
    """Runs a command line and returns exit code, output and errors."""

    def go(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = run([*arguments, "--config", str(lab.config_file)])
        output = capsys.readouterr()
        return code, _without_server_log(output.out), output.err

    return go


def _without_server_log(output: str) -> str:
    """The media server shares this process, and logs to the same standard output."""
    return "".join(line for line in output.splitlines(keepends=True) if " [info " not in line)


def document(call: Call, *arguments: str) -> Any:
    """The JSON that a command prints."""
    code, output, _ = call(*arguments, "--json")
    assert code == 0
    return json.loads(output)


def test_a_job_from_the_command_line(call: Call, lab: Site) -> None:
    """backup, jobs, ls and restore agree about one job; what a server has to say of a restore is shown."""
    job = document(call, "backup", "/")
    assert document(call, "jobs") == [job]
    assert (job["id"], job["status"], job["media"]) == ("1", "complete", [{"barcode": "T1", "file": 2}])
    entries = document(call, "ls", "latest", "/d")
    assert [base64.b64decode(entry["path_base64"]) for entry in entries] == [b"/d/\xff"]
    assert entries[0]["path"] == "/d/\\xff"
    result = document(call, "restore", "latest", "/d", "--to", "/there")
    assert result["names"][0]["path"] == "/there/d"
    lab.script.lines = ((LogType.NORMAL, b"fs1 left 2 that were there already"),)
    code, output, _ = call("restore", "1")
    assert code == 0
    assert "fs1 left 2 that were there already\n" in output
    assert "restore of job 1 complete" in output


def test_a_type_is_chosen(call: Call, lab: Site) -> None:
    """--type dump asks for history in node form, lists the same names, and restores by the same type."""
    for word, form in (("tar", b"f"), ("dump", b"d")):
        lab.script.started.clear()
        document(call, "backup", "/", "--type", word)
        entries = document(call, "ls", "latest", "/", "--recursive")
        assert [(entry["path"], entry["type"]) for entry in entries] == [("/d", "dir"), ("/d/\\xff", "reg")]
        document(call, "restore", "latest", "/d", "--to", "/there")
        assert lab.script.nlist[0].node == 1
        started = [(each[b"TYPE"], each[b"HIST"]) for each in lab.script.started]
        assert started == [(word.encode(), form)] * 2
        assert lab.script.butypes[-2:] == [word.encode()] * 2
    assert call("backup", "/", "--type", "cpio")[0] == ExitCode.USAGE


def test_what_is_saved_is_chosen(call: Call, lab: Site) -> None:
    """Patterns and marks reach the file server as variables, every value; without options there are none."""
    chosen = (
        "--exclude",
        "*.iso,tmp",
        "--exclude",
        "/a\udcff",
        "--only",
        "/b",
        "--skip-caches",
        "--skip-nodump",
    )
    for options, wanted in ((chosen, True), ((), False)):
        document(call, "backup", "/", *options)
        env = lab.script.started[-1]
        assert env.get(b"EXCLUDE") == (b"/a\xff" if wanted else None)
        assert env.get(b"FILES") == (b"/b" if wanted else None)
        assert (
            env.get(b"SPANREEL_SKIP_CACHES") == env.get(b"SPANREEL_SKIP_NODUMP") == (b"y" if wanted else None)
        )


def test_exit_codes(call: Call, lab: Site) -> None:
    """Scripts tell from the exit code alone how it ended."""
    lab.script.lines = ((LogType.WARNING, b"/d: changed while it was read"),)
    code, output, errors = call("backup", "/")
    assert code == ExitCode.PROBLEMS
    assert "job 1 problems" in output
    assert "changed while it was read" in errors
    lab.script.halt = DataHaltReason.INTERNAL_ERROR
    code, _, errors = call("backup", "/")
    assert code == ExitCode.FAILED
    assert errors.splitlines()[-1].startswith("spanreel: the backup of / failed")
    code, output, _ = call("jobs")
    assert code == 0
    assert "failed" in output
    assert "INTERNAL_ERROR" in output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("ls", "latest"), "no finished backup"),
        (("restore", "7"), "no job '7'"),
        (("backup", "relative"), "relative"),
        (("backup", "/", "--entry", "fs9"), "fs9"),
        (("backup", "/", "--entry", "media1"), "media1 is the media server"),
        (("backup", "/", "--level", "10001"), "10001"),
    ],
)
def test_what_people_mistype(call: Call, arguments: tuple[str, ...], said: str) -> None:
    """A wrong word is exit code 2 and one line that holds it; no job is begun."""
    code, output, errors = call(*arguments)
    assert code == ExitCode.USAGE
    assert output == ""
    assert said in errors
    assert len(errors.splitlines()) == 1
    assert call("jobs", "--json")[1].strip() == "[]"


def test_paths_that_a_job_does_not_hold(call: Call) -> None:
    """`ls` and `restore` name the path, with exit code 2, before any tape moves."""
    call("backup", "/")
    for arguments in (("ls", "1", "/nope"), ("restore", "1", "/d", "/nope")):
        code, _, errors = call(*arguments)
        assert code == ExitCode.USAGE
        assert "does not hold /nope" in errors


def test_ls_of_one_file_and_of_a_tree(call: Call) -> None:
    """A file lists itself; -R lists everything below; paths of any bytes may be typed."""
    call("backup", "/")
    assert document(call, "ls", "1", "/d/\udcff")[0]["type"] == "reg"
    assert [entry["path"] for entry in document(call, "ls", "1", "-R")] == ["/d", "/d/\\xff"]
    assert "/d/\\xff" in call("ls", "1", "/d")[1]
