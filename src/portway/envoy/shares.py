"""The upstreams of a route and their shares."""

from collections.abc import Callable

from envoy.config.route.v3 import route_components_pb2 as routev3

from portway.envoy.filters import unusable
from portway.envoy.headers import apply_edits, composed
from portway.envoy.messages import typed
from portway.envoy.names import NO_CLUSTER
from portway.model.names import UpstreamKey
from portway.model.route import Forward, RetryPolicy, Route, WeightedUpstream
from portway.model.upstream import for_retries

ClusterNames = Callable[[UpstreamKey], str]
"""Name of an upstream's cluster, empty if there is none."""


def has_particular_shares(route: Route) -> bool:
    """Whether a share of the route has edits or a host of its own."""
    return isinstance(route.action, Forward) and any(
        share.request_headers or share.response_headers or share.host for share in route.action.upstreams
    )


def set_shares(
    built: routev3.Route, route: Route, forward: Forward, retry: RetryPolicy | None, clusters: ClusterNames
) -> bool:
    """Write the upstreams, the header edits and the host of a route; False: none of the upstreams can be used.

    `retry` is the retry policy of the route or its host, if one of them has one.

    Envoy applies a share's edits and host before those of the route, which would override them. So where a share has
    any, the shares take the route's along and the route has none.
    """
    shares = [
        (share, "" if share.upstream is None else clusters(for_retries(share.upstream, retry)))
        for share in forward.upstreams
        if share.weight > 0
    ]
    if not any(name for _, name in shares):
        return False
    host = "" if forward.host_from_upstream else forward.host
    particular = has_particular_shares(route)
    if not particular:
        apply_edits(built, route.request_headers, route.response_headers)
        if host:
            built.route.host_rewrite_literal = host
        if len(shares) == 1:
            built.route.cluster = shares[0][1]
            return True
    for share, name in shares:
        weighted = built.route.weighted_clusters.clusters.add(name=name or NO_CLUSTER)
        weighted.weight.value = share.weight
        if not name:
            config = unusable.build_unusable(forward.unusable_status)
            weighted.typed_per_filter_config[unusable.NAME].CopyFrom(typed(config))
        elif particular:
            _set_particulars(weighted, route, share, host)
    return True


def _set_particulars(
    weighted: routev3.WeightedCluster.ClusterWeight, route: Route, share: WeightedUpstream, host: str
) -> None:
    apply_edits(
        weighted,
        composed(route.request_headers, share.request_headers),
        composed(route.response_headers, share.response_headers),
    )
    if share.host or host:
        weighted.host_rewrite_literal = share.host or host
