"""The certificate that is served where no other fits: made once, kept in the state folder, so that it is the same after
a restart and a person who trusted it need not do so again."""

import asyncio
import datetime as dt
import os
from collections.abc import Callable
from pathlib import Path

import structlog
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from portway.model.tls import PrivateKey, Secret
from portway.translate.certificates import parse_certificate

LIFETIME = dt.timedelta(days=365)
RENEW_BEFORE = dt.timedelta(days=30)
LOOK = dt.timedelta(hours=6)
"""Pause between looks whether it is time to renew; what fails (a full disk) is tried again that often."""
NAME = "portway.invalid"
FILE = "fallback-certificate.pem"

log: structlog.stdlib.BoundLogger = structlog.get_logger()


def make_fallback_certificate(now: dt.datetime | None = None) -> Secret:
    """A certificate that nobody trusts, for connections that no other fits: the request is answered, and the client's
    warning tells what is missing."""
    begin = now or dt.datetime.now(dt.UTC)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Portway default certificate")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin - dt.timedelta(hours=1))
        .not_valid_after(begin + LIFETIME)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Secret(
        certificates=certificate.public_bytes(Encoding.PEM),
        key=PrivateKey(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())),
        names=(NAME,),
        not_after=begin + LIFETIME,
    )


def load_fallback_certificate(state: Path, now: dt.datetime | None = None) -> Secret:
    """The certificate kept in the state folder; a new one where there is none, or it is about to expire."""
    path = state / FILE
    current = now or dt.datetime.now(dt.UTC)
    if path.exists():
        text = path.read_bytes()
        kept = parse_certificate(text, text, ()).secret
        if kept is not None and kept.not_after is not None and kept.not_after - current > RENEW_BEFORE:
            return kept
    made = make_fallback_certificate(current)
    assert made.key is not None  # noqa: S101 - it was made with one
    temporary = path.with_suffix(".new")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(made.certificates + made.key.pem)
    temporary.replace(path)
    return load_fallback_certificate(state, current)


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


async def renew_fallback_certificate(
    state: Path,
    served: Secret,
    use: Callable[[Secret], None],
    *,
    look: dt.timedelta = LOOK,
    clock: Callable[[], dt.datetime] = _now,
) -> None:
    """Renew it while Portway runs, for as long as that is. Until cancelled.

    Args:
        state: the state folder.
        served: the certificate that is used now.
        use: gets each later one.
        look: pause between looks whether it is time.
        clock: the time of day.
    """
    while True:
        await asyncio.sleep(look.total_seconds())
        try:
            found = await asyncio.to_thread(load_fallback_certificate, state, clock())
        except OSError as error:
            log.error("default certificate cannot be renewed", problem=str(error), until=str(served.not_after))  # noqa: TRY400
            continue
        if found != served:
            served = found
            use(served)
            log.info("default certificate renewed", until=str(served.not_after))
