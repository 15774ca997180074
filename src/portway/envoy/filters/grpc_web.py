"""gRPC-Web from browsers, turned into gRPC on routes that ask for it: a backend may speak gRPC-Web itself."""

from envoy.config.route.v3 import route_components_pb2 as routev3
from envoy.extensions.filters.http.grpc_web.v3 import grpc_web_pb2 as grpc_webv3

NAME = "grpc_web"


def base() -> grpc_webv3.GrpcWeb:
    return grpc_webv3.GrpcWeb()


def build_grpc_web() -> routev3.FilterConfig:
    """There is nothing to say but that it is on; Envoy refuses a configuration of the filter itself here."""
    enabled = routev3.FilterConfig()
    enabled.config.SetInParent()
    return enabled
