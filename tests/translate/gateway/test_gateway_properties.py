"""Laws of Gateway API's translation over random objects and edits."""

import random
from collections.abc import Mapping

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from portway.objects.parsing import parse
from portway.objects.verdict import ObjectKey
from portway.store import Stored
from tests.translate.gateway.kit import new_engine, put, snapshot

GROUP = "gateway.networking.k8s.io"
GATEWAYS = st.sampled_from(["a", "a", "b"])
NAMES = st.sampled_from(["a", "b"])
NAMESPACES = st.sampled_from(["one", "one", "two"])
HOSTS = st.sampled_from(["x.example", "y.x.example", "*.x.example", "*.example"])
PORTS = st.sampled_from([80, 80, 81])
AGES = st.sampled_from([None, "2024-01-01T00:00:00Z", "2025-01-01T00:00:00Z"])

Raw = dict[str, object]


def thing(kind: str, spec: st.SearchStrategy[Raw], group: str = f"{GROUP}/v1") -> st.SearchStrategy[Raw]:
    def made(name: str, namespace: str, age: str | None, body: Raw) -> Raw:
        metadata: Raw = {"name": name, "namespace": namespace}
        if age is not None:
            metadata["creationTimestamp"] = age
        return {"apiVersion": group, "kind": kind, "metadata": metadata, "spec": body}

    return st.builds(made, NAMES, NAMESPACES, AGES, spec)


def some(
    optional: Mapping[str, st.SearchStrategy[object]], **required: st.SearchStrategy[object]
) -> st.SearchStrategy[Raw]:
    return st.fixed_dictionaries(dict(required), optional=dict(optional))


def listed(strategy: st.SearchStrategy[object], size: int = 2) -> st.SearchStrategy[object]:
    return strategy.map(lambda each: [each]) if size == 1 else st.lists(strategy, min_size=1, max_size=size)


NAMESPACE_RULE: st.SearchStrategy[Raw] = st.sampled_from(
    [{"from": "Same"}, {"from": "All"}, {"from": "All"}, {"from": "Selector", "selector": {"matchLabels": {"k": "v"}}}]
)


@st.composite
def listeners(draw: st.DrawFn) -> list[Raw]:
    found: list[Raw] = []
    for number in range(draw(st.integers(1, 3))):
        protocol = draw(st.sampled_from(["HTTP", "HTTP", "HTTP", "HTTP", "HTTPS", "TLS", "TCP", "UDP", "INVALID"]))
        listener: Raw = {"name": f"l{number}", "port": draw(PORTS), "protocol": protocol}
        if protocol in ("HTTP", "HTTPS", "TLS") and draw(st.booleans()):
            listener["hostname"] = draw(HOSTS)
        if protocol == "HTTPS":
            listener["tls"] = {"certificateRefs": [{"name": "crt", "namespace": draw(NAMESPACES)}]}
        if protocol == "TLS":
            listener["tls"] = {"mode": "Passthrough"}
        listener["allowedRoutes"] = {"namespaces": draw(NAMESPACE_RULE)}
        places = [(each["port"], each["protocol"], each.get("hostname")) for each in found]
        if (listener["port"], protocol, listener.get("hostname")) not in places:  # the API server refuses it
            found.append(listener)
    return found


PARENTS = listed(
    st.fixed_dictionaries(
        {"name": GATEWAYS, "kind": st.sampled_from(["Gateway", "Gateway", "ListenerSet"]), "namespace": NAMESPACES},
        optional={"sectionName": st.sampled_from(["l0", "l1"])},
    ),
    1,
)
BACKEND = st.fixed_dictionaries(
    {"name": NAMES, "port": PORTS},
    optional={"namespace": NAMESPACES, "weight": st.integers(0, 3), "kind": st.just("Service")},
)
BACKENDS = st.lists(BACKEND, max_size=2)
MATCH = some(
    {
        "method": st.sampled_from(["GET", "POST"]),
        "headers": st.just([{"name": "h", "value": "v"}]),
        "path": st.sampled_from(
            [
                {"type": "Exact", "value": "/a"},
                {"type": "PathPrefix", "value": "/a"},
                {"type": "RegularExpression", "value": "/a.*"},
                {"type": "RegularExpression", "value": "/((bad"},
            ]
        ),
    }
)
FILTERS = st.sampled_from(
    [
        [],
        [],
        [{"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": "x", "value": "y"}]}}],
        [{"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "b", "port": 80}}}],
        [{"type": "ExtensionRef", "extensionRef": {"group": "example.com", "kind": "X", "name": "x"}}],
    ]
)
HTTP_RULE = some({"matches": listed(MATCH), "filters": FILTERS, "backendRefs": BACKENDS})
STREAM_RULE = st.fixed_dictionaries({"backendRefs": listed(BACKEND)})

GATEWAY = thing(
    "Gateway",
    some(
        {"allowedListeners": st.just({"namespaces": {"from": "All"}})},
        gatewayClassName=st.sampled_from(["portway", "portway", "portway", "other"]),
        listeners=listeners(),
    ),
)
HTTP_ROUTE = thing("HTTPRoute", some({"hostnames": listed(HOSTS)}, parentRefs=PARENTS, rules=listed(HTTP_RULE)))
OBJECTS = st.one_of(
    GATEWAY,
    GATEWAY,
    HTTP_ROUTE,
    HTTP_ROUTE,
    HTTP_ROUTE,
    thing(
        "ListenerSet",
        some({}, parentRef=st.fixed_dictionaries({"name": GATEWAYS, "namespace": NAMESPACES}), listeners=listeners()),
    ),
    thing("TLSRoute", some({}, parentRefs=PARENTS, hostnames=listed(HOSTS), rules=listed(STREAM_RULE, 1))),
    thing("TCPRoute", some({}, parentRefs=PARENTS, rules=listed(STREAM_RULE, 1))),
    thing("UDPRoute", some({}, parentRefs=PARENTS, rules=listed(STREAM_RULE, 1))),
    thing(
        "BackendTLSPolicy",
        some(
            {},
            targetRefs=st.just([{"group": "", "kind": "Service", "name": "a"}]),
            validation=st.sampled_from(
                [
                    {"hostname": "h.example", "wellKnownCACertificates": "System"},
                    {"hostname": "h.example", "caCertificateRefs": [{"group": "", "kind": "ConfigMap", "name": "no"}]},
                ]
            ),
        ),
    ),
    thing(
        "ReferenceGrant",
        st.just(
            {
                "from": [
                    {"group": GROUP, "kind": "HTTPRoute", "namespace": "one"},
                    {"group": GROUP, "kind": "Gateway", "namespace": "one"},
                ],
                "to": [{"group": "", "kind": "Service"}],
            }
        ),
    ),
    thing("Service", st.sampled_from([{"ports": [{"port": 80}]}, {"ports": [{"port": 81}]}]), "v1"),
    st.builds(
        lambda name, labels: {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}},
        NAMESPACES,
        st.sampled_from([{"k": "v"}, {}]),
    ),
)
CLASS: Raw = {
    "apiVersion": f"{GROUP}/v1",
    "kind": "GatewayClass",
    "metadata": {"name": "portway"},
    "spec": {"controllerName": "portway.dev/gateway-controller"},
}


def service(name: str) -> Raw:
    metadata: Raw = {"name": name, "namespace": "one"}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": [{"port": 80}]}}


BASE: list[Raw] = [
    CLASS,
    {
        "apiVersion": f"{GROUP}/v1",
        "kind": "Gateway",
        "metadata": {"name": "a", "namespace": "one"},
        "spec": {
            "gatewayClassName": "portway",
            "allowedListeners": {"namespaces": {"from": "All"}},
            "listeners": [
                {"name": "l0", "port": 80, "protocol": "HTTP", "allowedRoutes": {"namespaces": {"from": "All"}}}
            ],
        },
    },
    service("a"),
    service("b"),
]
"""There from the start, so that most routes find somewhere to be attached; edits may replace or remove it."""


def stored(raw: Raw) -> Stored | None:
    """The object, if an API server would take it."""
    parsed = parse(raw)
    return None if parsed.object is None or parsed.key is None else Stored(parsed.key, parsed.object)


EDITS = st.lists(st.tuples(OBJECTS, st.sampled_from(["put", "put", "put", "remove"])), min_size=10, max_size=40)
SLOW = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


@SLOW
@given(EDITS)
def test_incremental_equals_from_scratch(edits: list[tuple[Raw, str]]) -> None:
    engine = new_engine()
    present: dict[ObjectKey, Stored] = {}
    for raw, what in [*((raw, "put") for raw in BASE), *edits]:
        each = stored(raw)
        if each is None:
            continue
        if what == "put":
            present[each.key] = each
            put(engine, [each])
        else:
            present.pop(each.key, None)
            put(engine, [], [each.key])
    fresh = new_engine()
    put(fresh, present.values())
    assert snapshot(engine) == snapshot(fresh)


@SLOW
@given(st.lists(OBJECTS, min_size=8, max_size=25), st.randoms(use_true_random=False))
def test_order_of_arrival_does_not_matter(raws: list[Raw], shuffler: random.Random) -> None:
    objects = {each.key: each for raw in [*BASE, *raws] if (each := stored(raw)) is not None}
    shuffled = list(objects.values())
    shuffler.shuffle(shuffled)
    one, other = new_engine(), new_engine()
    put(one, objects.values())
    for each in shuffled:
        put(other, [each])
    assert snapshot(one) == snapshot(other)


BAD = st.one_of(
    thing(
        "HTTPRoute",
        some(
            {},
            parentRefs=PARENTS,
            hostnames=st.just(["bad.test"]),
            rules=listed(some({"matches": listed(MATCH), "filters": FILTERS, "backendRefs": BACKENDS})),
        ),
    ),
    thing(
        "ReferenceGrant",
        st.just({"from": [{"group": "x.io", "kind": "X", "namespace": "x"}], "to": [{"group": "", "kind": "X"}]}),
    ),
)


@SLOW
@given(st.lists(OBJECTS, min_size=8, max_size=25), BAD)
def test_an_object_of_its_own_host_changes_nothing_about_others(raws: list[Raw], bad: Raw) -> None:
    bad = msgspec.json.decode(msgspec.json.encode(bad))
    metadata = bad["metadata"]
    assert isinstance(metadata, dict)
    metadata["name"] = "bad"
    objects = [each for raw in [*BASE, *raws] if (each := stored(raw)) is not None]
    engine = new_engine()
    put(engine, objects)
    before = snapshot(engine)
    added = stored(bad)
    if added is None:
        return
    put(engine, [added])
    after = snapshot(engine)
    hosts, then = before["hosts"], after["hosts"]
    assert isinstance(hosts, dict)
    assert isinstance(then, dict)
    assert {key: value for key, value in then.items() if key in hosts} == hosts
    assert all(key.host == "bad.test" for key in then.keys() - hosts.keys())
    assert after["listeners"] == before["listeners"]
