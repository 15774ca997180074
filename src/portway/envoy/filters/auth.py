"""Asking another service first (Gateway API `ExternalAuth`). Each route names its service, so one filter serves all.

Whatever goes wrong refuses: no upstream, no answer, an error. Sources: GEP-1494, `envoy...ext_authz.v3`.
"""

from datetime import timedelta

from envoy.config.core.v3 import grpc_service_pb2 as grpc_servicev3
from envoy.config.core.v3 import http_uri_pb2 as http_uriv3
from envoy.extensions.filters.http.ext_authz.v3 import ext_authz_pb2 as ext_authzv3
from envoy.type.matcher.v3 import string_pb2 as stringv3

from portway.envoy.messages import duration
from portway.envoy.names import NO_CLUSTER
from portway.model.route import ExternalAuth

NAME = "auth"

TIMEOUT = timedelta(seconds=10)
"""For one check. Envoy's own 200 ms would refuse users whenever the service warms up."""


def base() -> ext_authzv3.ExtAuthz:
    """A service that never answers: only routes with one of their own enable the filter."""
    return ext_authzv3.ExtAuthz(http_service=_http_service(NO_CLUSTER, ExternalAuth(upstream=None, grpc=False)))


def build_auth(auth: ExternalAuth, cluster: str) -> ext_authzv3.ExtAuthzPerRoute:
    """The check of a route.

    Args:
        auth: what is asked.
        cluster: name of the service's cluster; empty: there is none, everybody is refused.
    """
    settings = ext_authzv3.CheckSettings()
    if auth.grpc:
        settings.grpc_service.CopyFrom(
            grpc_servicev3.GrpcService(
                envoy_grpc=grpc_servicev3.GrpcService.EnvoyGrpc(cluster_name=cluster or NO_CLUSTER),
                timeout=duration(TIMEOUT),
            )
        )
    else:
        settings.http_service.CopyFrom(_http_service(cluster or NO_CLUSTER, auth))
    if auth.max_body_bytes:
        settings.with_request_body.max_request_bytes = auth.max_body_bytes
        settings.with_request_body.allow_partial_message = True
    else:
        settings.disable_request_body_buffering = True
    return ext_authzv3.ExtAuthzPerRoute(check_settings=settings)


def _http_service(cluster: str, auth: ExternalAuth) -> ext_authzv3.HttpService:
    uri = http_uriv3.HttpUri(uri="http://auth", cluster=cluster, timeout=duration(TIMEOUT))
    service = ext_authzv3.HttpService(server_uri=uri, path_prefix=auth.path)
    if auth.request_headers:
        service.authorization_request.allowed_headers.patterns.extend(map(_named, auth.request_headers))
    if auth.response_headers:
        service.authorization_response.allowed_upstream_headers.patterns.extend(map(_named, auth.response_headers))
    return service


def _named(name: str) -> stringv3.StringMatcher:
    return stringv3.StringMatcher(exact=name.lower(), ignore_case=True)
