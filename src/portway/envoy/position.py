"""The marker that carries how far the sources were read (`xds/positions.py`): a cluster that nobody routes to.

Its endpoints come over EDS, as those of others, and there are none. To Envoy neither ever changes, so a new position
costs it a comparison; 30 KB for the cluster.
"""

from datetime import timedelta

from envoy.config.cluster.v3 import cluster_pb2 as clusterv3
from envoy.config.endpoint.v3 import endpoint_pb2 as endpointv3

from portway.envoy.bootstrap import statistics_name
from portway.envoy.messages import from_ads
from portway.model.resource import Resource, ResourceKey, ResourceType, make_resource

POSITION_CLUSTER = "portway_position"
"""No cluster of an upstream has that name: those hold a `/`."""


def position_marker() -> tuple[Resource, Resource]:
    """Cluster and endpoints; the version of the latter is to be replaced by the position."""
    cluster = clusterv3.Cluster(
        name=POSITION_CLUSTER,
        type=clusterv3.Cluster.EDS,
        alt_stat_name=statistics_name(POSITION_CLUSTER, counted=False),
    )
    cluster.connect_timeout.FromTimedelta(timedelta(seconds=1))
    cluster.eds_cluster_config.eds_config.CopyFrom(from_ads())
    endpoints = endpointv3.ClusterLoadAssignment(cluster_name=POSITION_CLUSTER)
    return (
        make_resource(
            ResourceKey(ResourceType.CLUSTER, POSITION_CLUSTER), cluster.SerializeToString(deterministic=True)
        ),
        make_resource(
            ResourceKey(ResourceType.ENDPOINTS, POSITION_CLUSTER), endpoints.SerializeToString(deterministic=True)
        ),
    )
