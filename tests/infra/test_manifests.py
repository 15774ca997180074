"""What is made for a fleet: a folder below `fleets/` is a case (see its README); `--accept` writes what came out."""

from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest
import yaml

from portway.infra.kubernetes import names
from portway.infra.kubernetes.data_plane import DataPlane, any_addresses
from portway.infra.kubernetes.manifests import DEPLOYMENT, SERVICE, Manifest, encode, manifests_of
from portway.infra.kubernetes.names import account_of, controller_label, fleet_name_of, label_value
from portway.model.fleet import (
    Fleet,
    FleetPort,
    Infrastructure,
    InfrastructureKind,
    gateway_fleet,
    ingress_fleet,
)
from portway.model.handles import FLEET, FLEETS, INFRASTRUCTURE
from portway.model.names import Transport
from portway.objects.fleets_v1alpha1 import FleetParametersSpec, joined
from portway.objects.verdict import ObjectKey
from tests.translate.ingress.kit import edge_of, new_engine, objects_of, put

HERE = Path(__file__).parent / "fleets"
CASES = sorted(path.parent for path in HERE.glob("*/in.yaml"))
NAMESPACE = "portway-system"
PLANE = DataPlane(
    image="portway:1.0",
    control_plane="portway.portway-system.svc:18000",
    authorities="PEM",
    controller=controller_label("portway.dev/gateway-controller", "portway-system"),
)
TEMPLATE = """
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: portway}
spec: {controllerName: portway.dev/gateway-controller}
"""


def fleets_in(case: Path) -> list[Fleet]:
    settings = case / "settings.yaml"
    engine = new_engine(edge_of(settings.read_text() if settings.exists() else ""))
    engine.set(INFRASTRUCTURE, None, Infrastructure(kind=InfrastructureKind.KUBERNETES, namespace=NAMESPACE))
    put(engine, objects_of(TEMPLATE + "---\n" + (case / "in.yaml").read_text()))
    found = (engine.get(FLEET, name) for name in sorted(engine.groups(FLEETS)))
    return [fleet for fleet in found if fleet is not None]


def outcome_of(case: Path) -> str:
    made = [manifest for fleet in fleets_in(case) for manifest in manifests_of(fleet, PLANE)]
    documents = [msgspec.json.decode(manifest.body) for manifest in made]
    for document in documents:
        for follows in (names.APPLIED, names.DECLARED, names.TEMPLATE):  # from all the rest
            document["metadata"]["annotations"].pop(follows, None)
    return yaml.safe_dump_all(documents, sort_keys=True, width=120)


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case.name))
def test_golden(case: Path, accept: bool) -> None:
    out = case / "out.yaml"
    if accept:
        out.write_text(outcome_of(case))
    assert list(yaml.safe_load_all(outcome_of(case))) == list(yaml.safe_load_all(out.read_text()))


def fleet(*ports: int, labels: Mapping[str, str] | None = None) -> Fleet:
    owner = ObjectKey("Gateway", "shop", "web")
    return Fleet(
        name=gateway_fleet(owner),
        namespace="shop",
        owner=owner,
        owner_uid="uid",
        ports=tuple(FleetPort(port, Transport.TCP) for port in ports),
        labels=labels or {},
    )


def by_kind(made: tuple[Manifest, ...]) -> Mapping[str, bytes]:
    return {manifest.ref.resource.kind: manifest.body for manifest in made}


def test_a_new_listener_touches_the_service_only() -> None:
    before, after = (by_kind(manifests_of(fleet(*ports), PLANE)) for ports in ((80,), (80, 443)))
    assert {kind for kind in before if before[kind] != after[kind]} == {SERVICE.kind}


def test_new_authorities_restart_nobody() -> None:
    before = by_kind(manifests_of(fleet(80), PLANE))
    after = by_kind(manifests_of(fleet(80), msgspec.structs.replace(PLANE, authorities="other")))
    assert {kind for kind in before if before[kind] != after[kind]} == {"ConfigMap"}


def test_settings_of_all_proxies_are_passed_on_unless_the_fleet_says_otherwise() -> None:
    variables = {"PORTWAY_MAX_CONNECTIONS": "7", "PORTWAY_LOG_LEVEL": "debug"}
    plane = msgspec.structs.replace(PLANE, variables=variables)
    said = msgspec.convert({"proxy": {"maxConnections": 9}}, FleetParametersSpec)
    for parameters, expected in ((FleetParametersSpec(), "7"), (said, "9")):
        body = by_kind(manifests_of(msgspec.structs.replace(fleet(80), parameters=parameters), plane))["Deployment"]
        assert f'{{"name":"PORTWAY_MAX_CONNECTIONS","value":"{expected}"}}'.encode() in body
        assert b'{"name":"PORTWAY_LOG_LEVEL","value":"debug"}' in body


def test_nobody_else_says_what_only_we_say() -> None:
    """Whose an object is, and whether its pods are made anew, stands in annotations and labels of ours."""
    said = dict.fromkeys(
        (names.FLEET, names.APPLIED, names.DECLARED, names.TEMPLATE, names.CONTROLLER, "portway.dev/new"), "x"
    )
    parameters = msgspec.convert({"pod": {"annotations": said}, "service": {"annotations": said}}, FleetParametersSpec)
    claimed = msgspec.structs.replace(fleet(80), labels=said, annotations=said, parameters=parameters)
    assert by_kind(manifests_of(claimed, PLANE)) == by_kind(manifests_of(fleet(80), PLANE))


OF_THE_CLASS = {
    "service": {
        "loadBalancerClass": "example.com/lb",
        "loadBalancerSourceRanges": ["192.0.2.0/24"],
        "allocateLoadBalancerNodePorts": False,
        "externalTrafficPolicy": "Local",
        "nodePorts": [{"port": 80, "nodePort": 30080}],
    }
}
OF_BALANCERS = {"loadBalancerClass", "loadBalancerSourceRanges", "allocateLoadBalancerNodePorts"}
ALLOWED = {
    # type of the Gateway's own Service: fields that Kubernetes allows it, Node port of 80
    "LoadBalancer": (OF_BALANCERS | {"externalTrafficPolicy"}, 30080),
    "NodePort": ({"externalTrafficPolicy"}, 30080),
    "ClusterIP": (set(), None),
}


@pytest.mark.parametrize("kind", ALLOWED)
def test_what_a_class_says_reaches_only_services_that_may_have_it(kind: str) -> None:
    of_class, own = (msgspec.convert(said, FleetParametersSpec) for said in (OF_THE_CLASS, {"service": {"type": kind}}))
    made = manifests_of(msgspec.structs.replace(fleet(80), parameters=joined(of_class, own)), PLANE)
    spec = msgspec.json.decode(by_kind(made)["Service"])["spec"]
    fields, node_port = ALLOWED[kind]
    assert spec.keys() - {"type", "selector", "ports"} == fields
    assert spec["ports"][0].get("nodePort") == node_port


def test_equal_input_gives_equal_bytes() -> None:
    one = fleet(80, labels={"a": "1", "b": "2"})
    other = fleet(80, labels={"b": "2", "a": "1"})
    assert [each.body for each in manifests_of(one, PLANE)] == [each.body for each in manifests_of(other, PLANE)]


def test_nobody_said_how_many() -> None:
    (deployment,) = (each for each in manifests_of(fleet(80), PLANE) if each.ref.resource == DEPLOYMENT)
    assert b"replicas" not in deployment.body
    assert deployment.initial is not None
    assert b'"spec":{"replicas":2}' in encode(deployment.initial)


NAMES = {
    # of a Gateway: of its objects
    "web": "portway-web",
    "a.b": "portway-a-b-95e3c1ff",  # a Service's name has no dots
    "a-b": "portway-a-b",
    "ingress-public": "portway-ingress-public-751efe7c",  # not that of the class `public`
    "x" * 55: "portway-" + "x" * 55,
    "x" * 56: "portway-" + "x" * 46 + "-ba6537a6",
    "x" * 253: "portway-" + "x" * 46 + "-13f2e5a1",
}


@pytest.mark.parametrize("name", NAMES)
def test_names(name: str) -> None:
    found = fleet_name_of(ObjectKey("Gateway", "shop", name))
    assert len(found) <= 63
    assert found == NAMES[name]


def test_names_of_classes() -> None:
    assert fleet_name_of(ObjectKey("IngressClass", "", "public")) == "portway-ingress-public"
    assert account_of(ingress_fleet("public"), NAMESPACE) == (NAMESPACE, "portway-ingress-public")
    assert account_of(gateway_fleet(ObjectKey("Gateway", "shop", "web")), NAMESPACE) == ("shop", "portway-web")
    assert account_of("host", NAMESPACE) is None


def test_labels_fit() -> None:
    assert label_value("a.b") == "a.b"
    assert len(label_value("x" * 253)) == 63
    assert label_value("x" * 253) != label_value("x" * 252)


def test_controllers_are_told_apart() -> None:
    ours = controller_label("portway.dev/gateway-controller", "portway-system")
    assert ours.startswith("portway.dev_gateway-controller-")
    others = {
        controller_label("portway.dev/gateway-controller", "another"),
        controller_label("portway.dev/gateway-controller-2", "portway-system"),
        controller_label("x" * 300, ""),
    }
    assert len(others | {ours}) == 4
    assert all(len(label) <= 63 for label in others)


def test_proxies_listen_on_the_families_of_the_cluster() -> None:
    assert any_addresses("") == ("0.0.0.0",)
    assert any_addresses("10.0.0.5,fd00::5") == ("0.0.0.0", "::")
    assert any_addresses("fd00::5") == ("::",)
