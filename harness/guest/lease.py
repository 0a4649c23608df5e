"""Who may use a tape library now: a file on the media server's host, changed under a lock.

Argument: {"folder": DIR, "action": "take" | "release" | "list", "library": SERIAL, "owner": ID,
           "holder": TEXT, "reason": TEXT, "seconds": N, "queue": true, "manual": false, "force": false}
Prints:   {"granted": bool, "position": N, "lease": {...} | null, "waiting": [...]}, or a list of leases.

Only this machine's clock is read: those of the harness hosts need not agree.  A lease is whole or absent
after a crash (rename), and one that nobody renews ends by itself.  Taking what one has already renews it.
Who waits must ask again within WAITER_SECONDS, or loses his place.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
import time
from typing import Any

# The form of the file, which harnesses of several releases share; one without a number is of the first.
SCHEMA = 1
# Harnesses ask every few seconds; one that was killed holds nobody up for long.
WAITER_SECONDS = 60

Record = dict[str, Any]


def read(path: str) -> Record:
    """Return what is kept of a library, without what has run out."""
    try:
        with open(path, encoding="utf-8") as file:
            kept = json.load(file)
    except FileNotFoundError:
        kept = {"lease": None, "waiting": []}
    if kept.get("schema", SCHEMA) > SCHEMA:
        raise SystemExit(
            f"{path}: a newer Spanreel keeps this lease: it has schema {kept['schema']}, and this one knows "
            f"up to {SCHEMA}; use the newer one on this harness host, too"
        )
    now = time.time()
    lease = kept["lease"]
    if lease is not None and lease["expires"] <= now:
        lease = None
    waiting = [item for item in kept["waiting"] if item["asked"] + WAITER_SECONDS > now]
    return {"lease": lease, "waiting": waiting}


def write(path: str, kept: Record) -> None:
    """Replace the file in one step, and have it on disk."""
    partial = path + ".partial"
    with open(partial, "w", encoding="utf-8") as file:
        json.dump({"schema": SCHEMA, **kept}, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)
    folder = os.open(os.path.dirname(path), os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def take(kept: Record, wanted: Record) -> Record:
    """Grant, renew or queue; `kept` is changed."""
    now = time.time()
    lease, owner = kept["lease"], wanted["owner"]
    others = [item for item in kept["waiting"] if item["owner"] != owner]
    mine = next((item for item in kept["waiting"] if item["owner"] == owner), None)
    is_first = not kept["waiting"] or kept["waiting"][0] is mine
    if (lease is not None and lease["owner"] == owner) or (lease is None and is_first):
        by_hand = wanted.get("manual", False)
        if lease is None or (by_hand or not lease["manual"]):
            told = {key: wanted[key] for key in ("owner", "holder", "reason")}
            since = now if lease is None else lease["since"]
            kept["lease"] = {**told, "since": since, "expires": now + wanted["seconds"], "manual": by_hand}
        else:
            # A run of the lab for which a person took it: it stays his, and lasts as long as the run.
            lease["expires"] = max(lease["expires"], now + wanted["seconds"])
        kept["waiting"] = others
        return {"granted": True, "position": 0}
    if wanted.get("queue", True):
        if mine is None:
            mine = {"owner": owner, "holder": wanted["holder"], "reason": wanted["reason"], "since": now}
            kept["waiting"].append(mine)
        mine["asked"] = now
        return {"granted": False, "position": kept["waiting"].index(mine) + 1}
    return {"granted": False, "position": len(others) + 1}


def release(kept: Record, wanted: Record) -> Record:
    """Give back what one has or waits for; what a person took by hand only if a person says so."""
    lease, owner, force = kept["lease"], wanted["owner"], wanted.get("force", False)
    by_hand = wanted.get("manual", False)
    ends = lease is not None and (force or (lease["owner"] == owner and (by_hand or not lease["manual"])))
    if ends:
        kept["lease"] = None
    kept["waiting"] = [item for item in kept["waiting"] if item["owner"] != owner]
    return {"granted": False, "position": 0, "released": ends}


def listing(folder: str) -> list[Record]:
    """Return all libraries of which something is kept."""
    names = sorted(name for name in os.listdir(folder) if name.endswith(".json"))
    now = time.time()
    found = []
    for name in names:
        kept = read(os.path.join(folder, name))
        if kept["lease"] is not None:
            kept["lease"]["seconds_left"] = round(kept["lease"]["expires"] - now)
        found.append({"library": name.removesuffix(".json"), **kept})
    return found


def main(argument: Record) -> Any:
    """Do one thing under the lock."""
    folder = argument["folder"]
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "lock"), "a", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if argument["action"] == "list":
            return listing(folder)
        path = os.path.join(folder, argument["library"] + ".json")
        kept = read(path)
        answer = (take if argument["action"] == "take" else release)(kept, argument)
        write(path, kept)
        lease = kept["lease"]
        if lease is not None:
            lease["seconds_left"] = round(lease["expires"] - time.time())
        return {**answer, **kept}


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
