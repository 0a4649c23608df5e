import os

import pytest

from harness.image.cache import IN_USE_SECONDS, KEPT_ENTRIES, Cache, key_of, tree_parts


def test_key_depends_on_names_contents_and_their_borders():
    """Key depends on names contents and their borders."""
    keys = {
        key_of([("a", b"bc")]),
        key_of([("ab", b"c")]),
        key_of([("a", b"b"), ("", b"c")]),
        key_of([("a", b"bc"), ("", b"")]),
    }
    assert len(keys) == 4
    assert key_of([("a", b"bc")]) in keys


def test_tree_parts_see_content_and_executable_bit_but_not_compiled_files(tmp_path):
    """Tree parts see content and executable bit but not compiled files."""
    (tmp_path / "d/__pycache__").mkdir(parents=True)
    (tmp_path / "d/x.py").write_text("1")
    first = tree_parts(tmp_path, "d")
    (tmp_path / "d/__pycache__/x.cpython-311.pyc").write_text("noise")
    assert tree_parts(tmp_path, "d") == first
    (tmp_path / "d/x.py").chmod(0o755)
    assert tree_parts(tmp_path, "d") != first


def test_entry_is_built_once(tmp_path):
    """Entry is built once."""
    cache, calls = Cache(tmp_path), []

    def build(folder):
        calls.append(folder)
        (folder / "file").write_text("made")

    first = cache.entry("kind", "key", build)
    assert (first / "file").read_text() == "made"
    assert cache.entry("kind", "key", build) == first == cache.find("kind", "key")
    assert len(calls) == 1


def test_failed_build_leaves_no_entry_and_is_tried_again(tmp_path):
    """Failed build leaves no entry and is tried again."""
    cache = Cache(tmp_path)

    def fail(folder):
        (folder / "half").write_text("half")
        raise RuntimeError("no disk")

    with pytest.raises(RuntimeError):
        cache.entry("kind", "key", fail)
    assert cache.find("kind", "key") is None
    entry = cache.entry("kind", "key", lambda folder: (folder / "whole").touch())
    assert [path.name for path in entry.iterdir()] == ["whole"]


def test_oldest_entries_are_removed(tmp_path):
    """Of entries that nobody used for a day the newest few stay."""
    cache = Cache(tmp_path)
    for number in range(KEPT_ENTRIES + 2):
        made = cache.entry("kind", f"key{number}", lambda folder: None)
        long_ago = made.stat().st_mtime - 2 * IN_USE_SECONDS + number
        os.utime(made, (long_ago, long_ago))
    cache.entry("kind", "newest", lambda folder: None)
    left = sorted(path.name for path in (tmp_path / "kind").iterdir() if path.is_dir())
    assert len(left) == KEPT_ENTRIES
    assert {"newest", f"key{KEPT_ENTRIES + 1}"} <= set(left)


def test_what_was_used_today_is_not_removed(tmp_path):
    """Several checkouts at work on one host do not take the images of each other's labs away."""
    cache = Cache(tmp_path)
    for number in range(KEPT_ENTRIES + 2):
        cache.entry("kind", f"key{number}", lambda folder: None)
    assert all(cache.find("kind", f"key{number}") for number in range(KEPT_ENTRIES + 2))
