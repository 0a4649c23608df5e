"""Takes one data connection and throws away what comes: the other end of a stream that is measured alone.

`python -m tests.bench.sink ADDRESS SKIP` says its port, then how many bytes came behind the first SKIP.
"""

from __future__ import annotations

import socket
import sys

from appliance.ndmp import dataconn

RECORD = 262144


def main(address: str, skip: int) -> None:
    """Serve once."""
    listener = dataconn.listen(address)
    sys.stdout.write(f"{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    stream, _ = listener.accept()
    dataconn.tune(stream)
    buffer = bytearray(RECORD)
    count = -skip
    while got := stream.recv_into(buffer, 0, socket.MSG_WAITALL):
        count += got
    sys.stdout.write(f"{count}\n")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
