"""Small pieces to feeds, put together."""

from appliance.connection.gather import PIECE_BYTES, Gather


class Feeds:
    """What each feed was sent, call by call."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, int]] = []
        self.data: dict[int, bytes] = {}

    def send(self, number: int, data: bytes | memoryview) -> None:
        """Take a piece, and keep a copy: the buffer behind it is used again."""
        self.calls.append((number, len(data)))
        self.data[number] = self.data.get(number, b"") + bytes(data)


def test_many_small_pieces_are_few_calls_and_the_same_bytes() -> None:
    """Each feed gets its bytes in order; what was only put together is not sent twice."""
    feeds = Feeds()
    gather = Gather(feeds.send)
    expected: dict[int, bytes] = {1: b"", 2: b""}
    for number in range(1000):
        data = b"%d" % number * (number % 700)
        wanted = {1} if number % 3 else {1, 2}
        gather.add(wanted, memoryview(data))
        for feed in wanted:
            expected[feed] += data
    gather.flush()
    gather.flush()
    assert feeds.data == expected
    assert len(feeds.calls) <= sum(len(data) for data in expected.values()) // PIECE_BYTES + 2


def test_a_large_piece_comes_after_what_waits() -> None:
    """It is not copied, and keeps its place."""
    feeds = Feeds()
    gather = Gather(feeds.send)
    gather.add({1}, b"first")
    gather.add({1}, bytes(PIECE_BYTES))
    gather.add({1}, b"last")
    assert feeds.calls == [(1, 5), (1, PIECE_BYTES)]
    gather.flush()
    assert feeds.data[1] == b"first" + bytes(PIECE_BYTES) + b"last"


def test_what_waits_is_bounded() -> None:
    """Without a flush no more stays than one piece."""
    feeds = Feeds()
    gather = Gather(feeds.send)
    for _ in range(100):
        gather.add({1}, bytes(10_000))
    assert 1_000_000 - len(feeds.data[1]) < PIECE_BYTES
