"""The largest body that a route takes.

Envoy has no streaming limit: its `buffer` filter holds the whole body and so breaks gRPC, WebSocket and every other
stream. So the declared length decides (`content-length`, which all but chunked and streaming clients send), before a
byte of the body is read. The rule is one of access control, whose refusal is 403; the connection manager's local reply
rules make it the 413 that it means, see `TOO_LARGE`. A body without a declared length is not limited.
"""

from envoy.config.rbac.v3 import rbac_pb2 as rbacv3
from envoy.config.route.v3 import route_components_pb2 as routev3
from envoy.extensions.filters.http.rbac.v3 import rbac_pb2 as http_rbacv3
from envoy.type.v3 import range_pb2 as rangev3

NAME = "body"

TOO_LARGE = "body_too_large"
"""Name of the rule; Envoy writes it into the response code details, by which the local reply is known."""

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
