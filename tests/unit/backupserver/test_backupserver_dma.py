from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from dma_support import Site, site

from appliance.backupserver import backup, history, jobs, leases, media, restore
from appliance.backupserver.catalogue import open_catalogue
from appliance.backupserver.jobs import Job, Status
from appliance.backupserver.labels import RECORD_BYTES, Header, Label
from appliance.backupserver.peers import Context
from appliance.backupserver.progress import Screen
from appliance.errors import ConfigurationError, ExitCode, InfrastructureError, JobError
from appliance.ndmp.enums import DataHaltReason, ErrorCode, LogType, RecoveryStatus
from tape.model.cartridge import Cartridge

RECORD = 262144
LONG = random.Random(1).randbytes(40 << 20)
"""An image that needs three cartridges of 16 MiB."""


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Site]:
    """A site with a blank library."""
    with site(tmp_path) as made:
        yield made


def back_up(lab: Site, *paths: bytes) -> Job:
    """Run a backup."""
    return backup.run(lab.context, backup.Request(paths or (b"/",), "fs1"))


def bring_back(lab: Site, job: Job, *paths: bytes) -> restore.Result:
    """Run a restore."""
    return restore.run(lab.context, restore.Request(job, paths, b"/to", "keep", "fs1"))


def records(lab: Site, barcode: str) -> list[bytes | None]:
    """What is on a cartridge, read past the whole product; None is a file mark."""
    cartridge = Cartridge(lab.folder / "library" / f"{barcode}.tape")
    found = [
        None if cartridge.is_filemark(i) else cartridge.read(i, cartridge.record_length(i))
        for i in range(cartridge.count)
    ]
    cartridge.close()
    return found


def test_a_backup_comes_back(lab: Site) -> None:
    """What the file server sent is what it gets back, byte by byte, with the environment it returned."""
    lab.script.image = LONG[: 3 * RECORD + 333]
    lab.script.environment = {b"DUMP_DATE": b"7", b"SPANREEL_FILES": b"5", b"SPANREEL_STATUS": b"complete"}
    job = back_up(lab)
    assert job.status is Status.COMPLETE
    assert (job.files, job.bytes, job.media) == (5, len(lab.script.image), (("T1", 2),))
    assert lab.script.started[0][b"FILESYSTEM"] == b"/"
    result = bring_back(lab, job)
    assert result.status is Status.COMPLETE
    assert lab.script.received == lab.script.image
    assert lab.script.started[1][b"DUMP_DATE"] == b"7"
    assert lab.script.started[1][b"EXISTING"] == b"keep"
    assert b"SPANREEL_FILES" not in lab.script.started[1]
    assert lab.script.nlist[0].destination_path == b"/to"


def test_the_layout_of_a_cartridge(lab: Site) -> None:
    """Label, mark, then header, mark, records, mark for each image: what other tools are promised."""
    lab.script.image = LONG[: RECORD + 10]
    first, second = back_up(lab, b"/a"), back_up(lab, b"/b")
    label, mark, header, mark2, full, last, mark3, *more = records(lab, "T1")
    assert (mark, mark2, mark3) == (None, None, None)
    assert label is not None
    assert header is not None
    assert len(label) == len(header) == RECORD_BYTES
    assert Label.parse(label).barcode == "T1"
    parsed = Header.parse(header)
    assert (parsed.job, parsed.root, parsed.offset, parsed.record_size) == (str(first.id), b"/a", 0, RECORD)
    assert full == LONG[:RECORD]
    assert last == LONG[RECORD : RECORD + 10].ljust(RECORD, b"\0")
    assert [one is None for one in more] == [False, True, False, False, True]
    assert second.media == (("T1", 4),)


def test_an_image_spans_cartridges(lab: Site) -> None:
    """A full cartridge is followed by the next, and a restore follows the segments."""
    lab.script.image = LONG
    job = back_up(lab)
    assert [barcode for barcode, _ in job.media] == ["T1", "T2", "T3"]
    (image,) = media.images(lab.catalogue, job.id)
    parts = media.segments(lab.catalogue, image)
    assert [part.start for part in parts[1:]] == [parts[0].length, parts[0].length + parts[1].length]
    headers = [Header.parse(records(lab, barcode)[2] or b"") for barcode in ("T1", "T2", "T3")]
    assert [header.offset for header in headers] == [part.start for part in parts]
    dumped = b"".join(
        b"".join(record or b"" for record in records(lab, barcode)[4:]) for barcode in ("T1", "T2", "T3")
    )
    assert dumped[: len(LONG)] == LONG, "the concatenated segments are the image"
    assert bring_back(lab, job).status is Status.COMPLETE
    assert lab.script.received == LONG


def test_no_cartridge_left(lab: Site) -> None:
    """When all are full the job fails in one line that names each, and its leases are free."""
    lab.script.image = LONG + LONG
    with pytest.raises(JobError, match=r"no cartridge to write to: .*T1 is full.*T3 is full"):
        back_up(lab)
    (job,) = jobs.list_all(lab.catalogue)
    assert job.status is Status.FAILED
    assert "T3 is full" in job.reason
    assert leases.held(lab.catalogue) == {}
    assert all(medium.unfinished is None for medium in media.media(lab.catalogue).values())


def test_several_paths_are_images_of_one_job(lab: Site) -> None:
    """Each path has its image; a restore asks each for what it holds."""
    job = back_up(lab, b"/a", b"/b/c")
    assert job.media == (("T1", 2), ("T1", 4))
    assert [one[b"FILESYSTEM"] for one in lab.script.started] == [b"/a", b"/b/c"]
    result = bring_back(lab, job, b"/b/c/file", b"/a")
    assert sorted(result.targets) == [b"/to/a", b"/to/file"]
    assert len(lab.script.started) == 4


@pytest.mark.parametrize(
    ("lines", "told", "status", "count"),
    [
        (((LogType.NORMAL, b"hello"),), b"", Status.COMPLETE, 0),
        (((LogType.ERROR, b"/x: gone"), (LogType.WARNING, b"/y: changed")), b"", Status.PROBLEMS, 2),
        (((LogType.ERROR, b"/x: gone"),), b"incomplete", Status.INCOMPLETE, 1),
        ((), b"incomplete", Status.INCOMPLETE, 0),
        (((LogType.WARNING, b"/y"),), b"complete", Status.PROBLEMS, 1),
    ],
)
def test_problems_show(
    lab: Site, lines: tuple[tuple[LogType, bytes], ...], told: bytes, status: Status, count: int
) -> None:
    """Errors and warnings are counted, shown and stored; the server may know of worse, never of better."""
    lab.script.lines = lines
    lab.script.environment = {b"SPANREEL_STATUS": told}
    job = back_up(lab)
    assert (job.status, job.problems) == (status, count)
    assert len(jobs.problems(lab.catalogue, job.id)) == len(lines)
    for kind, text in lines:
        assert (text.decode() in lab.output.getvalue()) is (kind is not LogType.NORMAL)
    assert (job.status.exit_code is ExitCode.COMPLETE) is (status is Status.COMPLETE)


def test_a_refused_backup_leaves_no_trace(lab: Site) -> None:
    """An unknown path fails with the server's words, and its header is written over by the next job."""
    lab.script.refuse = ErrorCode.ILLEGAL_ARGS
    with pytest.raises(JobError, match=r"refused to back up /nowhere: the reason why$"):
        back_up(lab, b"/nowhere")
    assert "the reason why" not in lab.output.getvalue(), "said twice"
    lab.script.refuse = None
    job = back_up(lab)
    assert job.media == (("T1", 2),)
    assert records(lab, "T1").count(None) == 3
    assert bring_back(lab, job).status is Status.COMPLETE
    failed = jobs.get(lab.catalogue, job.id - 1)
    assert (failed.status, failed.media) == (Status.FAILED, ())


def test_a_refused_restore_says_why_once(lab: Site) -> None:
    """It is one line with the server's reason; the progress names what was asked for."""
    job = back_up(lab)
    lab.script.refuse = ErrorCode.FILE_NOT_FOUND
    with pytest.raises(JobError, match=r"refused the restore to /to/file: the reason why$"):
        bring_back(lab, job, b"/file")
    assert "the reason why" not in lab.output.getvalue()
    lab.script.refuse = None
    bring_back(lab, job, b"/file")
    assert "restore of /file: " in lab.output.getvalue()


def test_a_backup_that_breaks_keeps_the_cartridge_usable(lab: Site) -> None:
    """What was written is closed by a mark, and the next job appends behind it."""
    lab.script.image = LONG[: 2 * RECORD]
    lab.script.halt = DataHaltReason.INTERNAL_ERROR
    lab.script.lines = ((LogType.ERROR, b"the owner is gone"),)
    with pytest.raises(JobError, match=r"INTERNAL_ERROR \(the owner is gone\)"):
        back_up(lab)
    lab.script.halt = DataHaltReason.SUCCESSFUL
    assert back_up(lab).media == (("T1", 4),)
    assert [job.status for job in jobs.list_all(lab.catalogue)] == [Status.FAILED, Status.PROBLEMS]


def test_complete_means_equal_counts(lab: Site) -> None:
    """A server that claims more bytes than reached the tape has not made a backup."""
    lab.script.image = LONG[:RECORD]
    lab.script.sends = RECORD - 1
    with pytest.raises(JobError, match=f"sent {RECORD} bytes, {RECORD - 1} are on tape"):
        back_up(lab)


def test_wrong_password(lab: Site) -> None:
    """One line that names server, user and file; the job is in the catalogue as failed."""
    (lab.folder / "password").write_text("wrong\n")
    with pytest.raises(ConfigurationError, match=r"fs1.*'dma'.*wrong user or password.*password"):
        back_up(lab)
    (job,) = jobs.list_all(lab.catalogue)
    assert job.status is Status.FAILED


def test_foreign_data_is_never_overwritten(lab: Site) -> None:
    """A cartridge with data that is not ours is left alone, bit by bit, and the next one is taken."""
    path = lab.folder / "library" / "T1.tape"
    cartridge = Cartridge(path)
    cartridge.write_record(0, b"somebody's only copy" * 100)
    cartridge.close()
    before = path.read_bytes()
    assert back_up(lab).media == (("T2", 2),)
    assert path.read_bytes() == before
    assert "T1" in lab.output.getvalue()
    assert "left alone" in lab.output.getvalue()


def test_another_catalogues_cartridge_is_never_overwritten(lab: Site) -> None:
    """With a lost or second catalogue, cartridges that carry a label we do not know are left alone."""
    back_up(lab)
    before = records(lab, "T1")
    with open_catalogue(lab.folder / "second.sqlite") as second:
        lab.catalogue = second
        job = back_up(lab)
        assert job.media == (("T2", 2),)
    assert records(lab, "T1") == before
    assert "label of another catalogue" in lab.output.getvalue()


def test_a_cartridge_that_grew_elsewhere_is_not_appended_to(lab: Site) -> None:
    """Data behind the last file that the catalogue knows is somebody's: it is not written over."""
    back_up(lab)
    lab.catalogue.connection.execute("DELETE FROM segment")
    lab.catalogue.connection.execute("UPDATE medium SET last_file = 0")
    before = records(lab, "T1")
    assert back_up(lab).media == (("T2", 2),)
    assert records(lab, "T1") == before
    assert "holds data behind" in lab.output.getvalue()


class Trigger(Screen):
    """Does something when the first progress is shown."""

    def __init__(self, lab: Site, action: Callable[[], None]) -> None:
        super().__init__(lab.output)
        self._action = action

    def progress(self, what: str, size: int, detail: str = "") -> None:
        """Act once bytes are on tape."""
        super().progress(what, size, detail)
        if size:
            self._action()


def interrupt() -> None:
    """Ctrl-C."""
    raise KeyboardInterrupt


def test_ctrl_c_aborts(lab: Site) -> None:
    """The services are told, the job is aborted, its leases are free, and the next job works."""
    lab.script.image = LONG[: 4 * RECORD]
    lab.script.hangs = True
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        backup.run(
            Context(lab.config, lab.catalogue, Trigger(lab, interrupt)), backup.Request((b"/",), "fs1")
        )
    assert time.monotonic() - started < 15
    assert lab.script.aborted
    (job,) = jobs.list_all(lab.catalogue)
    assert (job.status, job.reason) == (Status.ABORTED, "interrupted")
    assert leases.held(lab.catalogue) == {}
    lab.script.hangs = False
    assert back_up(lab).media == (("T1", 4),)


def test_a_lost_media_server_fails_the_job(lab: Site) -> None:
    """The job ends at once as failed, as a matter of infrastructure, and does not wait for an answer."""
    lab.script.image = LONG[: 4 * RECORD]
    lab.script.hangs = True
    with pytest.raises(InfrastructureError, match="media1"):
        backup.run(
            Context(lab.config, lab.catalogue, Trigger(lab, lab.media.stop)), backup.Request((b"/",), "fs1")
        )
    (job,) = jobs.list_all(lab.catalogue)
    assert job.status is Status.FAILED
    assert leases.held(lab.catalogue) == {}


def test_results_of_a_restore(lab: Site) -> None:
    """Each name has its result; none found is a failure, some is a problem."""
    job = back_up(lab)
    lab.script.results = {b"/file": RecoveryStatus.FAILED_NOT_FOUND}
    assert bring_back(lab, job, b"/file").status is Status.FAILED
    lab.script.names = (b"/", b"/file", b"/other")
    job = back_up(lab)
    result = bring_back(lab, job, b"/file", b"/other")
    assert result.status is Status.PROBLEMS
    assert result.targets == {
        b"/to/file": RecoveryStatus.FAILED_NOT_FOUND,
        b"/to/other": RecoveryStatus.SUCCESSFUL,
    }
    assert [one["result"] for one in result.document()["names"]] == ["failed_not_found", "successful"]


def test_fh_info_goes_back(lab: Site) -> None:
    """A name's node and fh_info are given back as the server gave them."""
    job = back_up(lab)
    bring_back(lab, job, b"/file")
    (name,) = lab.script.nlist
    assert (name.original_path, name.node, name.fh_info) == (b"/file", 1, 512)
    (image,) = media.images(lab.catalogue, job.id)
    assert history.count(lab.catalogue, image.id) == 2


def test_a_cartridge_changed_under_the_catalogue_is_noticed(lab: Site) -> None:
    """A restore reads the header before the data: another image is never taken for the one asked for."""
    job = back_up(lab)
    lab.catalogue.connection.execute("UPDATE image SET uuid = 'another'")
    with pytest.raises(JobError, match="T1: tape file 1 is not the header"):
        bring_back(lab, job)
