"""Conversations between a session and a fake Envoy, each about one point."""

from itertools import pairwise

import pytest

from portway.model.resource import Readiness, Resource, ResourceKey, ResourceType
from portway.xds.flights import Chunk, Limits
from portway.xds.messages import Request
from portway.xds.ordering import Timing
from portway.xds.states import State
from tests.xds.conversation import Conversation
from tests.xds.wanted import cluster, endpoints, host, listener, routes

CLUSTER, ENDPOINTS = ResourceType.CLUSTER, ResourceType.ENDPOINTS
LISTENER, ROUTES, VIRTUAL_HOST = ResourceType.LISTENER, ResourceType.ROUTES, ResourceType.VIRTUAL_HOST

BASE = (listener("l", "gw/r"), routes("gw/r"), cluster("a"), endpoints("a"))


def serving(*hosts: Resource, timing: Timing | None = None, limits: Limits | None = None) -> Conversation:
    """A proxy that holds the base and these hosts."""
    talk = Conversation(timing=timing, limits=limits)
    talk.apply(*BASE, *hosts)
    talk.settle()
    talk.sent.clear()
    return talk


def held(talk: Conversation, name: str) -> str | None:
    """The version of a virtual host that the proxy has."""
    found = talk.proxy.hosts.get(name.rpartition("/")[0], {}).get(name)
    return found[0] if found else None


def test_nothing_is_sent_before_the_sources_are_read() -> None:
    talk = serving(host("gw/r/shop", "a"))
    talk.restart()
    talk.settle()
    assert not talk.sent
    talk.sync()
    talk.settle()
    assert not talk.sent, "the proxy has it all"


def test_a_fresh_proxy_gets_each_type_after_what_it_needs() -> None:
    talk = Conversation()
    talk.apply(*BASE, host("gw/r/shop", "a"))
    talk.settle()
    order = [response.type for response in talk.sent]
    assert order == [CLUSTER, ENDPOINTS, LISTENER, ROUTES, VIRTUAL_HOST]


def test_an_empty_fleet_answers_at_once() -> None:
    talk = Conversation()
    talk.settle()
    assert [(response.type, response.resources) for response in talk.sent] == [(CLUSTER, ()), (LISTENER, ())]


def test_a_host_waits_for_its_new_cluster_and_others_do_not() -> None:
    talk = serving(host("gw/r/shop", "a"), host("gw/r/other", "a"))
    switched, other = host("gw/r/shop", "b"), host("gw/r/other", "a", number=1)
    talk.apply(cluster("b"), endpoints("b"), switched, other)
    while talk.poll() is not None:
        pass  # the proxy is silent
    assert talk.sent_names(VIRTUAL_HOST) == ["gw/r/other"]
    talk.settle()
    assert held(talk, "gw/r/shop") == switched.version


def test_a_health_checked_cluster_is_ready_when_it_is_warm() -> None:
    talk = serving(host("gw/r/shop", "a"))
    switched = host("gw/r/shop", "b")
    talk.apply(cluster("b", Readiness.WARM), endpoints("b"), switched)
    talk.settle()
    assert "b" in talk.proxy.endpoints
    assert held(talk, "gw/r/shop") != switched.version
    talk.proxy.check_health()
    talk.settle()
    assert held(talk, "gw/r/shop") == switched.version
    assert not talk.overdue


def test_the_wait_is_bounded_and_said() -> None:
    talk = serving(host("gw/r/shop", "a"), timing=Timing(wait=5.0))
    switched = host("gw/r/shop", "b")
    talk.apply(cluster("b"), switched)  # nobody knows its endpoints
    talk.wait(4.9)
    assert held(talk, "gw/r/shop") != switched.version
    talk.wait(0.2)
    assert held(talk, "gw/r/shop") == switched.version
    assert talk.overdue == {"b"}
    again = host("gw/r/shop", "b", number=2)
    talk.apply(again)
    talk.settle()
    assert held(talk, "gw/r/shop") == again.version, "one wait for each cluster, not for each version"


def test_a_cluster_without_endpoints_keeps_no_other_from_warming() -> None:
    talk = serving()
    talk.apply(cluster("stuck"), cluster("b"), endpoints("b"))
    talk.settle()
    assert not talk.proxy.warming
    assert talk.session.holds(ResourceKey(CLUSTER, "b"), cluster("b").version)


def test_a_dangling_requirement_never_blocks() -> None:
    talk = serving()
    shop = host("gw/r/shop", "nowhere")
    talk.apply(shop)
    talk.settle()
    assert held(talk, "gw/r/shop") == shop.version


def test_a_changed_cluster_is_followed_by_its_endpoints() -> None:
    talk = serving(host("gw/r/shop", "a"))
    talk.apply(cluster("a", number=1))
    talk.settle()
    assert [response.type for response in talk.sent] == [CLUSTER, ENDPOINTS]
    assert not talk.proxy.warming


def test_a_cluster_changed_with_its_endpoints_takes_them_once() -> None:
    talk = serving(host("gw/r/shop", "a"))
    talk.apply(endpoints("a", 1), cluster("a", number=1))
    talk.settle()
    assert [response.type for response in talk.sent] == [CLUSTER, ENDPOINTS]


def test_an_endpoint_change_is_one_response() -> None:
    talk = serving(host("gw/r/shop", "a"))
    talk.apply(endpoints("a", 1))
    talk.settle()
    assert [response.type for response in talk.sent] == [ENDPOINTS]


def test_a_cluster_goes_after_its_last_user_and_a_grace() -> None:
    talk = serving(host("gw/r/shop", "a"), timing=Timing(grace=30.0))
    talk.apply(host("gw/r/shop", "b"), cluster("b"), endpoints("b"), removed=[cluster("a"), endpoints("a")])
    talk.wait(29.9)
    assert "a" in talk.proxy.clusters
    talk.wait(0.2)
    assert "a" not in talk.proxy.clusters


def test_a_cluster_that_comes_back_is_not_removed() -> None:
    talk = serving(host("gw/r/shop", "a"), timing=Timing(grace=30.0))
    talk.apply(host("gw/r/shop", "b"), cluster("b"), endpoints("b"), removed=[cluster("a"), endpoints("a")])
    talk.wait(20.0)
    talk.sent.clear()
    talk.apply(host("gw/r/shop", "a"), cluster("a"), endpoints("a"))
    talk.wait(60.0)
    assert "a" in talk.proxy.clusters
    assert not talk.sent_names(CLUSTER), "the proxy had it all the time"


def test_what_a_refused_host_still_serves_from_stays() -> None:
    talk = serving(host("gw/r/shop", "a"))
    talk.apply(host("gw/r/shop", poison=True), removed=[cluster("a"), endpoints("a")])
    talk.wait(3600.0)
    assert "a" in talk.proxy.clusters
    assert talk.refusals == [ResourceKey(VIRTUAL_HOST, "gw/r/shop")]


def test_a_new_control_plane_removes_nothing_that_an_unknown_version_may_need() -> None:
    talk = serving(host("gw/r/shop", "a"))
    talk.apply(host("gw/r/shop", poison=True), removed=[cluster("a"), endpoints("a")])
    talk.settle()
    talk.restart()
    talk.sync()
    talk.wait(3600.0)
    assert "a" in talk.proxy.clusters
    talk.apply(host("gw/r/shop"))
    talk.wait(3600.0)
    assert "a" not in talk.proxy.clusters


def test_a_new_control_plane_that_remembers_knows_what_it_may_remove() -> None:
    talk = serving(host("gw/r/shop", "a"), host("gw/r/x", "b"))
    talk.apply(cluster("b"), endpoints("b"))
    talk.settle()
    talk.apply(host("gw/r/shop", poison=True), host("gw/r/x", "a"))
    talk.settle()
    talk.restart(remembering=True)
    talk.sync()
    talk.apply(removed=[cluster("b"), endpoints("b")])
    talk.wait(3600.0)
    assert "b" not in talk.proxy.clusters
    assert "a" in talk.proxy.clusters


def test_culprits_are_isolated_in_bounded_work() -> None:
    talk = serving(limits=Limits(virtual_hosts=Chunk(resources=10_000)))
    bad = {f"gw/r/h{number}" for number in (17, 500, 501)}
    hosts = [host(f"gw/r/h{number}", "a", poison=f"gw/r/h{number}" in bad) for number in range(1000)]
    talk.apply(*hosts)
    talk.settle()
    assert {key.name for key in talk.refusals} == bad
    assert len(talk.refusals) == len(bad)
    assert len(talk.proxy.hosts["gw/r"]) == 1000 - len(bad)
    assert len(talk.sent) <= 3 * (2 * 10 + 2)  # halves of 1,000 each, and a second chance


def test_a_refused_version_is_not_sent_again_until_another_comes() -> None:
    talk = serving(host("gw/r/shop", "a"))
    good = held(talk, "gw/r/shop")
    talk.apply(host("gw/r/shop", poison=True))
    talk.settle()
    talk.sent.clear()
    talk.apply(host("gw/r/other", "a"), endpoints("a", 5))
    talk.settle()
    assert talk.sent_names(VIRTUAL_HOST) == ["gw/r/other"]
    assert held(talk, "gw/r/shop") == good
    better = host("gw/r/shop", "a", number=9)
    talk.apply(better)
    talk.settle()
    assert held(talk, "gw/r/shop") == better.version
    assert not talk.fleet.refusals()


def test_what_stays_refused_is_tried_ever_more_seldom() -> None:
    talk = serving(host("gw/r/shop", "a"))
    talk.apply(host("gw/r/shop", poison=True))
    times: list[float] = []
    for _ in range(7 * 3600):
        before = len(talk.sent)
        talk.wait(1.0)
        times.extend([talk.now] * (len(talk.sent) - before))
    assert len(times) <= 16
    assert all(later - earlier >= 29 for earlier, later in pairwise(times[1:]))
    assert len(talk.refusals) == 1, "said once"


def test_a_domain_moves_between_hosts_although_one_is_held_back() -> None:
    talk = serving(host("gw/r/one", "a", domains=("shop", "one")), host("gw/r/two", "a"))
    one = host("gw/r/one", "b", domains=("one",))  # has to wait for its cluster, and holds the domain meanwhile
    two = host("gw/r/two", "a", domains=("two", "shop"))
    talk.apply(cluster("b", Readiness.WARM), endpoints("b"), one, two)
    talk.wait(1.0)
    talk.proxy.check_health()
    talk.settle()
    assert held(talk, "gw/r/one") == one.version
    assert held(talk, "gw/r/two") == two.version
    assert not talk.refusals


def test_a_proxy_that_comes_later_gets_the_last_good_version() -> None:
    talk = serving(host("gw/r/shop", "a"))
    good = held(talk, "gw/r/shop")
    talk.apply(host("gw/r/shop", poison=True), host("gw/r/other", "a"))
    talk.settle()
    talk.proxy.__init__()  # type: ignore[misc]  # another Envoy in its place
    talk.reconnect()
    talk.settle()
    assert held(talk, "gw/r/shop") == good
    assert held(talk, "gw/r/other")
    bad = talk.fleet.snapshot.get(VIRTUAL_HOST, "gw/r/shop")
    company = [len(response.resources) for response in talk.sent if bad in response.resources]
    assert company == [1], "a known culprit travels alone"


def test_a_reconnect_sends_only_what_differs() -> None:
    hosts = [host(f"gw/r/h{number}", "a") for number in range(50)]
    talk = serving(*hosts)
    talk.proxy.disconnect()
    changed = host("gw/r/h7", "a", number=1)
    talk.apply(changed, removed=[hosts[9]])
    talk.reconnect()
    talk.settle()
    assert [(response.type, len(response.resources), response.removed) for response in talk.sent] == [
        (VIRTUAL_HOST, 1, ("gw/r/h9",))
    ]
    assert held(talk, "gw/r/h7") == changed.version


def test_a_cluster_that_warmed_when_the_stream_broke_gets_its_endpoints() -> None:
    talk = serving(host("gw/r/shop", "a"))
    talk.apply(cluster("a", number=1))
    talk.poll()
    talk.read()
    assert talk.proxy.warming
    talk.restart()
    talk.sync()
    talk.settle()
    assert not talk.proxy.warming


def test_a_cluster_changed_before_the_proxy_asks_for_endpoints_gets_them() -> None:
    """The request for clusters is answered at once, with another version; the proxy says only then what else it has."""
    talk = serving(host("gw/r/shop", "a"))
    talk.proxy.disconnect()
    talk.apply(cluster("a", number=1))
    talk.reconnect()
    talk.write()
    talk.poll()
    assert talk.sent_names(CLUSTER) == ["a"]
    talk.settle()
    assert not talk.proxy.warming
    assert talk.sent_names(ENDPOINTS) == ["a"]


def test_changes_merge_while_a_response_is_under_way() -> None:
    talk = serving(host("gw/r/shop", "a"))
    for number in range(1, 100):
        talk.apply(host("gw/r/shop", "a", number=number))
        talk.poll()
    talk.settle()
    assert len(talk.sent) == 2
    assert held(talk, "gw/r/shop") == host("gw/r/shop", "a", number=99).version


def test_endpoints_pass_a_bulk_of_clusters() -> None:
    talk = serving(host("gw/r/shop", "a"), limits=Limits(chunk=Chunk(resources=10)))
    talk.apply(*(cluster(f"c{number}") for number in range(100)), *(endpoints(f"c{number}") for number in range(100)))
    talk.poll()
    talk.apply(endpoints("a", 1))
    assert talk.poll() is not None
    assert talk.sent[-1].type is ENDPOINTS
    talk.settle()
    assert len(talk.proxy.clusters) == 101


def test_a_slow_cluster_does_not_keep_back_others() -> None:
    talk = serving(host("gw/r/shop", "a"))
    talk.apply(cluster("slow", Readiness.WARM), endpoints("slow"))
    talk.settle()
    assert talk.proxy.warming
    talk.apply(cluster("b"), endpoints("b"), host("gw/r/shop", "b"))
    talk.wait(0.2)
    assert held(talk, "gw/r/shop") == host("gw/r/shop", "b").version


def test_the_first_hosts_of_a_listener_come_together() -> None:
    talk = serving(host("gw/r/shop", "a"))
    talk.apply(
        listener("m", "gw/m"),
        routes("gw/m"),
        cluster("b", Readiness.WARM),
        endpoints("b"),
        host("gw/m/one", "a"),
        host("gw/m/two", "b"),
    )
    talk.settle()
    assert "m" in talk.proxy.warming_listeners, "its port stays closed rather than answer 404 for the second host"
    talk.proxy.check_health()
    talk.settle()
    assert set(talk.proxy.hosts["gw/m"]) == {"gw/m/one", "gw/m/two"}
    assert "m" in talk.proxy.listeners


def test_a_listener_without_hosts_opens_at_once() -> None:
    talk = serving()
    talk.settle()
    assert "l" in talk.proxy.listeners


def test_a_bad_host_elsewhere_keeps_no_listener_without_hosts_closed() -> None:
    talk = serving()
    talk.apply(listener("m", "gw/m"), routes("gw/m"))
    while "gw/m" not in talk.proxy.routes:
        assert talk.step()
    talk.apply(host("gw/r/bad", poison=True))
    talk.settle()
    assert any(response.removed and response.resources for response in talk.sent), "both went together"
    assert "m" in talk.proxy.listeners


def test_a_listener_that_moves_serves_its_old_hosts_until_it_has_moved() -> None:
    talk = serving(host("gw/r/shop", "a"))
    talk.apply(
        listener("l", "gw/new"),
        routes("gw/new"),
        host("gw/new/shop", "a"),
        removed=[routes("gw/r"), host("gw/r/shop")],
    )
    while talk.step():
        owner = talk.proxy.listeners["l"][1].routes
        assert f"{owner}/shop" in talk.proxy.hosts[owner]
    assert talk.proxy.listeners["l"][1].routes == "gw/new"
    talk.proxy.finish_draining()
    talk.settle()
    assert talk.session.state_of(ResourceKey(VIRTUAL_HOST, "gw/r/shop")) is State.UNKNOWN


def test_a_removed_host_goes_with_its_successor() -> None:
    talk = serving(host("gw/r/shop", "a"))
    talk.apply(
        cluster("b", Readiness.WARM),
        endpoints("b"),
        host("gw/r/new", "b", domains=("shop",)),
        removed=[host("gw/r/shop")],
    )
    talk.settle()
    assert held(talk, "gw/r/shop"), "its successor is not ready"
    talk.proxy.check_health()
    talk.settle()
    assert not held(talk, "gw/r/shop")
    assert held(talk, "gw/r/new")


def test_an_on_demand_name_is_answered() -> None:
    talk = serving(host("gw/r/shop", "a"))
    session = talk.session
    session.receive(Request(type=VIRTUAL_HOST, subscribe=("gw/r/shop", "gw/r/nowhere")), talk.now)
    response = talk.poll()
    assert response is not None
    assert [resource.key.name for resource in response.resources] == ["gw/r/shop"]
    assert response.removed == ("gw/r/nowhere",)


@pytest.mark.parametrize("kind", [ResourceType.SECRET, ResourceType.EXTENSION])
def test_secrets_and_extensions_come_when_asked_for_and_hold_nothing_back(kind: ResourceType) -> None:
    talk = serving()
    wanted = Resource(key=ResourceKey(kind, "s"), version="1", body=b"{}")
    talk.apply(wanted)
    talk.settle()
    talk.session.receive(Request(type=kind, subscribe=("s", "missing")), talk.now)
    response = talk.poll()
    assert response is not None
    assert response.resources == (wanted,)
    assert response.removed == ()


@pytest.mark.parametrize("kind", [ResourceType.SECRET, ResourceType.EXTENSION])
def test_secrets_and_extensions_are_not_taken_away_from_what_uses_them(kind: ResourceType) -> None:
    talk = serving()
    wanted = Resource(key=ResourceKey(kind, "s"), version="1", body=b"{}")
    talk.apply(wanted)
    talk.settle()
    talk.session.receive(Request(type=kind, subscribe=("s",)), talk.now)
    assert talk.poll() is not None
    talk.apply(removed=[wanted])
    assert talk.poll() is None


def test_an_answer_to_nothing_is_counted() -> None:
    talk = serving()
    assert talk.session.receive(Request(type=CLUSTER, nonce="4711"), talk.now) == ()
    assert talk.session.receive(Request(type=CLUSTER, nonce="what"), talk.now) == ()
    assert talk.session.statistics().unsolicited == 2


def test_progress_counts_the_proxies_that_hold_it() -> None:
    talk = Conversation()
    shop = host("gw/r/shop", "a")
    talk.apply(*BASE, shop)
    assert not talk.fleet.progress([shop.key]).complete
    talk.settle()
    assert talk.fleet.progress([resource.key for resource in (*BASE, shop)]).complete
    assert shop.key in talk.fleet.take_stirred()
    assert not talk.fleet.take_stirred()
    bad = host("gw/r/shop", poison=True)
    talk.apply(bad)
    talk.settle()
    progress = talk.fleet.progress([shop.key])
    assert (progress.proxies, progress.acknowledged) == (1, 0)
    assert [refusal.version for refusal in progress.refusals] == [bad.version]
    assert shop in set(talk.fleet.good_resources())
    talk.fleet.disconnect(talk.session)
    assert not talk.fleet.progress([BASE[0].key]).complete, "nobody is there to hold it"


def test_what_nobody_takes_does_not_pile_up() -> None:
    talk = Conversation()
    talk.apply(*BASE)
    talk.settle()
    for number in range(20):
        passing = host(f"gw/r/h{number}", "a")
        talk.apply(passing)
        talk.settle()
        talk.apply(removed=[passing])
        talk.settle()
    assert talk.fleet.take_stirred() <= {resource.key for resource in BASE}
