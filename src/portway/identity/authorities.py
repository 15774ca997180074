"""The authorities that sign Portway's certificates, and how one follows another. Pure but for randomness.

    day 0      A is made: it signs, all believe it
    day 365    B is made and published beside A; A still signs
    + 1 day    B signs: whoever may be shown one of its certificates has had a day to hear of it
    + 30 days  A is forgotten; the last certificate that it signed ended 29 days ago

All of it follows from the dates in the certificates, so replicas that read the same Secret do the same, and nothing has
to be remembered. Clocks may jump: an authority is dropped only for a successor that has served its time, one from the
future does not sign, and one that has ended still does if there is no other, for then all would be lost anyway.
"""

import datetime as dt
from collections.abc import Mapping, Sequence

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from portway.identity.certificates import (
    BACKDATED,
    CertificateProblem,
    encode_key,
    key_usage,
    make_credentials,
)
from portway.identity.contract import AUTHORITIES_KEY

LIFETIME = dt.timedelta(days=730)
REPLACED_AFTER = dt.timedelta(days=365)
SETTLED_AFTER = dt.timedelta(days=1)
"""The kubelet writes a changed ConfigMap into its pods within two minutes; a machine may sleep for a night."""
FORGOTTEN_AFTER = dt.timedelta(days=30)

PREFIX = "authority-"


class Authority(msgspec.Struct, frozen=True, kw_only=True):
    """One that may sign."""

    name: str
    """Of its entries in the Secret: when it was made."""
    certificate: bytes
    """PEM."""
    key: bytes = msgspec.field(default=b"")
    """PEM. Never logged."""
    made: dt.datetime
    end: dt.datetime

    def __repr__(self) -> str:
        return f"Authority({self.name})"


def make_authority(now: dt.datetime) -> Authority:
    """A new one, valid at once; whether it signs yet is `signer`'s business."""
    key = ec.generate_private_key(ec.SECP256R1())
    made = now.replace(microsecond=0)
    name = f"{made:%Y%m%dT%H%M%SZ}"
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Portway authority {name}")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(made - BACKDATED)
        .not_valid_after(made + LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Authority(
        name=name,
        certificate=certificate.public_bytes(Encoding.PEM),
        key=encode_key(key),
        made=made,
        end=made + LIFETIME,
    )


def followed(authorities: Sequence[Authority], now: dt.datetime) -> tuple[Authority, ...]:
    """What the Secret should hold now: the oldest first, at least one. Equal to what is given most of the time."""
    ordered = sorted(authorities, key=lambda one: one.made)
    present = [one for one in ordered if one.made <= now]
    if not present or now - present[-1].made >= REPLACED_AFTER:
        ordered.append(make_authority(now))
        ordered.sort(key=lambda one: one.made)
    served = [one for one in ordered if now - one.made >= FORGOTTEN_AFTER]
    oldest = served[-1] if served else ordered[0]
    return tuple(one for one in ordered if one.made >= oldest.made)


def signer(authorities: Sequence[Authority], now: dt.datetime) -> Authority:
    """Which of them signs: the newest that all have heard of, else the oldest."""
    settled = [one for one in authorities if now - one.made >= SETTLED_AFTER]
    chosen = settled or list(authorities)
    return max(chosen, key=lambda one: one.made) if settled else min(chosen, key=lambda one: one.made)


def bundle(authorities: Sequence[Authority]) -> bytes:
    """All certificates as one PEM text, the newest first: what proxies are given."""
    return b"".join(one.certificate for one in sorted(authorities, key=lambda one: one.made, reverse=True))


def encode_authorities(authorities: Sequence[Authority]) -> dict[str, bytes]:
    """As the data of a Secret, before base64."""
    data = {AUTHORITIES_KEY: bundle(authorities)}
    for one in authorities:
        data[f"{PREFIX}{one.name}.crt"] = one.certificate
        data[f"{PREFIX}{one.name}.key"] = one.key
    return data


def decode_authorities(data: Mapping[str, bytes]) -> tuple[Authority, ...]:
    """The inverse; entries that are not ours are left out.

    Raises:
        CertificateProblem: an authority's certificate or key is damaged or missing. Better nothing works than that all
            get certificates that nobody believes.
    """
    found: list[Authority] = []
    for entry in sorted(data):
        if not (entry.startswith(PREFIX) and entry.endswith(".crt")):
            continue
        name = entry.removeprefix(PREFIX).removesuffix(".crt")
        key = data.get(f"{PREFIX}{name}.key", b"")
        try:
            checked = make_credentials(data[entry], key, data[entry])
        except CertificateProblem as error:
            raise CertificateProblem(f"{PREFIX}{name}: {error}") from error
        found.append(
            Authority(
                name=name,
                certificate=data[entry],
                key=key,
                made=checked.not_before + BACKDATED,
                end=checked.not_after,
            )
        )
    return tuple(sorted(found, key=lambda one: one.made))
