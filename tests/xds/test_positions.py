"""A proxy that goes from one replica to another is not taken back in time."""

import pytest

from portway.model.resource import Resource, ResourceDelta, ResourceType
from portway.xds.fleet import FleetState
from portway.xds.ordering import Timing
from portway.xds.positions import Marker, Reading, decode_position, encode_position
from tests.xds.conversation import Conversation
from tests.xds.wanted import cluster, endpoints, host, listener, routes

MARKER = Marker(cluster=cluster("position"), endpoints=endpoints("position"))
BASE = (listener("l", "gw/r"), routes("gw/r"), cluster("a"), endpoints("a"), host("gw/r/shop", "a"))
PATIENCE = 15.0
HOUR = 3600.0

COVERS = [
    ({"Service": 5}, {"Service": 5}, True),
    ({"Service": 5}, {"Service": 6}, False),
    ({"Service": 9, "Ingress": 3}, {"Service": 6, "Ingress": 4}, False),  # one kind's watch hangs
    ({"Service": 5}, {"Service": 5, "TCPRoute": 70}, True),  # a later version reads more kinds, or a CRD went
    ({}, {"Service": 1}, True),
    ({"Service": 5}, {}, True),  # a proxy that has nothing yet
]


@pytest.mark.parametrize(("ours", "theirs", "expected"), COVERS)
def test_covers(ours: dict[str, int], theirs: dict[str, int], expected: bool) -> None:
    reading = Reading()
    reading.reach(ours, {})
    reading.hear(theirs, 0.0)
    assert (not reading.awaited(theirs)) is expected


def test_a_position_survives_being_a_version() -> None:
    position = {"Service": 12, "HTTPRoute.gateway.networking.k8s.io": 9_007_199_254_740_993}
    assert decode_position(encode_position(position)) == position
    assert decode_position("") == {}
    assert decode_position("Service=12,v2:what=ever,=3,Secret=") == {"Service": 12}


class Replicas:
    """Several replicas of one control plane, and one proxy that has a stream to one of them."""

    def __init__(self, *names: str) -> None:
        self.talk = Conversation(marker=MARKER, timing=Timing(behind=PATIENCE))
        self.fleets = {name: FleetState(timing=self.talk.timing, marker=MARKER) for name in names}
        for fleet in self.fleets.values():
            fleet.mark_synced()

    def see(self, name: str, position: dict[str, int], *changed: Resource, removed: tuple[Resource, ...] = ()) -> None:
        """That replica reads its sources up to a position, at which these changed."""
        fleet = self.fleets[name]
        fleet.announce(position)
        fleet.apply(ResourceDelta(changed=changed, removed=tuple(one.key for one in removed)), self.talk.now)
        fleet.reach(position)

    def list_anew(self, name: str, position: dict[str, int], *changed: Resource, asked_at: float) -> None:
        """That replica has everything that was there at a moment. It may be less than others had."""
        fleet = self.fleets[name]
        fleet.announce(position)
        fleet.apply(ResourceDelta(changed=changed), self.talk.now)
        fleet.reach(position, dict.fromkeys(position, asked_at))

    def go_to(self, name: str) -> None:
        """The stream breaks; the proxy finds that replica."""
        self.talk.fleet = self.fleets[name]
        self.talk.reconnect()
        self.talk.settle()

    @property
    def shop(self) -> str | None:
        """The version of the virtual host that the proxy has."""
        found = self.talk.proxy.hosts.get("gw/r", {}).get("gw/r/shop")
        return found[0] if found else None


def two_replicas() -> Replicas:
    """Both have seen the base at 10, the proxy has it from `ahead`."""
    replicas = Replicas("ahead", "late")
    for name in ("ahead", "late"):
        replicas.see(name, {"HTTPRoute": 10, "Service": 8}, *BASE)
    replicas.go_to("ahead")
    return replicas


NEW = host("gw/r/shop", "a", number=1)


def test_a_replica_that_has_seen_as_much_answers_at_once() -> None:
    replicas = two_replicas()
    replicas.go_to("late")
    assert not replicas.talk.sent, "the proxy has it all"
    replicas.see("late", {"HTTPRoute": 11, "Service": 8}, NEW)
    replicas.talk.settle()
    assert replicas.shop == NEW.version


def test_one_that_lags_waits_until_it_has_seen_what_the_proxy_has() -> None:
    replicas = two_replicas()
    replicas.see("ahead", {"HTTPRoute": 11, "Service": 8}, NEW)
    replicas.talk.settle()
    replicas.go_to("late")
    replicas.talk.wait(PATIENCE / 2)
    assert replicas.shop == NEW.version
    assert {kind: shown.version for kind, shown in replicas.talk.session.awaited.items()} == {"HTTPRoute": 11}
    newest = host("gw/r/shop", "a", number=2)
    replicas.see("late", {"HTTPRoute": 11, "Service": 8}, NEW)
    replicas.see("late", {"HTTPRoute": 12, "Service": 8}, newest)
    replicas.talk.settle()
    assert replicas.shop == newest.version
    assert replicas.talk.session.awaited == {}


def test_one_that_has_just_started_says_nothing_before_it_knows_how_far_it_has_read() -> None:
    replicas = two_replicas()
    replicas.see("ahead", {"HTTPRoute": 11, "Service": 8}, NEW)
    replicas.talk.settle()
    started = replicas.fleets["new"] = FleetState(timing=replicas.talk.timing, marker=MARKER)
    started.announce({"HTTPRoute": 10, "Service": 8})
    started.apply(ResourceDelta(changed=tuple(BASE)), replicas.talk.now)
    started.mark_synced()
    replicas.go_to("new")
    assert replicas.shop == NEW.version
    replicas.see("new", {"HTTPRoute": 11, "Service": 8}, NEW)
    replicas.talk.settle()
    assert replicas.talk.session.awaited == {}
    newest = host("gw/r/shop", "a", number=2)
    replicas.see("new", {"HTTPRoute": 12, "Service": 8}, newest)
    replicas.talk.settle()
    assert replicas.shop == newest.version


def test_what_was_removed_does_not_come_back() -> None:
    replicas = two_replicas()
    replicas.see("ahead", {"HTTPRoute": 11, "Service": 8}, removed=(BASE[-1],))
    replicas.talk.settle()
    assert replicas.shop is None
    replicas.go_to("late")
    replicas.talk.wait(PATIENCE / 2)
    assert replicas.shop is None


def test_endpoints_do_not_go_back() -> None:
    replicas = two_replicas()
    replicas.see("ahead", {"HTTPRoute": 10, "Service": 8, "EndpointSlice": 12}, endpoints("a", 1))
    replicas.talk.settle()
    assert len([response for response in replicas.talk.sent if response.type is ResourceType.ENDPOINTS]) == 2
    replicas.see("late", {"HTTPRoute": 10, "Service": 8, "EndpointSlice": 7})
    replicas.go_to("late")
    replicas.talk.wait(PATIENCE / 2)
    assert replicas.talk.proxy.endpoints["a"] == endpoints("a", 1).version


def test_a_change_of_endpoints_and_its_position_are_one_response() -> None:
    replicas = two_replicas()
    replicas.talk.sent.clear()
    replicas.see("ahead", {"EndpointSlice": 12}, endpoints("a", 1))
    replicas.talk.settle()
    assert [(one.type, {item.key.name for item in one.resources}) for one in replicas.talk.sent] == [
        (ResourceType.ENDPOINTS, {"a", "position"})
    ]


def test_the_position_goes_before_what_it_is_about() -> None:
    """Whatever of it is lost when the stream breaks: a proxy that has the change has the position, too."""
    for read in range(6):
        replicas = two_replicas()
        replicas.see("ahead", {"HTTPRoute": 11, "Service": 8}, cluster("b"), endpoints("b"), host("gw/r/shop", "b"))
        for _ in range(read):
            replicas.talk.step()
        moved = replicas.shop != BASE[-1].version
        position = decode_position(replicas.talk.proxy.versions[ResourceType.ENDPOINTS]["position"])
        assert not moved or position["HTTPRoute"] == 11, f"after {read} steps"


def ahead_by_far() -> Replicas:
    """The proxy comes to a replica that has seen much less."""
    replicas = two_replicas()
    replicas.see("ahead", {"HTTPRoute": 900, "Service": 8}, NEW)
    replicas.talk.settle()
    replicas.go_to("late")
    return replicas


def test_a_replica_that_reads_nothing_any_more_takes_nobody_back_however_long_it_lasts() -> None:
    replicas = ahead_by_far()
    for _ in range(10):
        replicas.talk.wait(HOUR)
        assert replicas.shop == NEW.version
        replicas.go_to("late")
    replicas.go_to("ahead")
    assert replicas.talk.session.awaited == {}


def test_one_that_does_not_catch_up_in_time_sends_the_proxy_away() -> None:
    replicas = ahead_by_far()
    talk = replicas.talk
    talk.wait(PATIENCE - 0.1)
    assert not talk.session.is_to_leave(talk.now)
    talk.wait(0.1)
    assert talk.session.is_to_leave(talk.now)
    # It may find the same replica again.
    replicas.go_to("late")
    assert not talk.session.is_to_leave(talk.now), "it may catch up meanwhile, and many proxies would come ever again"
    talk.wait(PATIENCE)
    assert talk.session.is_to_leave(talk.now)
    replicas.go_to("late")
    replicas.see("late", {"HTTPRoute": 901, "Service": 8}, NEW)
    talk.wait(PATIENCE)
    assert not talk.session.is_to_leave(talk.now)


def test_sources_that_went_back_for_good_are_followed_when_they_were_listed_anew() -> None:
    """As when etcd was restored to an older state: no replica will ever see as much again."""
    replicas = ahead_by_far()
    came = replicas.talk.now
    replicas.talk.wait(1.0)
    replicas.list_anew("late", {"HTTPRoute": 10, "Service": 8}, asked_at=came - 0.1)
    replicas.talk.settle()
    assert replicas.shop == NEW.version, "it may have changed after that list"
    replicas.list_anew("late", {"HTTPRoute": 10, "Service": 8}, asked_at=came + 0.5)
    replicas.talk.settle()
    assert replicas.shop == BASE[-1].version
    replicas.go_to("late")
    assert replicas.talk.session.awaited == {}, "now the proxy is where the replicas are"
    replicas.see("late", {"HTTPRoute": 11, "Service": 8}, NEW)
    replicas.talk.settle()
    assert replicas.shop == NEW.version


def test_a_list_that_takes_longer_than_proxies_wait_is_enough_for_one_that_comes_again() -> None:
    replicas = ahead_by_far()
    asked_at = replicas.talk.now + 1.0
    for _ in range(5):
        replicas.talk.wait(PATIENCE)
        replicas.go_to("late")
    replicas.list_anew("late", {"HTTPRoute": 10, "Service": 8}, asked_at=asked_at)
    replicas.talk.settle()
    assert replicas.shop == BASE[-1].version


def test_a_list_of_one_kind_says_nothing_of_another() -> None:
    replicas = two_replicas()
    replicas.see("ahead", {"HTTPRoute": 11, "Service": 9}, NEW)
    replicas.talk.settle()
    replicas.go_to("late")
    fleet = replicas.fleets["late"]
    fleet.reach({"HTTPRoute": 10, "Service": 8}, {"Service": replicas.talk.now + 1})
    replicas.talk.wait(2.0)
    assert replicas.shop == NEW.version


def test_a_new_proxy_never_waits() -> None:
    replicas = Replicas("late")
    replicas.see("late", {"HTTPRoute": 3}, *BASE)
    replicas.go_to("late")
    assert replicas.shop == BASE[-1].version


def test_a_proxy_of_a_control_plane_without_positions_never_waits() -> None:
    """Of one version earlier, or whose objects came from files."""
    replicas = Replicas("late")
    replicas.see("late", {"HTTPRoute": 3}, *BASE)
    former = FleetState(timing=replicas.talk.timing)
    former.apply(ResourceDelta(changed=BASE), replicas.talk.now)
    former.mark_synced()
    replicas.fleets["former"] = former
    replicas.go_to("former")
    assert replicas.shop == BASE[-1].version
    replicas.go_to("late")
    replicas.see("late", {"HTTPRoute": 4}, NEW)
    replicas.talk.settle()
    assert replicas.shop == NEW.version
    replicas.go_to("former")
    replicas.talk.wait(
        60
    )  # the former one removes the marker that it does not know; nothing else changes back and forth
    assert "position" not in replicas.talk.proxy.clusters


def test_the_marker_is_nothing_that_is_kept() -> None:
    replicas = two_replicas()
    kept = {resource.key.name for resource in replicas.fleets["ahead"].good_resources()}
    assert "position" not in kept
    assert "gw/r/shop" in kept
