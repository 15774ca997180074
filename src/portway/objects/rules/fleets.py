"""Rules of FleetParameters.

Source: `docs/design/fleets.md`; Kubernetes, "Quantity", `ValidateService`, `ValidatePodDisruptionBudgetSpec`. What the
API server would refuse of the objects that are made of it is refused here, where its author sees it.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from typing import Final

from portway.objects.fleets_v1alpha1 import (
    Autoscaling,
    DisruptionBudget,
    FleetParametersSpec,
    FleetServiceType,
    PodParameters,
    ServiceParameters,
    WorkloadParameters,
    WorkloadType,
)
from portway.objects.gateway_v1 import GatewaySpecAddress
from portway.objects.pods_v1 import ResourceRequirements, Toleration, TolerationOperator
from portway.objects.problems import Problem, quoted
from portway.objects.rules.engine import Table, rules
from portway.objects.rules.names import (
    is_plain_ip,
    parse_ip,
    wrong_dns_subdomain,
    wrong_label_value,
    wrong_qualified_name,
)
from portway.objects.scalars import PERCENT, QUANTITY

OWN_LABELS: Final = ("app.kubernetes.io/", "gateway.networking.k8s.io/", "portway.dev/")
"""Prefixes of labels that Portway finds its own objects by."""

_QUANTITY: Final = re.compile(QUANTITY)
_PERCENT: Final = re.compile(PERCENT)
_LENGTH: Final = re.compile(r"0|[1-9][0-9]{0,2}", re.ASCII)
_WITH_LOAD_BALANCER: Final = {FleetServiceType.LOAD_BALANCER, None}
_EXTERNAL: Final = {FleetServiceType.LOAD_BALANCER, FleetServiceType.NODE_PORT, None}


def _workload(workload: WorkloadParameters) -> Iterator[Problem]:
    if workload.type is WorkloadType.DAEMON_SET:
        for name, value in (("replicas", workload.replicas), ("autoscaling", workload.autoscaling)):
            if value is not None:
                yield Problem((name,), "is set, but a DaemonSet has one proxy on each of its Nodes", "remove it")
    if workload.replicas is not None and workload.autoscaling is not None and workload.autoscaling.min_replicas:
        problem = "is set, but autoscaling keeps the number"
        yield Problem(("replicas",), problem, "keep autoscaling.minReplicas only")
    yield from _counts({"maxSurge": workload.max_surge, "maxUnavailable": workload.max_unavailable})
    if _is_none(workload.max_surge) and _is_none(workload.max_unavailable):
        yield Problem(("maxUnavailable",), "is 0, and so is maxSurge: nothing could be updated", "let one be more")


def _is_none(count: int | str | None) -> bool:
    return count in (0, "0%")


def _autoscaling(autoscaling: Autoscaling) -> Iterable[Problem]:
    if autoscaling.min_replicas is not None and autoscaling.min_replicas > autoscaling.max_replicas:
        problem = f"is {autoscaling.min_replicas}, more than maxReplicas {autoscaling.max_replicas}"
        return (Problem(("minReplicas",), problem, "write a smaller one"),)
    return ()


def _budget(budget: DisruptionBudget) -> Iterator[Problem]:
    found = {"minAvailable": budget.min_available, "maxUnavailable": budget.max_unavailable}
    yield from _counts(found)
    if sum(value is not None for value in found.values()) != 1:
        yield Problem((), "has not exactly one of minAvailable and maxUnavailable", "set exactly one of them")


def _counts(found: Mapping[str, int | str | None]) -> Iterator[Problem]:
    for name, value in found.items():
        if (isinstance(value, int) and value < 0) or (isinstance(value, str) and not _PERCENT.match(value)):
            yield Problem(
                (name,), f"{value} is neither a number of pods nor a percentage", "write one such as 1 or 25%"
            )


def _resources(resources: ResourceRequirements) -> Iterator[Problem]:
    for name, amounts in (("requests", resources.requests), ("limits", resources.limits)):
        for resource, amount in amounts.items():
            if wrong := wrong_qualified_name(resource):
                yield Problem((name, resource), *wrong)
            elif isinstance(amount, int) and amount < 0:
                yield Problem((name, resource), f"{amount} is less than nothing", "write 0 or more")
            elif isinstance(amount, str) and not _QUANTITY.match(amount):
                yield Problem((name, resource), f"{quoted(amount)} is no amount", "write one such as 500m or 128Mi")


def _pod(pod: PodParameters) -> Iterator[Problem]:
    yield from _labels("labels", pod.labels, own=True)
    yield from _labels("nodeSelector", pod.node_selector, own=False)
    yield from _annotations(pod.annotations)
    if pod.termination_grace_period is not None and pod.termination_grace_period <= timedelta():
        yield Problem(("terminationGracePeriod",), "is 0: connections would be cut", "write one such as 1m")


def _labels(field: str, labels: Mapping[str, str], *, own: bool) -> Iterator[Problem]:
    for key, value in labels.items():
        if wrong := wrong_qualified_name(key) or wrong_label_value(value):
            yield Problem((field, key), *wrong)
        elif own and key.startswith(OWN_LABELS):
            yield Problem((field, key), "is a label that Portway itself sets", "choose another prefix")


def _annotations(annotations: Mapping[str, str]) -> Iterator[Problem]:
    for key in annotations:
        if wrong := wrong_qualified_name(key.lower()):
            yield Problem(("annotations", key), *wrong)


def _toleration(toleration: Toleration) -> Iterator[Problem]:
    if not toleration.key and toleration.operator is not TolerationOperator.EXISTS:
        yield Problem(("operator",), "is not Exists, although there is no key", "write Exists, or a key")
    if toleration.operator is TolerationOperator.EXISTS and toleration.value:
        yield Problem(("value",), "is set, but Exists compares no value", "remove it")


def _service(service: ServiceParameters) -> Iterator[Problem]:
    yield from _labels("labels", service.labels, own=True)
    yield from _annotations(service.annotations)
    if service.type not in _WITH_LOAD_BALANCER:
        found = {
            "loadBalancerClass": service.load_balancer_class,
            "loadBalancerSourceRanges": service.load_balancer_source_ranges,
            "allocateLoadBalancerNodePorts": service.allocate_load_balancer_node_ports,
        }
        yield from _pointless(found, service.type)
    if service.type not in _EXTERNAL:
        yield from _pointless(
            {"externalTrafficPolicy": service.external_traffic_policy, "nodePorts": service.node_ports or None},
            service.type,
        )
    for index, network in enumerate(service.load_balancer_source_ranges or ()):
        if not _is_network(network):
            problem = f"{quoted(network)} is not a network"
            yield Problem(("loadBalancerSourceRanges", index), problem, "write one such as 192.0.2.0/24")
    if service.load_balancer_class is not None and (wrong := wrong_qualified_name(service.load_balancer_class)):
        yield Problem(("loadBalancerClass",), *wrong)


def _pointless(found: Mapping[str, object], service_type: FleetServiceType | None) -> Iterator[Problem]:
    for name, value in found.items():
        if value is not None:
            yield Problem((name,), f"is set, but has no meaning for type {service_type}", "remove it")


def _is_network(text: str) -> bool:
    """Is it an address and the length of a prefix? No mask, which a Service would not take."""
    address, _, length = text.partition("/")
    parsed = parse_ip(address) if is_plain_ip(address) else None
    return parsed is not None and _LENGTH.fullmatch(length) is not None and int(length) <= parsed.max_prefixlen


def _addresses(spec: FleetParametersSpec) -> Iterator[Problem]:
    for index, address in enumerate(spec.addresses or ()):
        yield from (Problem(("addresses", index, *problem.path), *problem[1:]) for problem in _address(address))


def _address(address: GatewaySpecAddress) -> Iterator[Problem]:
    if address.type not in ("IPAddress", "Hostname"):
        yield Problem(("type",), f"{quoted(address.type)} cannot be shown", "write IPAddress or Hostname")
    elif not address.value:
        yield Problem(("value",), "is empty", "write the address that clients use")
    elif address.type == "IPAddress" and not is_plain_ip(address.value):
        yield Problem(("value",), f"{quoted(address.value)} is not an IP address", "write one, or type Hostname")
    elif address.type == "Hostname" and (wrong := wrong_dns_subdomain(address.value)):
        yield Problem(("value",), *wrong)


RULES: Final[Table] = dict(
    [
        rules(FleetParametersSpec, _addresses),
        rules(WorkloadParameters, _workload),
        rules(Autoscaling, _autoscaling),
        rules(DisruptionBudget, _budget),
        rules(PodParameters, _pod),
        rules(Toleration, _toleration),
        rules(ResourceRequirements, _resources),
        rules(ServiceParameters, _service),
    ]
)
