"""Several classes of ours: one fleet for all on `host` infrastructure, one for each on `kubernetes`."""

from portway.incremental import Engine
from portway.model.fleet import FleetPort, Infrastructure, InfrastructureKind
from portway.model.handles import FLEET, INFRASTRUCTURE, LISTENER, SOCKETS, VIRTUAL_HOST, VIRTUAL_HOSTS
from portway.model.names import HostKey, SocketKey, Transport
from portway.translate.ingress.virtual_hosts import table_key
from tests.translate.ingress.kit import edge_of, new_engine, objects_of, put, verdicts

KUBERNETES = Infrastructure(kind=InfrastructureKind.KUBERNETES, namespace="portway-system")

INGRESS = """
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: {name}, annotations: {{{annotations}}}}}
spec:
  {class_field}
  tls: [{{hosts: [shop.example], secretName: cert}}]
  rules:
    - host: shop.example
      http:
        paths: [{{path: /{name}, pathType: Prefix, backend: {{service: {{name: one, port: {{number: 80}}}}}}}}]
"""


def ingress(name: str, class_name: str = "", annotations: str = "") -> str:
    field = f"ingressClassName: {class_name}" if class_name else ""
    return INGRESS.format(name=name, class_field=field, annotations=annotations)


OBJECTS = f"""
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {{name: public}}
spec: {{controller: portway.dev/ingress-controller}}
---
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {{name: internal}}
spec: {{controller: portway.dev/ingress-controller}}
---
apiVersion: v1
kind: Service
metadata: {{name: one}}
spec: {{ports: [{{port: 80}}]}}
---
apiVersion: v1
kind: Secret
metadata: {{name: cert, annotations: {{case/certificate: shop.example}}}}
{ingress("a", "public")}
{ingress("b", "internal")}
{ingress("c", annotations="kubernetes.io/ingress.class: portway")}
"""


def engine_on(infrastructure: Infrastructure, settings: str = "") -> Engine:
    engine = new_engine(edge_of(settings))
    engine.set(INFRASTRUCTURE, None, infrastructure)
    put(engine, objects_of(OBJECTS))
    return engine


def paths(engine: Engine, fleet: str) -> set[str]:
    """What the fleet serves of the host, redirects and the rest of it left out."""
    host = engine.get(VIRTUAL_HOST, HostKey(table_key(fleet), "shop.example"))
    return set() if host is None else {route.match.path.value for route in host.routes} - {"/"}


def test_on_a_host_one_fleet_serves_all_classes() -> None:
    engine = engine_on(Infrastructure())
    assert {key.table.fleet for key in engine.groups(VIRTUAL_HOSTS)} == {"host"}
    assert paths(engine, "host") == {"/a", "/b", "/c"}


def test_in_a_cluster_each_class_has_its_own_fleet() -> None:
    engine = engine_on(KUBERNETES)
    # The annotation's value need be no IngressClass.
    fleets = {"ingress/public": {"/a"}, "ingress/internal": {"/b"}, "ingress/portway": {"/c"}}
    assert {key.table.fleet for key in engine.groups(VIRTUAL_HOSTS)} == set(fleets)
    for fleet, served in fleets.items():
        assert paths(engine, fleet) == served
        sockets = {key.port: key for key in engine.groups(SOCKETS) if key.fleet == fleet}
        assert sockets == {port: SocketKey(fleet, "0.0.0.0", port) for port in (80, 443)}
        secure = engine.get(LISTENER, sockets[443])
        assert secure is not None
        assert [chain.name for chain in secure.chains] == ["https", "https/default/cert"]
    # Nobody has taken anybody's host.
    assert all(verdicts(engine, name) == () for name in "abc")


def test_all_classes_in_a_cluster() -> None:
    engine = engine_on(KUBERNETES, "all_classes: true")
    put(engine, objects_of(ingress("d", "foreign")))
    assert paths(engine, "ingress/foreign") == {"/d"}


def test_an_ingress_moves_with_its_class() -> None:
    engine = engine_on(KUBERNETES)
    put(engine, objects_of(ingress("a", "internal")))
    assert paths(engine, "ingress/public") == set()
    assert paths(engine, "ingress/internal") == {"/a", "/b"}
    assert {key.fleet for key in engine.groups(SOCKETS)} == {"ingress/internal", "ingress/portway"}


def test_ingress_cannot_have_the_port_of_the_proxies_own_health() -> None:
    engine = engine_on(KUBERNETES, "https_port: 18080\nhttp3: true")
    found = engine.get(FLEET, "ingress/public")
    assert found is not None
    assert found.ports == (FleetPort(80, Transport.TCP),)
    assert {key.port for key in engine.groups(SOCKETS)} == {80}
    problems = [(each.reason, "proxy.healthPort" in each.remedy) for each in verdicts(engine, "a")]
    assert problems == [("PortUnavailable", True)]
