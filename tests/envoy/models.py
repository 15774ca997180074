"""Random models, as wild as translation may make them: what `model/checks.py` lets pass, and nothing else."""

from datetime import timedelta
from string import ascii_letters, digits
from typing import TypeVar

import msgspec
from hypothesis import strategies as st

from portway.model import checks
from portway.model.names import UpstreamKey
from portway.model.route import (
    NO_EDITS,
    AccessList,
    Action,
    CorsPolicy,
    ExternalAuth,
    Forward,
    Fraction,
    HashOn,
    HashPolicy,
    HeaderEdits,
    Mirror,
    PathKind,
    PathMatch,
    PathRewrite,
    PathRewriteKind,
    Redirect,
    Respond,
    RetryCause,
    RetryPolicy,
    Route,
    RouteMatch,
    StickyCookie,
    ValueKind,
    ValueMatch,
    VirtualHost,
    WeightedUpstream,
)
from portway.model.upstream import (
    Balancer,
    BalancerKind,
    Circuit,
    Discovery,
    Endpoint,
    EndpointHealth,
    Endpoints,
    HealthCheck,
    HealthCheckKind,
    Outliers,
    Protocol,
    RetryBudget,
    Upstream,
    UpstreamTls,
)
from tests.envoy.world import SOURCE, authorities_key, certificate_key, upstream_key

NAMES = ("a", "b", "c", "")
KEYS: tuple[UpstreamKey | None, ...] = tuple(upstream_key(name) if name else None for name in NAMES)

text = st.text(max_size=20).filter(lambda found: not checks.check_header_value(found))
token = st.text(alphabet=ascii_letters + digits + "!#$&'*+-.^_`|~%", min_size=1, max_size=12)
header_names = token.filter(lambda name: not checks.check_edited_header(name))
segments = st.text(max_size=10).filter(lambda found: not checks.check_path("/" + found))
paths = st.lists(segments, max_size=4).map(lambda found: "/" + "/".join(found))
regexes = st.one_of(
    st.sampled_from(("/v[0-9]+/.*", "(?:a|b)*", r"\w+\.php", ".*", "/[^/]+/(x)?")),
    st.text(min_size=1, max_size=12).filter(lambda found: not checks.check_regex(found)),
)
durations = st.integers(1, 10**7).map(lambda found: timedelta(milliseconds=found))
optional_durations = st.none() | durations
booleans = st.booleans()


T = TypeVar("T")


def tuples(items: st.SearchStrategy[T], most: int = 3) -> st.SearchStrategy[tuple[T, ...]]:
    return st.lists(items, max_size=most).map(tuple)


edits = st.just(NO_EDITS) | st.builds(
    HeaderEdits,
    set=tuples(st.tuples(header_names, text)),
    add=tuples(st.tuples(header_names, text)),
    remove=tuples(header_names),
    formatted=st.sampled_from(((), (("x-real-ip", "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"),))),
)


def values(names: st.SearchStrategy[str], *, invert: bool = True) -> st.SearchStrategy[ValueMatch]:
    inverted = booleans if invert else st.just(False)
    return st.one_of(
        st.builds(ValueMatch, name=names, value=text, invert=inverted),
        st.builds(ValueMatch, name=names, kind=st.just(ValueKind.REGEX), value=regexes, invert=inverted),
        st.builds(ValueMatch, name=names, kind=st.just(ValueKind.PRESENT), invert=inverted),
    )


path_matches = st.one_of(
    st.builds(
        PathMatch,
        kind=st.sampled_from((PathKind.EXACT, PathKind.PREFIX, PathKind.TEXT_PREFIX)),
        value=paths,
        ignore_case=booleans,
    ),
    st.builds(PathMatch, kind=st.just(PathKind.REGEX), value=regexes, ignore_case=booleans),
)
fractions = st.builds(Fraction, numerator=st.integers(0, 100), denominator=st.sampled_from((100, 10_000, 1_000_000)))
matches = st.builds(
    RouteMatch,
    path=path_matches,
    method=st.sampled_from(("", "GET", "POST", "PATCH", "PURGE")),
    headers=tuples(values(st.one_of(header_names, st.just(":authority")))),
    query=tuples(values(token, invert=False)),
    cookies=tuples(values(token), 1),
    share=st.none() | fractions,
    grpc=booleans,
)
rewrites = st.one_of(
    st.builds(PathRewrite, kind=st.just(PathRewriteKind.FULL), value=paths),
    st.builds(
        PathRewrite, kind=st.just(PathRewriteKind.REGEX), pattern=st.just("^/(a)/(.*)$"), value=st.just(r"/\2\1")
    ),
)
prefix_rewrites = st.builds(PathRewrite, kind=st.just(PathRewriteKind.PREFIX), value=paths | st.just(""))
retries = st.builds(
    RetryPolicy,
    attempts=st.integers(0, 5),
    causes=st.frozensets(st.sampled_from(RetryCause)),
    statuses=tuples(st.integers(400, 599)),
    per_try=optional_durations,
    per_try_idle=optional_durations,
    backoff=st.none() | st.integers(1, 10**6).map(lambda found: timedelta(milliseconds=found)),
    non_idempotent=booleans,
)
attributes = tuples(st.tuples(st.sampled_from(("SameSite", "Secure", "Domain")), st.sampled_from(("", "Lax"))))
hashes = st.builds(
    HashPolicy,
    on=st.sampled_from(HashOn),
    name=token,
    ttl=st.none() | durations | st.just(timedelta(0)),
    path=st.sampled_from(("", "/x")),
    attributes=attributes,
)
shares = st.builds(
    WeightedUpstream,
    upstream=st.sampled_from(KEYS),
    weight=st.integers(0, 1_000_000),
    request_headers=edits,
    response_headers=edits,
    host=st.sampled_from(("", "inner.example")),
)
forwards = st.builds(
    Forward,
    upstreams=st.lists(shares, min_size=1, max_size=4).map(tuple),
    unusable_status=st.sampled_from((500, 503)),
    path=st.none() | rewrites,
    host=st.sampled_from(("", "other.example")),
    host_from_upstream=booleans,
    timeout=optional_durations,
    idle_timeout=optional_durations,
    retry=st.none() | retries,
    mirrors=tuples(st.builds(Mirror, upstream=st.sampled_from(KEYS[:3]), share=st.none() | fractions)),
    hash=tuples(hashes),
    sticky=st.none()
    | st.builds(StickyCookie, name=token, path=paths, ttl=durations, attributes=attributes, strict=booleans),
)
redirects = st.builds(
    Redirect,
    status=st.sampled_from((301, 302, 303, 307, 308)),
    scheme=st.sampled_from(("", "http", "https")),
    host=st.sampled_from(("", "other.example")),
    port=st.integers(0, 65535),
    path=st.none() | rewrites,
    strip_query=booleans,
)
responses = st.builds(
    Respond,
    status=st.integers(200, 599),
    body=st.text(alphabet=ascii_letters + "%\n", max_size=50),
    headers=tuples(st.tuples(header_names, text)),
)
origins = st.sampled_from(("*", "https://a.example", "https://*.b.example:8443"))
addresses = tuples(st.sampled_from(("10.0.0.0/8", "192.0.2.1/32", "2001:db8::/32", "0.0.0.0/0")))
routes = st.builds(
    Route,
    name=st.just("HTTPRoute/shop/cart"),
    match=matches,
    action=forwards | redirects | responses,
    request_headers=edits,
    response_headers=edits,
    cors=st.none()
    | st.builds(
        CorsPolicy,
        allow_origins=tuples(origins),
        allow_methods=tuples(st.sampled_from(("*", "GET"))),
        allow_headers=tuples(token),
        expose_headers=tuples(token),
        allow_credentials=booleans,
        max_age=durations,
    ),
    access=st.none() | st.builds(AccessList, allow=addresses, deny=addresses),
    auth=st.none()
    | st.builds(
        ExternalAuth,
        upstream=st.sampled_from(KEYS),
        grpc=booleans,
        path=st.sampled_from(("", "/check")),
        request_headers=tuples(token),
        response_headers=tuples(token),
        max_body_bytes=st.integers(0, 10_000),
    ),
    max_body_bytes=st.integers(0, 10**10),
    grpc_web=booleans,
    source=st.just(SOURCE),
)


def with_prefix_rewrite(route: Route, rewrite: PathRewrite | None) -> Route:
    """Rewrites of a prefix need a match of one."""
    action: Action = route.action
    if rewrite is None or isinstance(action, Respond) or route.match.path.kind is not PathKind.PREFIX:
        return route
    return msgspec.structs.replace(route, action=msgspec.structs.replace(action, path=rewrite))


any_route = st.builds(with_prefix_rewrite, routes, st.none() | prefix_rewrites)
virtual_hosts = st.builds(
    VirtualHost,
    domains=st.just(("random.test",)),
    routes=tuples(any_route),
    require_tls=booleans,
    request_headers=edits,
    response_headers=edits,
    retry=st.none() | retries,
)

upstream_tls = st.builds(
    UpstreamTls,
    sni=st.sampled_from(("", "inner.example")),
    auto_sni=booleans,
    authorities=st.none() | st.just(authorities_key("ca")),
    system_authorities=booleans,
    names=tuples(st.sampled_from((("DNS", "inner.example"), ("URI", "spiffe://x/y")))),
    certificate=st.none() | st.just(certificate_key("client")),
)
checked = st.builds(
    HealthCheck,
    kind=st.sampled_from(HealthCheckKind),
    path=paths,
    host=st.sampled_from(("", "inner.example")),
    statuses=st.sampled_from((((200, 299),), ((200, 200), (301, 302)))),
    grpc_service=st.sampled_from(("", "shop.Cart")),
    interval=durations,
    timeout=durations,
    healthy_threshold=st.integers(1, 10),
    unhealthy_threshold=st.integers(1, 10),
)
limits = st.none() | st.integers(1, 10_000)
upstreams = st.builds(
    Upstream,
    name=st.sampled_from(("shop/x:80", "shop/y:443~abc", "backend:shop/z")),
    protocol=st.sampled_from(Protocol),
    discovery=st.sampled_from(Discovery),
    dns_name=st.just("localhost"),
    dns_port=st.just(1),
    dns_family=st.sampled_from(("", "v4", "v6")),
    tls=st.none() | upstream_tls,
    connect_timeout=durations,
    idle_timeout=optional_durations,
    balancer=st.builds(
        Balancer, kind=st.sampled_from(BalancerKind), slow_start=optional_durations, zone_aware=booleans
    ),
    health_check=st.none() | checked,
    outliers=st.none()
    | st.builds(
        Outliers,
        consecutive_5xx=st.integers(0, 10),
        consecutive_gateway_errors=st.integers(0, 10),
        consecutive_local_failures=st.integers(0, 10),
        interval=durations,
        base_ejection=durations,
        max_ejected_percent=st.integers(0, 100),
    ),
    circuit=st.builds(
        Circuit,
        max_connections=limits,
        max_pending_requests=limits,
        max_requests=limits,
        max_requests_per_connection=limits,
    ),
    retry_budget=st.builds(RetryBudget, percent=st.floats(0, 100), min_concurrent=st.integers(0, 1000)),
    retry=st.none() | retries,
    route_retries=booleans,
    proxy_protocol=st.integers(0, 2),
    host_override=booleans,
    statistics=booleans,
)
single_endpoints = st.builds(
    Endpoint,
    address=st.sampled_from(("127.0.0.1", "::1", "10.1.2.3")),
    port=st.integers(1, 65535),
    weight=st.integers(0, 2**40),
    health=st.sampled_from(EndpointHealth),
    zone=st.sampled_from(("", "east", "west")),
    hostname=st.sampled_from(("", "pod-1")),
) | st.builds(Endpoint, address=st.just("/run/x.sock"), port=st.just(0))
endpoint_sets = st.lists(single_endpoints, max_size=6, unique_by=lambda found: (found.address, found.port)).map(
    lambda found: Endpoints(endpoints=tuple(sorted(found)))
)
