"""By which addresses a fleet is reached, as far as the cluster tells; pure.

    LoadBalancer             what the load balancer gave the Service
    ClusterIP                the Service's own addresses
    NodePort                 the Nodes, on other ports than the listeners' (only those with a proxy, for policy Local)
    none, ports of the Node  the Nodes that run a proxy which is ready

A Node counts with its external addresses, or its internal ones if no Node has any. `addresses` of FleetParameters stand
for all of it.

Source: Kubernetes, "Node status", addresses; ingress-nginx, `--report-node-internal-ip-address`; Gateway API,
`GatewayStatusAddress` (at most 16).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from portway.infra.kubernetes.manifests import DAEMON_SET, DEPLOYMENT, SERVICE, Ref
from portway.infra.kubernetes.names import fleet_name_of
from portway.infra.kubernetes.seen import Seen
from portway.infra.kubernetes.service import on_nodes, service_type_of
from portway.model.fleet import Fleet, FleetAddress, ObservedFleet
from portway.objects.fleets_v1alpha1 import FleetServiceType, ServiceParameters, TrafficPolicy
from portway.objects.meta import Part

MOST: Final = 16
"""That a Gateway's status can hold."""

EXCLUDED: Final = "node.kubernetes.io/exclude-from-external-load-balancers"
"""Label of Nodes that are not to be sent to from outside."""


class NodeView(msgspec.Struct, frozen=True, kw_only=True):
    """A Node, as far as it counts."""

    name: str
    is_usable: bool
    """Ready, and not left out of load balancing."""
    external: tuple[str, ...] = ()
    internal: tuple[str, ...] = ()


class PodView(msgspec.Struct, frozen=True, kw_only=True):
    """A proxy's pod, as far as it counts."""

    namespace: str
    name: str
    instance: str
    """Name of its fleet's objects."""
    node: str
    is_ready: bool


def needs_nodes(fleet: Fleet) -> bool:
    """Whether Nodes and pods have to be known for the addresses of a fleet."""
    if fleet.parameters.addresses:
        return False
    kind = service_type_of(fleet)
    return kind is FleetServiceType.NODE_PORT or (kind is FleetServiceType.NONE and on_nodes(fleet))


def observe(
    fleet: Fleet,
    seen: Mapping[Ref, Seen],
    nodes: Iterable[NodeView] = (),
    pods: Iterable[PodView] = (),
    failed: str = "",
    *,
    waiting: bool = False,
    elsewhere: bool = False,
) -> ObservedFleet:
    """What is known of a fleet.

    Args:
        seen: its objects that are there.
        nodes: of the cluster; only looked at where `needs_nodes`.
        pods: of any fleets.
        failed: why its objects are not as they should be.
        waiting: its proxies are to be made anew, but not now.
        elsewhere: its objects are those of another Portway.
    """
    if fleet.parameters.addresses:
        given = (FleetAddress(address.type, address.value or "") for address in fleet.parameters.addresses)
        addresses = tuple(dict.fromkeys(given))
        return ObservedFleet(addresses=addresses, pending="", failed=failed, waiting=waiting, elsewhere=elsewhere)
    found, pending = _found(fleet, seen, tuple(nodes), tuple(pods))
    pending = "" if found else _with_proxies(pending, seen)
    return ObservedFleet(
        addresses=found[:MOST],
        pending=pending,
        failed=failed,
        waiting=waiting,
        unseen=not seen,
        elsewhere=elsewhere,
    )


def _found(
    fleet: Fleet, seen: Mapping[Ref, Seen], nodes: Sequence[NodeView], pods: Sequence[PodView]
) -> tuple[tuple[FleetAddress, ...], str]:
    """Addresses, and why there are none."""
    kind = service_type_of(fleet)
    name = fleet_name_of(fleet.owner)
    running = frozenset(
        pod.node for pod in pods if (pod.namespace, pod.instance) == (fleet.namespace, name) and pod.is_ready
    )
    if kind is FleetServiceType.NONE:
        if not on_nodes(fleet):
            return (), "it has no Service; say by spec.addresses of its FleetParameters where clients reach it"
        return _of_nodes(nodes, running), "no Node runs a proxy of it that is ready"
    service = seen.get(Ref(SERVICE, fleet.namespace, name))
    if service is None:
        return (), "its Service has not been made yet"
    match kind:
        case FleetServiceType.LOAD_BALANCER:
            return service.addresses, _no_load_balancer(fleet, service)
        case FleetServiceType.CLUSTER_IP:
            ips = tuple(FleetAddress("IPAddress", ip) for ip in service.cluster_ips)
            return ips, f"{service.ref} has no cluster IP"
        case FleetServiceType.NODE_PORT:
            wanted = fleet.parameters.service or ServiceParameters()
            if wanted.external_traffic_policy is TrafficPolicy.LOCAL:
                return _of_nodes(nodes, running), "no Node runs a proxy of it that is ready"
            return _of_nodes(nodes, None), "no Node is ready"


def _no_load_balancer(fleet: Fleet, service: Seen) -> str:
    asked = ", ".join(address.value for address in fleet.requested)
    return f"{service.ref} has not got {asked or 'an address'} from the cluster's load balancer yet"


def _of_nodes(nodes: Sequence[NodeView], only: frozenset[str] | None) -> tuple[FleetAddress, ...]:
    usable = sorted(
        (node for node in nodes if node.is_usable and (only is None or node.name in only)), key=lambda node: node.name
    )
    external = [address for node in usable for address in node.external]
    internal = [address for node in usable for address in node.internal]
    return tuple(dict.fromkeys(FleetAddress("IPAddress", address) for address in external or internal))


def _with_proxies(pending: str, seen: Mapping[Ref, Seen]) -> str:
    """With what is to be said of the proxies: without them some load balancers give no address."""
    for there in seen.values():
        if there.ref.resource in (DEPLOYMENT, DAEMON_SET):
            if there.trouble:
                return f"{pending}; {there.ref}: {there.trouble}"
            return f"{pending}; {there.ready} of {there.wanted} proxies are ready"
    return pending


# Nodes and pods as the API server writes them.


class _Condition(Part, frozen=True, kw_only=True):
    type: str = ""
    status: str = ""


class _Address(Part, frozen=True, kw_only=True):
    type: str = ""
    address: str = ""


class _Status(Part, frozen=True, kw_only=True):
    conditions: tuple[_Condition, ...] = ()
    addresses: tuple[_Address, ...] = ()


class _Meta(Part, frozen=True, kw_only=True):
    name: str
    namespace: str = ""
    labels: Mapping[str, str] = msgspec.field(default_factory=dict)
    deletion_timestamp: str | None = None


class _Spec(Part, frozen=True, kw_only=True):
    node_name: str = ""


class _View(Part, frozen=True, kw_only=True):
    metadata: _Meta
    spec: _Spec = _Spec()
    status: _Status = _Status()

    @property
    def is_ready(self) -> bool:
        return any(each.type == "Ready" and each.status == "True" for each in self.status.conditions)


_VIEW: Final = msgspec.json.Decoder(_View)


def read_node(data: bytes | msgspec.Raw) -> NodeView:
    """A Node.

    Raises:
        msgspec.MsgspecError: it is none.
    """
    view = _VIEW.decode(data)

    def of_type(kind: str) -> tuple[str, ...]:
        return tuple(each.address for each in view.status.addresses if each.type == kind)

    return NodeView(
        name=view.metadata.name,
        is_usable=view.is_ready and EXCLUDED not in view.metadata.labels,
        external=of_type("ExternalIP"),
        internal=of_type("InternalIP"),
    )


def read_pod(data: bytes | msgspec.Raw, instance_label: str) -> PodView:
    """A pod.

    Raises:
        msgspec.MsgspecError: it is none.
    """
    view = _VIEW.decode(data)
    meta = view.metadata
    return PodView(
        namespace=meta.namespace,
        name=meta.name,
        instance=meta.labels.get(instance_label, ""),
        node=view.spec.node_name,
        is_ready=view.is_ready and meta.deletion_timestamp is None,
    )
