"""`portway explain` and `portway diff` of a cluster's objects, and of files within them."""

from collections.abc import Callable, Sequence

from portway.app.cluster_status import addresses_of_fleets
from portway.app.cluster_world import apply_changes, compile_cluster
from portway.app.compiler import settle_slowly
from portway.app.explaining import explained
from portway.app.fallback import make_fallback_certificate
from portway.app.overlay import hindrances, laid_over, read_overlay
from portway.app.reading import read_cluster, require_namespace
from portway.explain.diff import Difference, compare
from portway.explain.fleets import Asked
from portway.explain.report import Report
from portway.explain.request import Request
from portway.explain.trace import World
from portway.kubernetes.client import ApiClient
from portway.settings import Settings
from portway.store import Store

Tell = Callable[[Store, tuple[str, ...]], None]
"""Gets what the asker has to know besides the answer: a store for its findings of severity ERROR, and what is not known
of the cluster."""


async def explain_cluster(
    client: ApiClient,
    settings: Settings,
    request: Request,
    asked: Asked,
    *,
    namespace: str = "",
    show: Callable[[str], None] = lambda text: None,
    tell: Tell = lambda store, notes: None,
) -> Report:
    """Where a request goes by the objects of a cluster, with the files of the settings as if applied.

    Args:
        namespace: as for `read_cluster`; of objects in files that name none.
        show: as for `compile_files`.

    Raises:
        ApiUnreachable, ApiError: the server cannot be asked.
        NothingKnown: there is nothing to answer from.
        UnknownFleet: it cannot be said which proxies it goes to.
    """
    paths = settings.sources.filenames
    overlay = await read_overlay(paths, namespace or client.connection.namespace) if paths else None
    wanted = overlay.key_material if overlay is not None else ()
    read = await read_cluster(client, settings, namespace=namespace, wanted=wanted, show=show)
    if overlay is None:
        require_namespace(read, namespace)
    engine = compile_cluster(read, settings, make_fallback_certificate(), outputs=(), show=show)
    if overlay is not None:
        apply_changes(engine, laid_over(overlay, engine.store), settings)
        settle_slowly(engine, show)
    tell(engine.store, (*read.notes, *(hindrances(overlay, read) if overlay is not None else ())))
    world = World(engine)
    addresses = {} if world.is_host else await addresses_of_fleets(client, read, settings, engine)
    locate = overlay.source.locate if overlay is not None else lambda key, field: None
    return explained(world, request, asked, addresses, locate)


async def diff_cluster(
    client: ApiClient,
    settings: Settings,
    paths: Sequence[str],
    *,
    namespace: str = "",
    show: Callable[[str], None] = lambda text: None,
    tell: Tell = lambda store, notes: None,
) -> Difference:
    """Which requests applying files to a cluster would change.

    Args:
        namespace: as for `explain_cluster`.

    Raises:
        ApiUnreachable, ApiError: the server cannot be asked.
    """
    overlay = await read_overlay(paths, namespace or client.connection.namespace)
    read = await read_cluster(client, settings, namespace=namespace, wanted=overlay.key_material, show=show)
    fallback = make_fallback_certificate()
    before, after = (compile_cluster(read, settings, fallback, outputs=(), show=show) for _ in range(2))
    apply_changes(after, laid_over(overlay, after.store), settings)
    settle_slowly(after, show)
    tell(after.store, (*read.notes, *hindrances(overlay, read)))
    return compare(World(before), World(after))
