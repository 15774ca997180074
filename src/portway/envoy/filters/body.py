"""The largest body that a route takes.

Envoy has no streaming limit: its `buffer` filter holds the whole body. So the declared length decides
(`content-length`, which all but streaming clients send), before a byte of the body is read. The rule is one of access
control, whose refusal is 403; the connection manager's local reply rules make it the 413 that it means, see
`TOO_LARGE`.

A body without a declared length is counted by the `buffer` filter, which answers 413 by itself, on a copy of the route
that fits such requests only. Not those of gRPC and upgrades, which are streams and would never start; and not for large
limits, since nobody shall make us hold so much: above `MAX_BUFFERED_BYTES` undeclared bodies are not limited. Envoy
counts what it holds, so a small body that arrives in one piece passes.
"""

from envoy.config.rbac.v3 import rbac_pb2 as rbacv3
from envoy.config.route.v3 import route_components_pb2 as routev3
from envoy.extensions.filters.http.buffer.v3 import buffer_pb2 as bufferv3
from envoy.extensions.filters.http.rbac.v3 import rbac_pb2 as http_rbacv3
from envoy.type.v3 import range_pb2 as rangev3

from portway.envoy.messages import typed

NAME = "body"

TOO_LARGE = "body_too_large"
"""Name of the rule; Envoy writes it into the response code details, by which the local reply is known."""

MAX_BUFFERED_BYTES = 8 * 1024 * 1024
"""Largest limit for bodies without a declared length."""

UNDECLARED = "undeclared_body"
"""Name of the filter that counts them."""

_NO_END = 2**63 - 1


def base() -> http_rbacv3.RBAC:
    """No rules: no limit."""
    return http_rbacv3.RBAC()


def build_body_limit(max_bytes: int) -> http_rbacv3.RBACPerRoute:
    """Refuse what declares more than `max_bytes`."""
    larger = rangev3.Int64Range(start=max_bytes + 1, end=_NO_END)
    header = routev3.HeaderMatcher(name="content-length", range_match=larger)
    policy = rbacv3.Policy(permissions=[rbacv3.Permission(header=header)], principals=[rbacv3.Principal(any=True)])
    rules = rbacv3.RBAC(action=rbacv3.RBAC.DENY, policies={TOO_LARGE: policy})
    return http_rbacv3.RBACPerRoute(rbac=http_rbacv3.RBAC(rules=rules))


def undeclared_base() -> bufferv3.Buffer:
    """The limit is the route's; the filter wants one here too."""
    built = bufferv3.Buffer()
    built.max_request_bytes.value = MAX_BUFFERED_BYTES
    return built


def limits_undeclared(max_bytes: int) -> bool:
    """Whether bodies without a declared length are limited."""
    return 0 < max_bytes <= MAX_BUFFERED_BYTES


def with_undeclared_body(route: routev3.Route, max_bytes: int) -> routev3.Route:
    """A copy of the route for requests that do not declare the length of their body and are no stream. It stands before
    the route. A request without a body is one of them and passes untouched."""
    copied = routev3.Route()
    copied.CopyFrom(route)
    for name in ("content-length", "upgrade"):
        copied.match.headers.add(name=name, present_match=True, invert_match=True)
    grpc = copied.match.headers.add(name="content-type", invert_match=True, treat_missing_header_as_empty=True)
    grpc.string_match.prefix = "application/grpc"
    del copied.typed_per_filter_config[NAME]
    limit = bufferv3.BufferPerRoute()
    limit.buffer.max_request_bytes.value = max_bytes
    copied.typed_per_filter_config[UNDECLARED].CopyFrom(typed(limit))
    return copied
