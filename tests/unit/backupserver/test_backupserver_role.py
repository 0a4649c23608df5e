from __future__ import annotations

import subprocess
import threading
from pathlib import Path

import pytest
from dma_support import site

from appliance.backupserver import jobs, process, role
from appliance.backupserver.catalogue import Catalogue
from appliance.backupserver.jobs import Status
from appliance.ndmp.sessions import Sessions

WAIT_S = 20


def test_the_role_marks_dead_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the role runs, a killed job shows as failed and its drive is free, without anybody looking."""
    monkeypatch.setattr(role, "HOUSEKEEPING_S", 0.05)
    reaped = threading.Event()
    reap = Catalogue.reap

    def noted_reap(catalogue: Catalogue) -> object:
        failed = reap(catalogue)
        if failed:
            reaped.set()
        return failed

    monkeypatch.setattr(Catalogue, "reap", noted_reap)
    with site(tmp_path) as lab:
        sessions = Sessions()
        running = role.BackupServerRole(lab.config, sessions)
        assert running.start() == []
        with subprocess.Popen(["sleep", "60"]) as child:
            job = jobs.create(lab.catalogue, [b"/"], "fs1", 0)
            owner = process.identity(child.pid)
            lab.catalogue.connection.execute("UPDATE job SET process = ?", (owner,))
            lab.catalogue.connection.execute(
                "INSERT INTO lease VALUES ('drive:DRV1', 'job 1', ?, 0)", (owner,)
            )
            assert jobs.get(lab.catalogue, job).status is Status.RUNNING
            child.kill()
        assert reaped.wait(WAIT_S)
        assert jobs.get(lab.catalogue, job).status is Status.FAILED
        assert sessions.counts() == {("catalogue jobs", "failed"): 1}
        assert lab.catalogue.connection.execute("SELECT count(*) FROM lease").fetchone()[0] == 0
        running.stop()
        running.stop()
