"""Laws of Ingress's translation over generated objects, and how much is done for a change."""

from random import Random

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from portway.incremental import Engine
from portway.model.edge import Edge
from portway.model.handles import REPORT, VIRTUAL_HOST, VIRTUAL_HOSTS
from portway.model.names import HostKey
from portway.objects.verdict import ObjectKey
from portway.store import ChangeSet, Stored
from portway.translate.ingress.annotations.table import BY_NAME, UNSUPPORTED
from portway.translate.ingress.virtual_hosts import table_key
from tests.translate.ingress.kit import new_engine, objects_of, put, snapshot

PREFIX = "nginx.ingress.kubernetes.io/"
HOSTS = ("", "a.example", "b.example", "www.a.example", "*.example")
PATHS = ("/", "/foo", "/foo/", "/foo/bar", "/x(y)", "/bad(")
SERVICES = ("one", "two", "gone")
SPECIAL: dict[str, tuple[str, ...]] = {
    "rewrite-target": ("/", "/$1", "bad;"),
    "use-regex": ("true", "false"),
    "app-root": ("/app", "app"),
    "server-alias": ("b.example,c.example", "~^d[0-9]$", "*.c.example"),
    "ssl-redirect": ("false",),
    "force-ssl-redirect": ("true",),
    "permanent-redirect": ("https://x.example", "/x"),
    "from-to-www-redirect": ("true",),
    "backend-protocol": ("GRPC", "AUTO_HTTP", "FCGI"),
    "default-backend": ("one", "gone"),
    "affinity": ("cookie",),
    "ssl-passthrough": ("true",),
    "upstream-hash-by": ("$request_uri",),
    "canary": ("true",),
    "canary-weight": ("50",),
    "canary-by-header": ("X",),
    "enable-cors": ("true",),
    "cors-allow-origin": ("https://o.example",),
    "denylist-source-range": ("10.0.0.0/8", "nonsense"),
    "auth-url": ("https://auth.example",),
    "configuration-snippet": ("deny all;", "more_set_headers x;"),
}
VALUES = {
    name: (*SPECIAL.get(name, ()), *((BY_NAME[name].example, "{nonsense}") if name in BY_NAME else ()))
    for name in sorted({*BY_NAME, *SPECIAL})
}
CLASS = """
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: portway}
spec: {controller: portway.dev/ingress-controller}
"""

annotations = st.dictionaries(st.sampled_from(sorted(VALUES)), st.integers(0, 4), max_size=5).map(
    lambda chosen: {f"{PREFIX}{name}": VALUES[name][at % len(VALUES[name])] for name, at in chosen.items()}
)
paths = st.lists(
    st.builds(
        lambda path, kind, service: {
            "path": path,
            "pathType": kind,
            "backend": {"service": {"name": service, "port": {"number": 80}}},
        },
        st.sampled_from(PATHS),
        st.sampled_from(("Exact", "Prefix")),
        st.sampled_from(SERVICES),
    ),
    min_size=1,
    max_size=3,
)
rules = st.lists(
    st.builds(lambda host, some: {"host": host, "http": {"paths": some}}, st.sampled_from(HOSTS), paths), max_size=2
)
tls = st.sampled_from(
    ([], [{"hosts": ["a.example"], "secretName": "tls"}], [{"secretName": "tls"}], [{"hosts": ["b.example"]}])
)


def ingress(
    name: str,
    noted: dict[str, str],
    some_rules: list[object],
    some_tls: list[object],
    year: int,
    namespace: str = "default",
) -> Stored:
    metadata: dict[str, object] = {"name": name, "namespace": namespace, "annotations": noted}
    if year:
        metadata["creationTimestamp"] = f"20{year:02}-01-01T00:00:00Z"
    spec: dict[str, object] = {"ingressClassName": "portway", "rules": some_rules, "tls": some_tls}
    if not some_rules:
        spec["defaultBackend"] = {"service": {"name": "one", "port": {"number": 80}}}
    document = {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": metadata, "spec": spec}
    return objects_of(yaml.safe_dump(document))[0]


def service(name: str, port: int) -> Stored:
    return objects_of(
        f"{{apiVersion: v1, kind: Service, metadata: {{name: {name}}}, spec: {{ports: [{{port: {port}}}]}}}}"
    )[0]


TLS_SECRET = objects_of(
    "{apiVersion: v1, kind: Secret, metadata: {name: tls, annotations: {case/certificate: 'a.example,www.a.example'}}}"
)[0]
ingresses = st.builds(
    ingress, st.sampled_from("abc"), annotations, rules, tls, st.integers(0, 3), st.sampled_from(("default", "other"))
)
edges = st.builds(Edge, exclusive_hosts=st.booleans())
changes = st.one_of(
    ingresses,
    ingresses,
    st.builds(service, st.sampled_from(("one", "two")), st.sampled_from((80, 81))),
    st.just(TLS_SECRET),
    st.sampled_from(
        (
            ObjectKey("Ingress", "default", "a"),
            ObjectKey("Service", "default", "one"),
            ObjectKey("Secret", "default", "tls"),
        )
    ),
)
BASE = (*objects_of(CLASS), service("one", 80))


def scratch(engine: Engine, edge: Edge) -> Engine:
    """A new engine over what another one holds."""
    fresh = new_engine(edge)
    kinds = ("IngressClass", "Ingress", "Service", "Secret")
    found = [stored for kind in kinds for key in engine.store.keys(kind) if (stored := engine.store.get(key))]
    put(fresh, found)
    return fresh


@settings(max_examples=120, deadline=None)
@given(st.lists(changes, min_size=1, max_size=8), edges)
def test_incremental_equals_from_scratch(edits: list[Stored | ObjectKey], edge: Edge) -> None:
    engine = new_engine(edge)
    put(engine, BASE)
    for edit in edits:
        if isinstance(edit, Stored):
            put(engine, [edit])
        else:
            put(engine, [], [edit])
    assert snapshot(engine) == snapshot(scratch(engine, edge))


@settings(max_examples=80, deadline=None)
@given(
    st.lists(ingresses, min_size=2, max_size=4, unique_by=lambda stored: stored.key),
    st.randoms(use_true_random=False),
    edges,
)
def test_the_outcome_does_not_depend_on_arrival(some: list[Stored], random: Random, edge: Edge) -> None:
    one = new_engine(edge)
    put(one, [*BASE, TLS_SECRET, *some])
    other = new_engine(edge)
    shuffled = [*BASE, TLS_SECRET, *some]
    random.shuffle(shuffled)
    for stored in shuffled:
        put(other, [stored])
    assert snapshot(one) == snapshot(other)


@settings(max_examples=80, deadline=None)
@given(st.lists(ingresses, min_size=2, max_size=5, unique_by=lambda stored: stored.key))
def test_an_exclusive_host_serves_one_namespace(some: list[Stored]) -> None:
    engine = new_engine(Edge(exclusive_hosts=True))
    put(engine, [*BASE, TLS_SECRET, *some])
    for key in engine.groups(VIRTUAL_HOSTS):
        host = engine.get(VIRTUAL_HOST, key)
        assert host is not None
        found = {(route.source.object.namespace, key.host) for route in host.routes}
        # Deeper names than a wildcard's go on to what is behind all hosts, which is everybody's.
        own = {pair for pair in found if pair[0] and not key.host.startswith("*")}
        assert len(own) <= 1, own


@settings(max_examples=80, deadline=None)
@given(st.lists(ingresses, min_size=1, max_size=4, unique_by=lambda stored: stored.key))
def test_a_table_is_in_order(some: list[Stored]) -> None:
    engine = new_engine()
    put(engine, [*BASE, TLS_SECRET, *some])
    domains: list[str] = []
    for key in engine.groups(VIRTUAL_HOSTS):
        host = engine.get(VIRTUAL_HOST, key)
        assert host is not None
        assert host.domains[0] == key.host
        domains.extend(host.domains)
    assert len(domains) == len(set(domains))


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(sorted((*BY_NAME, *UNSUPPORTED))),
        st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=30),
        max_size=6,
    )
)
def test_no_annotation_hurts_another_ingress(noted: dict[str, str]) -> None:
    good = {"host": "good.example", "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": _BACKEND}]}}
    bad = {"host": "bad.example", "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": _BACKEND}]}}
    alone = new_engine()
    put(alone, [*BASE, ingress("a", {}, [good], [], 1)])
    both = new_engine()
    prefixed = {f"{PREFIX}{name}": value for name, value in noted.items() if name != "server-alias"}
    put(both, [*BASE, ingress("a", {}, [good], [], 1), ingress("b", prefixed, [bad], [], 0)])
    key = HostKey(table_key(Edge().fleet), "good.example")
    assert both.get(VIRTUAL_HOST, key) == alone.get(VIRTUAL_HOST, key)
    assert both.get(REPORT, ObjectKey("Ingress", "default", "a")).verdicts == ()


_BACKEND = {"service": {"name": "one", "port": {"number": 80}}}


def _many(count: int) -> Engine:
    engine = new_engine()
    put(engine, [*BASE, *(_plain(number) for number in range(count))])
    for key in engine.groups(VIRTUAL_HOSTS):
        engine.get(VIRTUAL_HOST, key)
    return engine


def _plain(number: int, path: str = "/") -> Stored:
    rule = {
        "host": f"h{number}.example",
        "http": {"paths": [{"path": path, "pathType": "Prefix", "backend": _BACKEND}]},
    }
    return ingress(f"i{number}", {}, [rule], [], 0)


@pytest.mark.parametrize("count", [10, 300])
def test_a_change_runs_what_its_host_needs(count: int) -> None:
    engine = _many(count)
    ran: list[str] = []
    engine.observe(lambda name, key: ran.append(f"{name} {key}"))
    put(engine, [_plain(5, "/other")])
    assert len(ran) <= 10
    assert not [text for text in ran if "h6.example" in text or "i6" in text]


@pytest.mark.parametrize("count", [10, 300])
def test_an_ingress_that_comes_or_goes_costs_its_own_hosts(count: int) -> None:
    engine = _many(count)
    ran: list[str] = []
    engine.observe(lambda name, key: ran.append(f"{name} {key}"))
    engine.apply(ChangeSet(changed=(_plain(count),)))
    engine.settle()
    assert len(ran) <= 12
    ran.clear()
    put(engine, [], [ObjectKey("Ingress", "default", f"i{count}")])
    assert len(ran) <= 3
