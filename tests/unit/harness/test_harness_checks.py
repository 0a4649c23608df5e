"""Proofs on planted faults: each check has a twin here that must fail."""

from __future__ import annotations

import socket
import struct
import threading
from pathlib import Path

import pytest

from harness.checks import pcap, tapeback, token
from harness.checks.clientview import same_names
from harness.checks.connections import Connection, one_channel
from harness.checks.sockets import SocketWatch, parse
from harness.compare import move
from harness.errors import InfrastructureError
from harness.manifest import Manifest

CONN, MEDIA, BACKUP = "10.77.0.21", "10.77.0.31", "10.77.0.41"
CONTROL = {10000, 10001}
TOKEN = "0123456789abcdef"
SYN, ACK, PUSH = 0x02, 0x10, 0x18


def link(one: tuple[str, int], other: tuple[str, int]) -> Connection:
    """A connection."""
    return Connection.between(one, other)


CHANNEL = link((CONN, 40000), (MEDIA, 50000))


@pytest.mark.parametrize(
    ("seen", "status"),
    [
        ([CHANNEL], "passed"),
        ([CHANNEL, CHANNEL, link((MEDIA, 50000), (CONN, 40000))], "passed"),
        ([CHANNEL, link((BACKUP, 1), (MEDIA, 10000)), link((CONN, 2), (MEDIA, 10000))], "passed"),
        ([CHANNEL, link(("10.77.0.11", 3), (MEDIA, 4))], "passed"),
        ([CHANNEL, link((CONN, 40001), (MEDIA, 50000))], "failed"),
        ([CHANNEL, link((MEDIA, 40001), (CONN, 50001))], "failed"),
        ([], "failed"),
        ([link((CONN, 2), (MEDIA, 10000))], "failed"),
    ],
)
def test_exactly_one_channel(seen: list[Connection], status: str) -> None:
    """One data connection passes, whoever dialled; none or a second one fails; control does not count."""
    assert one_channel("channel", seen, CONN, MEDIA, CONTROL).status == status


def test_socket_table_is_read_as_the_kernel_writes_it() -> None:
    """Addresses are little-endian hexadecimal; listeners and half-open connections are left out."""
    table = (
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
        "   0: 0B004D7F:2710 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1\n"
        "   1: 15004D7F:9C40 1F004D7F:C350 01 00000000:00000000 00:00000000 00000000     0        0 2 1\n"
        "   2: 15004D7F:9C41 1F004D7F:C350 02 00000000:00000000 00:00000000 00000000     0        0 3 1\n"
        "   3: 29004D7F:9C42 1F004D7F:2710 06 00000000:00000000 00:00000000 00000000     0        0 0 3\n"
    )
    assert parse(table) == {
        link(("127.77.0.21", 40000), ("127.77.0.31", 50000)),
        link(("127.77.0.41", 40002), ("127.77.0.31", 10000)),
    }


def talk(server: socket.socket) -> Connection:
    """Open a real connection, use and close it."""
    with socket.create_connection(server.getsockname()) as client:
        accepted, peer = server.accept()
        with accepted:
            client.sendall(b"x")
            accepted.recv(1)
            return link(server.getsockname(), peer)


def test_socket_watch_sees_a_short_connection_and_forgets_older_ones() -> None:
    """A connection that came and went while watching is seen; one from before is not."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        older = talk(server)
        with SocketWatch() as watch:
            newer = talk(server)
        assert newer in watch.connections
        assert older not in watch.connections


def packet(
    source: tuple[str, int], target: tuple[str, int], sequence: int, flags: int, data: bytes = b""
) -> bytes:
    """An Ethernet frame with one TCP segment."""
    tcp = struct.pack(">HHIIBBHHH", source[1], target[1], sequence, 0, 5 << 4, flags, 1000, 0, 0) + data
    addresses = socket.inet_aton(source[0]) + socket.inet_aton(target[0])
    ip = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(tcp), 0, 0, 64, 6, 0) + addresses + tcp
    return bytes(12) + b"\x08\x00" + ip


def capture(folder: Path, packets: list[bytes], order: str = "<") -> Path:
    """A pcap file."""
    data = struct.pack(order + "IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 1)
    for item in packets:
        data += struct.pack(order + "IIII", 1, 2, len(item), len(item)) + item
    path = folder / "a.pcap"
    path.write_bytes(data)
    return path


DMA, SERVER = (BACKUP, 33333), ("10.77.0.11", 10000)


@pytest.mark.parametrize("order", ["<", ">"])
def test_capture_tells_who_connected(tmp_path: Path, order: str) -> None:
    """A connection counts when its SYN was answered; other traffic and other protocols do not."""
    arp = bytes(12) + b"\x08\x06" + bytes(46)
    packets = [
        packet((CONN, 40000), (MEDIA, 50000), 1, SYN),
        packet((MEDIA, 50000), (CONN, 40000), 9, SYN | ACK),
        packet((CONN, 40001), (MEDIA, 50000), 1, SYN),
        arp,
        packet(DMA, SERVER, 5, PUSH, b"hello"),
    ]
    assert pcap.connections(capture(tmp_path, packets, order)) == {CHANNEL}


def test_streams_are_put_together_again(tmp_path: Path) -> None:
    """Segments out of order, sent twice, overlapping, and across the end of sequence numbers are one text."""
    start = 0xFFFFFFFA
    packets = [
        packet(DMA, SERVER, start - 1, SYN),
        packet(DMA, SERVER, start + 6 & 0xFFFFFFFF, PUSH, b"world"),
        packet(DMA, SERVER, start, PUSH, b"hello "),
        packet(DMA, SERVER, start, PUSH, b"hello "),
        packet(DMA, SERVER, start + 4 & 0xFFFFFFFF, PUSH, b"o world!"),
        packet(SERVER, DMA, 77, PUSH, b"answer"),
    ]
    assert pcap.streams(capture(tmp_path, packets)) == {
        (DMA, SERVER): b"hello world!",
        (SERVER, DMA): b"answer",
    }


def test_token_split_over_segments_is_found(tmp_path: Path) -> None:
    """A local root in NDMP traffic fails the check although two segments share it (twin: without it)."""
    half = len(TOKEN) // 2
    words = [b"/data/" + TOKEN[:half].encode(), TOKEN[half:].encode() + b"/projects"]
    leak = [packet(DMA, SERVER, 10, PUSH, words[0]), packet(DMA, SERVER, 10 + len(words[0]), PUSH, words[1])]
    assert token.in_capture("ndmp", TOKEN, capture(tmp_path, leak), 10000).status == "failed"
    assert token.in_capture("ndmp", TOKEN, capture(tmp_path, leak[:1]), 10000).status == "passed"


def test_search_of_nothing_proves_nothing(tmp_path: Path) -> None:
    """A capture without control traffic is an error, not a success."""
    other = capture(tmp_path, [packet((CONN, 1), (MEDIA, 2), 10, PUSH, b"data")])
    assert token.in_capture("ndmp", TOKEN, other, 10000).status == "error"
    assert token.absent("files", TOKEN, {}).status == "error"
    assert token.judge_search("catalogue", {"/other": 10}, {}, "/catalogue").status == "error"
    assert token.judge_search("catalogue", {"/catalogue": 0}, {}, "/catalogue").status == "error"


def test_planted_local_path_is_found() -> None:
    """The token anywhere in what was searched fails, with the place (twin: without it passes)."""
    clean = {"a": b"/projects/file", "b": b"x"}
    assert token.absent("names", TOKEN, clean).status == "passed"
    result = token.absent("names", TOKEN, clean | {"b": b"/data/" + TOKEN.encode()})
    assert result.status == "failed"
    assert result.details[0].startswith("b: ")
    assert token.judge_search("catalogue", {"/c": 9, "/log": 9}, {"/log": 1}, "/c").status == "failed"
    assert token.judge_search("catalogue", {"/c": 9}, {}, "/c").status == "passed"


@pytest.mark.parametrize("cut", [3, 30, 60])
def test_damaged_capture_is_an_error(tmp_path: Path, cut: int) -> None:
    """Half a capture never passes for a whole one."""
    path = capture(tmp_path, [packet(DMA, SERVER, 10, PUSH, b"hello")])
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(InfrastructureError):
        list(pcap.segments(path))


def answer(dump: int = 0, tar: int = 0, size: int = 100, hits: int = 0) -> dict[str, object]:
    """What `guest/extract.py` prints."""
    return {
        "bytes": size,
        "hits": hits,
        "dump": {"code": dump, "said": "dd: I/O error"},
        "tar": {"code": tar, "said": "tar: Skipping to next header"},
    }


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (answer(), ""),
        (answer(dump=1), "I/O error"),
        (answer(tar=2), "next header"),
        (answer(size=0), "empty"),
    ],
)
def test_tape_that_tar_refuses_fails(given: dict[str, object], words: str) -> None:
    """An unreadable tape, a complaint of tar and an empty file are named; only a clean run passes."""
    problem = tapeback.judge(given)
    assert words in problem
    result = tapeback.extracts("tape", tapeback.Extraction(100, 0, problem, {}))
    assert (result.status == "passed") == (words == "")


def test_token_on_tape_fails() -> None:
    """One hit in the image fails; an image that was not read is an error."""
    assert tapeback.no_local_root("tape", tapeback.Extraction(100, 0, "", {})).status == "passed"
    assert tapeback.no_local_root("tape", tapeback.Extraction(100, 1, "", {})).status == "failed"
    assert tapeback.no_local_root("tape", tapeback.Extraction(0, 0, "", {})).status == "error"


def tree(*paths: bytes) -> Manifest:
    """A manifest of names only."""
    return {path: {"path": path.decode(), "type": "file"} for path in paths}


def test_client_that_misses_a_name_fails() -> None:
    """What a client lists at each part must be what its owner has there, no more and no less."""
    expected = tree(b"/p", b"/p/a", b"/p/m", b"/p/m/x")
    assert same_names("view", expected, {"/p": ["YQ==", "bQ=="], "/p/m": ["eA=="]}).status == "passed"
    assert same_names("view", expected, {"/p": ["YQ==", "bQ=="], "/p/m": []}).status == "failed"
    assert same_names("view", expected, {"/p": ["YQ==", "bQ==", "eA=="], "/p/m": ["eA=="]}).status == "failed"
    assert same_names("view", expected, {"/other": []}).status == "failed"


def test_move_takes_the_root_off_an_extracted_tree() -> None:
    """What tar extracted into a folder has the global paths of the image."""
    assert set(move(tree(b"/", b"/home", b"/home/x"), b"/", b"")) == {b"", b"/home", b"/home/x"}


def test_watch_ends_with_its_thread() -> None:
    """A watch leaves no thread behind."""
    with SocketWatch():
        pass
    assert not any(thread.name == "socket-watch" for thread in threading.enumerate())
