"""What the statuses in a cluster say about objects of ours, beside what is to be said about them.

The statuses are Portway's own word, written by the one that serves the cluster: whether proxies hold a Gateway, by
which addresses it is reached. The verdicts are computed here, from the objects as they stand.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Final

import msgspec

from portway.app.checking import no_place, refuse_failures
from portway.app.cluster_world import compile_cluster
from portway.app.compiler import REPORTS
from portway.app.fallback import make_fallback_certificate
from portway.app.reading import ClusterRead, listed, read_cluster, require_namespace
from portway.app.status import ObjectStatus, remarks_of
from portway.incremental import Engine
from portway.infra.kubernetes.manifests import SERVICE
from portway.infra.kubernetes.seen import read_seen
from portway.kubernetes.client import ApiClient
from portway.kubernetes.errors import ApiError
from portway.kubernetes.pages import PAGE, PAGE_BYTES, pages
from portway.kubernetes.paths import resource_path
from portway.kubernetes.versions import Name
from portway.model.fleet import gateway_fleet
from portway.objects.kinds import KINDS, Kind
from portway.objects.verdict import ObjectKey, Severity
from portway.settings import Settings
from portway.sources.kubernetes.said import CLUSTER_KIND
from portway.status.raw import Raw, as_list, as_map, as_number, as_text
from portway.status.shapes import Address, KubernetesStatus
from portway.translate.ingress.classes import standing

WITH_STATUS: Final = ("GatewayClass", "Gateway", "ListenerSet", "Ingress")
_ROUTES: Final = ("HTTPRoute", "GRPCRoute", "TLSRoute", "TCPRoute", "UDPRoute", "BackendTLSPolicy")
UNSEEN: Final = "no Portway has written the status yet"
_MANAGED: Final = "app.kubernetes.io/managed-by=portway"


class ClusterStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What `portway status --context X -o json` prints."""

    server: str
    context: str
    objects: Mapping[str, int]
    """Objects that were read, by kind."""
    errors: int
    warnings: int
    reports: tuple[ObjectStatus, ...]
    """Objects of ours with the status that stands in the cluster, sorted by object."""
    findings: tuple[str, ...]
    """What could not be understood."""
    notes: tuple[str, ...]
    """What is not known, why, and what to do about it."""


async def cluster_status(
    client: ApiClient, settings: Settings, *, namespace: str = "", show: Callable[[str], None] = lambda text: None
) -> ClusterStatus:
    """Read objects and their statuses once.

    Args:
        namespace: objects of others are left out; empty: none is.
        show: as for `compile_files`.

    Raises:
        ApiUnreachable, ApiError: the server cannot be asked.
        NothingKnown: there is nothing to answer from.
        InternalError: a query raised.
    """
    read = await read_cluster(client, settings, namespace=namespace, show=show)
    require_namespace(read, namespace)
    engine = compile_cluster(read, settings, make_fallback_certificate(), show=show)
    compiled, _ = engine.settle().of(REPORTS)
    refuse_failures(engine)
    statuses = await read_statuses(client, read, settings, (*WITH_STATUS, *_ROUTES))
    controller = settings.edge.gateway_controller
    ours = sorted(
        (one.report for one in compiled.values() if one.report.ours and namespace in ("", one.report.object.namespace)),
        key=lambda report: report.object,
    )
    findings = [one for one in engine.store.findings() if _is_about(one.verdict.object, namespace)]
    remarks = {report.object: remarks_of(report, no_place) for report in ours}
    severities = [one.severity for said in remarks.values() for one in said]
    severities += [one.verdict.severity for one in findings]
    return ClusterStatus(
        server=read.server,
        context=read.context,
        objects={kind: count for kind in KINDS if (count := _count(engine, kind, namespace))},
        errors=severities.count(Severity.ERROR),
        warnings=severities.count(Severity.WARNING),
        reports=tuple(
            _object(report.object, statuses.get(report.object), controller, map(str, remarks[report.object]))
            for report in ours
        ),
        findings=tuple(
            f"{one.verdict.object}: {one.verdict.problem}" for one in findings if one.verdict.severity is Severity.ERROR
        ),
        notes=(*read.notes, *_unseen({one.object: statuses.get(one.object) for one in ours}, controller)),
    )


def _unseen(objects: Mapping[ObjectKey, Raw | None], controller: str) -> Iterator[str]:
    """Said once: where no Portway runs it is so of all objects."""
    found = [str(key) for key, whole in objects.items() if _doubt(key, whole, controller) == UNSEEN]
    if found:
        yield f"{UNSEEN} of {listed(found)}: does one run for their class, and may it write?"


async def addresses_of_fleets(
    client: ApiClient, read: ClusterRead, settings: Settings, engine: Engine
) -> dict[str, list[str]]:
    """By fleet, the addresses and names by which clients reach it: of Gateways, Ingresses, and Portway's Services."""
    found: dict[str, dict[str, None]] = {}
    for key, whole in (await read_statuses(client, read, settings, ("Gateway", "Ingress"))).items():
        status = as_map(whole.get("status"))
        fleet = gateway_fleet(key) if key.kind == "Gateway" else engine.get(standing, key).fleet
        found.setdefault(fleet, {}).update(dict.fromkeys(one.value for one in _addresses(status)))
    for namespace in _places(KINDS["Service"], read, settings):
        path = resource_path("", "v1", "services", namespace)
        for item in await _list(client, path, _MANAGED):
            try:
                service = read_seen(SERVICE, item)
            except msgspec.MsgspecError:
                continue  # somebody else's object with our label
            names = f"{service.ref.name}.{service.ref.namespace}"
            known = (*(one.value for one in service.addresses), *service.cluster_ips)
            inside = (names, f"{names}.svc", f"{names}.svc.cluster.local")
            found.setdefault(service.fleet, {}).update(dict.fromkeys((*known, *inside)))
    return {fleet: list(addresses) for fleet, addresses in found.items() if fleet}


async def read_statuses(
    client: ApiClient, read: ClusterRead, settings: Settings, kinds: Iterable[str]
) -> dict[ObjectKey, Raw]:
    """Objects of some kinds with their statuses, as the API server has them; what may not be read is left out."""
    found: dict[ObjectKey, Raw] = {}
    for kind in (KINDS[name] for name in kinds):
        for namespace in _places(kind, read, settings):
            for version in kind.versions:
                items = await _list(client, resource_path(kind.group, version, kind.plural, namespace))
                for item in items:
                    whole = as_map(msgspec.json.decode(item))
                    name = _name(whole)
                    found[ObjectKey(kind.name, name.namespace, name.name)] = whole
                if items:
                    break
    return found


def _places(kind: Kind, read: ClusterRead, settings: Settings) -> Iterable[str]:
    """Namespaces in which a kind may be listed; empty: all of them at once."""
    if kind.name in read.unread.kinds:
        return sorted(read.unread.kinds[kind.name])
    return settings.sources.watch_namespaces if kind.namespaced and settings.sources.watch_namespaces else ("",)


async def _list(client: ApiClient, path: str, label_selector: str = "") -> list[msgspec.Raw]:
    """All objects of a collection; none where there is no such kind, or it may not be read."""
    params = {"labelSelector": label_selector} if label_selector else {}
    found: list[msgspec.Raw] = []
    try:
        async for page in pages(partial(client.get, limit_bytes=PAGE_BYTES), path, params, size=PAGE):
            found += page.items or ()
    except ApiError as error:
        if error.status not in (403, 404):
            raise
    return found


def _name(whole: Raw) -> Name:
    metadata = as_map(whole.get("metadata"))
    return Name(as_text(metadata.get("namespace")), as_text(metadata.get("name")))


def _is_about(key: ObjectKey, namespace: str) -> bool:
    return not namespace or key.namespace == namespace or key.kind == CLUSTER_KIND


def _count(engine: Engine, kind: str, namespace: str) -> int:
    return sum(namespace in ("", key.namespace) for key in engine.store.keys(kind))


def _object(key: ObjectKey, whole: Raw | None, controller: str, remarks: Iterable[str]) -> ObjectStatus:
    status = as_map((whole or {}).get("status"))
    said = KubernetesStatus()
    try:
        said = msgspec.convert(status, KubernetesStatus)
    except msgspec.ValidationError:
        remarks = (*remarks, "warning: its status is not of the form that Gateway API has for it")
    doubt = _doubt(key, whole, controller)
    said = msgspec.structs.replace(
        said,
        addresses=tuple(_addresses(status)) if key.kind in ("Gateway", "Ingress") else None,
        # Gateway API's definitions put conditions on an object that nobody has seen.
        conditions=None if doubt == UNSEEN else said.conditions,
        parents=tuple(one for one in said.parents or () if one.controller_name == controller) or None,
        ancestors=tuple(one for one in said.ancestors or () if one.controller_name == controller) or None,
        supported_features=None,
    )
    return ObjectStatus(object=str(key), status=said, remarks=(*remarks, *(() if doubt in ("", UNSEEN) else (doubt,))))


def _addresses(status: Raw) -> Iterator[Address]:
    for one in map(as_map, as_list(status.get("addresses"))):
        yield Address(type=as_text(one.get("type")) or "IPAddress", value=as_text(one.get("value")))
    for one in map(as_map, as_list(as_map(status.get("loadBalancer")).get("ingress"))):
        ip = as_text(one.get("ip"))
        yield Address(type="IPAddress" if ip else "Hostname", value=ip or as_text(one.get("hostname")))


def _doubt(key: ObjectKey, whole: Raw | None, controller: str) -> str:
    """What makes the status in the cluster less than the whole truth; empty: nothing does."""
    if whole is None:
        return ""
    status = as_map(whole.get("status"))
    if key.kind == "Ingress":
        return (
            "" if any(_addresses(status)) else "warning: it has no address yet: no Portway has said where it is served"
        )
    observed = list(_observed(status, controller))
    if not observed or 0 in observed:
        return UNSEEN
    generation = as_number(as_map(whole.get("metadata")).get("generation"))
    if min(observed) < generation:
        return f"warning: its status is about generation {min(observed)}, the object is at {generation}"
    return ""


def _observed(status: Raw, controller: str) -> Iterator[int]:
    """The generations that our conditions are about."""
    for condition in map(as_map, as_list(status.get("conditions"))):
        yield as_number(condition.get("observedGeneration"))
    for parents in ("parents", "ancestors"):
        for one in map(as_map, as_list(status.get(parents))):
            if one.get("controllerName") == controller:
                for condition in map(as_map, as_list(one.get("conditions"))):
                    yield as_number(condition.get("observedGeneration"))
