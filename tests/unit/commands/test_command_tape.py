"""`spanreel tape` on a library model in a folder, and as a target in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from appliance import cli
from appliance.backupserver.labels import Label
from tape.drive import Drive
from tape.model import LibraryModel, LibrarySpec, dump

CHECKOUT = Path(__file__).resolve().parents[3]
SPEC = LibrarySpec(
    "LIB0001", ("DRV0001", "DRV0002"), ("AAA001L5", "AAA002L5", None, None), capacity_bytes=1 << 20
)
NEW = ["--changer", "LIB0001", "--drive", "DRV0001", "--slot", "AAA001L5", "--capacity", "1"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a library that is switched off."""
    place = tmp_path / "library"
    LibraryModel(place, SPEC).close()
    return place


def run(*arguments: str) -> int:
    """Run `spanreel tape ...`."""
    return cli.run(["tape", *arguments])


def held(folder: Path, capsys: pytest.CaptureFixture[str]) -> dict[int, str]:
    """Return element -> cartridge, as `inventory --json` tells it."""
    capsys.readouterr()
    assert run("inventory", "--folder", str(folder), "--json") == 0
    elements = json.loads(capsys.readouterr().out)
    return {element["element"]: element["cartridge"] for element in elements if element["full"]}


@pytest.mark.parametrize("name", ["serve", "status", "inventory", "load", "unload", "move", "label", "erase"])
def test_help_ends_with_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each subcommand explains itself and shows a call."""
    assert run(name, "--help") == 0
    assert f"spanreel tape {name}" in capsys.readouterr().out.partition("Example")[2]


def test_a_cartridge_is_loaded_moved_and_unloaded(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By barcode or address, into the first empty drive or a named one, and back to its slot."""
    place = ("--folder", str(folder))
    assert run("load", "AAA001L5", *place) == 0
    assert run("load", "4097", "DRV0002", *place) == 0
    assert held(folder, capsys) == {256: "AAA001L5", 257: "AAA002L5"}
    assert run("unload", "AAA001L5", *place) == 0
    assert run("unload", "DRV0002", "4099", *place) == 0
    assert run("move", "AAA001L5", "768", *place) == 0
    assert held(folder, capsys) == {768: "AAA001L5", 4099: "AAA002L5"}


def test_status_shows_drives_and_what_they_say(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line a drive: cartridge, readiness, write protection."""
    library = LibraryModel(folder, SPEC)
    library.set_write_protected("AAA001L5", True)
    library.close()
    assert run("load", "AAA001L5", "--folder", str(folder)) == 0
    capsys.readouterr()
    assert run("status", "--folder", str(folder), "--json") == 0
    first, second = json.loads(capsys.readouterr().out)
    assert (first["drive"], first["cartridge"], first["state"]) == (
        "DRV0001",
        "AAA001L5",
        "ready, write protected",
    )
    assert (second["cartridge"], second["state"]) == ("-", "no cartridge is loaded")


def test_a_label_is_that_of_the_backup_server(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Tape file 0 is one record that the backup server reads, and the cartridge goes back to its slot."""
    assert run("label", "AAA001L5", "--pool", "archive", "--folder", str(folder)) == 0
    (record,) = dump(folder, "AAA001L5", 0)
    label = Label.parse(record)
    assert (label.barcode, label.pool, label.catalogue) == ("AAA001L5", "archive", "")
    assert held(folder, capsys)[4096] == "AAA001L5"


@pytest.mark.parametrize("verb", ["label", "erase"])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"somebody else's data", "holds data that is not ours"),
        (Label("AAA001L5", "u", "c", "p", "w").record(), "carries the label of AAA001L5"),
        (None, "begins with a filemark"),
    ],
)
def test_what_is_on_a_cartridge_is_not_destroyed_by_mistake(
    folder: Path, capsys: pytest.CaptureFixture[str], verb: str, content: bytes | None, words: str
) -> None:
    """Without --force a cartridge that holds anything is refused, named, and left as it is."""
    write(folder, content)
    before = (folder / "AAA001L5.tape").read_bytes()
    assert run(verb, "AAA001L5", "--folder", str(folder)) == 1
    assert words in capsys.readouterr().err
    assert (folder / "AAA001L5.tape").read_bytes() == before
    assert run(verb, "AAA001L5", "--force", "--folder", str(folder)) == 0
    assert (folder / "AAA001L5.tape").read_bytes() != before


def write(folder: Path, content: bytes | None) -> None:
    """Write one record, or None for a filemark only, on the first cartridge."""
    assert run("load", "AAA001L5", "--folder", str(folder)) == 0
    library = LibraryModel(folder, SPEC)
    drive = Drive(library.transport("DRV0001"))
    drive.wait_ready(0)
    if content is not None:
        drive.write(content)
    drive.write_filemarks(1)
    library.close()
    assert run("unload", "AAA001L5", "--folder", str(folder)) == 0


def test_an_erased_cartridge_is_blank(folder: Path) -> None:
    """After `erase --force` nothing is left, and a label goes on without force."""
    write(folder, b"old")
    assert run("erase", "AAA001L5", "--force", "--folder", str(folder)) == 0
    assert list(dump(folder, "AAA001L5", 0)) == []
    assert run("label", "AAA001L5", "--folder", str(folder)) == 0


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["inventory"], 2, "say which library"),
        (["load", "NOSUCH"], 2, "has no element, cartridge or drive 'NOSUCH'"),
        (["load", "AAA001L5", "DRV9"], 2, "its drives are DRV0001, DRV0002"),
        (["move", "AAA001L5", "4097"], 1, "destination element full"),
        (["move", "4098", "4099"], 1, "source element empty"),
        (["unload", "AAA001L5"], 1, "in no drive"),
        (["label", "NOSUCH"], 2, "holds no cartridge NOSUCH"),
    ],
)
def test_errors_name_the_thing_and_have_exit_codes(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, words: str
) -> None:
    """2 for what was said wrongly, 1 for what cannot be done; one line each."""
    where = [] if arguments == ["inventory"] else ["--folder", str(folder)]
    assert run(*arguments, *where) == code
    error = capsys.readouterr().err
    assert words in error
    assert len(error.splitlines()) == 1


def test_a_library_in_use_and_none_at_all(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A library that a process has open, and a folder that holds none, are told apart."""
    library = LibraryModel(folder, SPEC)
    assert run("inventory", "--folder", str(folder)) == 2
    assert "another process has the library" in capsys.readouterr().err
    library.close()
    assert run("inventory", "--folder", str(folder / "none")) == 2
    assert "holds no library" in capsys.readouterr().err


def test_an_attached_library_must_be_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Only configured libraries are driven, and only listed barcodes written; looking is allowed."""
    config = tmp_path / "media.toml"
    assert cli.run(["config", "media-server", "--example"]) == 0
    config.write_text(capsys.readouterr().out)
    where = ["--changer", "NOSUCH", "--config", str(config)]
    assert run("move", "4096", "4097", *where) == 2
    assert "lists no library NOSUCH" in capsys.readouterr().err
    changer = next(
        line.split('"')[1] for line in config.read_text().splitlines() if line.startswith("changer")
    )
    assert run("erase", "ZZZ001L5", "--changer", changer, "--config", str(config)) == 2
    assert "does not list ZZZ001L5 as writable" in capsys.readouterr().err
    assert run("inventory", "--changer", "NOSUCH") == 3
    assert "no device with serial number NOSUCH" in capsys.readouterr().err


# -- serve -------------------------------------------------------------------------------------------
@contextmanager
def serving(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """A target in a process of its own, which says that it is ready."""
    command = [sys.executable, "-m", "appliance.cli", "tape", "serve", "--listen", "127.0.0.1:0", *arguments]
    with subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line.strip())
            if line.startswith("ready"):
                break
        yield process, lines
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def test_serve_says_what_it_serves_and_ends_on_sigterm(tmp_path: Path) -> None:
    """LUNs in order, address and name once it listens; exit code 0; the folder knows the library then."""
    folder = str(tmp_path / "library")
    with serving("--folder", folder, *NEW) as (process, lines):
        assert lines[:2] == ["lun 1 drive DRV0001", "lun 2 changer LIB0001"]
        word, role, address, name = lines[2].split()
        assert (word, role) == ("ready", "tape-library")
        assert address.startswith("127.0.0.1:")
        assert name == "iqn.2026-11.example.spanreel:lib0001"
    assert process.returncode == 0
    with serving("--folder", folder, "--name", "iqn.2026-11.test:again") as (process, lines):
        assert lines[2].endswith("iqn.2026-11.test:again")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "holds no library yet"),
        (["--changer", "LIB0001"], "at least one --drive"),
        ([*NEW, "--listen", "0.0.0.0:3260"], "loopback"),
        ([*NEW, "--listen", "127.0.0.1"], "loopback"),
        ([*NEW, "--listen", "127.0.0.1:99999"], "loopback"),
        ([*NEW, "--slot", "AAA001L5"], "occurs twice"),
    ],
)
def test_serve_refuses_what_cannot_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    """Usage errors end with 2 and one line, before anything listens."""
    assert run("serve", "--folder", str(tmp_path / "library"), *arguments) == 2
    assert words in capsys.readouterr().err


def test_serve_refuses_a_fault_script_that_says_nonsense(tmp_path: Path) -> None:
    """A script is read before the library is touched; the error names file and entry."""
    script = tmp_path / "faults.toml"
    script.write_text('[[fault]]\ncommand = "NO SUCH"\nsense = "read error"\n')
    command = [sys.executable, "-m", "appliance.cli", "tape", "serve", "--faults", str(script)]
    done = subprocess.run(
        [*command, "--folder", str(tmp_path / "library"), *NEW],
        cwd=CHECKOUT,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "faults.toml: [[fault]] number 1: command = 'NO SUCH'" in done.stderr
    assert not (tmp_path / "library").exists()
