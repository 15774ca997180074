"""Store, engine and program put together: what every command that compiles starts from."""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from portway.app.fallback import make_fallback_certificate
from portway.app.own_places import own_places
from portway.envoy.outputs import OUTPUTS
from portway.identity.contract import SYSTEM_NAMESPACE
from portway.incremental import AnyOutput, Context, Engine, Output, Program
from portway.model.condition import Reported
from portway.model.fleet import Infrastructure, InfrastructureKind
from portway.model.handles import EDGE, FALLBACK_CERTIFICATE, INFRASTRUCTURE, OWN_PLACES, REPORT
from portway.model.tls import Secret
from portway.objects.verdict import ObjectKey
from portway.settings import Edge, Settings
from portway.store import GENERATION, OBJECT, Store
from portway.translate import program
from portway.translate.fleets import FLEETS_OUT

if TYPE_CHECKING:
    from portway.sources.files import FileSource, FileStatistics


def _report(ctx: Context, key: ObjectKey) -> Reported:
    found = ctx.read(OBJECT, key)
    return Reported(
        report=ctx.get(REPORT, key),
        generation=ctx.read(GENERATION, key),
        uid="" if found is None else found.metadata.uid,
    )


REPORTS: Output[ObjectKey, Reported] = Output("reports", sorted(program.REPORTS), _report)
"""What there is to say about each object that somebody reports on."""


EVERYTHING: tuple[AnyOutput, ...] = (*OUTPUTS, FLEETS_OUT, REPORTS)
"""Envoy's resources, the fleets that are to be made, and what there is to say."""

PROGRESS_STEPS = 2_000
"""Steps of the engine between two looks at how far it is: some tenths of a second."""


def make_engine(edge: Edge, fallback: Secret, outputs: Iterable[AnyOutput] = EVERYTHING) -> Engine:
    """An engine over an empty store.

    Args:
        edge: what the operator decided.
        fallback: the certificate that is served where no other fits.
        outputs: what is kept up to date. Without any the engine computes what it is asked for.
    """
    engine = Engine(
        Store(program.INDEXES),
        Program(
            relations=program.RELATIONS,
            feeds=program.FEEDS,
            bindings=program.BINDINGS,
            outputs=tuple(outputs),
        ),
    )
    engine.set(EDGE, None, edge)
    engine.set(FALLBACK_CERTIFICATE, None, fallback)
    return engine


def make_engine_for(settings: Settings, fallback: Secret, outputs: Iterable[AnyOutput] = EVERYTHING) -> Engine:
    """As `make_engine`, for a Portway of these settings that does not run: its proxies are where they say."""
    engine = make_engine(settings.edge, fallback, outputs)
    infrastructure = Infrastructure(
        kind=InfrastructureKind(settings.cluster.infrastructure),
        namespace=settings.cluster.system_namespace or SYSTEM_NAMESPACE,
    )
    engine.set(INFRASTRUCTURE, None, infrastructure)
    if infrastructure.is_host:
        engine.set(OWN_PLACES, None, own_places(settings))
    return engine


def compiling_progress(source: "FileStatistics", pending: int) -> str:
    """How far reading or compiling has come, in a few words for a person who waits.

    Args:
        source: what was read so far.
        pending: what the engine still has to look at.
    """
    if not source.synced:
        return f"reading: {source.files:,} of {source.files_found:,} files, {source.objects:,} objects"
    return f"compiling {source.objects:,} objects: {pending:,} left to look at"


async def compile_files(
    paths: Sequence[str],
    settings: Settings,
    fallback: Secret | None = None,
    *,
    outputs: Iterable[AnyOutput] = EVERYTHING,
    show: Callable[[str], None] = lambda text: None,
) -> "tuple[Engine, FileSource]":
    """Read files once and compile them; for `check`, `explain` and `diff`.

    Args:
        settings: of the Portway that is to serve them.
        outputs: as for `make_engine`.
        show: gets a few words about how far it has come, now and then; empty at the end.
    """
    from portway.sources.files import FileSource  # late: a control plane in a cluster reads no files

    source = FileSource(paths, follow=False)
    engine = make_engine_for(settings, fallback or make_fallback_certificate(), outputs)
    async for change in source.changes():
        engine.apply(change)
        show(compiling_progress(source.statistics(), engine.statistics().pending))
    settle_slowly(engine, show)
    return engine, source


def settle_slowly(engine: Engine, show: Callable[[str], None]) -> None:
    """Let the engine do all that it has to do. Nothing is taken from it.

    Args:
        show: gets a few words about how far it has come, now and then; empty at the end.
    """
    steps = 0
    while engine.step():
        steps += 1
        if steps % PROGRESS_STEPS == 0:
            show(f"compiling: {engine.statistics().pending:,} left to look at")
    show("")
