"""`spanreel tape serve` and the fault script that appears in its folder while it runs."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from libiscsi import LIBRARY, LibiscsiTransport

from tape import errors
from tape.drive import Drive

CHECKOUT = Path(__file__).resolve().parents[3]
NEW = ["--changer", "LIB0001", "--drive", "DRV0001", "--slot", "AAA001L5", "--capacity", "1"]
NAME = "iqn.2026-11.test:served"
STUCK = '[[fault]]\ncommand = "READ BLOCK LIMITS"\ntimes = 0\nsense = "04/44/00"\n'


@pytest.mark.skipif(LIBRARY is None, reason="libiscsi is not installed (Debian: libiscsi7)")
def test_a_script_in_the_folder_strikes_while_it_runs(tmp_path: Path) -> None:
    """Without --faults the folder's script counts while it is there; what struck is written down."""
    words = ["--folder", str(tmp_path), "--listen", "127.0.0.1:0", "--name", NAME, *NEW]
    command = [sys.executable, "-m", "appliance.cli", "tape", "serve", *words]
    with subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        ready = next(line for line in process.stdout if line.startswith("ready"))
        host, _, port = ready.split()[2].rpartition(":")
        try:
            with LibiscsiTransport((host, int(port)), NAME, 1, "iqn.2026-11.test:client") as transport:
                drive = Drive(transport)
                with pytest.raises(errors.UnitAttentionError):  # of every new session
                    drive.block_limits()
                assert drive.block_limits().maximum
                (tmp_path / "faults.toml").write_text(STUCK)
                with pytest.raises(errors.HardwareError):
                    drive.block_limits()
                (tmp_path / "faults.toml").unlink()
                assert drive.block_limits().maximum
        finally:
            process.send_signal(signal.SIGTERM)
    assert (tmp_path / "faults.log").read_text().startswith("DRV0001 05 ")
