"""What is to be there for a fleet: its objects as server-side apply takes them.

Pure, and the same input gives the same bytes. Only what we mean is in them: what users, autoscalers or the cluster set
beside that stays theirs.

- A change of listeners changes the Service alone: proxies learn of it by xDS, and no pod starts anew (but with
  `hostPorts`).
- The number of replicas is ours only if somebody said one. Else it is set when the Deployment is made
  (`Manifest.initial`) and belongs to whoever changes it: `kubectl scale`, an autoscaler of the users' own.
- Objects go with their Gateway by owner references. These do not block the owner's deletion, which would need rights on
  it. Those of an IngressClass have no owner: the class may be written anew in a moment (`applier`).

Source: GEP-1762 "In Cluster Gateway Deployments"; Kubernetes, "Server-Side Apply".
"""

from collections.abc import Mapping
from typing import Final, NamedTuple, cast

import msgspec

from portway.identity.contract import AUTHORITIES_KEY
from portway.infra.kubernetes import service, workload
from portway.infra.kubernetes.data_plane import DataPlane
from portway.infra.kubernetes.names import (
    APPLIED,
    DECLARED,
    FLEET,
    TEMPLATE,
    digest_of,
    fleet_name_of,
    labels_of,
    theirs,
)
from portway.infra.kubernetes.values import Data, plain
from portway.model.fleet import Fleet
from portway.objects.fleets_v1alpha1 import DisruptionBudget, WorkloadType
from portway.objects.references_v1 import GATEWAY_GROUP

TARGET_CPU_PERCENT: Final = 70
"""Average use that an autoscaler aims at, unless said otherwise: room for what comes while a proxy starts."""


class Resource(NamedTuple):
    """A kind of objects that are made for fleets."""

    group: str
    version: str
    kind: str
    plural: str

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version


SERVICE_ACCOUNT: Final = Resource("", "v1", "ServiceAccount", "serviceaccounts")
CONFIG_MAP: Final = Resource("", "v1", "ConfigMap", "configmaps")
SERVICE: Final = Resource("", "v1", "Service", "services")
DEPLOYMENT: Final = Resource("apps", "v1", "Deployment", "deployments")
DAEMON_SET: Final = Resource("apps", "v1", "DaemonSet", "daemonsets")
AUTOSCALER: Final = Resource("autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers")
BUDGET: Final = Resource("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets")

RESOURCES: Final = (SERVICE_ACCOUNT, CONFIG_MAP, SERVICE, DEPLOYMENT, DAEMON_SET, AUTOSCALER, BUDGET)
"""In the order in which they are made: what pods need is there before them; the Service early, since its address takes
longest."""
DISPENSABLE: Final = frozenset((SERVICE, AUTOSCALER, BUDGET))
"""What keeps no proxy from being made if it cannot be: former proxies may be reached by another way, and new ones are
ready when it comes."""


class Ref(NamedTuple):
    """Identity of an object that is made for a fleet."""

    resource: Resource
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.resource.kind} {self.namespace}/{self.name}"


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """One object that is to be there."""

    ref: Ref
    data: Data
    """What server-side apply is given."""
    initial: Data | None = None
    """Fields that are set once and then belong to whoever changes them."""

    @property
    def body(self) -> bytes:
        return encode(self.data)


def encode(data: Data | list[int]) -> bytes:
    """JSON with sorted keys."""
    return msgspec.json.encode(data, order="sorted")


def manifests_of(fleet: Fleet, plane: DataPlane) -> tuple[Manifest, ...]:
    """The objects of a fleet, in the order in which they are made.

    Args:
        fleet: with ports; not one that is held.
    """
    make = _Maker(fleet, plane)
    parameters = workload.joined_parameters(fleet)
    found = [*needs_of_pods(fleet, plane)]
    front = service.service_of(fleet)
    if front is not None:
        found.append(make.manifest(SERVICE, {"spec": front.spec}, labels=front.labels, annotations=front.annotations))
    pods = workload.pods_of(fleet, plane, make.labels, make.annotations)
    initial: Data | None = None
    said = {DECLARED: _declared(fleet), TEMPLATE: digest_of(encode(pods.template))}
    if parameters.workload_type is WorkloadType.DAEMON_SET:
        found.append(make.manifest(DAEMON_SET, {"spec": workload.daemon_set_of(fleet, pods)}, annotations=said))
    else:
        spec = workload.deployment_of(fleet, pods)
        if "replicas" not in spec:
            initial = make.bare(DEPLOYMENT, {"spec": {"replicas": parameters.least_replicas}})
        found.append(make.manifest(DEPLOYMENT, {"spec": spec}, annotations=said, initial=initial))
        if parameters.autoscaling is not None:
            found.append(make.manifest(AUTOSCALER, {"spec": _autoscaler(make.name, parameters)}))
        if (budget := _budget(parameters)) is not None:
            found.append(make.manifest(BUDGET, {"spec": {**budget, "selector": {"matchLabels": pods.selector}}}))
    return tuple(found)


def needs_of_pods(fleet: Fleet, plane: DataPlane) -> tuple[Manifest, ...]:
    """What its pods cannot do without, also those of a fleet that is held: an account, and whom to believe."""
    make = _Maker(fleet, plane)
    return (
        make.manifest(SERVICE_ACCOUNT, {"automountServiceAccountToken": False}),
        make.manifest(CONFIG_MAP, {"data": {AUTHORITIES_KEY: plane.authorities}}),
    )


def _declared(fleet: Fleet) -> str:
    """Value of `DECLARED`. Ports by number: that of HTTP/3 is a setting of all fleets, as are all ports of a class."""
    labels, annotations = theirs(fleet.labels), theirs(fleet.annotations)
    said = encode({"labels": labels, "annotations": annotations, "parameters": plain(fleet.own_parameters)})
    has_ports = fleet.owner.kind == "Gateway" and service.on_nodes(fleet)
    ports = encode(sorted({port.port for port in fleet.ports})) if has_ports else b""
    return f"{digest_of(said)}.{digest_of(ports) if ports else ''}"


def _autoscaler(name: str, parameters: workload.Parameters) -> Data:
    scaling = parameters.autoscaling
    assert scaling is not None  # noqa: S101 - asked for by the caller
    target = {"type": "Utilization", "averageUtilization": scaling.target_cpu_percent or TARGET_CPU_PERCENT}
    return {
        "scaleTargetRef": {"apiVersion": DEPLOYMENT.api_version, "kind": DEPLOYMENT.kind, "name": name},
        "minReplicas": parameters.least_replicas,
        "maxReplicas": scaling.max_replicas,
        "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
    }


def _budget(parameters: workload.Parameters) -> Data | None:
    """Without words of its own, a fleet of several proxies may miss one; of one, none could ever be drained."""
    wanted = parameters.disruption_budget
    if wanted is None and parameters.least_replicas > 1:
        wanted = DisruptionBudget(max_unavailable=1)
    return None if wanted is None else plain(wanted)


class _Maker:
    """Puts the parts around an object that all objects of a fleet have."""

    def __init__(self, fleet: Fleet, plane: DataPlane) -> None:
        self.name = fleet_name_of(fleet.owner)
        self.labels = labels_of(fleet, plane.controller)
        self.annotations: Mapping[str, str] = {**theirs(fleet.annotations), FLEET: fleet.name}
        self._namespace = fleet.namespace
        self._owners = _owners(fleet)

    def bare(self, resource: Resource, data: Data) -> Data:
        """An object with nothing around it but its name."""
        metadata = {"name": self.name, "namespace": self._namespace}
        return {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata, **data}

    def manifest(
        self,
        resource: Resource,
        data: Data,
        *,
        labels: Mapping[str, str] | None = None,
        annotations: Mapping[str, str] | None = None,
        initial: Data | None = None,
    ) -> Manifest:
        made = self.bare(resource, data)
        metadata = {
            **cast("Data", made["metadata"]),
            "labels": {**(labels or {}), **self.labels},
            "annotations": {**(annotations or {}), **self.annotations},
        }
        if self._owners:
            metadata["ownerReferences"] = self._owners
        digest = digest_of(encode({**made, "metadata": metadata}))
        metadata["annotations"] = {**cast("Data", metadata["annotations"]), APPLIED: digest}
        ref = Ref(resource, self._namespace, self.name)
        return Manifest(ref=ref, data={**made, "metadata": metadata}, initial=initial)


def _owners(fleet: Fleet) -> list[Data]:
    if not fleet.owner_uid:
        return []
    return [
        {
            "apiVersion": f"{GATEWAY_GROUP}/v1",
            "kind": fleet.owner.kind,
            "name": fleet.owner.name,
            "uid": fleet.owner_uid,
            "controller": True,
        }
    ]
