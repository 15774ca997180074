"""Requests as routes see them: who is believed what."""

import pytest

from portway.explain.arrival import arrive
from portway.explain.request import Request, make_request
from portway.model.edge import Edge

EDGE = Edge(trusted_proxies=("10.0.0.0/8", "fd00::/8"))

CHAINS = {
    # peer, X-Forwarded-For: the client
    ("10.0.0.1", "203.0.113.7"): "203.0.113.7",
    ("10.0.0.1", "198.51.100.2, 203.0.113.7, 10.0.0.9"): "203.0.113.7",
    ("10.0.0.1", "10.0.0.3, 10.0.0.2"): "10.0.0.3",
    ("10.0.0.1", "junk, 203.0.113.7"): "203.0.113.7",
    ("10.0.0.1", "203.0.113.7, junk"): "10.0.0.1",
    ("10.0.0.1", ""): "10.0.0.1",
    ("fd00::1", "2001:DB8::7"): "2001:db8::7",
    ("192.0.2.1", "203.0.113.7"): "192.0.2.1",
}


@pytest.mark.parametrize(("peer", "chain"), CHAINS)
def test_only_trusted_proxies_say_who_the_client_is(peer: str, chain: str) -> None:
    arrived = arrive(make_request("GET", "http://a/", [("X-Forwarded-For", chain)], client=peer), EDGE)
    assert isinstance(arrived, Request)
    assert arrived.client == CHAINS[peer, chain]


SCHEMES = {
    ("10.0.0.1", "https"): "https",
    ("10.0.0.1", "wss"): "wss",
    ("10.0.0.1", ""): "http",
    ("192.0.2.1", "https"): "http",
}


@pytest.mark.parametrize(("peer", "named"), SCHEMES)
def test_only_trusted_proxies_say_what_was_spoken(peer: str, named: str) -> None:
    fields = [("x-forwarded-proto", named), ("x-forwarded-host", "b")]
    arrived = arrive(make_request("GET", "http://a/", fields, client=peer), EDGE)
    assert isinstance(arrived, Request)
    assert arrived.field("x-forwarded-proto") == SCHEMES[peer, named]
    assert arrived.field("x-forwarded-host") == ("b" if peer.startswith("10.") else None)
