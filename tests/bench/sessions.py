"""What a server's idle sessions cost."""

from __future__ import annotations

import contextlib
from typing import Any

from appliance.ndmp.client import Client
from tests.bench.figures import Figure, rss_mib

SESSIONS = 200


def run(info: dict[str, Any], pids: dict[str, int]) -> list[Figure]:
    """Open sessions with a file server and a media server, and look at the processes' memory."""
    figures = []
    for name in ("fs1", info["tape"]["node"]):
        node = next(each for each in info["nodes"] if each["name"] == name)
        before = rss_mib(pids[name])
        with contextlib.ExitStack() as stack:
            for _ in range(SESSIONS):
                client = Client.connect((node["address"], node["ndmp_port"]), name)
                stack.enter_context(client)
                client.login(node["ndmp_user"], node["ndmp_password"])
            after = rss_mib(pids[name])
        figures.append(Figure(f"{name}: memory with {SESSIONS} idle sessions", after, "MiB", "under 200 MB"))
        figures.append(Figure(f"{name}: of that for the sessions", after - before, "MiB"))
    return figures
