"""TLS between two ends of a test."""

from __future__ import annotations

import ssl
from pathlib import Path

from appliance import pki


def contexts(folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's and a client's context of one cluster."""
    pki.create_authority(folder / "ca")
    tls = pki.issue(folder / "ca", folder / "tls", pki.parse_request("fs1=file-server@127.0.0.1"))
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for context in made:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(tls / "ca.pem")
        context.load_cert_chain(tls / "node.pem", tls / "node.key")
    made[0].num_tickets = 0
    return made
