"""Objects as the API server shows them: what is compared with the wanted ones, and what they tell of a fleet."""

from collections.abc import Mapping
from typing import Final, cast

import msgspec

from portway.infra.kubernetes.manifests import DAEMON_SET, DEPLOYMENT, SERVICE, Ref, Resource
from portway.infra.kubernetes.names import APPLIED, CONTROLLER, DECLARED, FLEET, TEMPLATE, account_of
from portway.infra.kubernetes.values import Data
from portway.model.fleet import FleetAddress
from portway.objects.meta import Part

INITIAL_MANAGER: Final = "portway-initial"
"""Field manager of what is set once. It never lets go, so the value stays when nobody else has one."""


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """An object of ours, without what changes by itself."""

    ref: Ref
    uid: str
    version: int = 0
    """`metadata.resourceVersion`."""
    fleet: str
    """Name of the fleet that it says it belongs to."""
    controller: str
    """Label of the Portway that it says it belongs to."""
    applied: str = ""
    """Digest of what was last applied."""
    declared: str = ""
    """Of a workload: digest of what its owner had said then."""
    template: str = ""
    """Of a workload: digest of its pods' template then."""
    body: bytes
    """JSON, without status, resourceVersion and managedFields: equal as long as nobody changes what is wanted."""
    has_owned_replicas: bool = False
    """Somebody who never lets go, or changes it, has set the number of replicas."""
    addresses: tuple[FleetAddress, ...] = ()
    """Of a Service: those that its load balancer gave."""
    cluster_ips: tuple[str, ...] = ()
    is_settled: bool = False
    """Of a workload: as many proxies are ready as are wanted, and they are of the newest version."""
    is_rolling: bool = False
    """Of a workload: its newest version is not everywhere yet, or the former one still somewhere."""
    ready: int = 0
    wanted: int = 0
    updated: int = 0
    """Proxies of the newest version."""
    trouble: str = ""
    """Of a workload: why its pods cannot be made."""

    @property
    def is_of_its_fleet(self) -> bool:
        """Whether an object of this name can be of the fleet that it says it belongs to: no two have one name."""
        return account_of(self.fleet, self.ref.namespace) == (self.ref.namespace, self.ref.name)

    @property
    def data(self) -> Data:
        return cast("Data", msgspec.json.decode(self.body))


class _LoadBalancerIngress(Part, frozen=True, kw_only=True):
    ip: str = ""
    hostname: str = ""


class _LoadBalancer(Part, frozen=True, kw_only=True):
    ingress: tuple[_LoadBalancerIngress, ...] = ()


class _Condition(Part, frozen=True, kw_only=True):
    type: str = ""
    status: str = ""
    reason: str = ""
    message: str = ""


class _Status(Part, frozen=True, kw_only=True):
    load_balancer: _LoadBalancer = _LoadBalancer()
    conditions: tuple[_Condition, ...] = ()
    observed_generation: int = 0
    ready_replicas: int = 0
    updated_replicas: int = 0
    replicas: int = 0
    desired_number_scheduled: int = 0
    number_ready: int = 0
    updated_number_scheduled: int = 0


class _Spec(Part, frozen=True, kw_only=True):
    replicas: int = 1
    cluster_ips: tuple[str, ...] = msgspec.field(default=(), name="clusterIPs")


class _ManagedFields(Part, frozen=True, kw_only=True):
    manager: str = ""
    operation: str = ""
    fields: Mapping[str, object] = msgspec.field(default_factory=dict, name="fieldsV1")

    @property
    def sets_replicas(self) -> bool:
        spec = self.fields.get("f:spec")
        return isinstance(spec, Mapping) and "f:replicas" in spec


class _Meta(Part, frozen=True, kw_only=True):
    name: str
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    labels: Mapping[str, str] = msgspec.field(default_factory=dict)
    annotations: Mapping[str, str] = msgspec.field(default_factory=dict)
    managed_fields: tuple[_ManagedFields, ...] = ()


class _View(Part, frozen=True, kw_only=True):
    metadata: _Meta
    spec: _Spec = _Spec()
    status: _Status = _Status()

    @property
    def is_current(self) -> bool:
        return self.status.observed_generation >= self.metadata.generation


_VIEW: Final = msgspec.json.Decoder(_View)
_NOT_KEPT: Final = ("resourceVersion", "managedFields", "generation", "creationTimestamp")


def read_seen(resource: Resource, data: bytes | msgspec.Raw) -> Seen:
    """An object as the API server wrote it.

    Raises:
        msgspec.MsgspecError: it is no object of that kind.
    """
    view = _VIEW.decode(data)
    whole = cast("dict[str, object]", msgspec.json.decode(data))
    whole.pop("status", None)
    metadata = cast("Data", whole["metadata"])
    whole["metadata"] = {key: value for key, value in metadata.items() if key not in _NOT_KEPT}
    meta = view.metadata
    ready, wanted, updated, is_rolling = _progress(resource, view)
    return Seen(
        ref=Ref(resource, meta.namespace, meta.name),
        uid=meta.uid,
        version=int(meta.resource_version) if meta.resource_version.isdecimal() else 0,
        fleet=meta.annotations.get(FLEET, ""),
        controller=meta.labels.get(CONTROLLER, ""),
        applied=meta.annotations.get(APPLIED, ""),
        declared=meta.annotations.get(DECLARED, ""),
        template=meta.annotations.get(TEMPLATE, ""),
        body=msgspec.json.encode(whole, order="sorted"),
        has_owned_replicas=any(_keeps_replicas(entry) for entry in meta.managed_fields),
        addresses=_addresses(view.status.load_balancer) if resource == SERVICE else (),
        cluster_ips=tuple(ip for ip in view.spec.cluster_ips if ip != "None") if resource == SERVICE else (),
        ready=ready,
        wanted=wanted,
        updated=updated,
        is_rolling=is_rolling,
        is_settled=view.is_current and wanted > 0 and ready >= wanted and updated >= wanted,
        trouble=next(
            (f"{each.reason}: {each.message}" for each in view.status.conditions if _is_trouble(each)),
            "",
        ),
    )


def _keeps_replicas(entry: _ManagedFields) -> bool:
    """Whoever applied them with the rest of the object may let go, and then they are back at 1."""
    return entry.sets_replicas and not (entry.manager == "portway" and entry.operation == "Apply")


def _is_trouble(condition: _Condition) -> bool:
    return condition.type == "ReplicaFailure" and condition.status == "True"


def _progress(resource: Resource, view: _View) -> tuple[int, int, int, bool]:
    """Proxies that are ready, wanted and new; whether there are still others, or none has been made yet."""
    status = view.status
    if resource == DEPLOYMENT:
        ready, wanted, updated = status.ready_replicas, view.spec.replicas, status.updated_replicas
    elif resource == DAEMON_SET:
        ready, wanted, updated = status.number_ready, status.desired_number_scheduled, status.updated_number_scheduled
    else:
        return 0, 0, 0, False
    return ready, wanted, updated, not view.is_current or updated < wanted or status.replicas > updated


def _addresses(balancer: _LoadBalancer) -> tuple[FleetAddress, ...]:
    found: dict[FleetAddress, None] = {}
    for entry in balancer.ingress:
        if entry.ip:
            found[FleetAddress("IPAddress", entry.ip)] = None
        elif entry.hostname:
            found[FleetAddress("Hostname", entry.hostname)] = None
    return tuple(found)
