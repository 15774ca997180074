"""Key material: from Secrets and ConfigMaps to what proxies can use, checked before it is sent.

A proxy that is given a certificate it cannot load refuses the secret, and with it whatever waits for it. So everything
a proxy would refuse is found here and becomes a sentence for the owner: wrong type, missing entry, malformed PEM, a
key of another certificate. An expired certificate is served all the same (as ingress-nginx does) and reported.

Sources: Kubernetes, "TLS Secrets"; Gateway API, `GatewayTLSConfig.certificateRefs` (a reference that cannot be used is
`InvalidCertificateRef`).
"""

from datetime import UTC, datetime
from typing import Final

import msgspec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import ExtensionOID, NameOID

from portway.incremental import Context, bind, query
from portway.model.handles import EDGE, FALLBACK_CERTIFICATE, SECRET
from portway.model.names import SecretKey, SecretUse
from portway.model.tls import PrivateKey, Secret
from portway.objects.core_v1 import ConfigMap
from portway.objects.core_v1 import Secret as SecretObject
from portway.objects.verdict import ObjectKey, readable
from portway.store import read_object
from portway.translate.absent import is_unread

RENEW: Final = "put a renewed certificate there"
"""What to do about an expired certificate."""
TLS_TYPE = "kubernetes.io/tls"
MIN_RSA_BITS = 2048  # BoringSSL in Envoy refuses smaller server keys: "RSA key size below 2048 bits".


class Certificate(msgspec.Struct, frozen=True, kw_only=True):
    """What a source of key material is good for."""

    problem: str = ""
    """Why it cannot be used; empty: it can."""
    remedy: str = ""
    """What to do about it."""
    missing: bool = False
    """The problem is that the object does not exist."""
    secret: Secret | None = None


def names_of(leaf: x509.Certificate) -> tuple[str, ...]:
    """The DNS names that a certificate covers, lower case, sorted; its common name where it has no alternative
    names."""
    try:
        extension = leaf.extensions.get_extension_for_oid(ExtensionOID.SUBJECT_ALTERNATIVE_NAME).value
    except (x509.ExtensionNotFound, ValueError):
        names = [str(name.value) for name in leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    else:
        names = (
            extension.get_values_for_type(x509.DNSName) if isinstance(extension, x509.SubjectAlternativeName) else []
        )
    return tuple(sorted({name.lower() for name in names}))


def covers(names: tuple[str, ...], host: str) -> bool:
    """Whether a certificate with these names is good for a host; a wildcard stands for one label (RFC 9525 §6.3)."""
    host = host.lower()
    parent = host.partition(".")[2]
    return host in names or (bool(parent) and f"*.{parent}" in names)


def is_for(found: Secret, host: str) -> bool:
    """Whether a certificate is good for a host, as far as one knows."""
    return found.is_unread or covers(found.names, host)


def _stand_in(ctx: Context, key: ObjectKey) -> Secret:
    """What counts as there and good, since it could not be read. It never gets to a proxy."""
    fallback = ctx.read(FALLBACK_CERTIFICATE, None)
    return msgspec.structs.replace(fallback, names=(), not_after=None, origins=(key,), is_unread=True)


def parse_certificate(chain: bytes, key: bytes, origins: tuple[ObjectKey, ...]) -> Certificate:
    """Check a certificate chain (PEM, leaf first) and its private key (PEM)."""
    problem, remedy, found = _checked(chain, key, origins)
    return Certificate(problem=problem, remedy=remedy, secret=found)


def _checked(chain: bytes, key: bytes, origins: tuple[ObjectKey, ...]) -> tuple[str, str, Secret | None]:
    """Problem and remedy, or the secret."""
    try:
        certificates = x509.load_pem_x509_certificates(chain)
    except ValueError:
        return "tls.crt holds no PEM certificates that can be read", "put the chain there in PEM form, leaf first", None
    leaf = certificates[0]
    try:
        private = load_pem_private_key(key, password=None)
    except TypeError:
        return "tls.key is encrypted", "store it without a passphrase", None
    except (ValueError, UnsupportedAlgorithm):
        return "tls.key holds no PEM private key that can be read", "put the key there in PEM form", None
    try:
        public = leaf.public_key()
        matches = public == private.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return "tls.crt has a key of an algorithm that proxies do not know", "use RSA or ECDSA", None
    if not matches:
        problem = "tls.key does not belong to the first certificate of tls.crt"
        return problem, "put the key there that the certificate was made for, and the leaf first into tls.crt", None
    if isinstance(public, RSAPublicKey):
        if public.key_size < MIN_RSA_BITS:
            return f"the RSA key has {public.key_size} bits", f"make one of {MIN_RSA_BITS} bits or more", None
    elif not isinstance(public, EllipticCurvePublicKey):
        return "tls.crt has a key of an algorithm that proxies do not know", "use RSA or ECDSA", None
    elif public.curve.name not in ("secp256r1", "secp384r1", "secp521r1"):
        return f"the ECDSA key is on the curve {public.curve.name}", "use P-256, P-384 or P-521", None
    found = Secret(
        # Written again from what was parsed: text around the PEM blocks is nobody's business.
        certificates=b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates),
        key=PrivateKey(key),
        names=names_of(leaf),
        not_after=leaf.not_valid_after_utc,
        origins=origins,
    )
    return "", "", found


_CREATE: Final = "create it with kubectl create secret tls, or name another Secret"


@query("certificate")
def certificate(ctx: Context, key: ObjectKey) -> Certificate:
    """The certificate in a Secret of type kubernetes.io/tls."""
    found = read_object(ctx, SecretObject, key.namespace, key.name)
    if found is None:
        if is_unread(ctx, key):
            return Certificate(secret=_stand_in(ctx, key))
        return Certificate(problem=f"{key} does not exist", remedy=_CREATE, missing=True)
    if found.type != TLS_TYPE:
        return Certificate(
            problem=f"{key} is of type {readable(found.type)}", remedy=f"make it anew with type {TLS_TYPE}"
        )
    chain, private = found.data.get("tls.crt"), found.data.get("tls.key")
    if not chain or not private:
        entry = "tls.crt" if not chain else "tls.key"
        return Certificate(problem=f"{key} has no {entry}", remedy=f"add {entry} in PEM form")
    parsed = parse_certificate(chain.reveal(), private.reveal(), (key,))
    return msgspec.structs.replace(parsed, problem=f"{key}: {parsed.problem}") if parsed.problem else parsed


@query("authorities")
def authorities(ctx: Context, key: ObjectKey) -> Certificate:
    """The CA certificates in `ca.crt` of a ConfigMap or Secret."""
    if key.kind == "ConfigMap":
        config_map = read_object(ctx, ConfigMap, key.namespace, key.name)
        text = None if config_map is None else config_map.data.get("ca.crt", "").encode()
    else:
        secret = read_object(ctx, SecretObject, key.namespace, key.name)
        entry = None if secret is None else secret.data.get("ca.crt")
        text = None if secret is None else (entry.reveal() if entry else b"")
    remedy = "put the CA certificates into ca.crt, in PEM form"
    if text is None and is_unread(ctx, key):
        return Certificate(secret=msgspec.structs.replace(_stand_in(ctx, key), key=None))
    if text is None:
        create = f"create it with the CA certificates in ca.crt, or name another {key.kind}"
        return Certificate(problem=f"{key} does not exist", remedy=create, missing=True)
    if not text.strip():
        return Certificate(problem=f"{key} has no ca.crt", remedy=remedy)
    try:
        certificates = x509.load_pem_x509_certificates(text)
    except ValueError:
        return Certificate(problem=f"{key}: ca.crt holds no PEM certificates that can be read", remedy=remedy)
    pem = b"".join(one.public_bytes(Encoding.PEM) for one in certificates)
    return Certificate(secret=Secret(certificates=pem, origins=(key,)))


def secret(ctx: Context, key: SecretKey) -> Secret | None:
    """What proxies are given under a key; `None` if nothing of it can be used.

    For a certificate that cannot be used the fallback stands in: a connection with a warning beats none.
    """
    if key.use is SecretUse.AUTHORITIES:
        usable = [found.secret for source in key.sources if (found := ctx.get(authorities, source)).secret is not None]
        if not usable:
            return None
        return Secret(
            certificates=b"".join(part.certificates for part in usable),
            origins=tuple(origin for part in usable for origin in part.origins),
        )
    if key.sources:
        return ctx.get(certificate, key.sources[0]).secret
    namespace, _, name = ctx.read(EDGE, None).default_certificate.partition("/")
    named = ctx.get(certificate, ObjectKey("Secret", namespace, name)).secret if name else None
    return named if named is not None else ctx.read(FALLBACK_CERTIFICATE, None)


def expiry_problem(found: Secret, now: datetime | None = None) -> str:
    """A sentence if the certificate has expired, else empty. The clock is an argument; only reports ask."""
    if found.not_after is None or found.not_after > (now or datetime.now(UTC)):
        return ""
    return f"expired on {found.not_after:%Y-%m-%d}; clients will refuse it"


BINDINGS = (bind(SECRET, secret),)
