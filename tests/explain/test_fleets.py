"""Where each Gateway and each IngressClass has proxies of its own: which of them a request is asked of."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from portway.app.compiler import compile_files
from portway.app.explaining import explained, is_served_by
from portway.explain.diff import compare
from portway.explain.fleets import Asked, UnknownFleet, choose_fleet, named_fleet
from portway.explain.request import make_request
from portway.explain.trace import World
from portway.model.fleet import InfrastructureKind
from portway.model.handles import REPORT
from portway.objects.verdict import ObjectKey
from portway.settings import Cluster, Settings
from tests.kit.manifests import CLASS, gateway, http_route, ingress, service

WEB = gateway("web", [("http", 80, "HTTP"), ("more", 8080, "HTTP")])
EDGE = gateway("edge", [("http", 80, "HTTP")])
ROUTES = (
    http_route("web", "web", "shop.test", [("/", "a")]),
    http_route("edge", "edge", "inner.test", [("/", "b")]),
    http_route("both", "web", "both.test", [("/", "a")]),
    http_route("both-too", "edge", "both.test", [("/", "b")]),
)
ALL = (CLASS, service("a", [8001]), service("b", [8002]), WEB, EDGE, *ROUTES)
ALL_INGRESS = (*ALL, ingress("cart", "cart.test", [("/", "a")]))
ADDRESSES: Mapping[str, Sequence[str]] = {
    "gateway/shop/web": ["192.0.2.1"],
    "gateway/shop/edge": ["2001:db8::1", "edge.lb.test"],
    "ingress/portway": ["192.0.2.3"],
}


def world(folder: Path, manifests: Sequence[str], kind: InfrastructureKind = InfrastructureKind.KUBERNETES) -> World:
    folder.mkdir(exist_ok=True)
    (folder / "all.yaml").write_text("---\n".join(manifests))
    settings = Settings(cluster=Cluster(infrastructure=kind))
    engine, _ = asyncio.run(compile_files([str(folder)], settings, outputs=()))
    return World(engine)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> World:
    return world(tmp_path_factory.mktemp("shop"), ALL_INGRESS)


CHOICES = {
    # URL, what the asker says: the fleet
    ("http://shop.test/", Asked(gateway="shop/edge")): "gateway/shop/edge",
    ("http://shop.test/", Asked(ingress_class="portway")): "ingress/portway",
    ("http://shop.test/", Asked(address="192.0.2.3")): "ingress/portway",
    ("http://192.0.2.1/", Asked()): "gateway/shop/web",
    ("http://[2001:DB8:0::1]/", Asked()): "gateway/shop/edge",
    ("http://EDGE.lb.test/", Asked()): "gateway/shop/edge",
    ("http://shop.test/", Asked(dialled="192.0.2.3")): "ingress/portway",  # curl -H 'Host: shop.test' 192.0.2.3
    ("http://anything.test:8080/", Asked()): "gateway/shop/web",  # nobody else has that port
    ("http://shop.test/", Asked()): "gateway/shop/web",  # nobody else knows the host
    ("http://cart.test/", Asked()): "ingress/portway",
    ("http://shop.test:9/", Asked()): "",  # nobody has that port, whoever is asked
}


@pytest.mark.parametrize(("url", "asked"), CHOICES)
def test_the_proxies_of_a_request(shop: World, url: str, asked: Asked) -> None:
    assert choose_fleet(shop, make_request("GET", url), asked, ADDRESSES).fleet == CHOICES[url, asked]


REFUSED = {
    ("http://both.test/", Asked()): "3 sets of proxies have port 80 open, 2 of them have something for both.test; say "
    "which is meant: --gateway shop/edge (2001:db8::1, edge.lb.test), --gateway shop/web (192.0.2.1)",
    ("http://nobody.test/", Asked()): "3 sets of proxies have port 80 open; say which is meant: --gateway shop/edge",
    (
        "http://shop.test/",
        Asked(gateway="shop/wbe"),
    ): "Gateway shop/wbe has no proxies of Portway's; say which is meant",
    ("http://shop.test/", Asked(gateway="web")): '"web" is not NAMESPACE/NAME',
    ("http://shop.test/", Asked(address="192.0.2.9")): "192.0.2.9 is no known address of proxies",
    ("http://shop.test/", Asked(gateway="shop/web", ingress_class="portway")): "name different proxies",
}


@pytest.mark.parametrize(("url", "asked"), REFUSED)
def test_nothing_is_guessed(shop: World, url: str, asked: Asked) -> None:
    with pytest.raises(UnknownFleet) as caught:
        choose_fleet(shop, make_request("GET", url), asked, ADDRESSES)
    assert REFUSED[url, asked] in str(caught.value)


def test_an_explanation_is_of_those_proxies(shop: World) -> None:
    request = make_request("GET", "http://both.test/")
    for name, backend in {"web": "a", "edge": "b"}.items():
        report = explained(shop, request, Asked(gateway=f"shop/{name}"), ADDRESSES, lambda key, field: None)
        assert report.fleet == f"Gateway shop/{name}"
        assert f"Service shop/{backend} port 80" in report.results[0].text


def test_a_guess_is_told(shop: World) -> None:
    request = make_request("GET", "http://shop.test/")
    report = explained(shop, request, Asked(), ADDRESSES, lambda key, field: None)
    assert report.hints[-1] == (
        "3 sets of proxies have port 80 open, only Gateway shop/web has something for shop.test; --gateway or --class "
        "names another"
    )


def test_proxies_that_alone_have_the_port_are_told(shop: World) -> None:
    # Whoever asks may have meant others, whose listener is not served.
    request = make_request("GET", "http://inner.test:8080/")
    report = explained(shop, request, Asked(), ADDRESSES, lambda key, field: None)
    assert report.hints[-1] == "only Gateway shop/web has port 8080 open"


def test_one_machine_has_one_set_of_proxies(tmp_path: Path) -> None:
    shop = world(tmp_path, ALL, InfrastructureKind.HOST)
    request = make_request("GET", "http://shop.test/")
    assert explained(shop, request, Asked(address="127.0.0.1"), {}, lambda key, field: None).fleet == ""
    with pytest.raises(UnknownFleet, match="infrastructure host"):
        choose_fleet(shop, request, Asked(gateway="shop/web"), {})


def test_the_objects_of_a_set_of_proxies(shop: World) -> None:
    served = {
        fleet: {
            key.name
            for kind in ("Gateway", "HTTPRoute", "Ingress")
            for key in shop.engine.store.keys(kind)
            if is_served_by(shop, fleet, shop.engine.get(REPORT, ObjectKey(kind, key.namespace, key.name)))
        }
        for fleet in shop.fleets
    }
    assert served == {
        "gateway/shop/edge": {"edge", "both-too"},
        "gateway/shop/web": {"web", "both"},
        "ingress/portway": {"cart"},
    }
    assert named_fleet(shop, Asked(), {}) == ""


def test_a_difference_says_at_which_proxies(tmp_path: Path) -> None:
    before = world(tmp_path / "before", ALL)
    after = world(tmp_path / "after", ALL[:-1])
    changes = compare(before, after).changes
    assert [(change.subject, change.fleet) for change in changes] == [("GET http://both.test/", "Gateway shop/edge")]
