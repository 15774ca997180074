"""`portway check` of a cluster's objects, and of files within them."""

from collections.abc import Callable, Mapping, Sequence

from portway.app.checking import CheckResult, Remark, no_place, refuse_failures, remarks, result_of
from portway.app.cluster_world import apply_changes, compile_cluster
from portway.app.compiler import REPORTS, settle_slowly
from portway.app.fallback import make_fallback_certificate
from portway.app.overlay import Overlay, hindrances, laid_over, read_overlay
from portway.app.reading import read_cluster, require_namespace
from portway.incremental import Engine
from portway.kubernetes.client import ApiClient
from portway.kubernetes.errors import ApiError
from portway.model.condition import Reported
from portway.model.handles import GATEWAY_DEFINITIONS
from portway.objects.kinds import KINDS
from portway.objects.verdict import ObjectKey, Severity
from portway.settings import Settings
from portway.sources.kubernetes.definitions import Versions, read_versions
from portway.sources.kubernetes.said import CLUSTER_KIND
from portway.store import Store


async def check_cluster(
    client: ApiClient,
    settings: Settings,
    *,
    namespace: str = "",
    paths: Sequence[str] = (),
    show: Callable[[str], None] = lambda text: None,
) -> CheckResult:
    """Read a cluster once, compile its objects, and gather what there is to say.

    Args:
        client: stays its owner's.
        namespace: what is said about objects of others is left out; empty: nothing is. Files: of objects that name
            none.
        paths: files that are judged as if they were applied: what is said about their objects, and what else they
            change. Empty: the cluster's objects are.
        show: as for `compile_files`.

    Raises:
        ApiUnreachable, ApiError: the server cannot be asked.
        NothingKnown: there is nothing to answer from.
        InternalError: see there.
    """
    overlay = await read_overlay(paths, namespace or client.connection.namespace) if paths else None
    wanted = overlay.key_material if overlay is not None else ()
    read = await read_cluster(client, settings, namespace=namespace, wanted=wanted, show=show)
    if overlay is None:
        require_namespace(read, namespace)
    engine = compile_cluster(read, settings, make_fallback_certificate(), show=show)
    engine.set(GATEWAY_DEFINITIONS, None, await _definitions(client))
    reports, _ = engine.settle().of(REPORTS)
    refuse_failures(engine)
    found = _remarks(engine, reports)
    if overlay is None:
        said = tuple(one for one in found if _is_within(one, namespace))
        return _result(engine.store, said, _count(engine.store, namespace), read.notes)
    notes = (*read.notes, *hindrances(overlay, read))
    return _judge_overlay(engine, overlay, settings, dict(reports), found, notes, show)


async def _definitions(client: ApiClient) -> Versions:
    """Where they may not be read, nothing is said of them, as in the status of a GatewayClass."""
    try:
        return await read_versions(client)
    except ApiError as error:
        if error.status != 403:
            raise
        return {}


def _judge_overlay(
    engine: Engine,
    overlay: Overlay,
    settings: Settings,
    reports: dict[ObjectKey, Reported],
    before: Sequence[Remark],
    notes: tuple[str, ...],
    show: Callable[[str], None],
) -> CheckResult:
    apply_changes(engine, laid_over(overlay, engine.store), settings)
    settle_slowly(engine, show)
    changed, removed = engine.settle().of(REPORTS)
    refuse_failures(engine)
    for key in removed:
        reports.pop(key, None)
    reports.update(changed)
    known = {(one.object, one.field, one.problem) for one in before}
    own = {str(one.key) for one in overlay.objects}
    after = remarks(engine.store.findings(), (one.report for one in reports.values()), overlay.source.locator())
    said = tuple(
        one for one in after if one.file or one.object in own or (one.object, one.field, one.problem) not in known
    )
    return _result(engine.store, said, len({one.key for one in overlay.objects}), notes)


def _remarks(engine: Engine, reports: Mapping[ObjectKey, Reported]) -> tuple[Remark, ...]:
    return remarks(engine.store.findings(), (one.report for one in reports.values()), no_place)


def _is_within(one: Remark, namespace: str) -> bool:
    """Whether something is about an object of the namespace, or about none."""
    return not namespace or one.namespace == namespace or one.kind == CLUSTER_KIND


def _count(store: Store, namespace: str) -> int:
    return sum(not namespace or key.namespace == namespace for kind in KINDS for key in store.keys(kind))


def _result(store: Store, said: tuple[Remark, ...], objects: int, notes: tuple[str, ...]) -> CheckResult:
    verdicts = [finding.verdict for finding in store.findings() if finding.verdict.object.kind in KINDS]
    not_taken = {str(verdict.object) for verdict in verdicts if verdict.severity is Severity.ERROR}
    refused = not_taken.intersection(one.object for one in said)
    return result_of(said, objects=objects, refused=len(refused), notes=notes)
