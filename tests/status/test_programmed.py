"""`Programmed` follows what proxies acknowledge, not what was compiled."""

from portway.model.condition import Condition, ListenerReport, ObjectReport, ParentReport, Serving
from portway.model.names import Dialect, SecretKey, SecretUse, SocketKey, TableKey
from portway.model.resource import Resource, ResourceType
from portway.objects.verdict import ObjectKey
from portway.status.programmed import PROGRAMMED, ROUTE_PROGRAMMED, as_programmed, hosts_by_origin
from portway.xds.messages import Request
from tests.xds.conversation import Conversation
from tests.xds.fake_envoy import Content
from tests.xds.wanted import cluster, endpoints, host, listener, resource, routes

FLEET = "host"
GATEWAY, ROUTE, INGRESS = (ObjectKey(kind, "shop", "web") for kind in ("Gateway", "HTTPRoute", "Ingress"))
HTTP, OTHER = (SocketKey(FLEET, "127.0.0.1", port) for port in (80, 81))
TABLE = TableKey(FLEET, "gateway:shop:web:80", Dialect.GATEWAY)
PROMISE = Condition(type=PROGRAMMED, status=True, reason="Programmed")

GATEWAY_REPORT = ObjectReport(
    object=GATEWAY,
    conditions=(Condition(type="Accepted", status=True, reason="Accepted"), PROMISE),
    listeners=tuple(
        ListenerReport(name=name, conditions=(PROMISE,), serving=Serving(sockets=(socket,)))
        for name, socket in (("http", HTTP), ("other", OTHER))
    ),
    serving=(Serving(sockets=(HTTP,)), Serving(sockets=(OTHER,))),
)
ROUTE_REPORT = ObjectReport(object=ROUTE, parents=(ParentReport(parent=GATEWAY, tables=(TABLE,), sockets=(HTTP,)),))
TWO_LISTENERS = (
    listener("127.0.0.1:80/tcp", TABLE.name),
    listener("127.0.0.1:81/tcp", TABLE.name),
    routes(TABLE.name),
)


def web_host(*clusters: str, origin: ObjectKey = ROUTE, poison: bool = False) -> Resource:
    made = host(f"{TABLE.name}/web.test", *clusters, poison=poison)
    return Resource(key=made.key, version=made.version, body=made.body, requires=made.requires, origins=(origin,))


def judged(talk: Conversation, report: ObjectReport) -> ObjectReport:
    fleets = {FLEET: talk.fleet}
    return as_programmed(report, fleets, hosts_by_origin(fleets))


def said(conditions: tuple[Condition, ...], kind: str = PROGRAMMED) -> tuple[bool, str, str]:
    (found,) = (condition for condition in conditions if condition.type == kind)
    return found.status, found.reason, found.message


def of_gateway(talk: Conversation) -> dict[str, tuple[bool, str]]:
    report = judged(talk, GATEWAY_REPORT)
    every = {"": report.conditions, **{one.name: one.conditions for one in report.listeners}}
    return {name: said(conditions)[:2] for name, conditions in every.items()}


def of_route(talk: Conversation) -> tuple[bool, str, str]:
    return said(judged(talk, ROUTE_REPORT).parents[0].conditions, ROUTE_PROGRAMMED)


def test_nothing_is_programmed_before_a_proxy_has_come() -> None:
    talk = Conversation()
    talk.apply(*TWO_LISTENERS)
    talk.fleet.disconnect(talk.session)
    status, reason, message = said(judged(talk, GATEWAY_REPORT).conditions)
    assert (status, reason, message) == (False, "Pending", "no proxy of fleet host is connected")


def test_listeners_and_routes_are_programmed_when_they_are_acknowledged() -> None:
    talk = Conversation()
    talk.apply(*TWO_LISTENERS, web_host())
    assert of_gateway(talk) == {"": (False, "Pending"), "http": (False, "Pending"), "other": (False, "Pending")}
    assert of_route(talk) == (False, "Pending", f"not acknowledged yet: VIRTUAL_HOST {TABLE.name}/web.test")
    talk.settle()
    assert of_gateway(talk) == {"": (True, "Programmed"), "http": (True, "Programmed"), "other": (True, "Programmed")}
    assert of_route(talk) == (True, "Programmed", "")


def test_an_acknowledgement_that_does_not_come_is_waited_for() -> None:
    """The proxy has got everything, but says nothing."""
    talk = Conversation()
    talk.apply(*TWO_LISTENERS)
    talk.settle()
    talk.apply(listener("127.0.0.1:81/tcp", TABLE.name, number=2))
    while talk.poll() is not None:
        pass
    assert of_gateway(talk) == {"": (False, "Pending"), "http": (True, "Programmed"), "other": (False, "Pending")}
    talk.settle()
    assert of_gateway(talk)["other"] == of_gateway(talk)[""] == (True, "Programmed")


def test_a_refused_listener_is_invalid_and_says_why() -> None:
    talk = Conversation()
    bad = resource(ResourceType.LISTENER, "127.0.0.1:81/tcp", Content(routes=TABLE.name, poison=True))
    talk.apply(*TWO_LISTENERS)
    talk.settle()
    talk.apply(bad)
    talk.wait(60)
    # The proxy still has the version before; but that is not what is declared.
    assert of_gateway(talk) == {"": (True, "Programmed"), "http": (True, "Programmed"), "other": (False, "Invalid")}
    message = said(judged(talk, GATEWAY_REPORT).listeners[1].conditions)[2]
    assert message.startswith("a proxy refuses LISTENER 127.0.0.1:81/tcp: ")
    talk.apply(listener("127.0.0.1:81/tcp", TABLE.name, number=2))
    talk.settle()
    assert of_gateway(talk)["other"] == (True, "Programmed")


def test_a_gateway_without_any_listener_that_serves_is_not_programmed() -> None:
    talk = Conversation()
    talk.apply(
        *(
            resource(ResourceType.LISTENER, f"127.0.0.1:{port}/tcp", Content(routes=TABLE.name, poison=True))
            for port in (80, 81)
        ),
        routes(TABLE.name),
        web_host(),
    )
    talk.wait(60)
    assert of_gateway(talk) == {"": (False, "Invalid"), "http": (False, "Invalid"), "other": (False, "Invalid")}
    # The proxy never asks for the hosts of a listener that it refuses: the route tells why.
    assert of_route(talk)[:2] == (False, "Invalid")
    assert "refuses LISTENER 127.0.0.1:80/tcp" in of_route(talk)[2]


def test_a_route_is_held_back_until_its_backends_are_ready() -> None:
    talk = Conversation()
    talk.apply(*TWO_LISTENERS, web_host())
    talk.settle()
    talk.apply(web_host("late"), cluster("late"))
    while talk.poll() is not None:
        pass
    assert of_route(talk) == (
        False,
        "Pending",
        f"held back until the backends are ready: VIRTUAL_HOST {TABLE.name}/web.test",
    )
    talk.apply(endpoints("late"))
    talk.settle()
    assert of_route(talk) == (True, "Programmed", "")


def test_a_refused_host_is_said_to_its_ingress() -> None:
    talk = Conversation()
    talk.apply(*TWO_LISTENERS, web_host(origin=INGRESS, poison=True))
    talk.wait(60)
    status, reason, message = said(judged(talk, ObjectReport(object=INGRESS)).conditions, ROUTE_PROGRAMMED)
    assert (status, reason) == (False, "Invalid")
    assert f"refuses VIRTUAL_HOST {TABLE.name}/web.test" in message


def test_an_ingress_is_not_programmed_while_one_of_its_ports_is_closed() -> None:
    talk = Conversation()
    talk.apply(*TWO_LISTENERS, web_host(origin=INGRESS))
    talk.settle()
    report = ObjectReport(object=INGRESS, serving=(Serving(sockets=(HTTP, OTHER)),))
    assert said(judged(talk, report).conditions, ROUTE_PROGRAMMED) == (True, "Programmed", "")
    closed = SocketKey(FLEET, "127.0.0.1", 82)
    report = ObjectReport(object=INGRESS, serving=(Serving(sockets=(HTTP, closed)),))
    expected = (False, "PortUnavailable", "nothing listens on 127.0.0.1:82/tcp")
    assert said(judged(talk, report).conditions, ROUTE_PROGRAMMED) == expected


def test_key_material_that_is_not_there_keeps_a_listener_from_being_programmed() -> None:
    talk = Conversation()
    certificate = SecretKey(SecretUse.CERTIFICATE, (ObjectKey("Secret", "shop", "web"),))
    secret = resource(ResourceType.SECRET, "certificate/Secret/shop/web", Content())
    talk.apply(*TWO_LISTENERS, secret)
    talk.settle()
    report = ObjectReport(
        object=GATEWAY,
        listeners=(
            ListenerReport(
                name="https", conditions=(PROMISE,), serving=Serving(sockets=(HTTP,), secrets=(certificate,))
            ),
        ),
    )
    assert said(judged(talk, report).listeners[0].conditions)[0], "nobody asked for it"
    talk.fleet.receive(talk.session, Request(type=ResourceType.SECRET, subscribe=(secret.key.name,)), talk.now)
    assert said(judged(talk, report).listeners[0].conditions) == (
        False,
        "Pending",
        "not acknowledged yet: SECRET certificate/Secret/shop/web",
    )


def test_what_could_not_be_served_anyway_stays_as_it_was_said() -> None:
    invalid = Condition(type=PROGRAMMED, status=False, reason="Invalid", message="spec.listeners[0].port: taken")
    report = ObjectReport(
        object=GATEWAY, conditions=(invalid,), listeners=(ListenerReport(name="http", conditions=(invalid,)),)
    )
    assert judged(Conversation(), report) == report
