"""The cluster's own certificate authority: who is which node, and which roles it has.

A node's certificate carries, as subjectAltName,

    URI spanreel:node:fs1
    URI spanreel:role:file-server        one for each role
    IP  10.77.0.11                       when the address is known

and nodes check each other by these (`tls.py`), never by host name.  Only this module imports
`cryptography`; nodes need it not.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from appliance.errors import ConfigurationError, InfrastructureError
from appliance.files import read_secret, replace_file
from appliance.roles import NODE_NAME, NODE_URI, ROLE_URI, ROLES

AUTHORITY_CERTIFICATE: Final = "ca.pem"
AUTHORITY_KEY: Final = "ca.key"
NODE_CERTIFICATE: Final = "node.pem"
NODE_KEY: Final = "node.key"

# Ten years for the authority, so that it outlives the machines; two for nodes, so that renewing is
# practised before it is forgotten.
AUTHORITY_VALIDITY: Final = timedelta(days=3650)
NODE_VALIDITY: Final = timedelta(days=730)

# Clocks of nodes may be behind (restored guests by the time they were saved): certificates hold from
# the day before they were made.
CLOCK_TOLERANCE: Final = timedelta(days=1)

_KEY_MODE: Final = 0o600


@dataclass(frozen=True, slots=True)
class NodeRequest:
    """A node that is to get a certificate; `address` is an IP address or None."""

    name: str
    roles: tuple[str, ...]
    address: str | None = None


def parse_request(text: str) -> NodeRequest:
    """Return the request written as NAME=ROLE[+ROLE…][@ADDRESS]; raises ConfigurationError."""
    name, equals, rest = text.partition("=")
    roles, at, address = rest.partition("@")
    if not equals or not NODE_NAME.fullmatch(name):
        raise ConfigurationError(f"{text!r}: must be NAME=ROLE[+ROLE…][@ADDRESS], NAME of a-z, 0-9 and -")
    wanted = tuple(dict.fromkeys(roles.split("+")))
    for role in wanted:
        if role not in ROLES:
            raise ConfigurationError(f"{text!r}: no role {role!r}; allowed: {', '.join(ROLES)}")
    if at:
        _parse_address(text, address)
    return NodeRequest(name, wanted, address if at else None)


def _parse_address(text: str, address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        return ipaddress.ip_address(address)
    except ValueError:
        raise ConfigurationError(f"{text!r}: {address!r} is not an IP address") from None


def create_authority(directory: Path, now: datetime | None = None) -> None:
    """Make a new authority in `directory`: ca.pem, and ca.key which stays with the operator.

    Raises ConfigurationError when there is one already, since replacing it would cut off every node.
    """
    if (directory / AUTHORITY_KEY).exists() or (directory / AUTHORITY_CERTIFICATE).exists():
        raise ConfigurationError(f"{directory} holds an authority already; choose another directory")
    _make_directory(directory)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Spanreel cluster authority")])
    builder = _builder(name, name, key.public_key(), now or datetime.now(UTC), AUTHORITY_VALIDITY)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_key_usage(authority=True), critical=True)
    builder = _with_key_identifiers(builder, key.public_key(), key.public_key())
    _write(directory, AUTHORITY_KEY, key, AUTHORITY_CERTIFICATE, builder.sign(key, hashes.SHA256()))


def issue(authority: Path, out: Path, request: NodeRequest, now: datetime | None = None) -> Path:
    """Make key and certificate for a node and return their directory, `out`/NAME.

    It holds ca.pem, node.pem and node.key (mode 0600); an older set there is replaced.  Raises
    ConfigurationError when `authority` is none or its key is not 0600.
    """
    authority_key, authority_certificate = _load_authority(authority)
    directory = out / request.name
    _make_directory(directory)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, request.name)])
    moment = now or datetime.now(UTC)
    builder = _builder(subject, authority_certificate.subject, key.public_key(), moment, NODE_VALIDITY)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_key_usage(authority=False), critical=True)
    # Every node is server to some peers and client to others.
    purposes = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    builder = builder.add_extension(purposes, critical=False)
    builder = builder.add_extension(_names(request), critical=False)
    builder = _with_key_identifiers(builder, key.public_key(), authority_key.public_key())
    _write(directory, NODE_KEY, key, NODE_CERTIFICATE, builder.sign(authority_key, hashes.SHA256()))
    replace_file(directory / AUTHORITY_CERTIFICATE, _pem(authority_certificate))
    return directory


def _names(request: NodeRequest) -> x509.SubjectAlternativeName:
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(NODE_URI + request.name)]
    names += [x509.UniformResourceIdentifier(ROLE_URI + role) for role in request.roles]
    if request.address is not None:
        names.append(x509.IPAddress(_parse_address(request.name, request.address)))
    return x509.SubjectAlternativeName(names)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    now: datetime,
    validity: timedelta,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_TOLERANCE)
        .not_valid_after(now + validity)
    )


def _with_key_identifiers(
    builder: x509.CertificateBuilder,
    subject: ec.EllipticCurvePublicKey,
    authority: ec.EllipticCurvePublicKey,
) -> x509.CertificateBuilder:
    # Strict verifiers (Python 3.13's default) refuse certificates without these two.
    own = x509.SubjectKeyIdentifier.from_public_key(subject)
    signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority)
    return builder.add_extension(own, critical=False).add_extension(signer, critical=False)


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _load_authority(directory: Path) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key_file = directory / AUTHORITY_KEY
    try:
        key = serialization.load_pem_private_key(read_secret(key_file), password=None)
        certificate = x509.load_pem_x509_certificate((directory / AUTHORITY_CERTIFICATE).read_bytes())
    except (OSError, ValueError, TypeError) as error:
        raise ConfigurationError(f"{directory}: no usable authority: {error}; `spanreel ca init`?") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ConfigurationError(f"{key_file}: not a key that `spanreel ca init` made")
    return key, certificate


def _write(
    directory: Path,
    key_name: str,
    key: ec.EllipticCurvePrivateKey,
    certificate_name: str,
    certificate: x509.Certificate,
) -> None:
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    replace_file(directory / key_name, pem, mode=_KEY_MODE)
    replace_file(directory / certificate_name, _pem(certificate))


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _make_directory(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InfrastructureError(f"cannot make {directory}: {error.strerror}") from error
