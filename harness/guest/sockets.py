"""Watches a machine's table of TCP sockets until its input ends.

Argument: none.  Prints `watching` once the connections that are there already are known, then, at the
end, the new ones as lines of /proc/net/tcp: number, both ends, state.
"""

from __future__ import annotations

import sys
import threading

TABLE = "/proc/net/tcp"
# Closed connections stay in the table as TIME_WAIT for a minute, so none can slip between two looks.
PERIOD_SECONDS = 0.05
# A listener is no connection, and SYN_SENT not one yet (include/net/tcp_states.h).
NO_CONNECTION = ("0A", "02")


def look() -> set[tuple[str, str]]:
    """Return both ends of every connection."""
    with open(TABLE, encoding="ascii") as file:
        lines = [line.split() for line in file.readlines()[1:]]
    return {(fields[1], fields[2]) for fields in lines if fields[3] not in NO_CONNECTION}


def main() -> None:
    """Watch, then tell."""
    ended = threading.Event()

    def listen() -> None:
        sys.stdin.buffer.read()
        ended.set()

    before = look()
    print("watching", flush=True)
    threading.Thread(target=listen, daemon=True).start()
    seen: set[tuple[str, str]] = set()
    while not ended.wait(PERIOD_SECONDS):
        seen |= look()
    for number, (here, there) in enumerate(sorted((seen | look()) - before)):
        print(f"{number}: {here} {there} 01")


if __name__ == "__main__":
    main()
