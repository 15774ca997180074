"""What a user reads who asks why: short, exact, about the thing that decides."""

import pytest

from portway.explain.request import make_request
from portway.explain.trace import World, explain
from tests.explain.manifests import SERVICES, gateway, ingress, route, service, world

SECRET = """
apiVersion: v1
kind: Secret
metadata: {name: shop, annotations: {case/certificate: shop.test}}
"""
HTTPS = {
    "name": "https",
    "port": 443,
    "protocol": "HTTPS",
    "hostname": "shop.test",
    "tls": {"certificateRefs": [{"name": "shop"}]},
}
TO_A = "[{backendRefs: [{name: a, port: 80}]}]"
HTTP = {"name": "http", "port": 80, "protocol": "HTTP"}

CASES: dict[str, tuple[World, tuple[str, ...], list[str]]] = {
    # what is asked: world, method and URL and fields, texts of outcomes, effects and hints that must be there
    "a Service that does not exist": (
        world(gateway(), route("r", "[{backendRefs: [{name: gone, port: 80}]}]")),
        ("GET", "http://shop.test/"),
        ["500: Service default/gone does not exist"],
    ),
    "a Service without endpoints": (
        world(service("a", endpoints=0), gateway(), route("r", TO_A)),
        ("GET", "http://shop.test/"),
        ["503: Service default/a port 80 has no endpoints (it would be sent shop.test/)"],
    ),
    "a Backend, which has no port": (
        world(
            "{apiVersion: portway.dev/v1alpha1, kind: Backend, metadata: {name: own}, spec: {addresses: "
            "[{address: 10.0.0.1, port: 81}]}}",
            gateway(),
            route("r", "[{backendRefs: [{group: portway.dev, kind: Backend, name: own}]}]"),
        ),
        ("GET", "http://shop.test/"),
        ["forwarded to Backend default/own as shop.test/"],
    ),
    "an Ingress whose Service does not exist": (
        world(ingress("i", "shop.test", {"/": "gone"})),
        ("GET", "http://shop.test/"),
        ["503", "Service default/gone"],
    ),
    "a host that is misspelt": (
        world(SERVICES, gateway(), route("r", TO_A)),
        ("GET", "http://shp.test/"),
        ["404: no virtual host for shp.test", "did you mean shop.test?"],
    ),
    "a path that nobody has": (
        world(
            SERVICES, gateway(), route("r", "[{matches: [{path: {value: /x}}], backendRefs: [{name: a, port: 80}]}]")
        ),
        ("GET", "http://shop.test/y"),
        ["404: none of the routes fits", "path /y is not below /x"],
    ),
    "a header that is missing": (
        world(SERVICES, gateway(), route("r", "[{matches: [{headers: [{name: X-A, value: '1'}]}]}]")),
        ("GET", "http://shop.test/"),
        ["header x-a is missing"],
    ),
    "a header of another value": (
        world(SERVICES, gateway(), route("r", "[{matches: [{headers: [{name: X-A, value: '1'}]}]}]")),
        ("GET", "http://shop.test/", "x-a: 2", "x-a: 3"),
        ["header x-a is 2 and 3, not 1"],
    ),
    "plain HTTP on a TLS port": (
        world(SERVICES, SECRET, gateway(HTTPS), route("r", TO_A)),
        ("GET", "http://shop.test:443/"),
        ["0.0.0.0:443/tcp speaks TLS, not plain HTTP; the connection is closed"],
    ),
    "TLS on a plain port": (
        world(SERVICES, gateway(), route("r", TO_A)),
        ("GET", "https://shop.test:80/"),
        ["0.0.0.0:80/tcp speaks plain HTTP, not TLS; the connection is closed"],
    ),
    "a port that nobody has": (
        world(SERVICES, gateway(), route("r", TO_A)),
        ("GET", "http://shop.test:81/"),
        ["nothing listens on port 81; the connection is refused", "open TCP ports: 80"],
    ),
    "a server name that nobody has": (
        world(SERVICES, SECRET, gateway(HTTPS), route("r", TO_A)),
        ("GET", "https://shopp.test/"),
        [
            "no listener on 0.0.0.0:443/tcp takes the server name shopp.test; the connection is closed",
            "did you mean shop.test?",
        ],
    ),
    "the host of another listener": (
        world(
            SERVICES,
            SECRET,
            gateway(HTTPS, {**HTTPS, "name": "other", "hostname": "other.test"}),
            route("r", TO_A, "shop.test", "other.test"),
        ),
        ("GET", "https://shop.test/", "host: other.test"),
        ["421 (another listener serves this host)"],
    ),
    "an access list": (
        world(SERVICES, ingress("i", "shop.test", {"/": "a"}, denylist_source_range="127.0.0.0/8")),
        ("GET", "http://shop.test/"),
        ["403: 127.0.0.1 is on the deny list (127.0.0.0/8)"],
    ),
    "a canary": (
        world(
            SERVICES,
            ingress("i", "shop.test", {"/": "a"}),
            ingress("next", "shop.test", {"/": "b"}, canary="true", canary_by_header="x-next", canary_weight="20"),
        ),
        ("GET", "http://shop.test/", "x-next: never"),
        ["header x-next is never, not always", "forwarded to Service default/a"],
    ),
    "a preflight": (
        world(
            SERVICES,
            gateway(),
            route(
                "r",
                "[{filters: [{type: CORS, cors: {allowOrigins: ['http://a.test'], allowMethods: [PUT]}}],"
                " backendRefs: [{name: a, port: 80}]}]",
            ),
        ),
        ("OPTIONS", "http://shop.test/", "origin: http://b.test", "access-control-request-method: PUT"),
        [
            "200: a CORS preflight is answered by the proxy; origin http://b.test is not among the allowed ones",
            "CORS: origin http://b.test is not allowed (http://a.test): no allow-origin",
        ],
    ),
    "retries, timeouts and mirrors": (
        world(
            SERVICES,
            gateway(),
            route(
                "r",
                "[{filters: [{type: RequestMirror, requestMirror: {backendRef: {name: b, port: 80}, percent: 10}}],"
                " timeouts: {request: 3s}, retry: {attempts: 2, codes: [503]}, backendRefs: [{name: a, port: 80}]}]",
            ),
        ),
        ("POST", "http://shop.test/"),
        [
            "timeout: 504 after 3 s",
            "mirror: a copy of 0.1 of the requests goes to Service default/b port 80",
            "retries: up to 2 more tries on failed connections, status 503",
        ],
    ),
    "the default retries": (
        world(SERVICES, gateway(), route("r", TO_A)),
        ("GET", "http://shop.test/"),
        ["retries: up to 2 more tries on failed connections"],
    ),
    "an upstream policy": (
        world(
            SERVICES,
            gateway(),
            route("r", TO_A),
            """
apiVersion: portway.dev/v1alpha1
kind: UpstreamPolicy
metadata: {name: slow}
spec:
  targetRefs: [{group: "", kind: Service, name: a}]
  timeouts: {connect: 9s}
""",
        ),
        ("GET", "http://shop.test/"),
        ["upstream: a connection may take 9 s", "upstream: UpstreamPolicy default/slow applies"],
    ),
    "a gRPC client": (
        world(SERVICES, gateway(), route("r", "[{matches: [{path: {value: /x}}]}]")),
        ("POST", "http://shop.test/shop.Cart/Get", "content-type: application/grpc"),
        ["404: none of the routes fits; gRPC clients get status 12 (UNIMPLEMENTED)"],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_reasons(name: str) -> None:
    given, (method, url, *lines), expected = CASES[name]
    headers = [(line.partition(": ")[0], line.partition(": ")[2]) for line in lines]
    found = explain(given, make_request(method, url, headers))
    said = [step.reason for step in found.steps]
    said += [outcome.text for outcome in found.outcomes]
    said += [f"{effect.what}: {effect.text}" for effect in found.effects]
    said += found.hints
    for part in expected:
        assert any(part in one for one in said), (part, said)


def test_what_is_so_by_default_is_nobodys_wish() -> None:
    found = explain(world(SERVICES, gateway(), route("r", TO_A)), make_request("GET", "http://shop.test/"))
    assert [effect.source for effect in found.effects if effect.what == "retries"] == [None]


def test_only_the_host_that_is_asked_for_is_built() -> None:
    hosts = "\n---\n".join(ingress(f"i{number}", f"h{number}.test", {"/": "a"}) for number in range(20))
    it = world(SERVICES, hosts)
    built: list[object] = []
    it.engine.observe(lambda name, key: built.append(key) if name == "virtual host" else None)
    assert explain(it, make_request("GET", "http://h7.test/")).virtual_host == "h7.test"
    assert len(built) <= 1
