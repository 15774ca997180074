"""Work done, not time taken: what a change runs again does not depend on how many objects there are."""

from collections import Counter
from collections.abc import Hashable

import pytest

from portway.incremental import Engine
from portway.objects.verdict import ObjectKey
from tests.translate.gateway.kit import new_engine, put, read

CLASS = """
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: portway}
spec: {controllerName: portway.dev/gateway-controller}
"""
GATEWAY = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: web, namespace: shop}
spec:
  gatewayClassName: portway
  listeners: [{name: http, port: 80, protocol: HTTP}, {name: other, port: %d, protocol: HTTP}]
"""
ROUTE = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r%d, namespace: shop}
spec:
  parentRefs: [{name: web, sectionName: http}]
  hostnames: [h%d.example]
  rules: [{matches: [{path: {value: %s}}], backendRefs: [{name: s, port: 80}]}]
"""
SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: s, namespace: shop}
spec: {ports: [{port: %d}]}
"""
SLICE = """
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: s-1, namespace: shop, labels: {kubernetes.io/service-name: s}}
addressType: IPv4
endpoints: [{addresses: [10.0.0.1]}]
ports: [{port: 80}]
"""


def engine_with(routes: int) -> Engine:
    engine = new_engine()
    put(engine, read(CLASS) + read(GATEWAY % 81) + read(SERVICE % 80))
    put(engine, [stored for number in range(routes) for stored in read(ROUTE % (number, number, "/a"))])
    return engine


def ran_for(engine: Engine, text: str = "", removed: ObjectKey | None = None) -> Counter[str]:
    """Names of the functions that a change ran, with how often."""
    ran: Counter[str] = Counter()

    def note(name: str, key: Hashable) -> None:
        ran[name] += 1

    engine.observe(note)
    put(engine, read(text), [] if removed is None else [removed])
    engine.observe(None)
    return ran


@pytest.fixture(scope="module", params=[20, 5000])
def engine(request: pytest.FixtureRequest) -> Engine:
    return engine_with(request.param)


def test_a_changed_rule_runs_its_route_and_its_host(engine: Engine) -> None:
    ran = ran_for(engine, ROUTE % (7, 7, "/b"))
    assert ran["rules of a route"] == 1
    assert ran["hosts"] <= 1
    assert sum(ran.values()) <= 10
    assert not ran["gateway plan"]


def test_a_new_route_runs_nothing_of_the_others(engine: Engine) -> None:
    ran = ran_for(engine, ROUTE % (1_000_000, 1_000_000, "/a"))
    # The listener's count of routes is the one thing that is about all of them; it reads a number.
    assert sum(ran.values()) <= 16
    assert ran["reports"] == 2
    gone = ran_for(engine, removed=ObjectKey("HTTPRoute", "shop", "r1000000"))
    assert sum(gone.values()) <= 6


def test_an_endpoint_runs_nothing(engine: Engine) -> None:
    assert sum(ran_for(engine, SLICE).values()) == 0
    assert sum(ran_for(engine, removed=ObjectKey("EndpointSlice", "shop", "s-1")).values()) == 0


def test_another_listeners_port_runs_no_attachment(engine: Engine) -> None:
    ran = ran_for(engine, GATEWAY % 82)
    # All routes look at the listeners of their Gateway, but what they make of them is the same.
    assert not ran["rules of a route"]
    assert not ran["virtual host"]
    ran_for(engine, GATEWAY % 81)


def test_a_grant_in_an_unrelated_namespace_runs_nothing(engine: Engine) -> None:
    grant = """
apiVersion: gateway.networking.k8s.io/v1
kind: ReferenceGrant
metadata: {name: g, namespace: elsewhere}
spec:
  from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: shop}]
  to: [{group: "", kind: Service}]
"""
    assert sum(ran_for(engine, grant).values()) == 0
