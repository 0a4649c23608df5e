"""What a machine has of what a lab needs; changes nothing.

Argument: {"folders": {NAME: DIR}, "binds": [[ADDRESS, PORT]...], "tools": [NAME...]}
Prints:   {"python": [3, 11], "machine": "x86_64", "root": bool, "systemd": bool, "free": {NAME: BYTES},
           "binds": [[ADDRESS, PORT, ERROR]...], "missing": [NAME...], "time": SECONDS}
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import socket
import sys
import time
from typing import Any


def free(folder: str) -> int:
    """Return the bytes free where a folder is or would be made."""
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    return shutil.disk_usage(folder).free


def bind_error(address: str, port: int) -> str:
    """Return why nobody could listen there, "" if somebody could."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
            probe.listen(1)
        except OSError as error:
            return os.strerror(error.errno or 0)
    return ""


def main(argument: dict[str, Any]) -> dict[str, Any]:
    """Look at everything."""
    errors = [[address, port, bind_error(address, port)] for address, port in argument["binds"]]
    return {
        "python": list(sys.version_info[:2]),
        "machine": platform.machine(),
        "root": os.geteuid() == 0,
        "systemd": os.path.isdir("/run/systemd/system"),
        "free": {name: free(folder) for name, folder in argument["folders"].items()},
        "binds": [item for item in errors if item[2]],
        "missing": [name for name in argument["tools"] if shutil.which(name) is None],
        "time": time.time(),
    }


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
