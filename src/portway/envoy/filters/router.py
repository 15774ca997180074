"""The router. Envoy wants it last."""

from envoy.extensions.filters.http.router.v3 import router_pb2 as routerv3

NAME = "router"


def base() -> routerv3.Router:
    """Neither upstreams nor clients get to see `x-envoy-` fields, and clients cannot steer retries or timeouts."""
    return routerv3.Router(suppress_envoy_headers=True)
