import os
import pty
import select
import threading
import time
from datetime import UTC, datetime
from io import BytesIO

import serial

from harness.console import LineStamper, record, start_recorder

NOON = datetime(2026, 11, 22, 12, 0, 0, 123456, tzinfo=UTC)
STAMP = b"2026-11-22T12:00:00.123Z "


def test_each_line_is_stamped_once_also_when_it_comes_in_pieces():
    """Each line is stamped once also when it comes in pieces."""
    log = BytesIO()
    stamper = LineStamper(log, lambda: NOON)
    for piece in (b"lo", b"gin: ", b"root\r\nnext\r\n", b"last"):
        stamper.feed(piece)
    assert log.getvalue() == STAMP + b"login: root\n" + STAMP + b"next\n" + STAMP + b"last"


def test_console_is_recorded_until_it_closes(tmp_path):
    """Console is recorded until it closes."""
    master, slave = pty.openpty()
    log, stop = tmp_path / "deep" / "console.log", threading.Event()
    port = serial.serial_for_url(os.ttyname(slave), timeout=0.1)
    thread = threading.Thread(target=record, args=(port, log, stop))
    thread.start()
    os.write(master, b"booting\r\n")
    wait_for(lambda: log.exists() and b"booting" in log.read_bytes())
    os.close(slave)
    os.close(master)
    thread.join(5)
    assert not thread.is_alive()
    assert b"[console closed]" in log.read_bytes()
    port.close()


def test_recorder_process_ends_by_itself_with_its_last_console(tmp_path):
    """Recorder process ends by itself with its last console."""
    master, slave = pty.openpty()
    log = tmp_path / "console.log"
    pid = start_recorder({os.ttyname(slave): log}, tmp_path / "errors")
    os.write(master, b"hello\n")
    wait_for(lambda: log.exists() and b"hello" in log.read_bytes())
    os.close(slave)
    os.close(master)
    assert os.waitpid(pid, 0)[1] == 0


def wait_for(condition):
    """Wait a little for something to become true."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        select.select([], [], [], 0.02)
