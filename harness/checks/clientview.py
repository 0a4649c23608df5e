"""Proof: a client sees one tree, whichever file server it mounts, and no local path anywhere."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping

from harness.checks.result import CheckResult, verdict
from harness.errors import CommandError
from harness.manifest import Manifest
from harness.providers.base import Provider
from harness.topology import CLIENT, FILE_SERVER, Node

# Run on the client: the names at each global path, as it sees them.
LIST = """
import base64, json, os, sys
top, paths = json.loads(sys.argv[1])
print(json.dumps({path: sorted(base64.b64encode(os.fsencode(n)).decode() for n in os.listdir(top + path))
                  for path in paths}))
"""
MOUNTS = "/mnt/spanreel"


def mount_point(server: Node) -> str:
    """Return where the client mounts a server."""
    return f"{MOUNTS}/{server.name}"


def mount(provider: Provider, server: Node) -> None:
    """Mount a file server on the client, fresh."""
    client = provider.topology.only(CLIENT)
    unmount(provider, server)
    provider.run(client, ["mkdir", "-p", mount_point(server)])
    options = "ro,vers=4.2,soft,timeo=300"
    provider.run(client, ["mount", "-t", "nfs4", "-o", options, f"{server.address}:/", mount_point(server)])


def unmount(provider: Provider, server: Node) -> None:
    """Unmount a file server, with what was walked into below it; not mounted is fine."""
    client = provider.topology.only(CLIENT)
    provider.run(client, ["umount", "-R", mount_point(server)], check=False)


def listing(provider: Provider, server: Node, paths: list[str]) -> dict[str, list[str]]:
    """Return what the client sees at each path through one server; walking triggers referrals."""
    client = provider.topology.only(CLIENT)
    argument = json.dumps([mount_point(server), paths])
    result = provider.run(client, ["python3", "-c", LIST, argument])
    listed: dict[str, list[str]] = json.loads(result.stdout)
    return listed


def look(provider: Provider, expected: Manifest) -> list[CheckResult]:
    """Mount each file server in turn, compare, and leave the mounts for the search of the token."""
    paths = [item.path for item in provider.topology.gns]
    seen: dict[str, Mapping[str, list[str]]] = {}
    for server in provider.topology.with_role(FILE_SERVER):
        try:
            mount(provider, server)
            seen[server.name] = listing(provider, server, paths)
        except CommandError as problem:
            return [verdict(f"client sees the tree through {server.name}", False, str(problem))]
    return [
        same_names(f"client sees the tree through {name}", expected, listed) for name, listed in seen.items()
    ]


def same_names(name: str, expected: Manifest, listed: Mapping[str, list[str]]) -> CheckResult:
    """Pass if every part holds the names its owner has there."""
    wrong = []
    count = 0
    for path, names in listed.items():
        children = children_of(expected, path)
        if children is None:
            continue
        count += len(children)
        if children != set(names):
            odd = sorted(children ^ set(names))
            wrong.append(f"{path}: {len(odd)} names differ: {', '.join(odd[:5])}")
    summary = f"{count} names at {len(listed)} paths" if not wrong else "; ".join(wrong)
    return verdict(name, not wrong and count > 0, summary, wrong)


def children_of(expected: Manifest, path: str) -> set[str] | None:
    """Return the base64 names directly below a path, None if the manifest does not have it."""
    top = path.encode()
    if top not in expected:
        return None
    inside = (item[len(top) + 1 :] for item in expected if item.startswith(top + b"/"))
    return {base64.b64encode(item).decode() for item in inside if b"/" not in item}
