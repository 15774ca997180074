"""The gRPC shell, asked by a bare gRPC client."""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import grpc.aio
import pytest
from envoy.service.discovery.v3 import discovery_pb2 as discoveryv3
from structlog.testing import capture_logs

from portway.model.resource import ResourceDelta, ResourceType, make_resource
from portway.xds.ordering import Timing
from portway.xds.positions import Marker, Shown
from portway.xds.server import SERVICE, DiscoveryServer, Peer, check_address
from portway.xds.states import ProtocolError
from tests.xds.wanted import cluster, endpoints

Call = grpc.aio.StreamStreamCall[discoveryv3.DeltaDiscoveryRequest, discoveryv3.DeltaDiscoveryResponse]


def stream_of(channel: grpc.aio.Channel) -> Call:
    """A new one."""
    call: Call = channel.stream_stream(
        f"/{SERVICE}/DeltaAggregatedResources",
        request_serializer=discoveryv3.DeltaDiscoveryRequest.SerializeToString,
        response_deserializer=discoveryv3.DeltaDiscoveryResponse.FromString,
    )()  # type: ignore[call-arg]  # the stub lacks the default
    return call


@asynccontextmanager
async def calling(server: DiscoveryServer) -> AsyncIterator[Call]:
    """A stream to a started server."""
    with tempfile.TemporaryDirectory(prefix="pw") as folder:
        address = f"unix:{folder}/ads.sock"
        await server.start(address)
        try:
            async with grpc.aio.insecure_channel(address) as channel:
                call = stream_of(channel)
                yield call
                call.cancel()
        finally:
            await server.stop()


def first(kind: str = ResourceType.CLUSTER, *, fleet: str = "edge") -> discoveryv3.DeltaDiscoveryRequest:
    """The first request on a stream."""
    request = discoveryv3.DeltaDiscoveryRequest(type_url=kind)
    request.node.id = "proxy-1"
    request.node.cluster = fleet
    return request


async def test_a_fleet_is_served_once_it_is_synced() -> None:
    server = DiscoveryServer()
    wanted = cluster("a")
    async with calling(server) as call, asyncio.timeout(10):
        await call.write(first())
        server.apply("edge", ResourceDelta(changed=(wanted,)))
        reading = asyncio.ensure_future(call.read())  # noqa: TID251 - to see that nothing comes yet
        done, _ = await asyncio.wait({reading}, timeout=0.1)
        assert not done
        server.mark_synced("edge")
        response = await reading
        assert isinstance(response, discoveryv3.DeltaDiscoveryResponse)
        assert [resource.name for resource in response.resources] == ["a"]
        assert response.resources[0].resource.value == wanted.body
        assert response.resources[0].version == wanted.version
        ack = discoveryv3.DeltaDiscoveryRequest(type_url=ResourceType.CLUSTER, response_nonce=response.nonce)
        stirred = server.stirred("edge")
        await call.write(ack)
        assert await anext(stirred) == {wanted.key}
        await stirred.aclose()  # type: ignore[attr-defined]  # it is a generator
        assert server.fleet("edge").progress([wanted.key]).acknowledged == 1
        statistics = server.statistics()
        assert (statistics.streams, statistics.streams_opened) == (1, 1)


async def test_a_stream_that_ends_is_forgotten() -> None:
    server = DiscoveryServer()
    server.mark_synced("edge")
    async with calling(server) as call, asyncio.timeout(10):
        await call.write(first())
        await call.read()
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF  # type: ignore[attr-defined]  # the stub lacks it
        assert server.statistics().streams == 0


async def test_an_unknown_type_is_left_unanswered_and_harms_nobody() -> None:
    server = DiscoveryServer()
    server.fleet("edge").mark_synced()
    async with calling(server) as call, asyncio.timeout(10):
        await call.write(first("type.googleapis.com/envoy.service.runtime.v3.Runtime"))
        await call.write(first(ResourceType.LISTENER))
        response = await call.read()
        assert isinstance(response, discoveryv3.DeltaDiscoveryResponse)
        assert response.type_url == ResourceType.LISTENER


async def test_who_may_not_have_a_fleet_is_told_so() -> None:
    asked: list[Peer] = []

    def refuse(peer: Peer) -> bool:
        asked.append(peer)
        return False

    server = DiscoveryServer(authorize=refuse)
    async with calling(server) as call, asyncio.timeout(10):
        await call.write(first(fleet="secret"))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call.read()
        assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert [(peer.node_id, peer.fleet) for peer in asked] == [("proxy-1", "secret")]
        assert server.statistics().streams_denied == 1


async def test_a_proxy_that_comes_before_the_fleets_are_known_is_kept_waiting() -> None:
    known = asyncio.Event()
    server = DiscoveryServer(fleets_known=known.wait, authorize=lambda peer: peer.fleet in server.fleets())
    async with calling(server) as call, asyncio.timeout(10):
        await call.write(first())
        while not server.statistics().streams_waiting:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)
        server.apply("edge", ResourceDelta(changed=(cluster("a"),)))
        server.mark_synced("edge")
        known.set()
        assert isinstance(await call.read(), discoveryv3.DeltaDiscoveryResponse)
        assert server.statistics().streams_waiting == server.statistics().streams_denied == 0


async def test_a_proxy_that_comes_far_too_early_is_sent_to_another_replica(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("portway.xds.server.EARLY_S", 0.1)
    server = DiscoveryServer(fleets_known=asyncio.Event().wait)
    async with calling(server) as call, asyncio.timeout(10):
        await call.write(first())
        with pytest.raises(grpc.aio.AioRpcError, match="not ready yet"):
            await call.read()
        assert await call.code() is grpc.StatusCode.UNAVAILABLE
        assert server.statistics().streams_failed == 0


async def test_a_node_without_cluster_is_refused() -> None:
    async with calling(DiscoveryServer()) as call, asyncio.timeout(10):
        await call.write(first(fleet=""))
        with pytest.raises(grpc.aio.AioRpcError, match=r"node\.cluster"):
            await call.read()


async def test_a_mistake_of_ours_ends_the_stream_and_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ProtocolError("out of step")

    monkeypatch.setattr("portway.xds.server.parse_request", fail)
    server = DiscoveryServer()
    async with calling(server) as call, asyncio.timeout(10):
        await call.write(first())
        assert await call.read() is grpc.aio.EOF  # type: ignore[attr-defined]  # the stub lacks it
        assert server.statistics().streams_failed == 1
        assert server.statistics().streams == 0


async def test_state_of_the_world_is_refused_with_the_remedy() -> None:
    server = DiscoveryServer()
    with tempfile.TemporaryDirectory(prefix="pw") as folder:
        await server.start(f"unix:{folder}/ads.sock")
        async with grpc.aio.insecure_channel(f"unix:{folder}/ads.sock") as channel:
            call = channel.stream_stream(
                f"/{SERVICE}/StreamAggregatedResources",
                request_serializer=discoveryv3.DiscoveryRequest.SerializeToString,
                response_deserializer=discoveryv3.DiscoveryResponse.FromString,
            )()  # type: ignore[call-arg]  # the stub lacks the default
            await call.write(discoveryv3.DiscoveryRequest())
            with pytest.raises(grpc.aio.AioRpcError, match="DELTA_GRPC") as refused:
                await call.read()
            assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
        await server.stop()


async def test_an_address_in_use_is_an_error() -> None:
    one, other = DiscoveryServer(), DiscoveryServer()
    port = await one.start("127.0.0.1:0")
    with pytest.raises(OSError, match="cannot serve discovery"):
        await other.start(f"127.0.0.1:{port}")
    await one.stop()


def test_addresses_that_would_hand_out_keys_are_refused(tmp_path: Path) -> None:
    open_to_all = tmp_path / "open"
    open_to_all.mkdir(mode=0o755)
    open_to_all.chmod(0o755)
    with pytest.raises(ValueError, match="0755"):
        check_address(f"unix:{open_to_all}/ads.sock", secured=False)
    with pytest.raises(ValueError, match="TLS"):
        check_address("0.0.0.0:18000", secured=False)
    check_address("0.0.0.0:18000", secured=True)
    check_address("127.0.0.1:18000", secured=False)


POSITION = Marker(cluster=cluster("position"), endpoints=endpoints("position"))


def returning(position: str) -> list[discoveryv3.DeltaDiscoveryRequest]:
    """What a proxy says first that has been served from there."""
    clusters, loads = first(ResourceType.CLUSTER), first(ResourceType.ENDPOINTS)
    clusters.initial_resource_versions[POSITION.cluster.key.name] = POSITION.cluster.version
    loads.initial_resource_versions[POSITION.endpoints.key.name] = position
    return [clusters, loads]


async def test_a_proxy_that_has_seen_more_is_sent_to_another_replica() -> None:
    server = DiscoveryServer(marker=POSITION, timing=Timing(behind=0.2))
    server.mark_synced("edge")
    server.apply("edge", ResourceDelta(changed=(cluster("a"),)))
    server.reach({"Service": 5}, {"Service": time.monotonic()})
    async with calling(server) as call, asyncio.timeout(10):
        for request in returning("Service=6"):
            await call.write(request)
        with pytest.raises(grpc.aio.AioRpcError, match="has not read so far"):
            await call.read()
        assert await call.code() is grpc.StatusCode.UNAVAILABLE
        assert (server.statistics().streams_failed, server.statistics().streams_sent_on) == (0, 1)


async def test_what_waiting_proxies_have_seen_is_told_to_who_reads() -> None:
    server = DiscoveryServer(marker=POSITION)
    server.mark_synced("edge")
    server.apply("edge", ResourceDelta(changed=(cluster("a"),)))
    server.reach({"Service": 5, "Ingress": 9})
    async with calling(server) as call, asyncio.timeout(10):
        before = time.monotonic()
        for request in returning("Service=6,Ingress=9"):
            await call.write(request)
        while not (awaited := server.reach({"Service": 5, "Ingress": 9})):  # noqa: ASYNC110 - it is asked now and then
            await asyncio.sleep(0.01)
        assert awaited == {"Service": Shown(6, awaited["Service"].since)}
        assert before <= awaited["Service"].since <= time.monotonic()
        assert server.reach({"Service": 5, "Ingress": 9}, {"Service": time.monotonic()}) == {}
        assert isinstance(await call.read(), discoveryv3.DeltaDiscoveryResponse)


class Clock:
    """Stands still."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def callers(server: DiscoveryServer, count: int) -> AsyncIterator[Callable[[], Awaitable[list[Call]]]]:
    """Opens as many streams to a started server, each served, whenever it is called."""
    with tempfile.TemporaryDirectory(prefix="pw") as folder:
        address = f"unix:{folder}/ads.sock"
        await server.start(address)
        async with grpc.aio.insecure_channel(address) as channel:

            async def call() -> list[Call]:
                calls = [stream_of(channel) for _ in range(count)]
                for one in calls:
                    await one.write(first())
                    response = await one.read()
                    assert isinstance(response, discoveryv3.DeltaDiscoveryResponse)
                    acknowledged = discoveryv3.DeltaDiscoveryRequest(type_url=ResourceType.CLUSTER)
                    acknowledged.response_nonce = response.nonce
                    await one.write(acknowledged)
                return calls

            try:
                yield call
            finally:
                await server.stop()


async def test_proxies_of_a_replica_that_is_cut_off_are_sent_to_look_for_another() -> None:
    clock = Clock()
    server = DiscoveryServer(clock=clock)
    server.apply("edge", ResourceDelta(changed=(cluster("a"),)))
    server.mark_synced("edge")

    def note(*, is_cut_off: bool, after: float) -> None:
        clock.now += after
        server.note_cut_off(is_cut_off)

    with capture_logs() as logs:
        async with callers(server, 3) as come, asyncio.timeout(20):
            calls = await come()
            note(is_cut_off=True, after=0)
            note(is_cut_off=True, after=4.9)
            # Here they are served on.
            server.apply("edge", ResourceDelta(changed=(cluster("b"),)))
            for call in calls:
                assert isinstance(await call.read(), discoveryv3.DeltaDiscoveryResponse)
            for _ in range(2):  # once, and again when they have come back to the same replica
                note(is_cut_off=True, after=1)
                note(is_cut_off=True, after=600)
                for call in calls:
                    with pytest.raises(grpc.aio.AioRpcError, match="cut off from the API server"):
                        await call.read()
                    assert await call.code() is grpc.StatusCode.UNAVAILABLE
                calls = await come()
            note(is_cut_off=True, after=1)
            note(is_cut_off=False, after=1)
            note(is_cut_off=False, after=1000)
            server.apply("edge", ResourceDelta(changed=(cluster("c"),)))
            for call in calls:
                assert isinstance(await call.read(), discoveryv3.DeltaDiscoveryResponse)
            note(is_cut_off=True, after=1)
            statistics = server.statistics()
            assert (statistics.streams, statistics.streams_sent_on, statistics.streams_failed) == (3, 6, 0)
    told = [(one["log_level"], one.get("proxies")) for one in logs if "API server" in one["event"]]
    assert told == [("warning", 3), ("info", None)], "once for the replica, not for each proxy"


async def test_proxies_of_a_zone_get_their_own_endpoints() -> None:
    server = DiscoveryServer()
    key = endpoints("a").key
    wanted = make_resource(key, b"\n\x01a", by_zone=(("east", b"\n\x04east"),))
    server.apply("edge", ResourceDelta(changed=(cluster("a"), wanted)))
    server.mark_synced("edge")
    for zone, body in (("", b"\n\x01a"), ("west", b"\n\x01a"), ("east", b"\n\x04east")):
        async with calling(server) as call, asyncio.timeout(10):
            request = first(ResourceType.ENDPOINTS)
            request.node.locality.zone = zone
            request.resource_names_subscribe.append("a")
            await call.write(request)
            response = await call.read()
            assert isinstance(response, discoveryv3.DeltaDiscoveryResponse)
            assert [(one.version, one.resource.value) for one in response.resources] == [(wanted.version, body)]
