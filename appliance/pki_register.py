"""What the authority has made, and what of it counts no more: renewing and revoking certificates.

Copies of all certificates lie in the authority's folder `issued`, the list of those revoked is its crl.pem.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from appliance.errors import ConfigurationError
from appliance.files import replace_file
from appliance.pki import (
    ISSUED,
    NODE_CERTIFICATE,
    NODE_KEY,
    REVOKED,
    load_authority,
    make_directory,
    pem_of,
    put_public,
    request_of,
    serial_text,
    write_pair,
)

# At most 20 bytes (RFC 5280, 4.1.2.2); fewer than 16 digits is a mistyped name rather.
_SERIAL: Final = re.compile(r"[0-9a-f]{16,40}")


def issued(authority: Path) -> list[x509.Certificate]:
    """Return every certificate that the authority in this directory keeps a copy of, the oldest first."""
    try:
        found = [
            x509.load_pem_x509_certificate(path.read_bytes()) for path in (authority / ISSUED).glob("*.pem")
        ]
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"{authority / ISSUED}: a certificate there cannot be read: {error}"
        ) from error
    return sorted(found, key=lambda each: each.not_valid_before_utc)


@dataclass(frozen=True)
class Listed:
    """One certificate; `state` is valid, expired or revoked."""

    name: str
    roles: tuple[str, ...]
    serial: str
    until: datetime
    state: str

    def json(self) -> dict[str, object]:
        """The certificate as a JSON object."""
        return {**asdict(self), "until": self.until.isoformat()}


def listing(authority: Path, now: datetime | None = None) -> list[Listed]:
    """Return all certificates that were made."""
    made = load_authority(authority)
    moment, revoked = now or datetime.now(UTC), made.revoked_serials()
    found = []
    for each in issued(authority):
        request = request_of(each)
        state = "expired" if each.not_valid_after_utc < moment else "valid"
        if each.serial_number in revoked:
            state = "revoked"
        serial = serial_text(each.serial_number)
        found.append(Listed(request.name, request.roles, serial, each.not_valid_after_utc, state))
    return found


def renew(
    authority: Path, out: Path, name: str, *, new_key: bool = False, now: datetime | None = None
) -> tuple[Path, datetime]:
    """Make a new certificate for the node `name` and return its directory, `out`/NAME, and its end.

    Roles and address are those of its last certificate, and so is the key unless `new_key`: then node.key is
    there too, and must go to the node with the certificate.  Raises ConfigurationError when the authority has
    made none for this node, or the key to keep belongs to a certificate that was revoked.
    """
    made = load_authority(authority)
    last = _last_certificate(authority, out, name)
    if not new_key and last.serial_number in made.revoked_serials():
        raise ConfigurationError(
            f"the key of {name} was revoked with its certificate; renew it with --new-key"
        )
    directory = out / name
    make_directory(directory)
    request = request_of(last)
    moment = now or datetime.now(UTC)
    public_key = last.public_key()
    if new_key:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = made.sign(request, key.public_key(), moment)
        write_pair(directory, NODE_KEY, key, NODE_CERTIFICATE, certificate)
    else:
        if not isinstance(public_key, ec.EllipticCurvePublicKey):
            raise ConfigurationError(f"the certificate of {name} is none that `spanreel ca issue` made")
        certificate = made.sign(request, public_key, moment)
        replace_file(directory / NODE_CERTIFICATE, pem_of(certificate))
    put_public(authority, made, directory, certificate)
    return directory, certificate.not_valid_after_utc


def revoke(authority: Path, what: str, now: datetime | None = None) -> list[int]:
    """Revoke all certificates of the node `what`, or the one with this serial number; write crl.pem.

    Returns the serial numbers.  Raises ConfigurationError when there is no such node or number.
    """
    made = load_authority(authority)
    serials = [each.serial_number for each in issued(authority) if request_of(each).name == what]
    digits = what.replace(":", "").lower()
    if not serials and _SERIAL.fullmatch(digits):
        serials = [int(digits, 16)]
    if not serials:
        raise ConfigurationError(f"{authority} has made no certificate for {what}; see `spanreel ca list`")
    made = made.revoking(serials, now or datetime.now(UTC))
    assert made.revoked is not None, "just made"
    replace_file(authority / REVOKED, made.revoked.public_bytes(serialization.Encoding.PEM))
    return serials


def _last_certificate(authority: Path, out: Path, name: str) -> x509.Certificate:
    mine = [each for each in issued(authority) if request_of(each).name == name]
    if mine:
        return mine[-1]
    # Made before the authority kept copies.
    file = out / name / NODE_CERTIFICATE
    try:
        return x509.load_pem_x509_certificate(file.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"{authority} has made no certificate for {name}, and {file}: {error}; use `spanreel ca issue`"
        ) from error
