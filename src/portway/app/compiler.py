"""Store, engine and program put together: what every command that compiles starts from."""

from collections.abc import Iterable, Sequence

from portway.app.fallback import make_fallback_certificate
from portway.envoy import outputs
from portway.incremental import AnyOutput, Context, Engine, Output, Program
from portway.model.condition import ObjectReport
from portway.model.handles import EDGE, FALLBACK_CERTIFICATE, REPORT
from portway.model.tls import Secret
from portway.objects.verdict import ObjectKey
from portway.settings import Edge
from portway.sources.files import FileSource
from portway.store import Store
from portway.translate import program


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
