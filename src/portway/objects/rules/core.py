"""Rules of Service, Secret and ConfigMap, as far as their fields are read.

Source: Kubernetes v1.37, `pkg/apis/core/validation`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sized
from typing import Final

from portway.objects.core_v1 import ConfigMap, Secret, ServicePort, ServiceSpec, ServiceType
from portway.objects.problems import Problem, did_you_mean, duplicates, quoted
from portway.objects.rules.engine import Table, rules
from portway.objects.rules.names import (
    is_ip,
    wrong_config_key,
    wrong_dns_label,
    wrong_dns_subdomain,
    wrong_label_value,
    wrong_port_name,
    wrong_port_number,
    wrong_qualified_name,
)

MAX_DATA_BYTES: Final = 1024 * 1024
"""Kubernetes' `MaxSecretSize`; all values of a Secret or ConfigMap together."""

HEADLESS: Final = "None"
"""`clusterIP` of a Service without an address of its own."""

_TRAFFIC_DISTRIBUTIONS: Final = ("PreferSameZone", "PreferSameNode", "PreferClose")
_REQUIRED_KEYS: Final = {"kubernetes.io/tls": ("tls.crt", "tls.key")}

_ADD_ENTRY: Final = "add it; kubectl create secret tls writes both entries"


def _needs_ports(spec: ServiceSpec) -> Iterable[Problem]:
    if spec.ports or spec.type is ServiceType.EXTERNAL_NAME or spec.cluster_ip == HEADLESS:
        return ()
    return (Problem(("ports",), "is required, but not set", "name at least one port"),)


def _port_names(spec: ServiceSpec) -> Iterator[Problem]:
    if len(spec.ports) > 1:
        for index, port in enumerate(spec.ports):
            if not port.name:
                problem = "is required where a Service has several ports, but not set"
                yield Problem(("ports", index, "name"), problem, "name each port")
        for index, before, name in duplicates(port.name for port in spec.ports):
            if name:
                problem = f"{quoted(str(name))} is the name of ports[{before}] already"
                yield Problem(("ports", index, "name"), problem, "name each port differently")
        for index, before, _ in duplicates((port.port, port.protocol) for port in spec.ports):
            problem = f"has the same port and protocol as ports[{before}]"
            yield Problem(("ports", index), problem, "give each port another number or protocol")


def _port(port: ServicePort) -> Iterator[Problem]:
    if port.name and (wrong := wrong_dns_label(port.name)):
        yield Problem(("name",), *wrong)
    target = port.target_port
    if target is not None and (
        wrong := wrong_port_number(target) if isinstance(target, int) else wrong_port_name(target)
    ):
        yield Problem(("targetPort",), *wrong)
    if port.app_protocol is not None and (wrong := wrong_qualified_name(port.app_protocol)):
        yield Problem(("appProtocol",), *wrong)


def _external_name(spec: ServiceSpec) -> Iterator[Problem]:
    if spec.type is not ServiceType.EXTERNAL_NAME:
        return
    # A dot at the end says that the name is absolute.
    name = spec.external_name.removesuffix(".")
    if not name:
        yield Problem(("externalName",), "is required for type ExternalName, but not set", "write the DNS name")
    elif wrong := wrong_dns_subdomain(name):
        yield Problem(("externalName",), *wrong)
    if spec.cluster_ip:
        yield Problem(("clusterIP",), "is set, but a Service of type ExternalName has no address", "remove it")


def _cluster_ip(spec: ServiceSpec) -> Iterator[Problem]:
    if spec.cluster_ip and spec.cluster_ip != HEADLESS and not is_ip(spec.cluster_ip):
        yield Problem(("clusterIP",), f'{quoted(spec.cluster_ip)} is neither an IP address nor "None"', "leave it out")
    if spec.cluster_ip == HEADLESS and spec.type in (ServiceType.NODE_PORT, ServiceType.LOAD_BALANCER):
        yield Problem(("clusterIP",), f'is "None", which type {spec.type} cannot have', "leave it out")


def _selector(spec: ServiceSpec) -> Iterator[Problem]:
    for key, value in spec.selector.items():
        if wrong := wrong_qualified_name(key) or wrong_label_value(value):
            yield Problem(("selector", key), *wrong)


def _affinity(spec: ServiceSpec) -> Iterator[Problem]:
    wanted = spec.traffic_distribution
    if wanted is not None and wanted not in _TRAFFIC_DISTRIBUTIONS:
        problem = f"{quoted(wanted)} is none of {', '.join(_TRAFFIC_DISTRIBUTIONS)}"
        yield Problem(
            ("trafficDistribution",), problem, did_you_mean(wanted, _TRAFFIC_DISTRIBUTIONS, "write one of them")
        )


def _keys(field: str, data: Mapping[str, Sized]) -> Iterator[Problem]:
    for key in data:
        if wrong := wrong_config_key(key):
            yield Problem((field, key), *wrong)


def _size(total: int) -> Iterable[Problem]:
    if total > MAX_DATA_BYTES:
        problem = f"has {total:,} bytes together, more than the {MAX_DATA_BYTES:,} allowed"
        return (Problem(("data",), problem, "split it into several objects"),)
    return ()


def _secret(secret: Secret) -> Iterator[Problem]:
    # After defaulting: stringData has been merged into data.
    yield from _keys("data", secret.data)
    yield from _size(sum(len(value) for value in secret.data.values()))
    for key in _REQUIRED_KEYS.get(secret.type, ()):
        if key not in secret.data:
            yield Problem(("data", key), f"is required for type {secret.type}, but not set", _ADD_ENTRY)


def _config_map(config_map: ConfigMap) -> Iterator[Problem]:
    yield from _keys("data", config_map.data)
    yield from _keys("binaryData", config_map.binary_data)
    for key in config_map.data.keys() & config_map.binary_data.keys():
        yield Problem(("binaryData", key), "is in data, too", "keep one of the two")
    text = sum(len(value.encode("utf-8", "replace")) for value in config_map.data.values())
    yield from _size(text + sum(len(value) for value in config_map.binary_data.values()))


RULES: Final[Table] = dict(
    [
        rules(ServiceSpec, _needs_ports, _port_names, _external_name, _cluster_ip, _selector, _affinity),
        rules(ServicePort, _port),
        rules(Secret, _secret),
        rules(ConfigMap, _config_map),
    ]
)
