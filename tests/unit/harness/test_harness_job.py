"""The main job against a lab of folders and a product made of cp and tar."""

from __future__ import annotations

import html
import io
import json
import threading
from pathlib import Path
from typing import ClassVar

import pytest
from harness_support import FakeProvider, fast_topology
from rich.console import Console

from harness import lab as labs
from harness.checks import observe
from harness.checks.connections import Connection
from harness.errors import EXIT_COMPLETE, EXIT_FAILED
from harness.events import Events
from harness.job.command import following
from harness.job.main import main_job
from harness.job.record import Run
from harness.report import write
from harness.report.summary import show

CHANNEL = Connection.between(("127.77.0.21", 40000), ("127.77.0.31", 40001))
SECOND = Connection.between(("127.77.0.21", 40002), ("127.77.0.31", 40003))


class FakeWatch:
    """Stands in for the socket table: the fake product opens no connections."""

    connections: ClassVar[set[Connection]] = {CHANNEL}

    def __enter__(self) -> FakeWatch:
        return self

    def __exit__(self, *_: object) -> None: ...


def new_run(folder: Path, faults: set[str], connections: set[Connection]) -> Run:
    """A main job on a fake lab, run to its end."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(folder / "state"))
        patch.setattr(observe, "SocketWatch", FakeWatch)
        patch.setattr(FakeWatch, "connections", connections)
        topology = fast_topology(folder)
        provider = FakeProvider(topology, labs.create("fake", topology), Events())
        provider.up()
        provider.product.faults = faults
        if "traffic leaks" in faults:
            leak = b"LOG: /data/" + provider.lab.token.encode() + b"/projects"
            (provider.lab.folder / "relay/fs1/0002.server").write_bytes(leak)
        run = Run(provider, provider.lab.folder / "run")
        run.folder.mkdir()
        main_job(run)
        write(run)
        return run


def failed(run: Run) -> set[str]:
    """Names of the checks that did not hold."""
    return {check.name for check in run.checks if check.status in ("failed", "error")}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run with nothing broken."""
    return new_run(tmp_path_factory.mktemp("good"), set(), {CHANNEL})


def test_main_job_passes_on_a_product_that_keeps_its_promises(good: Run) -> None:
    """With nothing broken every check passes, through both entries, and the run's exit code is 0."""
    assert not failed(good), [(check.name, check.summary, check.details) for check in good.checks]
    assert good.exit_code == EXIT_COMPLETE
    assert sum("restore in place" in check.name for check in good.checks) == 2


def test_each_broken_promise_fails_its_own_check_and_no_other(tmp_path: Path) -> None:
    """A product with many faults fails just the checks of those promises, and the run exits 1."""
    faults = {"problems", "restore changes", "catalogue leaks", "traffic leaks", "tape differs"}
    run = new_run(tmp_path, faults, {CHANNEL, SECOND})
    assert failed(run) == {
        "backup through fs1 is complete",
        "one backup channel through fs1",
        "tape of fs1 holds the originals",
        "restore to /restored through fs1",
        "restore in place through fs1",
        "local roots are not in the catalogue",
        "local roots are not in the backup server's NDMP traffic",
    }
    assert run.exit_code == EXIT_FAILED
    assert "nothing was tried after fs1" in run.notes[-1]


def test_backup_that_refuses_is_the_products_failure(tmp_path: Path) -> None:
    """A backup that ends with exit code 1 fails the run with what it said, and nothing is deleted."""
    run = new_run(tmp_path, {"backup refuses"}, {CHANNEL})
    assert {"backup through fs1", "backup through fs2"} <= failed(run)
    assert "no tape in the drive" in next(
        check.summary for check in run.checks if check.name == "backup through fs1"
    )
    assert not any("delete" in phase.name for phase in run.phases)
    assert run.exit_code == EXIT_FAILED


def test_report_tells_the_whole_run(good: Run) -> None:
    """report.json and the page name every check; the page loads nothing from anywhere."""
    page = (good.folder / "report.html").read_text()
    data = json.loads((good.folder / "report.json").read_text())
    assert data["passed"] is True
    assert [item["name"] for item in data["checks"]] == [check.name for check in good.checks]
    assert all(check.name in html.unescape(page) for check in good.checks)
    assert "http://" not in page
    assert "https://" not in page
    assert "<svg" in page


def test_summary_names_every_check_and_the_report(good: Run) -> None:
    """What a run ends with lists each check and the report's path."""
    console = Console(record=True, width=200, file=io.StringIO())
    show(good, good.folder / "report.html", console)
    text = console.export_text()
    assert all(check.name in text for check in good.checks)
    assert str(good.folder / "report.html") in text
    assert "main job passed" in text


def test_progress_of_a_command_is_shown_while_it_runs(tmp_path: Path) -> None:
    """The newest line of a running command's messages is reported, the last one of a rewritten line."""
    path = tmp_path / "err"
    path.write_bytes(b"")
    shown: list[str] = []
    arrived = threading.Event()

    def show(line: str) -> None:
        shown.append(line)
        arrived.set()

    with following(path, show):
        path.write_bytes(b"start\n10 %\r20 %")
        assert arrived.wait(10)
    assert shown == ["20 %"]
