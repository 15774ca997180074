"""Backends on the proxies' own machine: what is Portway's own is refused always, the rest if it is not allowed."""

import pytest

from portway.model.edge import Edge
from portway.model.fleet import Infrastructure, InfrastructureKind
from portway.model.handles import ENDPOINTS, INFRASTRUCTURE, OWN_PLACES, REPORT, UPSTREAM
from portway.model.local import OwnPlaces
from portway.model.names import UpstreamKey, UpstreamKind
from portway.model.upstream import Discovery
from portway.objects.verdict import ObjectKey
from tests.translate.ingress.kit import new_engine, objects_of, put

OWN = OwnPlaces(folders=("/var/lib/portway",), admin_host="127.0.0.1", admin_port=9902)

ALWAYS = [
    "unixSocket: {path: /var/lib/portway/xds.sock}",
    "unixSocket: {path: //var/lib/./portway/x/../proxies/host/admin.sock}",
    "unixSocket: {path: /proc/self/cwd/admin.sock}",  # Envoy's working folder
    "addresses: [{address: 127.0.0.1, port: 9902}]",
    "addresses: [{address: 0.0.0.0, port: 9902}]",  # where a connection means the loopback
    "addresses: [{address: 127.1.2.3, port: 9902}]",
    "dns: {name: localhost, port: 9902}",
]
IF_ALLOWED = [
    "unixSocket: {path: /run/app.sock}",
    "unixSocket: {path: /var/lib/portway-app/app.sock}",  # begins like the state folder
    "addresses: [{address: 127.0.0.1, port: 8080}]",
    "addresses: [{address: '::1', port: 8080}]",
    "addresses: [{address: 169.254.169.254, port: 80}]",
    "addresses: [{address: 'fe80::1', port: 80}]",
    "dns: {name: api.localhost, port: 80}",
]
ANYWAY = ["addresses: [{address: 192.0.2.1, port: 9902}]", "dns: {name: api.example, port: 9902}"]

CASES = {(spec, answer): answer == "no" for spec in IF_ALLOWED for answer in ("auto", "yes", "no")}
CASES |= {(spec, answer): True for spec in ALWAYS for answer in ("auto", "yes", "no")}
CASES |= {(spec, answer): False for spec in ANYWAY for answer in ("auto", "yes", "no")}


@pytest.mark.parametrize(("spec", "answer"), CASES)
def test_refused_backends_have_no_endpoints_and_say_why(spec: str, answer: str) -> None:
    engine = new_engine(Edge(local_backends=answer))
    engine.set(OWN_PLACES, None, OWN)
    put(
        engine,
        objects_of(f"{{apiVersion: portway.dev/v1alpha1, kind: Backend, metadata: {{name: b}}, spec: {{{spec}}}}}"),
    )
    key = UpstreamKey(UpstreamKind.BACKEND, "default", "b", 0)
    upstream = engine.get(UPSTREAM, key)
    assert upstream is not None
    reachable = upstream.discovery is Discovery.DNS or bool(engine.get(ENDPOINTS, key).endpoints)
    report = engine.get(REPORT, ObjectKey("Backend", "default", "b"))
    said = [verdict.reason for verdict in report.verdicts]
    refused = CASES[spec, answer]
    assert (reachable, said) == ((False, ["NotPermitted"]) if refused else (True, []))
    assert report.conditions[0].status is not refused


@pytest.mark.parametrize(
    ("admin", "address", "refused"),
    [
        ("0.0.0.0", "127.0.0.1", True),
        ("::", "::1", True),
        ("localhost", "127.0.0.1", True),
        ("192.0.2.7", "192.0.2.7", True),
        ("192.0.2.7", "127.0.0.1", False),  # it does not listen there
    ],
)
def test_the_admin_address_is_recognised_by_other_names(admin: str, address: str, refused: bool) -> None:
    engine = new_engine()
    engine.set(OWN_PLACES, None, OwnPlaces(admin_host=admin, admin_port=9902))
    spec = f"addresses: [{{address: '{address}', port: 9902}}]"
    put(
        engine,
        objects_of(f"{{apiVersion: portway.dev/v1alpha1, kind: Backend, metadata: {{name: b}}, spec: {{{spec}}}}}"),
    )
    endpoints = engine.get(ENDPOINTS, UpstreamKey(UpstreamKind.BACKEND, "default", "b", 0)).endpoints
    assert bool(endpoints) is not refused


BACKEND = "{apiVersion: portway.dev/v1alpha1, kind: Backend, metadata: {name: b%s}, spec: {%s}}"
IN_A_CLUSTER = {
    # setting, from an API server, proxies in a cluster: may a Backend name the machine?
    ("auto", False, False): True,
    ("auto", True, False): False,
    ("auto", False, True): False,
    ("auto", True, True): False,
    ("yes", True, True): True,
    ("no", False, False): False,
}


@pytest.mark.parametrize(("answer", "declared_in_cluster", "runs_in_cluster"), IN_A_CLUSTER)
@pytest.mark.parametrize("spec", IF_ALLOWED)
def test_who_writes_to_an_api_server_is_not_trusted_with_the_machine(
    spec: str, answer: str, declared_in_cluster: bool, runs_in_cluster: bool
) -> None:
    engine = new_engine(Edge(local_backends=answer))
    kind = InfrastructureKind.KUBERNETES if runs_in_cluster else InfrastructureKind.HOST
    engine.set(INFRASTRUCTURE, None, Infrastructure(kind=kind))
    put(engine, objects_of(BACKEND % (", uid: some" if declared_in_cluster else "", spec)))
    report = engine.get(REPORT, ObjectKey("Backend", "default", "b"))
    assert (report.verdicts == ()) is IN_A_CLUSTER[answer, declared_in_cluster, runs_in_cluster]
