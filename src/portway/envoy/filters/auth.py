"""Asking another service first (Gateway API `ExternalAuth`).

Envoy's filter takes its service per route, but the fields to send along only for all routes. So what stands in the list
is a filter that is empty until a route says what it is (`composite`): each route brings its whole configuration.

Whatever goes wrong refuses: no upstream, no answer, an error. Source: GEP-1494; Envoy docs, "Composite Filter".
"""

from datetime import timedelta

from envoy.config.core.v3 import grpc_service_pb2 as grpc_servicev3
from envoy.config.core.v3 import http_uri_pb2 as http_uriv3
from envoy.extensions.common.matching.v3 import extension_matcher_pb2 as extension_matcherv3
from envoy.extensions.filters.http.composite.v3 import composite_pb2 as compositev3
from envoy.extensions.filters.http.ext_authz.v3 import ext_authz_pb2 as ext_authzv3
from envoy.type.matcher.v3 import string_pb2 as stringv3

from portway.envoy.messages import duration, extension, typed
from portway.envoy.names import NO_CLUSTER
from portway.model.route import ExternalAuth

NAME = "auth"

TIMEOUT = timedelta(seconds=10)
"""For one check. Envoy's own 200 ms would refuse users whenever the service warms up."""


def base() -> extension_matcherv3.ExtensionWithMatcher:
    """A filter that does nothing."""
    built = extension_matcherv3.ExtensionWithMatcher()
    built.xds_matcher.SetInParent()
    built.extension_config.CopyFrom(extension("composite", compositev3.Composite()))
    return built


def build_auth(auth: ExternalAuth, cluster: str) -> extension_matcherv3.ExtensionWithMatcherPerRoute:
    """The check of a route.

    Args:
        auth: what is asked.
        cluster: name of the service's cluster; empty: there is none, everybody is refused.
    """
    action = compositev3.ExecuteFilterAction(typed_config=extension(NAME, _ext_authz(auth, cluster or NO_CLUSTER)))
    built = extension_matcherv3.ExtensionWithMatcherPerRoute()
    chosen = built.xds_matcher.on_no_match.action
    chosen.name = "composite-action"
    chosen.typed_config.CopyFrom(typed(action))
    return built


def _ext_authz(auth: ExternalAuth, cluster: str) -> ext_authzv3.ExtAuthz:
    built = ext_authzv3.ExtAuthz()
    if auth.grpc:
        built.grpc_service.CopyFrom(
            grpc_servicev3.GrpcService(
                envoy_grpc=grpc_servicev3.GrpcService.EnvoyGrpc(cluster_name=cluster), timeout=duration(TIMEOUT)
            )
        )
    else:
        # Only the cluster counts; the host that is sent is the client's.
        uri = http_uriv3.HttpUri(uri="http://auth", cluster=cluster, timeout=duration(TIMEOUT))
        built.http_service.server_uri.CopyFrom(uri)
        built.http_service.path_prefix = auth.path
        if auth.response_headers:
            copied = built.http_service.authorization_response.allowed_upstream_headers.patterns
            copied.extend(map(_named, auth.response_headers))
    if auth.request_headers:
        built.allowed_headers.patterns.extend(map(_named, auth.request_headers))
    if auth.max_body_bytes:
        built.with_request_body.max_request_bytes = auth.max_body_bytes
        built.with_request_body.allow_partial_message = True
    return built


def _named(name: str) -> stringv3.StringMatcher:
    return stringv3.StringMatcher(exact=name.lower(), ignore_case=True)
