"""Rules of EndpointSlice.

Source: Kubernetes v1.37, `pkg/apis/discovery/validation`. Stricter in one point: a port's number is held to 1 to 65535,
since nothing could be sent to another.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from portway.objects.discovery_v1 import (
    AddressType,
    Endpoint,
    EndpointHints,
    EndpointPort,
    EndpointSlice,
    ForNode,
    ForZone,
)
from portway.objects.problems import Problem, duplicates, quoted
from portway.objects.rules.engine import Table, rules
from portway.objects.rules.names import (
    Wrong,
    parse_ip,
    wrong_dns_label,
    wrong_dns_subdomain,
    wrong_label_value,
    wrong_port_number,
    wrong_qualified_name,
)

_ANOTHER: Final = "write the address of a pod or machine"
_VERSIONS: Final = {AddressType.IPV4: 4, AddressType.IPV6: 6}


def _wrong_address(address: str, kind: AddressType) -> Wrong | None:
    if kind is AddressType.FQDN:
        return wrong_dns_subdomain(address.removesuffix("."))
    parsed = parse_ip(address)
    if parsed is None or parsed.version != _VERSIONS[kind]:
        example = "10.1.2.3" if kind is AddressType.IPV4 else "2001:db8::1"
        return Wrong(
            f"{quoted(address)} is not an {kind} address", f"write one such as {example}, or change addressType"
        )
    if parsed.is_unspecified:
        return Wrong(f"{quoted(address)} is the unspecified address, to which nothing can be sent", _ANOTHER)
    # Metadata services of clouds listen there: an endpoint must not lead a proxy to one.
    if parsed.is_link_local or (parsed.is_multicast and (parsed.packed[:3] == b"\xe0\0\0" or parsed.packed[1] == 2)):
        return Wrong(f"{quoted(address)} is a link-local address", _ANOTHER)
    return None


def _addresses(found: EndpointSlice) -> Iterator[Problem]:
    for index, endpoint in enumerate(found.endpoints):
        for position, address in enumerate(endpoint.addresses):
            if wrong := _wrong_address(address, found.address_type):
                yield Problem(("endpoints", index, "addresses", position), *wrong)


def _endpoint(endpoint: Endpoint) -> Iterator[Problem]:
    if endpoint.hostname is not None and (wrong := wrong_dns_label(endpoint.hostname)):
        yield Problem(("hostname",), *wrong)
    if endpoint.node_name is not None and (wrong := wrong_dns_subdomain(endpoint.node_name)):
        yield Problem(("nodeName",), *wrong)


def _for_zone(zone: ForZone) -> Iterable[Problem]:
    wrong = wrong_label_value(zone.name)
    return (Problem(("name",), *wrong),) if wrong else ()


def _for_node(node: ForNode) -> Iterable[Problem]:
    wrong = wrong_dns_subdomain(node.name)
    return (Problem(("name",), *wrong),) if wrong else ()


def _hints(hints: EndpointHints) -> Iterator[Problem]:
    for name, values in (("forZones", hints.for_zones), ("forNodes", hints.for_nodes)):
        for index, before, _ in duplicates(value.name for value in values):
            yield Problem((name, index, "name"), f"is there already, as {name}[{before}]", "remove one of the two")


def _ports(found: EndpointSlice) -> Iterator[Problem]:
    for index, before, name in duplicates(port.name for port in found.ports):
        problem = f"{quoted(str(name))} is the name of ports[{before}] already"
        yield Problem(("ports", index, "name"), problem, "name each port differently")


def _port(port: EndpointPort) -> Iterator[Problem]:
    if port.name and (wrong := wrong_dns_label(port.name)):
        yield Problem(("name",), *wrong)
    if port.port is not None and (wrong := wrong_port_number(port.port)):
        yield Problem(("port",), *wrong)
    if port.app_protocol is not None and (wrong := wrong_qualified_name(port.app_protocol)):
        yield Problem(("appProtocol",), *wrong)


def _no_loopback(found: EndpointSlice) -> Iterator[Problem]:
    for index, endpoint in enumerate(found.endpoints):
        for position, address in enumerate(endpoint.addresses):
            parsed = parse_ip(address)
            if parsed is not None and parsed.is_loopback:
                problem = f"{quoted(address)} is a loopback address, which is another machine's for each proxy"
                yield Problem(("endpoints", index, "addresses", position), problem, _ANOTHER)


RULES: Final[Table] = dict(
    [
        rules(EndpointSlice, _addresses, _ports),
        rules(Endpoint, _endpoint),
        rules(EndpointHints, _hints),
        rules(ForZone, _for_zone),
        rules(ForNode, _for_node),
        rules(EndpointPort, _port),
    ]
)

CLUSTER_RULES: Final[Table] = dict([rules(EndpointSlice, _no_loopback)])
"""A file may name loopback addresses: its proxies run on the same machine."""
