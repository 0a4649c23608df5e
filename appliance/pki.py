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
from collections.abc import Iterable
from dataclasses import dataclass, replace
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
REVOKED: Final = "crl.pem"
# Copies of all certificates made, by serial number: what `ca list`, `renew` and `revoke` go by.
ISSUED: Final = "issued"

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
    make_directory(directory)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Spanreel cluster authority")])
    builder = _builder(name, name, key.public_key(), now or datetime.now(UTC), AUTHORITY_VALIDITY)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_key_usage(authority=True), critical=True)
    builder = _with_key_identifiers(builder, key.public_key(), key.public_key())
    write_pair(directory, AUTHORITY_KEY, key, AUTHORITY_CERTIFICATE, builder.sign(key, hashes.SHA256()))


def issue(authority: Path, out: Path, request: NodeRequest, now: datetime | None = None) -> Path:
    """Make key and certificate for a node and return their directory, `out`/NAME.

    It holds ca.pem, node.pem, node.key (mode 0600) and crl.pem; an older set there is replaced.  Raises
    ConfigurationError when `authority` is none or its key is not 0600.
    """
    made = load_authority(authority)
    directory = out / request.name
    make_directory(directory)
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = made.sign(request, key.public_key(), now or datetime.now(UTC))
    write_pair(directory, NODE_KEY, key, NODE_CERTIFICATE, certificate)
    put_public(authority, made, directory, certificate)
    return directory


def put_public(authority: Path, made: Authority, directory: Path, certificate: x509.Certificate) -> None:
    """Keep a copy of a certificate with the authority; give the node what everybody may read."""
    make_directory(authority / ISSUED)
    replace_file(authority / ISSUED / f"{serial_text(certificate.serial_number)}.pem", pem_of(certificate))
    replace_file(directory / AUTHORITY_CERTIFICATE, pem_of(made.certificate))
    if made.revoked is None:
        made = made.revoking((), datetime.now(UTC))
        assert made.revoked is not None, "just made"
        replace_file(authority / REVOKED, made.revoked.public_bytes(serialization.Encoding.PEM))
    assert made.revoked is not None, "made above"
    replace_file(directory / REVOKED, made.revoked.public_bytes(serialization.Encoding.PEM))


def request_of(certificate: x509.Certificate) -> NodeRequest:
    """Return what a node's certificate was made for.  Raises ConfigurationError for any other."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        raise ConfigurationError("the certificate is no node's: it has no subjectAltName") from None
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    nodes = [uri.removeprefix(NODE_URI) for uri in uris if uri.startswith(NODE_URI)]
    if len(nodes) != 1:
        raise ConfigurationError(f"the certificate is no node's: it names {len(nodes)} nodes")
    roles = tuple(uri.removeprefix(ROLE_URI) for uri in uris if uri.startswith(ROLE_URI))
    addresses = names.get_values_for_type(x509.IPAddress)
    return NodeRequest(nodes[0], roles, str(addresses[0]) if addresses else None)


def serial_text(serial: int) -> str:
    """A serial number as people and files have it."""
    return f"{serial:x}"


@dataclass(frozen=True)
class Authority:
    """A loaded authority, and its list of revoked certificates when it has one."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate
    revoked: x509.CertificateRevocationList | None

    def sign(
        self, request: NodeRequest, public_key: ec.EllipticCurvePublicKey, moment: datetime
    ) -> x509.Certificate:
        """Make a certificate for a node's key."""
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, request.name)])
        builder = _builder(subject, self.certificate.subject, public_key, moment, NODE_VALIDITY)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(_key_usage(authority=False), critical=True)
        # Every node is server to some peers and client to others.
        purposes = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
        builder = builder.add_extension(purposes, critical=False)
        builder = builder.add_extension(_names(request), critical=False)
        builder = _with_key_identifiers(builder, public_key, self.key.public_key())
        return builder.sign(self.key, hashes.SHA256())

    def revoked_serials(self) -> frozenset[int]:
        """Serial numbers that do not count any more."""
        return frozenset(each.serial_number for each in self.revoked or ())

    def revoking(self, serials: Iterable[int], moment: datetime) -> Authority:
        """The authority with these revoked too."""
        number = 1
        builder = x509.CertificateRevocationListBuilder().issuer_name(self.certificate.subject)
        for known in self.revoked or ():
            builder = builder.add_revoked_certificate(known)
        if self.revoked is not None:
            number += self.revoked.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
        for serial in set(serials) - self.revoked_serials():
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(moment)
            builder = builder.add_revoked_certificate(entry.build())
        signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        # Nodes refuse everybody once their list is out of date: it must not be, for want of news.
        builder = builder.last_update(moment - CLOCK_TOLERANCE).next_update(moment + AUTHORITY_VALIDITY)
        builder = builder.add_extension(signer, critical=False)
        builder = builder.add_extension(x509.CRLNumber(number), critical=False)
        return replace(self, revoked=builder.sign(self.key, hashes.SHA256()))


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


def load_authority(directory: Path) -> Authority:
    """Return the authority in a directory.  Raises ConfigurationError when there is none that can be used."""
    key_file, revoked_file = directory / AUTHORITY_KEY, directory / REVOKED
    try:
        key = serialization.load_pem_private_key(read_secret(key_file), password=None)
        certificate = x509.load_pem_x509_certificate((directory / AUTHORITY_CERTIFICATE).read_bytes())
        revoked = x509.load_pem_x509_crl(revoked_file.read_bytes()) if revoked_file.exists() else None
    except (OSError, ValueError, TypeError) as error:
        raise ConfigurationError(f"{directory}: no usable authority: {error}; `spanreel ca init`?") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ConfigurationError(f"{key_file}: not a key that `spanreel ca init` made")
    return Authority(key, certificate, revoked)


def write_pair(
    directory: Path,
    key_name: str,
    key: ec.EllipticCurvePrivateKey,
    certificate_name: str,
    certificate: x509.Certificate,
) -> None:
    """Write a key, which only its owner can read, and its certificate."""
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    replace_file(directory / key_name, pem, mode=_KEY_MODE)
    replace_file(directory / certificate_name, pem_of(certificate))


def pem_of(certificate: x509.Certificate) -> bytes:
    """A certificate as files have it."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def make_directory(directory: Path) -> None:
    """Make a directory and those above it.  Raises InfrastructureError."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InfrastructureError(f"cannot make {directory}: {error.strerror}") from error
