"""The variables of a backup (draft-skardal-ndmpv4-04, 3.2.5 and 3.5.2.3; digests of vendors' practice)."""

from __future__ import annotations

import pytest

from appliance.fileserver import environment
from appliance.fileserver.environment import DUMP, TAR, HistoryForm, Increment
from appliance.fileserver.order import PartOrder
from appliance.ndmp.enums import ErrorCode
from appliance.ndmp.errors import RefusalError


@pytest.mark.parametrize(
    ("words", "of_tar", "of_dump"),
    [
        ((b"y", b"Y", b"t", b"T", b"yes", b"true", b"True"), HistoryForm.FILE, HistoryForm.NODE),
        ((b"f", b"F", b"file", b"FILE", b"File"), HistoryForm.FILE, HistoryForm.FILE),
        ((b"d", b"D", b"dir", b"DIR", b"node", b"directory"), HistoryForm.NODE, HistoryForm.NODE),
        ((b"n", b"N", b"no", b"false", b"", b"maybe"), HistoryForm.NONE, HistoryForm.NONE),
    ],
)
def test_spellings_of_hist(words: tuple[bytes, ...], of_tar: HistoryForm, of_dump: HistoryForm) -> None:
    """Case does not count; f and d choose the form whatever the type; the last value counts."""
    for word in words:
        assert environment.history_form({b"HIST": [b"d", word]}, TAR) is of_tar
        assert environment.history_form({b"HIST": [b"f", word]}, DUMP) is of_dump


def test_hist_absent_means_none() -> None:
    """The draft's default is no history."""
    assert environment.history_form({}, DUMP) is HistoryForm.NONE


@pytest.mark.parametrize("butype", [TAR, DUMP])
def test_what_is_accepted(butype: bytes) -> None:
    """Both types, all of the draft's variables, the de facto ones and unknown ones start a full backup."""
    names = (b"UPDATE", b"EXTRACT", b"CMD", b"DIRECT", b"RECURSIVE", b"USER", b"PREFIX", b"NDMP_VERSION",
             b"IGNORE_CTIME", b"BACKUP_MODE", b"ACL_START", b"NEVER_HEARD_OF")  # fmt: skip
    env = {name: [value] for name in names for value in (b"y", b"N", b"", b"\xff")}
    environment.check_backup(env, butype)
    for level in (b"0", b""):
        environment.check_backup({**env, b"TYPE": [butype], b"LEVEL": [level]}, butype)
    for base in (b"0", b"-1", b""):
        environment.check_backup({b"BASE_DATE": [base]}, butype)


@pytest.mark.parametrize(
    ("butype", "env", "why"),
    [
        (b"cpio", {}, "cpio is not offered; use tar or dump"),
        (b"", {}, "is not offered"),
        (TAR, {b"TYPE": [b"dump"]}, "TYPE=dump contradicts the backup type tar"),
        (DUMP, {b"TYPE": [b"dump", b"tar"]}, "TYPE=tar contradicts the backup type dump"),
        (TAR, {b"LEVEL": [b"x\n"]}, "LEVEL=x"),
        (TAR, {b"LEVEL": [b"-1"]}, "LEVEL=-1 is no number"),
        (DUMP, {b"BASE_DATE": [b"yesterday"]}, "BASE_DATE=yesterday is no number"),
        (DUMP, {b"BASE_DATE": [b"0"], b"LEVEL": [b"1"]}, "send one"),
    ],
)
def test_what_is_refused(butype: bytes, env: dict[bytes, list[bytes]], why: str) -> None:
    """Other types, a TYPE that contradicts, levels and tokens that are none: ILLEGAL_ARGS, in words."""
    with pytest.raises(RefusalError, match=why) as refused:
        environment.check_backup(env, butype)
    assert refused.value.code is ErrorCode.ILLEGAL_ARGS


@pytest.mark.parametrize(
    ("env", "wanted"),
    [
        ({}, Increment()),
        ({b"LEVEL": [b"0"], b"BASE_DATE": [b"0"], b"UPDATE": [b"N"]}, Increment(update=False)),
        ({b"LEVEL": [b"3"], b"BASE_DATE": [b"-1"]}, Increment(level=3)),
        ({b"LEVEL": [b"400"], b"BASE_DATE": [b"1700000000"]}, Increment(level=400, base=1700000000)),
    ],
)
def test_how_much_is_asked_for(env: dict[bytes, list[bytes]], wanted: Increment) -> None:
    """A level, a token, or both; what is recorded unless UPDATE says no."""
    assert environment.increment(env) == wanted


def test_the_user_of_a_backup(monkeypatch: pytest.MonkeyPatch) -> None:
    """USER counts as another user's unless it names, by name or number, who the server runs as."""
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert [environment.other_user({b"USER": [name]}) for name in (b"", b"root", b"0")] == ["", "", ""]
    assert environment.other_user({b"USER": [b"operator"]}) == "operator"
    monkeypatch.setattr("os.geteuid", lambda: 2**31 - 7)
    assert environment.other_user({b"USER": [b"root"]}) == "root"


def test_an_order_comes_through_as_it_was() -> None:
    """Whatever an entry server orders is what the owner reads, names of any bytes included."""
    order = PartOrder(
        path=b"/p",
        root=b"/",
        job="j",
        fileset="f" * 32,
        generation=3,
        local_path=b"/srv/\xff p",
        offset=2**40,
        node_base=9,
        parent_node=2,
        skip=(b"/p/a b", b"/p/\xff"),
        exclude=(b"*.o,x", b"/y"),
        files=(b"a b", b"./c"),
        nodes={b"/p": 3, b"/p/a b": 4, b"/p/\xff": 5},
        history=HistoryForm.NODE,
    )
    env: dict[bytes, list[bytes]] = {}
    for pair in order.to_env():
        env.setdefault(pair.name, []).append(pair.value)
    assert PartOrder.from_env(env) == order
