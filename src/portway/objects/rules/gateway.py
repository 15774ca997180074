"""Rules of Gateway and ListenerSet.

Source: Gateway API v1.7, validations of `gateways` and `listenersets` in the Experimental channel. What is said there
about fields that the Standard channel lacks (filters, routability, ClusterTrustBundle) needs no distinction.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from portway.objects.gateway_v1 import (
    FrontendTLSValidation,
    GatewayInfrastructure,
    GatewaySpec,
    GatewaySpecAddress,
    Listener,
    ListenerFilterType,
    ListenerProtocol,
    ListenerRequestFilter,
    ListenerSetSpec,
    ListenerTLSConfig,
    TLSMode,
)
from portway.objects.problems import Problem, duplicates, quoted
from portway.objects.rules.engine import Table, rules
from portway.objects.rules.names import is_ip, wrong_dns_subdomain
from portway.objects.rules.routes import named_field
from portway.objects.scalars import HOSTNAME, QUALIFIED_NAME

_HOSTNAME: Final = re.compile(HOSTNAME)
_QUALIFIED_NAME: Final = re.compile(QUALIFIED_NAME)
_PLAIN: Final = frozenset({ListenerProtocol.HTTP, ListenerProtocol.TCP, ListenerProtocol.UDP})
_WITHOUT_HOSTS: Final = frozenset({ListenerProtocol.TCP, ListenerProtocol.UDP})
_WITH_FILTERS: Final = frozenset({ListenerProtocol.HTTP, ListenerProtocol.HTTPS})


def _listener(listener: Listener) -> Iterator[Problem]:
    protocol, tls = listener.protocol, listener.tls
    if protocol in _PLAIN and tls is not None:
        yield Problem(("tls",), f"is set, but protocol {protocol} has no TLS", "remove it, or use HTTPS or TLS")
    if protocol == ListenerProtocol.HTTPS and tls is not None and tls.mode is not TLSMode.TERMINATE:
        yield Problem(("tls", "mode"), f"is {tls.mode}, but protocol HTTPS ends TLS here", "use protocol TLS")
    if protocol == ListenerProtocol.TLS and tls is None:
        yield Problem(("tls",), "is required for protocol TLS, but not set", "set tls.mode")
    if protocol in _WITHOUT_HOSTS and listener.hostname is not None:
        yield Problem(("hostname",), f"is set, but protocol {protocol} knows no host names", "remove it")
    if listener.filters is not None and protocol not in _WITH_FILTERS:
        yield Problem(("filters",), f"is set, but protocol {protocol} has no requests", "remove it")


def _distinct_listeners(spec: GatewaySpec | ListenerSetSpec) -> Iterator[Problem]:
    keys = [(listener.port, listener.protocol, listener.hostname) for listener in spec.listeners]
    for index, before, _ in duplicates(keys):
        problem = f"has the same port, protocol and hostname as listeners[{before}]"
        yield Problem(("listeners", index), problem, "change one of the three, or merge the two")


def _tls(tls: ListenerTLSConfig) -> Iterable[Problem]:
    if tls.mode is TLSMode.TERMINATE and not tls.certificate_refs and not tls.options:
        return (Problem(("certificateRefs",), "is empty, but mode Terminate needs a certificate", "name a Secret"),)
    return ()


def _filter(found: ListenerRequestFilter) -> Iterable[Problem]:
    return named_field(
        found.type,
        {
            ListenerFilterType.EXTERNAL_AUTH: ("externalAuth", found.external_auth),
            ListenerFilterType.EXTENSION_REF: ("extensionRef", found.extension_ref),
        },
    )


def _distinct_addresses(spec: GatewaySpec) -> Iterator[Problem]:
    compared = ("IPAddress", "Hostname")
    values: list[object] = [
        (address.type, address.value) if address.type in compared and address.value is not None else index
        for index, address in enumerate(spec.addresses)
    ]
    for index, before, _ in duplicates(values):
        yield Problem(("addresses", index, "value"), f"is the same as in addresses[{before}]", "remove one of the two")


def _address(address: GatewaySpecAddress) -> Iterator[Problem]:
    if address.value is not None:
        if address.type == "IPAddress" and not is_ip(address.value):
            yield Problem(("value",), f"{quoted(address.value)} is not an IP address", "write one such as 192.0.2.1")
        if address.type == "Hostname" and not _HOSTNAME.match(address.value):
            yield Problem(
                ("value",),
                f"{quoted(address.value)} is not a lower-case host name",
                "write one such as gateway.example.com",
            )
    if address.routability is not None and not _is_routability(address.routability):
        problem = f"{quoted(address.routability)} is neither Cluster nor a path with a domain before it"
        yield Problem(("routability",), problem, "leave it out, or write Cluster")


def _is_routability(text: str) -> bool:
    domain, slash, rest = text.partition("/")
    if text in ("", "Cluster"):
        return True
    reserved = domain == "k8s.io" or domain.endswith(".k8s.io")
    return bool(slash and rest) and not reserved and not wrong_dns_subdomain(domain)


def _keys(field: str, values: Mapping[str, str]) -> Iterator[Problem]:
    for key in values:
        if not _QUALIFIED_NAME.match(key) or len(key.partition("/")[0]) >= 253:
            problem = f"{quoted(key)} is not a name of at most 63 characters after an optional domain and '/'"
            yield Problem((field, key), problem, "write one such as version or example.com/version")


def _infrastructure(infrastructure: GatewayInfrastructure) -> Iterator[Problem]:
    yield from _keys("labels", infrastructure.labels)
    yield from _keys("annotations", infrastructure.annotations)


def _validation(validation: FrontendTLSValidation) -> Iterator[Problem]:
    for index, reference in enumerate(validation.ca_certificate_refs):
        is_bundle = reference.group == "certificates.k8s.io" and reference.kind == "ClusterTrustBundle"
        if is_bundle and reference.namespace is not None:
            problem = "is set, but a ClusterTrustBundle is in no namespace"
            yield Problem(("caCertificateRefs", index, "namespace"), problem, "remove it")


RULES: Final[Table] = dict(
    [
        rules(GatewaySpec, _distinct_listeners, _distinct_addresses),
        rules(ListenerSetSpec, _distinct_listeners),
        rules(Listener, _listener),
        rules(ListenerTLSConfig, _tls),
        rules(ListenerRequestFilter, _filter),
        rules(GatewaySpecAddress, _address),
        rules(GatewayInfrastructure, _infrastructure),
        rules(FrontendTLSValidation, _validation),
    ]
)
