"""Fleets of Gateways on `kubernetes` infrastructure: what they are to be, and what is seen of them in the status."""

import msgspec
import pytest

from portway.incremental import Engine, Program
from portway.model.fleet import (
    FleetAddress,
    FleetPort,
    Infrastructure,
    InfrastructureKind,
    ObservedFleet,
)
from portway.model.handles import EDGE, FLEET, FLEETS, INFRASTRUCTURE, OBSERVED_FLEET, SOCKETS
from portway.model.names import Transport
from portway.objects.fleets_v1alpha1 import FleetParametersSpec
from portway.objects.verdict import ObjectKey, Severity
from portway.store import ChangeSet, Store
from portway.translate import program
from portway.translate.fleets import FLEETS_OUT
from tests.golden.compiled import status_of
from tests.translate.gateway.kit import put, read, report
from tests.translate.ingress.kit import edge_of, new_engine

KUBERNETES = Infrastructure(kind=InfrastructureKind.KUBERNETES, namespace="portway-system")
WEB = ObjectKey("Gateway", "shop", "web")
FLEET_NAME = "gateway/shop/web"

CLASS = """
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: portway}
spec: {controllerName: portway.dev/gateway-controller%s}
"""
CLASS_PARAMETERS = """
---
apiVersion: portway.dev/v1alpha1
kind: FleetParameters
metadata: {name: shared, namespace: portway-system}
spec: {workload: {replicas: 3}, proxy: {logLevel: info}}
"""
OWN_PARAMETERS = """
---
apiVersion: portway.dev/v1alpha1
kind: FleetParameters
metadata: {name: own, namespace: shop}
spec: {workload: {replicas: 5}, service: {type: NodePort}}
"""
SHARED = ", parametersRef: {group: portway.dev, kind: FleetParameters, name: shared, namespace: portway-system}"
OWN = "parametersRef: {group: portway.dev, kind: FleetParameters, name: own}"


def gateway(name: str = "web", *, addresses: str = "", infrastructure: str = "", port: int = 80) -> str:
    return f"""
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: {name}, namespace: shop, uid: uid-{name}}}
spec:
  gatewayClassName: portway
  addresses: [{addresses}]
  infrastructure: {{{infrastructure}}}
  listeners: [{{name: one, port: {port}, protocol: HTTP}}]
"""


def cluster(text: str, settings: str = "", infrastructure: Infrastructure = KUBERNETES) -> Engine:
    engine = new_engine(edge_of(settings))
    engine.set(INFRASTRUCTURE, None, infrastructure)
    put(engine, read(text))
    return engine


def condition(engine: Engine, type_: str, key: ObjectKey = WEB) -> tuple[str, str]:
    """A condition, shortened, and its message."""
    found = next(each for each in report(engine, key).conditions if each.type == type_)
    return f"{found.status}/{found.reason}", found.message


def see(
    engine: Engine, *addresses: tuple[str, str], pending: str = "", failed: str = "", waiting: bool = False
) -> None:
    found = tuple(FleetAddress(*address) for address in addresses)
    observed = ObservedFleet(addresses=found, pending=pending, failed=failed, waiting=waiting)
    engine.set(OBSERVED_FLEET, FLEET_NAME, observed)
    engine.settle()


def test_a_fleet_is_what_its_gateway_says() -> None:
    engine = cluster(
        CLASS % ""
        + gateway(infrastructure="labels: {team: a}, annotations: {note: b}", addresses="{value: 192.0.2.7}").replace(
            "protocol: HTTP}]",
            "protocol: HTTP}, {name: two, port: 443, protocol: HTTPS}, {name: three, port: 53, protocol: UDP},"
            " {name: bad, port: 99, protocol: SMTP}]",
        ),
        "http3: true",
    )
    found = engine.get(FLEET, FLEET_NAME)
    assert found is not None
    assert (found.namespace, found.owner, found.owner_uid, found.held) == ("shop", WEB, "uid-web", "")
    assert (found.labels, found.annotations) == ({"team": "a"}, {"note": "b"})
    # A listener without certificate has its port: the Service does not change when the certificate comes.
    assert found.ports == (
        FleetPort(53, Transport.UDP),
        FleetPort(80, Transport.TCP),
        FleetPort(443, Transport.TCP),
        FleetPort(443, Transport.UDP),
    )
    assert found.requested == (FleetAddress("IPAddress", "192.0.2.7"),)


def test_on_a_host_nobody_has_a_fleet_of_its_own() -> None:
    engine = cluster(CLASS % "" + gateway() + gateway("other"), infrastructure=Infrastructure())
    assert set(engine.groups(FLEETS)) == set()
    assert {key.fleet for key in engine.groups(SOCKETS)} <= {"host"}
    assert status_of(report(engine, ObjectKey("Gateway", "shop", "other")))["listeners"]["one"]["Accepted"] == (  # type: ignore[index] # plain data
        "True/Accepted"
    )


def test_gateways_do_not_fight_for_ports() -> None:
    engine = cluster(CLASS % "" + gateway() + gateway("other"))
    assert set(engine.groups(FLEETS)) == {FLEET_NAME, "gateway/shop/other"}
    assert {key.fleet for key in engine.groups(SOCKETS)} == {FLEET_NAME, "gateway/shop/other"}


def test_gateways_of_others_have_no_fleet() -> None:
    engine = cluster((CLASS % "").replace("portway.dev/", "other.dev/") + gateway())
    assert set(engine.groups(FLEETS)) == set()


def test_parameters_of_class_and_gateway_are_joined() -> None:
    engine = cluster(CLASS % SHARED + CLASS_PARAMETERS + OWN_PARAMETERS + gateway(infrastructure=OWN))
    found = engine.get(FLEET, FLEET_NAME)
    assert found is not None
    assert found.parameters == msgspec.convert(
        {"workload": {"replicas": 5}, "service": {"type": "NodePort"}, "proxy": {"logLevel": "info"}},
        FleetParametersSpec,
    )
    own = {"workload": {"replicas": 5}, "service": {"type": "NodePort"}}
    assert found.own_parameters == msgspec.convert(own, FleetParametersSpec)
    assert found.own_source == ObjectKey("FleetParameters", "shop", "own")
    assert condition(engine, "Accepted")[0] == "True/Accepted"


UNKNOWN = {
    "a kind that nobody knows": "parametersRef: {group: a.example, kind: Config, name: own}",
    "a name that is not there": OWN,
}


@pytest.mark.parametrize("case", UNKNOWN)
def test_parameters_that_lead_nowhere_leave_everything_as_it_is(case: str) -> None:
    engine = cluster(CLASS % "" + gateway(infrastructure=UNKNOWN[case]))
    see(engine, ("IPAddress", "192.0.2.7"))
    accepted, message = condition(engine, "Accepted")
    assert accepted == "False/InvalidParameters"
    assert message.startswith("spec.infrastructure.parametersRef: ")
    found = engine.get(FLEET, FLEET_NAME)
    assert found is not None
    assert found.held
    # The proxies that are there go on.
    assert {key.port for key in engine.groups(SOCKETS)} == {80}
    put(engine, read(gateway()))
    assert condition(engine, "Accepted")[0] == "True/Accepted"
    assert engine.get(FLEET, FLEET_NAME).held == ""  # type: ignore[union-attr] # it was there


def test_parameters_of_a_class_that_lead_nowhere() -> None:
    engine = cluster(CLASS % SHARED + gateway())
    key = ObjectKey("GatewayClass", "", "portway")
    assert condition(engine, "Accepted", key)[0] == "False/InvalidParameters"
    accepted, message = condition(engine, "Accepted")
    assert accepted == "False/InvalidParameters"
    assert "FleetParameters portway-system/shared does not exist" in message
    put(engine, read(CLASS_PARAMETERS))
    assert condition(engine, "Accepted", key)[0] == "True/Accepted"
    assert condition(engine, "Accepted")[0] == "True/Accepted"


def test_a_gateway_without_a_listener_that_serves_has_its_fleet_left_alone() -> None:
    engine = cluster(CLASS % "" + gateway().replace("HTTP}", "SMTP}"))
    found = engine.get(FLEET, FLEET_NAME)
    assert found is not None
    assert (found.ports, found.held) == ((), "none of its listeners can be served")


def health_at(port: int) -> str:
    return OWN_PARAMETERS.replace("spec: {", f"spec: {{proxy: {{healthPort: {port}}}, ")


def test_a_listener_cannot_have_the_port_of_the_proxies_own_health() -> None:
    two = "protocol: HTTP}, {name: odd, port: 18080, protocol: HTTPS}, {name: udp, port: 18080, protocol: UDP}]"
    text = CLASS % "" + OWN_PARAMETERS + gateway(infrastructure=OWN).replace("protocol: HTTP}]", two)
    engine = cluster(text, "http3: true")

    def outcome() -> tuple[tuple[FleetPort, ...], str, str]:
        found = engine.get(FLEET, FLEET_NAME)
        assert found is not None
        (odd,) = (each for each in report(engine, WEB).listeners if each.name == "odd")
        (accepted,) = (each for each in odd.conditions if each.type == "Accepted")
        return found.ports, accepted.reason, accepted.message

    ports, reason, message = outcome()
    # A Service's port 18080 would lead whoever asks to the metrics.
    assert ports == (FleetPort(80, Transport.TCP), FleetPort(18080, Transport.UDP))
    assert reason == "PortUnavailable"
    assert "proxy.healthPort" in message
    put(engine, read(health_at(9000)))
    ports, reason, _ = outcome()
    assert (FleetPort(18080, Transport.TCP) in ports, reason) == (True, "Accepted")
    put(engine, read(health_at(80)))
    assert FleetPort(80, Transport.TCP) not in outcome()[0]
    assert 80 not in {key.port for key in engine.groups(SOCKETS)}


def test_proxies_whose_parameters_are_lost_keep_their_ports() -> None:
    engine = cluster(CLASS % "" + health_at(9000) + gateway(infrastructure=OWN, port=18080))
    assert {key.port for key in engine.groups(SOCKETS)} == {18080}
    engine.apply(ChangeSet(changed=(), removed=(ObjectKey("FleetParameters", "shop", "own"),)))
    engine.settle()
    assert {key.port for key in engine.groups(SOCKETS)} == {18080}


def test_a_gateway_waits_for_its_address() -> None:
    engine = cluster(CLASS % "" + gateway())
    assert condition(engine, "Programmed") == (
        "False/AddressNotAssigned",
        "its Service and proxies have not been made yet",
    )
    see(engine, pending="Service shop/portway-web has no address yet")
    assert condition(engine, "Programmed")[1] == "Service shop/portway-web has no address yet"
    see(engine, ("IPAddress", "192.0.2.7"), ("Hostname", "lb.example"))
    assert condition(engine, "Programmed")[0] == "True/Programmed"
    assert report(engine, WEB).addresses == (("IPAddress", "192.0.2.7"), ("Hostname", "lb.example"))


def test_an_address_without_value_is_allocated() -> None:
    engine = cluster(CLASS % "" + gateway(addresses="{type: IPAddress}"))
    see(engine, ("Hostname", "lb.example"))
    assert condition(engine, "Programmed")[0] == "False/AddressNotAssigned"
    see(engine, ("IPAddress", "192.0.2.7"), ("Hostname", "lb.example"))
    assert condition(engine, "Programmed")[0] == "True/Programmed"
    assert report(engine, WEB).addresses == (("IPAddress", "192.0.2.7"),)


def test_static_addresses_in_turn() -> None:
    """As the conformance test GatewayStaticAddresses has it."""
    unusable, usable = "{type: IPAddress, value: 203.0.113.1}", "{type: IPAddress, value: 192.0.2.7}"
    engine = cluster(CLASS % "" + gateway(addresses=f"{{type: test/fake, value: x}}, {unusable}, {usable}"))
    assert condition(engine, "Accepted")[0] == "False/UnsupportedAddress"
    put(engine, read(gateway(addresses=f"{unusable}, {usable}")))
    see(engine, ("IPAddress", "192.0.2.7"))
    assert condition(engine, "Accepted")[0] == "True/Accepted"
    programmed, message = condition(engine, "Programmed")
    assert programmed == "False/AddressNotUsable"
    assert message.startswith("203.0.113.1: ")
    put(engine, read(gateway(addresses=usable)))
    assert condition(engine, "Programmed")[0] == "True/Programmed"
    assert report(engine, WEB).addresses == (("IPAddress", "192.0.2.7"),)


def test_addresses_are_compared_by_what_they_mean() -> None:
    engine = cluster(CLASS % "" + gateway(addresses="{value: '2001:DB8::0:1'}, {type: Hostname, value: lb.example}"))
    see(engine, ("IPAddress", "2001:db8::1"), ("Hostname", "LB.example"), ("IPAddress", "192.0.2.7"))
    assert condition(engine, "Programmed")[0] == "True/Programmed"
    # As requested, letter by letter.
    assert report(engine, WEB).addresses == (("IPAddress", "2001:DB8::0:1"), ("Hostname", "lb.example"))


def test_what_the_api_server_refuses_is_said() -> None:
    engine = cluster(CLASS % "" + gateway())
    see(engine, failed='deployments.apps "portway-web" is forbidden: exceeded quota')
    assert "exceeded quota" in condition(engine, "Programmed")[1]
    (verdict,) = report(engine, WEB).verdicts
    assert (verdict.reason, "exceeded quota" in verdict.problem) == ("FleetNotMade", True)
    # What is there goes on serving.
    see(engine, ("IPAddress", "192.0.2.7"), failed="exceeded quota")
    assert condition(engine, "Programmed")[0] == "True/Programmed"


def test_a_fleet_that_waits_for_its_update_is_served_and_says_so() -> None:
    engine = cluster(CLASS % "" + gateway())
    see(engine, ("IPAddress", "192.0.2.7"), waiting=True)
    assert condition(engine, "Programmed")[0] == "True/Programmed"
    (verdict,) = report(engine, WEB).verdicts
    assert (verdict.reason, verdict.severity) == ("FleetToBeUpdated", Severity.INFO)


def test_features() -> None:
    key = ObjectKey("GatewayClass", "", "portway")
    assert "GatewayInfrastructure" in report(cluster(CLASS % ""), key).supported_features
    on_host = cluster(CLASS % "", infrastructure=Infrastructure())
    assert "GatewayInfrastructure" not in report(on_host, key).supported_features


def change(engine: Engine, text: str = "", removed: tuple[ObjectKey, ...] = ()) -> tuple[set[str], set[str]]:
    """Names of the fleets that changed, and of those that are gone."""
    engine.apply(ChangeSet(changed=tuple(read(text)), removed=removed))
    changed, gone = engine.settle().of(FLEETS_OUT)
    return set(changed), set(gone)


ROUTE = ObjectKey("HTTPRoute", "shop", "cart")


def test_of_a_fleet_that_nobody_has_seen_nothing_is_said_for_good() -> None:
    engine = cluster(CLASS % "" + gateway())
    found = report(engine, WEB)
    assert not found.addresses_known
    assert next(each for each in found.conditions if each.type == "Programmed").provisional
    see(engine, pending="its Service has no address yet")
    found = report(engine, WEB)
    assert found.addresses_known
    assert not next(each for each in found.conditions if each.type == "Programmed").provisional


def test_what_another_portway_has_made_it_speaks_of() -> None:
    engine = cluster(
        CLASS % ""
        + gateway()
        + """
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: cart, namespace: shop}
spec: {parentRefs: [{name: web}]}
"""
    )
    assert not report(engine, WEB).elsewhere
    assert [parent.elsewhere for parent in report(engine, ROUTE).parents] == [False]
    engine.set(
        OBSERVED_FLEET, FLEET_NAME, ObservedFleet(failed="portway-web belongs to another Portway", elsewhere=True)
    )
    engine.settle()
    found = report(engine, WEB)
    assert found.elsewhere
    assert [verdict.reason for verdict in found.verdicts] == ["FleetNotMade"]
    assert [parent.elsewhere for parent in report(engine, ROUTE).parents] == [True]


def test_a_fleet_leaves_the_engine_when_it_changes_and_only_then() -> None:
    engine = Engine(
        Store(program.INDEXES),
        Program(relations=program.RELATIONS, feeds=program.FEEDS, bindings=program.BINDINGS, outputs=(FLEETS_OUT,)),
    )
    engine.set(EDGE, None, edge_of(""))
    engine.set(INFRASTRUCTURE, None, KUBERNETES)
    assert change(engine, CLASS % "" + gateway() + gateway("other")) == ({FLEET_NAME, "gateway/shop/other"}, set())
    assert change(engine, gateway(port=81)) == ({FLEET_NAME}, set())
    engine.set(OBSERVED_FLEET, FLEET_NAME, ObservedFleet(pending="it takes a while"))
    assert not engine.settle()
    assert change(engine, removed=(WEB,)) == (set(), {FLEET_NAME})


def test_ingress_classes() -> None:
    engine = cluster(
        """
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: public, uid: uid-public}
spec:
  controller: portway.dev/ingress-controller
  parameters: {apiGroup: portway.dev, kind: FleetParameters, name: shared, namespace: portway-system, scope: Namespace}
---
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: broken}
spec:
  controller: portway.dev/ingress-controller
  parameters: {apiGroup: portway.dev, kind: FleetParameters, name: shared}
---
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: foreign}
spec: {controller: example.com/other}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web, namespace: shop}
spec: {ingressClassName: public, defaultBackend: {service: {name: a, port: {number: 80}}}}
"""
        + CLASS_PARAMETERS
    )
    assert set(engine.groups(FLEETS)) == {"ingress/public", "ingress/broken"}
    public, broken = engine.get(FLEET, "ingress/public"), engine.get(FLEET, "ingress/broken")
    assert public is not None
    assert broken is not None
    # Owned by nobody: the class may be made anew in a moment, and then its proxies would be gone.
    assert (public.namespace, public.owner, public.owner_uid) == (
        "portway-system",
        ObjectKey("IngressClass", "", "public"),
        "",
    )
    assert (public.held, public.ports) == ("", (FleetPort(80, Transport.TCP), FleetPort(443, Transport.TCP)))
    assert public.parameters.workload is not None
    assert broken.held.startswith("spec.parameters.scope: is Cluster")
    (verdict,) = report(engine, ObjectKey("IngressClass", "", "broken")).verdicts
    assert (verdict.reason, verdict.field) == ("InvalidParameters", "spec.parameters.scope")
    engine.set(
        OBSERVED_FLEET, "ingress/public", ObservedFleet(addresses=(FleetAddress("IPAddress", "192.0.2.7"),), pending="")
    )
    engine.settle()
    web = ObjectKey("Ingress", "shop", "web")
    assert report(engine, web).addresses == (("IPAddress", "192.0.2.7"),)
    # There may be thousands of Ingresses: only the address wakes them.
    ran: list[str] = []
    engine.observe(lambda name, _key: ran.append(name))
    pending = ObservedFleet(addresses=(FleetAddress("IPAddress", "192.0.2.7"),), pending="1 of 2 proxies are ready")
    engine.set(OBSERVED_FLEET, "ingress/public", pending)
    report(engine, web)
    assert ran == ["addresses of Ingress"]


def test_parameters_have_no_effect_on_a_host() -> None:
    text = CLASS % SHARED + CLASS_PARAMETERS + OWN_PARAMETERS + gateway(infrastructure=OWN)
    engine = cluster(text, infrastructure=Infrastructure())
    for key in (WEB, ObjectKey("GatewayClass", "", "portway")):
        assert condition(engine, "Accepted", key)[0] == "True/Accepted"
        (verdict,) = report(engine, key).verdicts
        assert (verdict.reason, verdict.severity) == ("NoEffect", Severity.INFO)
    put(engine, read(gateway(infrastructure=UNKNOWN["a kind that nobody knows"])))
    assert condition(engine, "Accepted")[0] == "False/InvalidParameters"
    assert not set(engine.groups(SOCKETS))
