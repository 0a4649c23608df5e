"""Which of the things asked for a path belongs to."""

import pytest

from appliance.archive.lookup import SourceTable

ITEMS = [
    (0, b"", "all"),
    (1, b"a", "a"),
    (1, b"a/b", "a/b of 1"),
    (2, b"a/b", "a/b of 2"),
    (2, b"a/b", "a/b of 2 again"),
]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (b"", {"all"}),
        (b"x", {"all"}),
        (b"a", {"all", "a"}),
        (b"a/c", {"all", "a"}),
        (b"a/b", {"all", "a/b of 1", "a/b of 2", "a/b of 2 again"}),
        (b"a/b/c/d", {"all", "a/b of 1", "a/b of 2", "a/b of 2 again"}),
        (b"ab", {"all"}),
        (b"a/bc", {"all", "a"}),
    ],
)
def test_the_longest_source_of_each_entry(path: bytes, expected: set[str]) -> None:
    """By whole components; entries do not see each other, and asking twice answers the same."""
    table = SourceTable(ITEMS)
    for _ in range(2):
        assert {value for _, value in table.find(path)} == expected
        assert {value for _, value in table.find(b"elsewhere/x")} == {"all"}


def test_not_recursive_means_the_source_itself() -> None:
    """Nothing below a source belongs to it."""
    table = SourceTable(ITEMS, recursive=False)
    assert [value for _, value in table.find(b"")] == ["all"]
    assert [value for _, value in table.find(b"a")] == ["a"]
    assert table.find(b"a/c") == []
