"""A cluster has several lives: it changes before it was ever warm, goes, and comes again. What the proxy says about one
version is no news about another."""

import pytest

from portway.model.resource import Readiness, Resource, ResourceType
from portway.xds.ordering import Timing
from tests.xds.conversation import Conversation
from tests.xds.fake_envoy import FakeEnvoy
from tests.xds.wanted import cluster, endpoints, host, listener, routes, secret

CLUSTER, ENDPOINTS, VIRTUAL_HOST = ResourceType.CLUSTER, ResourceType.ENDPOINTS, ResourceType.VIRTUAL_HOST
SHOP = host("gw/r/shop", "b")


def serving(*more: Resource) -> Conversation:
    """A proxy with a listener, whose clusters go 30 s after their last use."""
    talk = Conversation(timing=Timing(wait=300.0, grace=30.0, settle=0.25))
    talk.apply(listener("l", "gw/r"), routes("gw/r"), *more)
    talk.wait(1.0)
    return talk


def is_safe(talk: Conversation) -> bool:
    """Whether no host that the proxy has points at a cluster that it lacks."""
    return all(
        name in talk.proxy.clusters
        for hosts in talk.proxy.hosts.values()
        for _, content in hosts.values()
        for name in content.clusters
    )


def settle_safely(talk: Conversation) -> None:
    """Steps until nobody has anything to do at this moment."""
    talk.settle(lambda: _assert_safe(talk))


def _assert_safe(talk: Conversation) -> None:
    assert is_safe(talk)


@pytest.mark.parametrize("goes_between", [True, False])
def test_endpoints_of_the_version_that_warms_say_nothing_about_the_next(goes_between: bool) -> None:
    """The health check is switched off while the cluster waits for its result. The proxy acknowledges new endpoints,
    but of the checked version, before it has heard of the other."""
    talk = serving()
    checked = (cluster("b", Readiness.WARM), endpoints("b"))
    talk.apply(*checked)
    talk.settle()
    assert "b" in talk.proxy.warming
    if goes_between:
        talk.apply(removed=checked)
    talk.apply(cluster("b"), endpoints("b", 1), SHOP)
    settle_safely(talk)
    talk.wait(1.0)
    assert SHOP.key.name in talk.proxy.hosts["gw/r"]
    assert is_safe(talk)


def test_a_version_that_needs_no_warming_settles_from_when_it_was_sent() -> None:
    """Not from when the cluster was first sent, long ago: the proxy may refuse it, and could not have said so."""
    talk = serving()
    talk.apply(cluster("b", Readiness.WARM), endpoints("b"))
    talk.wait(10.0)
    talk.apply(cluster("b", Readiness.AT_ONCE), SHOP)
    while talk.poll() is not None:
        pass  # the proxy is silent
    talk.now += 0.2
    assert talk.poll() is None
    talk.now += 0.1
    assert talk.poll() is not None
    assert talk.sent[-1].type is VIRTUAL_HOST


def test_a_wait_for_a_check_is_cut_short_if_the_next_version_needs_no_warming() -> None:
    talk = serving()
    talk.apply(cluster("b", Readiness.WARM), endpoints("b"), SHOP)
    talk.wait(1.0)
    talk.apply(cluster("b", Readiness.AT_ONCE))
    while talk.poll() is not None:
        pass  # the proxy is silent
    talk.now += 0.3
    assert talk.poll() is not None
    assert talk.sent[-1].type is VIRTUAL_HOST


def test_a_refused_health_check_leaves_the_good_version_to_be_judged() -> None:
    """Another proxy has the cluster and refuses that it be checked. This one gets the former version, and is judged
    by that."""
    talk = serving(cluster("b"), endpoints("b"))
    talk.apply(cluster("b", Readiness.WARM, poison=True))
    talk.settle()
    talk.proxy = FakeEnvoy()
    talk.reconnect()
    talk.apply(SHOP)
    settle_safely(talk)
    assert SHOP.key.name in talk.proxy.hosts["gw/r"]


def test_an_acknowledgement_from_a_former_life_is_none_of_this_one() -> None:
    """A slow neighbour withholds the acknowledgement of `b` until `b` has gone and is about to come again."""
    talk = serving()
    first = (cluster("b"), endpoints("b"))
    talk.apply(cluster("slow", Readiness.WARM), endpoints("slow"), *first)
    talk.settle()
    talk.apply(removed=first)
    talk.wait(29.0)
    talk.proxy.check_health()  # from now on the proxy may speak of clusters
    talk.now += 2.0
    removal = talk.poll()
    assert removal is not None
    assert removal.removed == ("b",)
    while talk.write() is not None:
        pass  # what it had read up to now: `b` is there
    talk.apply(cluster("b", Readiness.WARM), endpoints("b"), SHOP)
    settle_safely(talk)
    talk.now += 1.0
    settle_safely(talk)
    assert "b" in talk.proxy.warming
    assert SHOP.key.name not in talk.proxy.hosts["gw/r"]
    talk.proxy.check_health()
    settle_safely(talk)
    assert SHOP.key.name in talk.proxy.hosts["gw/r"]


def test_endpoints_that_the_proxy_took_no_interest_in_make_nothing_ready() -> None:
    """A cluster comes again at once, with endpoints, while the proxy is about to unsubscribe from those of its former
    life. It refuses the cluster for a bad neighbour, but may not say so yet, and the endpoints answer nothing."""
    first = (cluster("b"), endpoints("b"))
    talk = serving(*first)
    talk.apply(cluster("slow", Readiness.WARM), endpoints("slow"))
    talk.settle()
    talk.apply(removed=first)
    talk.settle()
    talk.now += 31.0
    removal = talk.poll()
    assert removal is not None
    assert removal.removed == ("b",)
    talk.apply(*first, cluster("bad", unnamed_poison=True), SHOP)
    talk.now += 1.0
    while talk.poll() is not None:
        pass
    while talk.read():
        pass
    settle_safely(talk)
    talk.proxy.check_health()
    settle_safely(talk)
    assert SHOP.key.name in talk.proxy.hosts["gw/r"]


@pytest.mark.parametrize("readiness", [Readiness.ENDPOINTS, Readiness.AT_ONCE])
def test_a_cluster_is_not_ready_before_its_secrets(readiness: Readiness) -> None:
    """Envoy asks for the certificate that the cluster shows only after its endpoints, and warms until it has it."""
    talk = serving()
    talk.apply(cluster("b", readiness, secrets=("key",)), SHOP)
    if readiness is Readiness.ENDPOINTS:
        talk.apply(endpoints("b"))
    talk.wait(10.0, lambda: _assert_safe(talk))
    assert SHOP.key.name not in talk.proxy.hosts["gw/r"], "its secret is not known"
    talk.apply(secret("key"))
    settle_safely(talk)
    assert SHOP.key.name in talk.proxy.hosts["gw/r"]


def test_a_secret_that_the_proxy_has_is_not_waited_for() -> None:
    talk = serving(cluster("a", secrets=("key",)), endpoints("a"), secret("key"))
    talk.apply(cluster("b", secrets=("key",)), endpoints("b"), SHOP)
    settle_safely(talk)
    assert SHOP.key.name in talk.proxy.hosts["gw/r"]


def test_a_secret_that_comes_too_late_is_said() -> None:
    talk = Conversation(timing=Timing(wait=5.0))
    talk.apply(listener("l", "gw/r"), routes("gw/r"), cluster("b", secrets=("key",)), endpoints("b"), SHOP)
    talk.wait(4.9)
    assert not talk.overdue
    talk.wait(0.2)
    assert talk.overdue == {"b"}
    assert SHOP.key.name in talk.proxy.hosts["gw/r"]
