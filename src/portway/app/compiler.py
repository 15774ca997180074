"""Store, engine and program put together: what every command that compiles starts from."""

import datetime as dt
from collections.abc import Iterable, Sequence

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from portway.envoy import outputs
from portway.incremental import AnyOutput, Context, Engine, Output, Program
from portway.model.condition import ObjectReport
from portway.model.handles import EDGE, FALLBACK_CERTIFICATE, REPORT
from portway.model.tls import PrivateKey, Secret
from portway.objects.verdict import ObjectKey
from portway.settings import Edge
from portway.sources.files import FileSource
from portway.store import Store
from portway.translate import program

FALLBACK_LIFETIME = dt.timedelta(days=365)


def _report(ctx: Context, key: ObjectKey) -> ObjectReport | None:
    return ctx.get(REPORT, key)


REPORTS: Output[ObjectKey, ObjectReport] = Output("reports", sorted(program.REPORTS), _report)
"""What there is to say about each object that somebody reports on."""


def make_engine(edge: Edge, fallback: Secret, more: Iterable[AnyOutput] = (REPORTS,)) -> Engine:
    """An engine over an empty store.

    Args:
        edge: what the operator decided.
        fallback: the certificate that is served where no other fits.
        more: outputs besides Envoy's resources.
    """
    engine = Engine(
        Store(program.INDEXES),
        Program(
            relations=program.RELATIONS,
            feeds=program.FEEDS,
            bindings=program.BINDINGS,
            outputs=(*outputs.OUTPUTS, *more),
        ),
    )
    engine.set(EDGE, None, edge)
    engine.set(FALLBACK_CERTIFICATE, None, fallback)
    return engine


async def compile_files(paths: Sequence[str], edge: Edge, fallback: Secret | None = None) -> tuple[Engine, FileSource]:
    """Read files once and compile them; for `check`, `explain` and `diff`."""
    source = FileSource(paths, follow=False)
    engine = make_engine(edge, fallback or make_fallback_certificate())
    async for change in source.changes():
        engine.apply(change)
    return engine, source


def make_fallback_certificate(now: dt.datetime | None = None) -> Secret:
    """A certificate that nobody trusts, for connections that no other certificate fits: the request is answered, and
    the
    client's warning tells what is missing."""
    begin = now or dt.datetime.now(dt.UTC)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Portway default certificate")])
    end = begin + FALLBACK_LIFETIME
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin - dt.timedelta(hours=1))
        .not_valid_after(end)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("portway.invalid")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Secret(
        certificates=certificate.public_bytes(Encoding.PEM),
        key=PrivateKey(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())),
        names=("portway.invalid",),
        not_after=end,
    )
