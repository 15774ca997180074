"""A real Envoy takes every resource that any world compiles to."""

from collections.abc import Callable, Iterator

import pytest
from envoy.config.cluster.v3 import cluster_pb2 as clusterv3
from envoy.config.core.v3 import extension_pb2 as extensionv3
from envoy.config.endpoint.v3 import endpoint_pb2 as endpointv3
from envoy.config.listener.v3 import listener_components_pb2 as listener_componentsv3
from envoy.config.listener.v3 import listener_pb2 as listenerv3
from envoy.config.route.v3 import route_components_pb2 as routev3
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcmv3
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2 as secretv3
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from portway.envoy.messages import typed
from portway.model.resource import ResourceType, make_resource
from portway.settings import Edge
from tests.fuzz.judge import Judge, judging
from tests.fuzz.profiles import LONG, cases
from tests.fuzz.program import EDGES, Compiled
from tests.fuzz.worlds import Draft, base, drafts

pytestmark = [pytest.mark.e2e, LONG]

BASE = base()


@pytest.fixture(scope="module")
def judge() -> Iterator[Judge]:
    with judging() as running:
        yield running


POISON: dict[ResourceType, Callable[[bytes], Message]] = {
    ResourceType.CLUSTER: lambda body: poisoned(clusterv3.Cluster.FromString(body), "lb_policy", 99),
    ResourceType.ENDPOINTS: lambda body: poisoned(
        endpointv3.ClusterLoadAssignment.FromString(body), "cluster_name", ""
    ),
    ResourceType.SECRET: lambda body: poisoned(secretv3.Secret.FromString(body), "name", "another"),
    ResourceType.EXTENSION: lambda body: extensionv3.TypedExtensionConfig(
        name=extensionv3.TypedExtensionConfig.FromString(body).name, typed_config=typed(hcmv3.HttpConnectionManager())
    ),
    ResourceType.LISTENER: lambda body: listenerv3.Listener(
        name="x",
        address=listenerv3.Listener.FromString(body).address,
        filter_chains=[listener_componentsv3.FilterChain(filters=[listener_componentsv3.Filter()])],
    ),
    ResourceType.VIRTUAL_HOST: lambda body: poisoned(routev3.VirtualHost.FromString(body), "name", ""),
}
"""What Envoy refuses, by type, made from what it takes."""


def poisoned(message: Message, field: str, value: object) -> Message:
    setattr(message, field, value)
    return message


@pytest.mark.parametrize("kind", POISON, ids=lambda kind: kind.name)
def test_the_judge_notices(judge: Judge, kind: ResourceType) -> None:
    world = Compiled(BASE).resources()
    assert judge.refused(world) == ()
    resource = next(one for one in world if one.key.type is kind)
    body = POISON[kind](resource.body).SerializeToString()
    bad = make_resource(resource.key, body, requires=resource.requires, readiness=resource.readiness)
    assert [refusal.key for refusal in judge.refused([*world, bad])] == [bad.key]
    assert judge.refused(world) == ()


@cases(100)
@given(st.lists(drafts(), max_size=12), st.sampled_from(EDGES))
def test_envoy_takes_what_a_world_compiles_to(judge: Judge, added: list[Draft], edge: Edge) -> None:
    world = {each.key: each for each in (*BASE, *(draft.stored for draft in added))}
    assert judge.refused(Compiled(world.values(), edge).resources()) == ()
