"""What a change does to requests: found where there is something, silent where there is nothing."""

from random import Random

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from portway.explain.behaviour import behaviour_of
from portway.explain.diff import compare
from portway.explain.trace import World, explain
from tests.explain.asking import Asker
from tests.explain.generated import Document, Generator
from tests.explain.manifests import SERVICES, gateway, ingress, route, service, world
from tests.explain.shrinking import thinned
from tests.translate.ingress.kit import new_engine, objects_of, put

TO_A = "[{backendRefs: [{name: a, port: 80}]}]"
SHOP = ingress("shop", "shop.test", {"/": "a", "/cart": "b"})

NOTHING = {
    "objects are renamed": (SHOP, SHOP.replace("name: shop", "name: other")),
    "two objects become one": (
        ingress("one", "shop.test", {"/": "a"}) + "---\n" + ingress("two", "shop.test", {"/cart": "b"}),
        SHOP,
    ),
    "paths stand in another order": (SHOP, ingress("shop", "shop.test", {"/cart": "b", "/": "a"})),
    "weights are multiplied": (
        gateway()
        + "---\n"
        + route("r", "[{backendRefs: [{name: a, port: 80, weight: 1}, {name: b, port: 80, weight: 3}]}]"),
        gateway()
        + "---\n"
        + route("r", "[{backendRefs: [{name: a, port: 80, weight: 2}, {name: b, port: 80, weight: 6}]}]"),
    ),
    "a backend is listed twice": (
        gateway() + "---\n" + route("r", TO_A),
        gateway() + "---\n" + route("r", "[{backendRefs: [{name: a, port: 80}, {name: a, port: 80}]}]"),
    ),
    "an annotation says the default": (
        SHOP,
        ingress("shop", "shop.test", {"/": "a", "/cart": "b"}, ssl_redirect="true"),
    ),
}


@pytest.mark.parametrize("name", NOTHING)
def test_no_request_changes(name: str) -> None:
    before, after = NOTHING[name]
    assert compare(world(SERVICES, before), world(SERVICES, after)).changes == ()


SOMETHING = {
    # name: before, after, (example, before, after)...
    "another backend": (
        SHOP,
        ingress("shop", "shop.test", {"/": "a", "/cart": "c"}),
        [("GET http://shop.test/cart", "forwarded to Service default/b", "forwarded to Service default/c")],
    ),
    "a path is gone": (
        SHOP,
        ingress("shop", "shop.test", {"/": "a"}),
        [("GET http://shop.test/cart", "forwarded to Service default/b", "forwarded to Service default/a")],
    ),
    "a new host": (
        SHOP,
        SHOP + "---\n" + ingress("new", "new.test", {"/": "c"}),
        [("GET http://new.test/", "404", "forwarded to Service default/c")],
    ),
    "a host is gone": (
        SHOP + "---\n" + ingress("old", "old.test", {"/": "c"}),
        SHOP,
        [("GET http://old.test/", "forwarded to Service default/c", "404")],
    ),
    "a timeout": (
        SHOP,
        ingress("shop", "shop.test", {"/": "a", "/cart": "b"}, proxy_read_timeout="7"),
        [("GET http://shop.test/cart", "forwarded", "timeout: 504 after 7 s of silence")],
    ),
    "an access list": (
        SHOP,
        ingress("shop", "shop.test", {"/": "a", "/cart": "b"}, allowlist_source_range="10.0.0.0/8"),
        [("GET http://shop.test/cart", "forwarded", "403: 127.0.0.1 is not on the allow list (10.0.0.0/8)")],
    ),
    "a weight": (
        gateway()
        + "---\n"
        + route("r", "[{backendRefs: [{name: a, port: 80, weight: 1}, {name: b, port: 80, weight: 1}]}]"),
        gateway()
        + "---\n"
        + route("r", "[{backendRefs: [{name: a, port: 80, weight: 3}, {name: b, port: 80, weight: 1}]}]"),
        [("GET http://shop.test/", "50.0% forwarded to Service default/a", "75.0% forwarded to Service default/a")],
    ),
    "a header is set": (
        gateway() + "---\n" + route("r", TO_A),
        gateway()
        + "---\n"
        + route(
            "r",
            "[{filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-a, value: '1'}]}}],"
            " backendRefs: [{name: a, port: 80}]}]",
        ),
        [("GET http://shop.test/", "forwarded", "request headers: sets x-a: 1")],
    ),
    "a redirect": (
        gateway() + "---\n" + route("r", TO_A),
        gateway()
        + "---\n"
        + route("r", "[{filters: [{type: RequestRedirect, requestRedirect: {hostname: new.test, statusCode: 301}}]}]"),
        [("GET http://shop.test/", "forwarded", "301 to http://new.test/")],
    ),
    "only with a header": (
        gateway() + "---\n" + route("r", TO_A),
        gateway()
        + "---\n"
        + route(
            "r",
            "[{matches: [{headers: [{name: x-a, value: '1'}]}], backendRefs: [{name: b, port: 80}]},"
            " {backendRefs: [{name: a, port: 80}]}]",
        ),
        [("GET http://shop.test/ -H 'x-a: 1'", "Service default/a", "Service default/b")],
    ),
    "a port": (
        gateway(),
        gateway({"name": "http", "port": 8080, "protocol": "HTTP"}),
        [("0.0.0.0:80/tcp", "open", "closed"), ("0.0.0.0:8080/tcp", "closed", "open")],
    ),
}


@pytest.mark.parametrize("name", SOMETHING)
def test_changes_are_found(name: str) -> None:
    before, after, expected = SOMETHING[name]
    changes = compare(world(SERVICES, before), world(SERVICES, after)).changes
    for subject, old, new in expected:
        found = [change for change in changes if change.subject == subject]
        assert found, (subject, changes)
        assert old in found[0].before, found
        assert new in found[0].after, found


FIELD = "[{matches: [{headers: [{name: x-v, type: %s, value: '%s'}]}], backendRefs: [{name: b, port: 80}]}]"
PATH = "[{matches: [{path: {type: RegularExpression, value: '%s'}}], backendRefs: [{name: b, port: 80}]}]"
QUERY = (
    "[{matches: [{queryParams: [{name: v, type: RegularExpression, value: '%s'}]}],"
    " backendRefs: [{name: b, port: 80}]}]"
)


def canary(pattern: str) -> str:
    told = {"canary": "true", "canary_by_header": "x-v", "canary_by_header_pattern": pattern}
    return SHOP + "---\n" + ingress("canary", "shop.test", {"/": "c"}, **told)


EXPRESSIONS = {
    # Both fit what is usually made as an example of the first.
    "a field takes less": (FIELD % ("RegularExpression", "v[0-9]"), FIELD % ("RegularExpression", "v[0-8]")),
    "a field takes more": (FIELD % ("RegularExpression", "v[0-9]"), FIELD % ("RegularExpression", "v[0-9]{1,2}")),
    "a field takes one value only": (FIELD % ("RegularExpression", "v[0-9]"), FIELD % ("Exact", "v0")),
    "a path takes another branch": (PATH % "/(a|b|c|d|e)/x", PATH % "/(a|b|c|d)/x"),
    "a path takes what it took not": (PATH % "/a/[a-z]+", PATH % "/a/[a-z-]+"),
    "a query takes less": (QUERY % r"\d+", QUERY % "[0-7]+"),
}


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_a_change_within_an_expression_is_found(name: str) -> None:
    before, after = (gateway() + "---\n" + route("r", rules) for rules in EXPRESSIONS[name])
    changes = compare(world(SERVICES, before), world(SERVICES, after)).changes
    assert {("404" in change.before) is not ("404" in change.after) for change in changes} == {True}


def test_a_change_within_the_pattern_of_a_canary_is_found() -> None:
    changes = compare(world(SERVICES, canary("^v[0-9]")), world(SERVICES, canary("^v[0-4]"))).changes
    assert [("default/c" in change.before, "default/c" in change.after) for change in changes] == [(True, False)]


def test_expressions_that_fit_the_same_are_no_change() -> None:
    before, after = (gateway() + "---\n" + route("r", PATH % path) for path in ("/(a|b)[0-9]+", "/(b|a)[0-9][0-9]*"))
    assert compare(world(SERVICES, before), world(SERVICES, after)).changes == ()


def test_hosts_that_change_alike_are_told_once() -> None:
    names = [f"h{number}.test" for number in range(6)]
    before = "\n---\n".join(ingress(name[:2], name, {"/": "a"}) for name in names)
    after = before.replace("name: a\n", "name: b\n")
    changes = compare(world(SERVICES, before), world(SERVICES, after)).changes
    assert [change.subject for change in changes] == ["GET http://h0.test/"]
    assert changes[0].also == ("h1.test", "h2.test", "h3.test", "2 more")


def test_endpoints_that_are_gone_are_a_change_of_the_upstream() -> None:
    changes = compare(
        world(service("a"), gateway(), route("r", TO_A)), world(service("a", endpoints=0), gateway(), route("r", TO_A))
    )
    assert [(change.subject, change.before, change.after) for change in changes.changes] == [
        ("Service default/a port 80", "endpoints 10.0.0.1:80", "no endpoints: 503")
    ]


def test_endpoints_that_get_more_than_before_are_a_change_of_the_upstream() -> None:
    def backend(*weights: int) -> str:
        addresses = [{"address": "10.0.0.1", "port": 80 + number, "weight": one} for number, one in enumerate(weights)]
        head = {"apiVersion": "portway.dev/v1alpha1", "kind": "Backend", "metadata": {"name": "own"}}
        return yaml.safe_dump({**head, "spec": {"addresses": addresses}})

    to_it = route("r", "[{backendRefs: [{group: portway.dev, kind: Backend, name: own}]}]")
    worlds = [world(gateway(), to_it, backend(*weights)) for weights in ((3, 1), (5, 1), (30, 10))]
    (change,) = compare(worlds[0], worlds[1]).changes
    assert (change.before, change.after) == (
        "endpoints 10.0.0.1:80 (weight 3), 10.0.0.1:81 (weight 1)",
        "endpoints 10.0.0.1:80 (weight 5), 10.0.0.1:81 (weight 1)",
    )
    assert compare(worlds[0], worlds[2]).changes == (), "the same proportions"


def test_an_upstream_that_is_spoken_to_in_two_ways_changes_once() -> None:
    own = ingress("other", "other.test", {"/": "a"}, proxy_connect_timeout="7")
    before, after = (world(service("a", endpoints=number), SHOP, own) for number in (1, 2))
    subjects = [change.subject for change in compare(before, after).changes]
    assert subjects == ["Service default/a port 80"]


def _world(documents: list[Document]) -> World:
    engine = new_engine()
    for document in documents:
        try:
            put(engine, objects_of(yaml.safe_dump(document)))
        except ValueError:
            continue  # no valid object: a cluster would refuse it
    return World(engine)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32))
def test_nothing_differs_from_itself(seed: int) -> None:
    documents = Generator(Random(seed)).configuration()
    assert compare(_world(documents), _world(list(reversed(documents)))).changes == ()


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32))
def test_a_mutation_that_changes_an_answer_is_found(seed: int) -> None:
    """Whatever request of the edges of both sides fares differently, something is said about it; and conversely."""
    random = Random(seed)
    documents = Generator(random).configuration()
    number, document = random.choice(list(enumerate(documents)))
    changed = random.choice([*thinned(document), None]) if "spec" in document else None
    mutated = [*documents[:number], *([changed] if changed is not None else []), *documents[number + 1 :]]
    before, after = _world(documents), _world(mutated)
    difference = compare(before, after)
    differing = [
        str(question)
        for asked in (before, after)
        for question in Asker(random, asked).questions(60)
        if behaviour_of(explain(before, question.request())) != behaviour_of(explain(after, question.request()))
    ]
    assert bool(difference.changes) or not differing, (document, changed, differing[:5])
