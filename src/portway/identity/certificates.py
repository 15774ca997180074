"""Keys, requests and certificates, all as PEM, and the names in them. Pure but for randomness.

ECDSA on P-256 everywhere: a key is made in microseconds, and both Envoy and gRPC take it. Sources: RFC 5280, RFC 6125,
SPIFFE's X509-SVID (one URI among the names says who it is).
"""

import datetime as dt
from collections.abc import Sequence

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

BACKDATED = dt.timedelta(minutes=10)
"""A certificate is valid from a little before it was made: clocks of machines differ."""
MIN_RSA_BITS = 2048  # NIST SP 800-131A


class CertificateProblem(Exception):
    """A request, certificate or key that cannot be used. The message says why."""


class Credentials(msgspec.Struct, frozen=True, kw_only=True):
    """Who somebody is and whom they believe, PEM throughout."""

    certificates: bytes
    """The own certificate first, then those between it and the authority, if there are any."""
    key: bytes = msgspec.field(default=b"")
    """Never logged."""
    authorities: bytes
    not_before: dt.datetime
    not_after: dt.datetime

    def __repr__(self) -> str:
        return f"Credentials(until {self.not_after:%Y-%m-%dT%H:%MZ})"


def make_key() -> bytes:
    """A new private key."""
    return encode_key(ec.generate_private_key(ec.SECP256R1()))


def encode_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def load_key(pem: bytes) -> CertificateIssuerPrivateKeyTypes:
    """Raises CertificateProblem: it is no private key that can sign."""
    try:
        key = load_pem_private_key(pem, None)
    except (ValueError, TypeError) as error:
        raise CertificateProblem(f"is no private key: {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey):
        raise CertificateProblem(f"is a key of another kind: {type(key).__name__}")
    return key


def make_request(key: bytes) -> bytes:
    """A request for a certificate of this key. It names nobody: who it is for is what the token proves."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(load_key(key), hashes.SHA256()).public_bytes(Encoding.PEM)


def parse_request(pem: bytes) -> x509.CertificateSigningRequest:
    """A request whose sender has the key, and a key that is strong enough. All else in it is ignored.

    Raises:
        CertificateProblem: it is not.
    """
    try:
        request = x509.load_pem_x509_csr(pem)
        if not request.is_signature_valid:
            raise CertificateProblem("the request is not signed with its own key")
        key = request.public_key()
    except (ValueError, TypeError, InvalidSignature, x509.InvalidVersion) as error:
        raise CertificateProblem(f"the request cannot be read: {error}") from error
    match key:
        case ec.EllipticCurvePublicKey() if key.curve.key_size >= 256:
            return request
        case rsa.RSAPublicKey() if key.key_size >= MIN_RSA_BITS:
            return request
        case ed25519.Ed25519PublicKey():
            return request
    raise CertificateProblem("the request's key is too weak; use ECDSA P-256")


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """Whom a certificate is for and what for."""

    common_name: str
    """For people; nothing is decided by it. At most 64 characters count."""
    uri: str
    """The SPIFFE ID."""
    dns_names: tuple[str, ...] = ()
    server: bool = False
    client: bool = False


def sign(
    subject: Subject,
    public_key: x509.CertificateSigningRequest | bytes,
    authority: tuple[bytes, bytes],
    *,
    now: dt.datetime,
    lifetime: dt.timedelta,
) -> tuple[bytes, dt.datetime]:
    """A certificate, and when it ends: never later than its authority.

    Args:
        public_key: of a checked request, or of the private key given.
        authority: certificate and key that sign.
    """
    issuer = x509.load_pem_x509_certificate(authority[0])
    owner = (load_key(public_key) if isinstance(public_key, bytes) else public_key).public_key()
    end = min(now + lifetime, issuer.not_valid_after_utc)
    uses = [ExtendedKeyUsageOID.SERVER_AUTH] * subject.server + [ExtendedKeyUsageOID.CLIENT_AUTH] * subject.client
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(subject.uri)]
    names += [x509.DNSName(name) for name in subject.dns_names]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject.common_name[:64])]))
        .issuer_name(issuer.subject)
        .public_key(owner)
        .serial_number(x509.random_serial_number())
        .not_valid_before(max(now - BACKDATED, issuer.not_valid_before_utc))
        .not_valid_after(end)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        .add_extension(key_usage(signs_certificates=False), critical=True)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key()),  # type: ignore[arg-type]  # ours
            critical=False,
        )
        .sign(load_key(authority[1]), hashes.SHA256())
    )
    return certificate.public_bytes(Encoding.PEM), end


def key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def load_certificates(pem: bytes) -> Sequence[x509.Certificate]:
    """At least one. Raises CertificateProblem: there is none, or one of them is damaged."""
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise CertificateProblem(f"holds no certificate: {error}") from error


def make_credentials(certificates: bytes, key: bytes, authorities: bytes) -> Credentials:
    """Check that the parts fit one another.

    Raises:
        CertificateProblem: a part cannot be read, or the key is another certificate's.
    """
    own = load_certificates(certificates)[0]
    load_certificates(authorities)
    if load_key(key).public_key() != own.public_key():
        raise CertificateProblem("the key does not belong to the certificate")
    return Credentials(
        certificates=certificates,
        key=key,
        authorities=authorities,
        not_before=own.not_valid_before_utc,
        not_after=own.not_valid_after_utc,
    )


def uris_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """The URIs among its names."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(names.get_values_for_type(x509.UniformResourceIdentifier))
