"""The Service in front of a fleet.

Ports of the Service, of the pods and of the listeners are the same, so that redirects and `X-Forwarded-Port` are right
whatever the way. Names of ports come from number and protocol, not from listeners: several share one.

Parameters of a Gateway and its class are joined, so the class may say what the Gateway's own type of Service cannot
have, and the API server would refuse: it is left out.

Left out on purpose: `appProtocol`, by which some clouds choose a health check that a proxy without a route for `/`
fails.

Source: Kubernetes, "Service"; GEP-1762; for several requested addresses the annotations of MetalLB and Cilium.
"""

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from portway.infra.kubernetes.names import selector_of, theirs
from portway.infra.kubernetes.values import Data, given
from portway.model.fleet import Fleet, FleetPort
from portway.objects.fleets_v1alpha1 import FleetServiceType, NodePort, ServiceParameters, TrafficPolicy, WorkloadType

_ADDRESS_ANNOTATIONS: Final = ("metallb.io/loadBalancerIPs", "lbipam.cilium.io/ips")
"""Take several addresses, with commas between. `spec.loadBalancerIP` takes one, and every implementation knows it."""


class Front(msgspec.Struct, frozen=True, kw_only=True):
    """What is special about the Service."""

    spec: Data
    labels: Mapping[str, str]
    annotations: Mapping[str, str]


def service_type_of(fleet: Fleet) -> FleetServiceType:
    """How the proxies of a fleet are reached. Those that listen on their Nodes' addresses need no Service."""
    wanted = (fleet.parameters.service or ServiceParameters()).type
    if wanted is not None:
        return wanted
    return FleetServiceType.NONE if on_nodes(fleet) else FleetServiceType.LOAD_BALANCER


def on_nodes(fleet: Fleet) -> bool:
    """Whether the proxies are reached by the addresses of their Nodes, on the listeners' own ports."""
    pod, container = fleet.parameters.pod, fleet.parameters.container
    return bool((pod is not None and pod.host_network) or (container is not None and container.host_ports))


def service_of(fleet: Fleet) -> Front | None:
    """The Service of a fleet; `None`: it has none."""
    wanted = fleet.parameters.service or ServiceParameters()
    kind = service_type_of(fleet)
    if kind is FleetServiceType.NONE:
        return None
    balanced, external = kind is FleetServiceType.LOAD_BALANCER, kind is not FleetServiceType.CLUSTER_IP
    addresses = tuple(address.value for address in fleet.requested if address.type == "IPAddress" and balanced)
    of_balancer = {
        "loadBalancerClass": wanted.load_balancer_class,
        "loadBalancerSourceRanges": wanted.load_balancer_source_ranges,
        "allocateLoadBalancerNodePorts": wanted.allocate_load_balancer_node_ports,
        "loadBalancerIP": addresses[0] if len(addresses) == 1 else None,
    }
    spec = given(
        type=kind.value,
        selector=dict(selector_of(fleet)),
        ports=_ports(fleet, wanted.node_ports or () if external else ()),
        externalTrafficPolicy=_external_policy(fleet, wanted) if external else None,
        internalTrafficPolicy=wanted.internal_traffic_policy,
        ipFamilyPolicy=wanted.ip_family_policy,
        **(of_balancer if balanced else {}),
    )
    several = ",".join(addresses) if len(addresses) > 1 else ""
    asked = dict.fromkeys(_ADDRESS_ANNOTATIONS, several) if several else {}
    return Front(spec=spec, labels=wanted.labels, annotations={**asked, **theirs(wanted.annotations)})


def port_name(port: FleetPort) -> str:
    """`tcp-443`: unique among the ports of a fleet."""
    return f"{port.transport.value}-{port.port}"


def _ports(fleet: Fleet, node_ports: Iterable[NodePort]) -> list[Data]:
    chosen = {(entry.port, entry.protocol.value): entry.node_port for entry in node_ports}
    return [
        given(
            name=port_name(port),
            protocol=port.transport.value.upper(),
            port=port.port,
            targetPort=port.port,
            nodePort=chosen.get((port.port, port.transport.value.upper())),
        )
        for port in fleet.ports
    ]


def _external_policy(fleet: Fleet, wanted: ServiceParameters) -> TrafficPolicy | None:
    """A DaemonSet has a proxy on the Node where a connection arrives: it need go no further, and keeps its client's
    address. `None`: the cluster's default."""
    if wanted.external_traffic_policy is not None:
        return wanted.external_traffic_policy
    workload = fleet.parameters.workload
    is_daemon_set = workload is not None and workload.type is WorkloadType.DAEMON_SET
    return TrafficPolicy.LOCAL if is_daemon_set else None
