"""Who is judged when: fleets with fake proxies, moved by hand."""

from collections.abc import Iterable

from portway.model.condition import Condition, ListenerReport, ObjectReport, ParentReport, Serving
from portway.model.names import Dialect, SocketKey, TableKey
from portway.model.resource import Resource, ResourceDelta
from portway.objects.verdict import ObjectKey
from portway.status.judge import LAG, PATIENCE, Judge, Judged
from portway.status.programmed import PROGRAMMED, ROUTE_PROGRAMMED, Part
from portway.status.tally import FleetTally, Tally
from tests.xds.conversation import Conversation
from tests.xds.wanted import host, listener, routes

FLEET = "gateway/shop/web"
GATEWAY = ObjectKey("Gateway", "shop", "web")
SOCKET = SocketKey(FLEET, "127.0.0.1", 80)
TABLE = TableKey(FLEET, "web", Dialect.GATEWAY)
PROMISE = Condition(type=PROGRAMMED, status=True, reason="Programmed")
GATEWAY_REPORT = ObjectReport(
    object=GATEWAY,
    conditions=(PROMISE,),
    listeners=(ListenerReport(name="http", conditions=(PROMISE,), serving=Serving(sockets=(SOCKET,))),),
    serving=(Serving(sockets=(SOCKET,), table=TABLE),),
)
BASE = (listener("127.0.0.1:80/tcp", TABLE.name), routes(TABLE.name))
LATE = PATIENCE.total_seconds()


def route(name: str) -> ObjectKey:
    return ObjectKey("HTTPRoute", "shop", name)


def route_report(name: str) -> ObjectReport:
    parent = ParentReport(parent=GATEWAY, tables=(TABLE,), sockets=(SOCKET,))
    return ObjectReport(object=route(name), parents=(parent,))


def shared_host(*origins: str, number: int = 0, poison: bool = False, name: str = "shared.test") -> Resource:
    made = host(f"{TABLE.name}/{name}", number=number, poison=poison)
    return Resource(key=made.key, version=made.version, body=made.body, origins=tuple(map(route, origins)))


class Bench:
    """A judge, one fleet and its first proxy."""

    def __init__(self, others: "Replica | None" = None) -> None:
        self.talk = Conversation()
        self.judge = Judge(lambda: {FLEET: self.talk.fleet}, others)
        self._heard = 0
        self.judge.look(self.talk.now)

    def publish(self, *changed: Resource) -> None:
        delta = ResourceDelta(changed=changed)
        self.talk.apply_delta(delta)
        self.judge.published(FLEET, delta, self.talk.now)

    def report(self, *reports: ObjectReport, generation: int = 1) -> None:
        for each in reports:
            self.judge.reported(each, generation, "")

    def settle(self) -> None:
        self.talk.settle()
        self._hear()

    def wait(self, seconds: float) -> None:
        self.talk.wait(seconds)
        self._hear()
        self.judge.look(self.talk.now)

    def _hear(self) -> None:
        for outcome in self.talk.outcomes[self._heard :]:
            self.judge.answered(FLEET, outcome)
        self._heard = len(self.talk.outcomes)

    def judged(self) -> dict[str, Judged]:
        return {one.key.name: one for one in self.judge.judge(self.talk.now, 1_000)}


def said(judged: Judged) -> tuple[bool, str, str]:
    conditions: Iterable[Condition] = (
        *judged.report.conditions,
        *(c for p in judged.report.parents for c in p.conditions),
    )
    (found,) = (one for one in conditions if one.type in (PROGRAMMED, ROUTE_PROGRAMMED))
    return found.status, found.reason, found.message


def test_a_report_is_judged_at_once_and_again_when_it_is_acknowledged() -> None:
    bench = Bench()
    bench.publish(*BASE, shared_host("cart"))
    bench.report(GATEWAY_REPORT, route_report("cart"))
    assert {name: said(one)[:2] for name, one in bench.judged().items()} == {
        "web": (False, "Pending"),
        "cart": (False, "Pending"),
    }
    assert bench.judge.is_idle
    bench.settle()
    assert {name: said(one)[:2] for name, one in bench.judged().items()} == {
        "web": (True, "Programmed"),
        "cart": (True, "Programmed"),
    }
    assert bench.judge.statistics().waiting == 0
    assert bench.judge.statistics().unanswered == 0


def test_a_generation_of_a_gateway_comes_with_the_routes_that_it_finds() -> None:
    bench = Bench()
    bench.publish(*BASE)
    bench.report(GATEWAY_REPORT)
    bench.settle()
    bench.judged()
    bench.publish(shared_host("cart"))
    bench.report(GATEWAY_REPORT, generation=2)
    assert said(bench.judged()["web"]) == (False, "Pending", "not acknowledged yet")
    bench.publish(shared_host("later", name="later.test"))
    bench.settle()
    assert said(bench.judged()["web"]) == (True, "Programmed", "")
    # Routes that come afterwards are none of its business, and what one more costs does not depend on the others.
    bench.publish(shared_host("pay", name="pay.test"))
    bench.report(GATEWAY_REPORT, generation=2)
    assert said(bench.judged()["web"]) == (True, "Programmed", "")
    bench.settle()
    assert bench.judged() == {}


def test_a_route_that_proxies_refuse_does_not_hold_up_its_gateway() -> None:
    bench = Bench()
    bench.publish(*BASE, shared_host("bad", poison=True, name="bad.test"), shared_host("cart"))
    bench.report(GATEWAY_REPORT)
    bench.judged()
    bench.wait(1)
    assert said(bench.judged()["web"]) == (True, "Programmed", "")


def test_a_first_route_that_a_proxy_does_not_acknowledge_shows_at_its_gateway() -> None:
    bench = Bench()
    bench.publish(*BASE)
    bench.settle()
    bench.publish(shared_host("cart"))
    bench.report(GATEWAY_REPORT)
    while bench.talk.poll() is not None:
        pass
    bench.judged()
    bench.talk.now += LAG.total_seconds() + 1
    bench.judge.look(bench.talk.now)
    assert said(bench.judged()["web"]) == (
        False,
        "Pending",
        f"not acknowledged yet: VIRTUAL_HOST {TABLE.name}/shared.test",
    )


def settled(*names: str, others: "Replica | None" = None) -> Bench:
    bench = Bench(others)
    bench.publish(*BASE, shared_host(*names))
    bench.report(*map(route_report, names))
    bench.settle()
    bench.judged()
    return bench


def test_who_shares_a_host_is_not_judged_again_because_another_changes() -> None:
    bench = settled("cart", "pay")
    bench.publish(shared_host("cart", "new", "pay", number=1))
    bench.report(route_report("new"))
    assert set(bench.judged()) == {"new"}
    bench.settle()
    assert {name: said(one)[0] for name, one in bench.judged().items()} == {"new": True}


def test_a_host_that_is_not_acknowledged_in_time_shows_at_all_who_share_it() -> None:
    bench = settled("cart", "pay")
    bench.publish(shared_host("cart", "pay", number=1))
    while bench.talk.poll() is not None:
        pass
    for elapsed in (LAG.total_seconds() - 1, 1):
        bench.talk.now += elapsed
        bench.judge.look(bench.talk.now)
        if elapsed > 1:
            assert bench.judge.is_idle
    awaited = (False, "Pending", f"not acknowledged yet: VIRTUAL_HOST {TABLE.name}/shared.test")
    assert {name: said(one) for name, one in bench.judged().items()} == {"cart": awaited, "pay": awaited}
    bench.settle()
    assert {name: said(one)[0] for name, one in bench.judged().items()} == {"cart": True, "pay": True}


def test_a_refusal_shows_at_all_who_share_the_host() -> None:
    bench = settled("cart", "pay")
    bench.publish(shared_host("cart", "pay", number=1, poison=True))
    bench.wait(30)
    found = {name: said(one) for name, one in bench.judged().items()}
    assert {name: one[:2] for name, one in found.items()} == {"cart": (False, "Invalid"), "pay": (False, "Invalid")}


def test_a_proxy_that_comes_has_a_minute() -> None:
    bench = settled("cart")
    bench.talk.fleet.connect("second", bench.talk.now)
    bench.judge.look(bench.talk.now)
    assert bench.judge.is_idle
    bench.wait(LATE + 1)
    assert said(bench.judged()["cart"]) == (
        False,
        "Pending",
        f"1 of 2 proxies holds it; not acknowledged yet: VIRTUAL_HOST {TABLE.name}/shared.test",
    )


def test_the_last_proxy_that_goes_shows_after_a_minute() -> None:
    bench = settled("cart")
    bench.talk.fleet.disconnect(bench.talk.session)
    bench.judge.look(bench.talk.now)
    assert bench.judge.is_idle
    bench.talk.now += LATE
    bench.judge.look(bench.talk.now)
    assert said(bench.judged()["cart"]) == (False, "Pending", f"no proxy of fleet {FLEET} is connected")


def test_a_lagging_proxy_that_goes_is_awaited_no_more() -> None:
    bench = settled("cart")
    second = bench.talk.fleet.connect("second", bench.talk.now)
    bench.judge.look(bench.talk.now)
    bench.report(route_report("cart"), generation=2)
    assert said(bench.judged()["cart"])[:2] == (False, "Pending")
    bench.talk.fleet.disconnect(second)
    bench.judge.look(bench.talk.now)
    assert said(bench.judged()["cart"])[0]


def test_what_leaves_a_host_or_is_gone_is_forgotten() -> None:
    bench = settled("cart", "pay")
    bench.publish(shared_host("pay", number=1))
    assert set(bench.judged()) == {"cart"}
    for name in ("cart", "pay"):
        bench.judge.forgotten(route(name))
    bench.settle()
    assert bench.judged() == {}
    assert bench.judge.statistics().subjects == 0


class Replica:
    """Another replica with so many proxies of the fleet."""

    def __init__(self, proxies: int, acknowledged: int) -> None:
        self.proxies, self.acknowledged = proxies, acknowledged

    def tallies(self, key: ObjectKey, generation: int, part: Part, fleets: tuple[str, ...]) -> Iterable[Tally]:
        del key, generation, part
        yield tuple(
            FleetTally(fleet=fleet, proxies=self.proxies, acknowledged=self.acknowledged, waiting="a host")
            for fleet in fleets
        )


def test_proxies_of_other_replicas_count() -> None:
    replica = Replica(2, 1)
    bench = settled("cart", others=replica)
    bench.report(route_report("cart"), generation=2)
    judged = bench.judged()["cart"]
    assert said(judged)[:2] == (False, "Pending")
    assert judged.lacking == {}, "our own hold it all"
    replica.acknowledged = 2
    bench.judge.others_said([route("cart")])
    assert said(bench.judged()["cart"]) == (True, "Programmed", "")
