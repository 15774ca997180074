"""Certificates for tests, made in memory: authorities, servers, clients; good, expired and mismatching ones."""

import ipaddress
import ssl
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_CA_USAGE = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)
PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


class KeyPair(msgspec.Struct, frozen=True, kw_only=True):
    """A certificate and a key, both PEM. They belong together unless a test made them otherwise."""

    certificate: str
    key: str

    def __repr__(self) -> str:
        return f"KeyPair(<{len(self.certificate)} bytes>, <redacted>)"

    def serial(self) -> str:
        """Serial number of the certificate in hexadecimal digits, to tell one from its successor."""
        return f"{x509.load_pem_x509_certificate(self.certificate.encode()).serial_number:x}"


class Authority:
    """A certificate authority that issues what a test asks for."""

    def __init__(self, name: str = "Portway test authority") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = datetime.now(UTC)
        self._certificate = (
            _builder(subject, subject, self._key, now - timedelta(hours=1), now + timedelta(days=30))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
            .add_extension(_CA_USAGE, critical=True)
            .sign(self._key, hashes.SHA256())
        )

    @property
    def certificate(self) -> str:
        """The authority's own certificate, PEM."""
        return _certificate_pem(self._certificate)

    def issue(
        self,
        *names: str,
        not_before: datetime | None = None,
        not_after: datetime | None = None,
        with_rsa: bool = False,
    ) -> KeyPair:
        """A certificate for these DNS names and IP addresses, good as a server and as a client.

        Args:
            names: the first is also the common name; wildcards are allowed.
            not_before: default: an hour ago.
            not_after: default: in 30 days.
            with_rsa: with an RSA key (2,048 bits) instead of an elliptic curve's (P-256).
        """
        key = rsa.generate_private_key(65537, 2048) if with_rsa else ec.generate_private_key(ec.SECP256R1())
        now = datetime.now(UTC)
        certificate = (
            _builder(
                x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])]),
                self._certificate.subject,
                key,
                not_before or now - timedelta(hours=1),
                not_after or now + timedelta(days=30),
            )
            .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
                critical=False,
            )
            .add_extension(self._identifier(), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return KeyPair(certificate=_certificate_pem(certificate), key=_key_pem(key))

    def issue_user(self, name: str, groups: Sequence[str] = ()) -> KeyPair:
        """A client certificate of a Kubernetes user: common name is the name, organisations are the groups."""
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.now(UTC)
        subject = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
        certificate = (
            _builder(
                x509.Name([*subject, x509.NameAttribute(NameOID.COMMON_NAME, name)]),
                self._certificate.subject,
                key,
                now - timedelta(hours=1),
                now + timedelta(days=30),
            )
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
            .add_extension(self._identifier(), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return KeyPair(certificate=_certificate_pem(certificate), key=_key_pem(key))

    def _identifier(self) -> x509.AuthorityKeyIdentifier:
        # Python 3.13's default context refuses certificates without it (VERIFY_X509_STRICT, RFC 5280 §4.2.1.1).
        public_key = self._key.public_key()
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(public_key)

    def issue_expired(self, *names: str) -> KeyPair:
        """One that ended yesterday."""
        now = datetime.now(UTC)
        return self.issue(*names, not_before=now - timedelta(days=10), not_after=now - timedelta(days=1))

    def issue_mismatching(self, *names: str) -> KeyPair:
        """A certificate with a key that is not its own."""
        return KeyPair(certificate=self.issue(*names).certificate, key=self.issue(*names).key)


def record_server_names(context: ssl.SSLContext) -> None:
    """Remember, per connection of this server context, the name that the client asks for (Python does not keep it)."""

    def record(connection: ssl.SSLObject | ssl.SSLSocket, name: str | None, _: ssl.SSLContext) -> None:
        # An attribute, not a dictionary by connection: it goes when the connection goes.
        vars(connection)["portway_server_name"] = name or ""

    context.sni_callback = record


def server_name(connection: ssl.SSLObject) -> str:
    """The name asked for on this connection of a recording context; empty when the client sent none."""
    name: object = vars(connection).get("portway_server_name", "")
    return name if isinstance(name, str) else ""


def server_context(pair: KeyPair, *, alpn: Sequence[str] = (), client_authority: str | None = None) -> ssl.SSLContext:
    """A context for TLS servers.

    Args:
        pair: what the server shows.
        alpn: protocols offered, in the order of preference; none: no ALPN.
        client_authority: PEM; a client certificate is asked for and verified if one comes, none is allowed.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _load(context, pair)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    if client_authority is not None:
        context.verify_mode = ssl.CERT_OPTIONAL
        context.load_verify_locations(cadata=client_authority)
    return context


def client_context(authority: str | None, *, alpn: Sequence[str] = (), pair: KeyPair | None = None) -> ssl.SSLContext:
    """A context for TLS clients.

    Args:
        authority: PEM of the authority to trust; `None`: accept any certificate.
        alpn: protocols offered, in the order of preference; none: no ALPN.
        pair: the client's own certificate, if it has one.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if authority is None:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        context.load_verify_locations(cadata=authority)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    if pair is not None:
        _load(context, pair)
    return context


def _load(context: ssl.SSLContext, pair: KeyPair) -> None:
    # OpenSSL's interface in Python reads key pairs from files only.
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
        file.write(pair.certificate + pair.key)
        file.flush()
        context.load_cert_chain(file.name)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: PrivateKey, not_before: datetime, not_after: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_after)
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _certificate_pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _key_pem(key: PrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
