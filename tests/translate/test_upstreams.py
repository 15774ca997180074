"""How Services and Backends are spoken to, where their endpoints are, what policies change: small worlds in YAML."""

from datetime import timedelta

import pytest
import yaml

from portway.app.compiler import make_engine
from portway.app.fallback import make_fallback_certificate
from portway.incremental import Engine
from portway.model.handles import EDGE, ENDPOINTS, REPORT, UPSTREAM
from portway.model.names import UpstreamKey, UpstreamKind
from portway.model.upstream import (
    Balancer,
    BalancerKind,
    Discovery,
    EndpointHealth,
    Outliers,
    Protocol,
    RetryBudget,
    Upstream,
    UpstreamSettings,
    settings_key,
    settings_of,
)
from portway.objects.parsing import parse
from portway.objects.verdict import ObjectKey
from portway.settings import Edge
from portway.store import ChangeSet, Stored
from tests.kit.certificates import Authority

FALLBACK = make_fallback_certificate()
AUTHORITY = Authority()

SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop}
spec: {ports: [{name: http, port: 80, targetPort: web}, {name: h2, port: 81, appProtocol: kubernetes.io/h2c}]}
---
"""


def slices(*endpoints: str, name: str = "cart-1", port: int = 8080) -> str:
    lines = "\n".join(f"- {endpoint}" for endpoint in endpoints)
    return f"""
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {name}, namespace: shop, labels: {{kubernetes.io/service-name: cart}}}}
addressType: IPv4
ports: [{{name: http, port: {port}}}, {{name: other, port: 9999}}]
endpoints:
{lines}
---
"""


def world(text: str, edge: Edge | None = None) -> Engine:
    engine = make_engine(edge or Edge(), FALLBACK)
    stored: list[Stored] = []
    for document in yaml.safe_load_all(text):
        if document is not None:
            parsed = parse(document)
            assert parsed.key is not None, parsed.verdicts
            assert parsed.object is not None, parsed.verdicts
            stored.append(Stored(parsed.key, parsed.object))
    engine.apply(ChangeSet(changed=stored))
    engine.settle()
    return engine


CART = UpstreamKey(UpstreamKind.SERVICE, "shop", "cart", 80)


def endpoints(text: str, edge: Edge | None = None, key: UpstreamKey = CART) -> list[tuple[str, int, str]]:
    return [(one.address, one.port, one.health) for one in world(text, edge).get(ENDPOINTS, key).endpoints]


def of_zone(text: str, zone: str) -> list[str]:
    """What proxies of a zone use."""
    found = world(text).get(ENDPOINTS, CART)
    used = dict(found.shares).get(zone, found.endpoints)
    return [endpoint.address for endpoint in used]


def upstream(text: str, key: UpstreamKey = CART, edge: Edge | None = None) -> Upstream:
    found = world(text, edge).get(UPSTREAM, key)
    assert found is not None
    return found


READY, DRAINING = EndpointHealth.HEALTHY, EndpointHealth.DRAINING
TERMINATING = "conditions: {ready: false, serving: true, terminating: true}"

ENDPOINT_CASES = {
    "the slice's port number is used, not the Service's": (
        slices("{addresses: [10.0.0.1]}"),
        [("10.0.0.1", 8080, READY)],
    ),
    "unknown conditions count as ready": (
        slices("{addresses: [10.0.0.1], conditions: {}}"),
        [("10.0.0.1", 8080, READY)],
    ),
    "what is not ready is left out": (
        slices("{addresses: [10.0.0.1]}", "{addresses: [10.0.0.2], conditions: {ready: false}}"),
        [("10.0.0.1", 8080, READY)],
    ),
    "what terminates but serves is marked": (
        slices("{addresses: [10.0.0.1]}", f"{{addresses: [10.0.0.2], {TERMINATING}}}"),
        [("10.0.0.1", 8080, READY), ("10.0.0.2", 8080, DRAINING)],
    ),
    "when no other is left it serves": (
        slices(f"{{addresses: [10.0.0.2], {TERMINATING}}}"),
        [("10.0.0.2", 8080, READY)],
    ),
    "what terminates and no longer serves is left out": (
        slices("{addresses: [10.0.0.2], conditions: {ready: false, serving: false, terminating: true}}"),
        [],
    ),
    "an endpoint in two slices counts once, and ready beats draining": (
        slices(f"{{addresses: [10.0.0.1], {TERMINATING}}}") + slices("{addresses: [10.0.0.1]}", name="cart-2"),
        [("10.0.0.1", 8080, READY)],
    ),
    "slices may have ports of their own": (
        slices("{addresses: [10.0.0.1]}") + slices("{addresses: [10.0.0.2]}", name="cart-2", port=8081),
        [("10.0.0.1", 8080, READY), ("10.0.0.2", 8081, READY)],
    ),
    "no slices, no endpoints": ("", []),
}


@pytest.mark.parametrize("case", ENDPOINT_CASES)
def test_endpoints(case: str) -> None:
    text, expected = ENDPOINT_CASES[case]
    assert endpoints(SERVICE + text) == expected


HINTED = [
    "{addresses: [10.0.0.1], hints: {forZones: [{name: a}]}}",
    "{addresses: [10.0.0.2], hints: {forZones: [{name: b}]}}",
]
HINT_CASES = {
    # zone of the proxies, endpoints: addresses
    ("a", *HINTED): ["10.0.0.1"],
    ("b", *HINTED): ["10.0.0.2"],
    ("", *HINTED): ["10.0.0.1", "10.0.0.2"],  # the proxies know no zone
    ("c", *HINTED): ["10.0.0.1", "10.0.0.2"],  # nobody is for their zone
    ("a", *HINTED, "{addresses: [10.0.0.3]}"): ["10.0.0.1", "10.0.0.2", "10.0.0.3"],  # one has no hint
    # One that ends keeps nobody in its zone, and needs no hint.
    ("b", *HINTED[:1], f"{{addresses: [10.0.0.2], hints: {{forZones: [{{name: b}}]}}, {TERMINATING}}}"): [
        "10.0.0.1",
        "10.0.0.2",
    ],
    ("a", *HINTED, f"{{addresses: [10.0.0.3], {TERMINATING}}}"): ["10.0.0.1"],
}


@pytest.mark.parametrize("given", HINT_CASES)
def test_hints(given: tuple[str, ...]) -> None:
    zone, *entries = given
    assert of_zone(SERVICE + slices(*entries), zone) == HINT_CASES[given]


def test_hints_may_be_switched_off_by_a_policy() -> None:
    policy = """
apiVersion: portway.dev/v1alpha1
kind: UpstreamPolicy
metadata: {name: p, namespace: shop}
spec: {targetRefs: [{group: "", kind: Service, name: cart}], zoneAware: {type: Disabled}}
"""
    assert len(of_zone(SERVICE + slices(*HINTED) + policy, "a")) == 2


def test_app_protocol_says_what_is_spoken() -> None:
    assert upstream(SERVICE).protocol is Protocol.HTTP1
    assert upstream(SERVICE, CART._replace(port=81)).protocol is Protocol.HTTP2


def test_an_external_name_is_resolved_by_the_proxies() -> None:
    text = """
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop}
spec: {type: ExternalName, externalName: cart.example.com., ports: [{port: 80, targetPort: 8080}]}
"""
    found = upstream(text)
    assert (found.discovery, found.dns_name, found.dns_port) == (Discovery.DNS, "cart.example.com", 8080)
    assert endpoints(text) == []


def test_a_service_that_is_gone_is_no_upstream() -> None:
    assert world("").get(UPSTREAM, CART) is None


BACKEND = UpstreamKey(UpstreamKind.BACKEND, "shop", "old", 0)


def backend(spec: str) -> str:
    return f"""
apiVersion: portway.dev/v1alpha1
kind: Backend
metadata: {{name: old, namespace: shop}}
spec: {spec}
---
"""


def test_a_backend_is_addresses_a_name_or_a_socket() -> None:
    weighted = backend("{addresses: [{address: 10.0.0.2, port: 81, weight: 3}, {address: '::1', port: 80}]}")
    found = world(weighted).get(ENDPOINTS, BACKEND).endpoints
    assert [(one.address, one.port, one.weight) for one in found] == [("10.0.0.2", 81, 3), ("::1", 80, 1)]
    named = upstream(backend("{dns: {name: old.example.com, port: 443, family: IPv6}}"), BACKEND)
    assert (named.discovery, named.dns_name, named.dns_family) == (Discovery.DNS, "old.example.com", "v6")
    assert endpoints(backend("{unixSocket: {path: /run/old.sock}}"), key=BACKEND) == [("/run/old.sock", 0, READY)]


@pytest.mark.parametrize(
    ("weights", "expected"),
    [((1, 1), BalancerKind.LEAST_REQUEST), ((5, 5), BalancerKind.LEAST_REQUEST), ((3, 1), BalancerKind.ROUND_ROBIN)],
)
def test_addresses_that_weigh_differently_get_their_shares(weights: tuple[int, int], expected: BalancerKind) -> None:
    first, second = (f"{{address: 10.0.0.{number}, port: 80, weight: {one}}}" for number, one in enumerate(weights))
    assert upstream(backend(f"{{addresses: [{first}, {second}]}}"), BACKEND).balancer.kind is expected


def test_tls_of_a_backend_is_verified_unless_it_says_otherwise() -> None:
    verified = upstream(backend("{dns: {name: old.example.com, port: 443}, appProtocol: https}"), BACKEND).tls
    assert verified is not None
    assert (verified.sni, verified.system_authorities, verified.names) == (
        "old.example.com",
        True,
        (("DNS", "old.example.com"),),
    )
    careless = upstream(backend("{dns: {name: o.example, port: 1}, tls: {insecureSkipVerify: true}}"), BACKEND).tls
    assert careless is not None
    assert (careless.system_authorities, careless.names) == (False, ())


def policy(name: str, spec: str, target: str = "{group: '', kind: Service, name: cart}") -> str:
    return f"""
apiVersion: portway.dev/v1alpha1
kind: UpstreamPolicy
metadata: {{name: {name}, namespace: shop}}
spec:
  targetRefs: [{target}]
  {spec}
---
"""


def test_a_policy_changes_what_it_names_and_nothing_else() -> None:
    changed = upstream(SERVICE + policy("p", "loadBalancer: {type: LeastRequest, slowStart: {window: 30s}}"))
    assert changed.balancer == Balancer(kind=BalancerKind.LEAST_REQUEST, slow_start=timedelta(seconds=30))
    assert changed.outliers == Outliers()
    assert changed.retry_budget == RetryBudget()
    assert ObjectKey("UpstreamPolicy", "shop", "p") in changed.origins


@pytest.mark.parametrize(
    ("declared", "failures"),
    [
        ("{}", 5),
        ("{consecutiveGatewayErrors: 2}", 2),
        ("{consecutive5xx: 3}", 3),
        ("{consecutiveGatewayErrors: 0}", 0),
        ("{consecutive5xx: 7, consecutiveGatewayErrors: 0}", 7),
    ],
)
def test_failed_connections_count_as_errors(declared: str, failures: int) -> None:
    outliers = upstream(SERVICE + policy("p", f"outlierDetection: {declared}")).outliers
    assert outliers is not None
    assert outliers.consecutive_local_failures == failures


def test_a_policy_for_the_port_beats_one_for_the_service_and_the_older_beats_the_younger() -> None:
    section = "{group: '', kind: Service, name: cart, sectionName: http}"
    text = SERVICE + policy("a", "timeouts: {connect: 1s}") + policy("b", "timeouts: {connect: 2s}", section)
    assert upstream(text).connect_timeout == timedelta(seconds=2)
    assert upstream(text, CART._replace(port=81)).connect_timeout == timedelta(seconds=1)
    both = SERVICE + policy("y", "timeouts: {connect: 2s}") + policy("x", "timeouts: {connect: 1s}")
    assert upstream(both).connect_timeout == timedelta(seconds=1)


def test_what_a_user_of_the_upstream_wants_lies_over_it_but_not_over_its_tls() -> None:
    wanted = UpstreamSettings(connect_timeout=timedelta(seconds=9))
    assert settings_of(settings_key(wanted)) == wanted
    found = upstream(SERVICE, CART._replace(variant=settings_key(wanted)))
    assert found.connect_timeout == timedelta(seconds=9)
    assert found.name.startswith("shop/cart:80~")


CA = "".join(f"      {line}\n" for line in AUTHORITY.certificate.strip().splitlines())
TLS_POLICY = """
apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: {name: t, namespace: shop}
spec:
  targetRefs: [{group: "", kind: Service, name: cart}]
  validation: {hostname: cart.internal, caCertificateRefs: [{group: "", kind: ConfigMap, name: ca}]}
---
"""


def test_a_policy_that_cannot_be_fulfilled_leaves_no_endpoints() -> None:
    text = SERVICE + slices("{addresses: [10.0.0.1]}") + TLS_POLICY
    assert endpoints(text) == [], "closed while the authorities are missing"
    config_map = f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: ca, namespace: shop}}\ndata:\n  ca.crt: |\n{CA}"
    assert endpoints(text + config_map) == [("10.0.0.1", 8080, READY)]
    tls = upstream(text + config_map).tls
    assert tls is not None
    assert (tls.sni, tls.names) == ("cart.internal", (("DNS", "cart.internal"),))


REPORT_CASES = {
    "in force": (SERVICE + policy("p", "timeouts: {connect: 1s}"), []),
    "target missing": (
        policy("p", "timeouts: {connect: 1s}"),
        [
            "spec.targetRefs[0]: Service shop/cart does not exist; the policy waits for it; "
            "create it, or correct the name"
        ],
    ),
    "port missing": (
        SERVICE + policy("p", "timeouts: {connect: 1s}", "{group: '', kind: Service, name: cart, sectionName: web}"),
        ["spec.targetRefs[0].sectionName: Service shop/cart has no port web; it has h2, http; name one of its ports"],
    ),
    "older policy": (
        SERVICE + policy("p", "timeouts: {connect: 1s}") + policy("o", "timeouts: {connect: 1s}"),
        [
            "spec.targetRefs[0]: UpstreamPolicy shop/o is about Service shop/cart too and is older or names its port; "
            "it holds, this one does not; remove one of the two targets"
        ],
    ),
}


@pytest.mark.parametrize("case", REPORT_CASES)
def test_reports_of_policies(case: str) -> None:
    text, expected = REPORT_CASES[case]
    report = world(text).get(REPORT, ObjectKey("UpstreamPolicy", "shop", "p"))
    assert [str(verdict).removeprefix("UpstreamPolicy shop/p: ") for verdict in report.verdicts] == expected


def test_an_endpoint_change_runs_nothing_but_endpoints() -> None:
    engine = world(
        SERVICE
        + slices("{addresses: [10.0.0.1]}")
        + """
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: shop, namespace: shop, annotations: {kubernetes.io/ingress.class: portway}}
spec: {defaultBackend: {service: {name: cart, port: {number: 80}}}}
"""
    )
    engine.set(EDGE, None, Edge())
    ran: set[str] = set()
    engine.observe(lambda name, _key: ran.add(name))
    piece = parse(next(iter(yaml.safe_load_all(slices("{addresses: [10.0.0.2]}")))))
    assert piece.key is not None
    assert piece.object is not None
    engine.apply(ChangeSet(changed=[Stored(piece.key, piece.object)]))
    engine.settle()
    assert ran == {"endpoints", "endpoints out"}


def test_bytes_that_are_the_clients_are_not_encrypted_again() -> None:
    key = CART._replace(variant=settings_key(UpstreamSettings(protocol=Protocol.TCP, passthrough=True)))
    text = SERVICE + slices("{addresses: [10.0.0.1]}") + TLS_POLICY
    assert endpoints(text, key=key) == [("10.0.0.1", 8080, READY)]
    assert upstream(text, key).tls is None


def test_a_udp_port_may_have_the_number_of_a_tcp_port() -> None:
    text = """
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop}
spec: {ports: [{name: dns-tcp, port: 53, protocol: TCP}, {name: dns, port: 53, protocol: UDP}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: cart-1, namespace: shop, labels: {kubernetes.io/service-name: cart}}
addressType: IPv4
ports: [{name: dns-tcp, port: 5301, protocol: TCP}, {name: dns, port: 5302, protocol: UDP}]
endpoints: [{addresses: [10.0.0.1]}]
"""
    key = CART._replace(port=53)
    udp = key._replace(variant=settings_key(UpstreamSettings(protocol=Protocol.UDP)))
    assert endpoints(text, key=key) == [("10.0.0.1", 5301, READY)]
    assert endpoints(text, key=udp) == [("10.0.0.1", 5302, READY)]
