"""The HTTP filters, in order: one list for every socket, so that a first CORS or authentication rule drains nobody.

Each is a module with what the list holds of it (`base`, inert) and what a route enables it with. A filter is
`disabled` until a route names it in `typed_per_filter_config` (Envoy docs, "HTTP filters", "Route specific config").
"""

from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcmv3

from portway.envoy.filters import access, auth, body, cors, grpc_web, router, sticky, unusable
from portway.envoy.messages import typed

HTTP_FILTERS = (
    cors,  # a preflight is answered before anything may refuse it: browsers send it without credentials
    access,  # cheap, and what may not come at all must not reach the authentication service
    body,  # likewise, by the declared length only
    auth,
    grpc_web,  # after authentication, which sees the request as the client sent it
    sticky,
    unusable,  # last but one: a share without an upstream still asks for permission before it says 500
)


def build_http_filters() -> list[hcmv3.HttpFilter]:
    """The whole list, the router at its end."""
    return [
        *(hcmv3.HttpFilter(name=one.NAME, typed_config=typed(one.base()), disabled=True) for one in HTTP_FILTERS),
        hcmv3.HttpFilter(name=router.NAME, typed_config=typed(router.base())),
    ]
