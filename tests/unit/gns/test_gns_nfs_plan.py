"""The NFS projection: the plan for every node, checked by walking as a client would."""

from __future__ import annotations

import re
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.gns.map import GnsMap
from appliance.gns.nfs_plan import Access, Mount, NfsPlan, plan
from appliance.paths import is_at_or_below

ADDRESSES = {"fs1": "10.77.0.11", "fs2": "10.77.0.12", "fs3": "10.77.0.13"}
ROOT = b"/srv/gns"
ANYONE = Access(("*",))


def _map(*entries: tuple[bytes, str]) -> GnsMap:
    gns_map = GnsMap()
    for number, (path, owner) in enumerate(entries):
        gns_map = gns_map.add(path, owner, b"/data/secret/%d" % number, f"{number:032x}")
    return gns_map


def _plan(gns_map: GnsMap, node: str, access: Access = ANYONE) -> NfsPlan:
    others = {name: address for name, address in ADDRESSES.items() if name != node}
    return plan(gns_map, node, others, ROOT, access)


EXAMPLE = _map((b"/projects", "fs1"), (b"/projects/media", "fs2"), (b"/home/b", "fs2"), (b"/home/a b", "fs1"))


def test_own_parts_are_bound_and_others_referred_to() -> None:
    """fs1 shows its own parts from its own directories, and sends clients to fs2 for the rest."""
    planned = _plan(EXAMPLE, "fs1")
    assert planned.mounts == (
        Mount(b"/home/a b", b"/data/secret/3"),
        Mount(b"/home/b", None),
        Mount(b"/projects", b"/data/secret/0"),
        Mount(b"/projects/media", None),
    )
    assert planned.problems == ()
    common = "sync,no_subtree_check,crossmnt"
    fsid = "fsid=00000000-0000-0000-0000-00000000000"
    detour = "refer=/.spanreel/projects/media@10.77.0.12"
    assert planned.exports.decode().splitlines()[1:] == [
        f"/srv/gns *(ro,fsid=0,{common},root_squash)",
        f"/srv/gns/home/a\\040b *(rw,{common},{fsid}3,root_squash)",
        f"/srv/gns/home/b *(rw,{common},{fsid}2,refer=/home/b@10.77.0.12,root_squash)",
        f"/srv/gns/projects *(rw,{common},{fsid}0,root_squash)",
        f"/srv/gns/projects/media *(rw,{common},{fsid}1,{detour},root_squash)",
    ]


def test_an_own_part_behind_a_referral_gets_a_way_of_its_own() -> None:
    """On fs2 the referral of /projects bars the way to /projects/media, so that lies at the detour."""
    planned = _plan(EXAMPLE, "fs2")
    assert planned.mounts == (
        Mount(b"/.spanreel/projects/media", b"/data/secret/1"),
        Mount(b"/home/b", b"/data/secret/2"),
        Mount(b"/projects", None),
    )
    assert planned.problems == (
        "/home/a b is shown by its owner fs1 only: NFS exports cannot refer to this name",
    )


def test_root_keeps_its_rights_only_where_configured() -> None:
    """Every export line squashes root for clients and not for root clients."""
    planned = _plan(EXAMPLE, "fs1", Access(("10.77.0.0/24", "lab"), ("10.77.0.41",)))
    for line in planned.exports.decode().splitlines()[1:]:
        entries = re.findall(r" ([^( ]+)\(([^)]+)\)", line)
        assert {client: options.rsplit(",", 1)[1] for client, options in entries} == {
            "10.77.0.0/24": "root_squash",
            "lab": "root_squash",
            "10.77.0.41": "no_root_squash",
        }


@pytest.mark.parametrize("node", ["fs1", "fs2", "fs3"])
def test_no_local_path_is_in_what_clients_are_told(node: str) -> None:
    """The exports name global paths below the export root, and nothing local."""
    assert b"secret" not in _plan(EXAMPLE, node).exports


def test_what_cannot_be_shown_is_named() -> None:
    """A junction at the root, an owner without address, a name that exports cannot refer to."""
    gns_map = _map((b"/", "fs1"), (b"/a", "fs9"), (b"/b,c", "fs2"), (b"/d", "fs2"))
    planned = _plan(gns_map, "fs1")
    assert [mount.position for mount in planned.mounts] == [b"/d"]
    assert len(planned.problems) == 3
    for problem, words in zip(
        planned.problems, ("junction at /", "owner fs9 is not known", "/b,c is"), strict=True
    ):
        assert words in problem


class Export(NamedTuple):
    """One exported mount point of a simulated server."""

    source: bytes | None
    refer: tuple[bytes, str] | None


def _server(planned: NfsPlan) -> dict[bytes, Export]:
    """Return what nfsd would know: position → export, from mounts and the exports' text together."""
    sources = {mount.position: mount.source for mount in planned.mounts}
    exports = {}
    for line in planned.exports.splitlines()[2:]:
        quoted = line.split(b" ")[0].removeprefix(ROOT)
        position = re.sub(rb"\\([0-7]{3})", lambda match: bytes([int(match[1], 8)]), quoted)
        refer = re.search(rb"refer=([^@]+)@([^,]+),", line)
        target = (refer[1], refer[2].decode()) if refer else None
        exports[position] = Export(sources[position], target)
    assert exports.keys() == sources.keys()
    return exports


def _walk(servers: dict[str, dict[bytes, Export]], address: str, path: bytes) -> bytes | None:
    """Look a path up as a Linux client does, and return the local directory it ends in.

    From the server's root name by name; at a referral the client starts again at the root of the
    server named there, with the path named there.
    """
    for _referral in range(10):
        names = path.split(b"/")[1:]
        local: bytes | None = None
        for depth in range(1, len(names) + 1):
            here = b"/" + b"/".join(names[:depth])
            export = servers[address].get(here)
            if export is not None and export.refer is not None:
                target, address = export.refer
                path = b"/".join((target, *names[depth:]))
                break
            local = export.source if export is not None else local and local + b"/" + names[depth - 1]
        else:
            return local
    raise AssertionError("the client goes round in circles")


# Names nest and collide often; all can be written in a referral.
PATHS = st.lists(st.sampled_from([b"a", b"b", b"a-"]), min_size=1, max_size=5).map(
    lambda names: b"/" + b"/".join(names)
)


@given(
    st.dictionaries(PATHS, st.sampled_from(sorted(ADDRESSES)), min_size=1, max_size=8),
    PATHS,
    st.sampled_from(sorted(ADDRESSES)),
)
def test_a_client_of_any_server_finds_every_file(owners: dict[bytes, str], path: bytes, node: str) -> None:
    """From every server, every path leads to the directory of its owner, however parts are nested."""
    gns_map = _map(*owners.items())
    servers = {ADDRESSES[name]: _server(_plan(gns_map, name)) for name in ADDRESSES}
    owned = [each for each in gns_map.junctions if is_at_or_below(path, each.path)]
    expected = gns_map.resolve(path).local if owned else None
    assert _walk(servers, ADDRESSES[node], path) == expected
