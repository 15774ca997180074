"""What the machine says about sockets reaches the conditions: which address, which port, whose fault."""

from portway.incremental import Engine
from portway.model.handles import SOCKETS, UNAVAILABLE
from portway.model.names import SocketKey
from portway.objects.verdict import ObjectKey
from tests.golden.compiled import status_of
from tests.translate.gateway.kit import engine_of, report

WEB = ObjectKey("Gateway", "shop", "web")
GATEWAY = """
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: portway}
spec: {controllerName: portway.dev/gateway-controller}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: web, namespace: shop}
spec:
  gatewayClassName: portway
  addresses: [%s]
  listeners: [{name: one, port: 80, protocol: HTTP}, {name: two, port: 81, protocol: HTTP}]
"""


def refuse(engine: Engine, *sockets: tuple[str, int]) -> None:
    for address, port in sockets:
        engine.set(UNAVAILABLE, SocketKey("host", address, port), f"{address}:{port} cannot be had")
    engine.settle()


def test_a_port_that_cannot_be_opened_is_its_listeners_fault() -> None:
    engine = engine_of(GATEWAY % "")
    refuse(engine, ("0.0.0.0", 80))
    status = status_of(report(engine, WEB))
    assert (status["Accepted"], status["Programmed"]) == ("True/ListenersNotValid", "True/Programmed")
    listeners = status["listeners"]
    assert isinstance(listeners, dict)
    assert listeners["one"]["Accepted"] == "False/PortUnavailable"
    assert listeners["two"]["Programmed"] == "True/Programmed"
    assert {key.port for key in engine.groups(SOCKETS)} == {81}


def test_an_address_that_cannot_be_had_is_the_gateways_fault() -> None:
    engine = engine_of(GATEWAY % "{value: 192.0.2.7}")
    refuse(engine, ("192.0.2.7", 80), ("192.0.2.7", 81))
    status = status_of(report(engine, WEB))
    assert (status["Accepted"], status["Programmed"]) == ("True/Accepted", "False/AddressNotUsable")
    assert status["addresses"] == []
    listeners = status["listeners"]
    assert isinstance(listeners, dict)
    assert listeners["one"]["Accepted"] == "True/Accepted"
    assert listeners["one"]["Programmed"] == "False/Invalid"
    engine.set(UNAVAILABLE, SocketKey("host", "192.0.2.7", 80), "")
    engine.set(UNAVAILABLE, SocketKey("host", "192.0.2.7", 81), "")
    engine.settle()
    status = status_of(report(engine, WEB))
    assert (status["Programmed"], status["addresses"]) == ("True/Programmed", ["192.0.2.7"])


def test_one_of_two_addresses_still_serves() -> None:
    engine = engine_of(GATEWAY % "{value: 127.0.0.1}, {value: 192.0.2.7}")
    refuse(engine, ("192.0.2.7", 80), ("192.0.2.7", 81))
    status = status_of(report(engine, WEB))
    assert (status["Programmed"], status["addresses"]) == ("False/AddressNotUsable", ["127.0.0.1"])
    assert {key.address for key in engine.groups(SOCKETS)} == {"127.0.0.1"}
