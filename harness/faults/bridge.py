"""A machine's link made bad where it meets the lab's bridge: nftables, family bridge, hook forward.

Only what goes from one port of the bridge to another passes that hook.  What a machine exchanges with the
host itself stays whole: SSH, the console, disks and tapes.  So a machine is cut off from its peers, and the
harness still reaches it.
"""

from __future__ import annotations

import re

from harness.errors import UsageError
from harness.faults.link import Bad

# Emulated processors move some MiB/s: what is slow between processes would not be noticed here.
SLOWER = 8
# nft(8): a limit lets through bursts up to this.  Segmentation offload makes packets of 64 KiB.
_BURST_BYTES = 256 << 10
_PARTS = 1000
_PORT = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


def made(port: str, bad: Bad) -> str:
    """Return the nft script that makes the link at a port bad; what was wrong with it before is over.

    Raises UsageError for a name that cannot be a port's.
    """
    rules = "".join(f"    {way} {port}{lost} drop\n" for way in _ways(bad) for lost in _lost(bad))
    chain = f"  chain link {{\n    type filter hook forward priority 0; policy accept;\n{rules}  }}"
    return f"{mended(port)}table bridge {_table(port)} {{\n{chain}\n}}\n"


def mended(port: str) -> str:
    """Return the nft script that takes everything away; nothing to take away is fine."""
    table = _table(port)
    return f"table bridge {table}\ndelete table bridge {table}\n"


def _ways(bad: Bad) -> list[str]:
    """Return how nft names the directions: what arrives at the machine leaves the bridge."""
    return [word for word, wrong in (("oifname", bad.arriving), ("iifname", bad.leaving)) if wrong]


def _lost(bad: Bad) -> list[str]:
    """Return which packets are lost, one rule each; "" is all of them."""
    if bad.cut:
        return [""]
    found = []
    if bad.loss > 0:
        found.append(f" numgen random mod {_PARTS} < {round(bad.loss * _PARTS)}")
    if bad.bytes_per_second is not None:
        rate = bad.bytes_per_second // SLOWER
        found.append(f" limit rate over {rate} bytes/second burst {_BURST_BYTES} bytes")
    return found


def _table(port: str) -> str:
    if not _PORT.fullmatch(port):
        raise UsageError(f"{port!r} is no port of a bridge")
    return f"bad_{port}"
