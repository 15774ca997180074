"""The HTTP filters, in order: one list for every socket, so that a first CORS or authentication rule drains nobody.

Each is a module with what the list holds of it (`base`, inert) and what a route enables it with. A filter is
`disabled` until a route names it in `typed_per_filter_config` (Envoy docs, "HTTP filters", "Route specific config").
"""

from collections.abc import Callable

from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcmv3
from google.protobuf.message import Message

from portway.envoy.filters import access, auth, body, cors, grpc_web, original, router, sticky, unusable
from portway.envoy.messages import typed

HTTP_FILTERS: tuple[tuple[str, Callable[[], Message]], ...] = (
    (original.NAME, original.base),  # before anything may change the request
    (cors.NAME, cors.base),  # a preflight is answered before anything may refuse it: it bears no credentials
    (access.NAME, access.base),  # cheap; and who may not come at all must not reach the authentication service
    (body.NAME, body.base),  # likewise, by the declared length only
    (auth.NAME, auth.base),
    (body.UNDECLARED, body.undeclared_base),  # after authentication: nobody makes us hold 8 MiB anonymously
    (grpc_web.NAME, grpc_web.base),  # after authentication, which sees the request as the client sent it
    (sticky.NAME, sticky.base),
    (unusable.NAME, unusable.base),  # last but one: a share without an upstream still asks for permission first
)


def build_http_filters(*, counted: bool) -> list[hcmv3.HttpFilter]:
    """The whole list, the router at its end.

    Args:
        counted: whether there are upstreams with statistics of their own.
    """
    return [
        *(hcmv3.HttpFilter(name=name, typed_config=typed(base()), disabled=True) for name, base in HTTP_FILTERS),
        hcmv3.HttpFilter(name=router.NAME, typed_config=typed(router.base(counted=counted))),
    ]
