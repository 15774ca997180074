"""What somebody with a proxy's certificate can do to the discovery server, and to other fleets: little."""

import asyncio
import datetime as dt
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import grpc
import grpc.aio
from envoy.service.discovery.v3 import discovery_pb2 as discoveryv3

from portway.identity.authorisation import FleetAuthorization
from portway.identity.authorities import bundle, make_authority
from portway.identity.certificates import Subject, make_key, sign
from portway.identity.contract import CONTROL_PLANE_NAME, workload_id
from portway.identity.issuer import Owner
from portway.identity.serving import ServingIdentity
from portway.model.resource import ResourceDelta, ResourceType
from portway.xds.credentials import mutual_tls
from portway.xds.crowd import CrowdLimits
from portway.xds.server import MAX_REQUEST_BYTES, SERVICE, DiscoveryServer
from tests.xds.wanted import cluster

NOW = dt.datetime.now(dt.UTC)
AUTHORITY = make_authority(NOW)
FLEETS = {name: Owner(namespace=name, service_account="x") for name in ("evil", "shop")}
EXHAUSTED = "RESOURCE_EXHAUSTED"

Call = grpc.aio.StreamStreamCall[discoveryv3.DeltaDiscoveryRequest, discoveryv3.DeltaDiscoveryResponse]


class Server:
    """A discovery server, and clients with certificates of the fleets that they speak for."""

    def __init__(self, limits: CrowdLimits) -> None:
        self.discovery = DiscoveryServer(authorize=FleetAuthorization(FLEETS.get), crowd=limits)
        for fleet in FLEETS:
            self.discovery.mark_synced(fleet)
        self.port = 0
        self.clients = AsyncExitStack()

    async def call(self, fleet: str) -> Call:
        """A stream over a connection of its own."""
        key = make_key()
        subject = Subject(common_name="pod", uri=workload_id(fleet, "x"), client=True)
        pair, _ = sign(subject, key, (AUTHORITY.certificate, AUTHORITY.key), now=NOW, lifetime=dt.timedelta(hours=1))
        options = [
            ("grpc.ssl_target_name_override", CONTROL_PLANE_NAME),
            ("grpc.max_send_message_length", -1),
            ("grpc.use_local_subchannel_pool", 1),
        ]
        credentials = grpc.ssl_channel_credentials(bundle([AUTHORITY]), key, pair)
        channel = grpc.aio.secure_channel(f"127.0.0.1:{self.port}", credentials, options=options)
        await self.clients.enter_async_context(channel)
        call: Call = channel.stream_stream(
            f"/{SERVICE}/DeltaAggregatedResources",
            request_serializer=discoveryv3.DeltaDiscoveryRequest.SerializeToString,
            response_deserializer=discoveryv3.DeltaDiscoveryResponse.FromString,
        )()  # type: ignore[call-arg]  # the stub lacks the default
        self.clients.callback(call.cancel)
        return call

    async def opened(
        self,
        fleet: str,
        kind: ResourceType = ResourceType.CLUSTER,
        *,
        subscribe: Sequence[str] = (),
        versions: Mapping[str, str] | None = None,
    ) -> Call:
        """A stream with its first request."""
        call = await self.call(fleet)
        await call.write(request(fleet, kind, subscribe=subscribe, versions=versions))
        return call

    async def ask(
        self,
        fleet: str,
        kind: ResourceType = ResourceType.CLUSTER,
        *,
        subscribe: Sequence[str] = (),
        versions: Mapping[str, str] | None = None,
    ) -> str:
        """`served`, or why not."""
        return await outcome(await self.opened(fleet, kind, subscribe=subscribe, versions=versions))


def request(
    fleet: str, kind: ResourceType, *, subscribe: Sequence[str] = (), versions: Mapping[str, str] | None = None
) -> discoveryv3.DeltaDiscoveryRequest:
    made = discoveryv3.DeltaDiscoveryRequest(
        type_url=kind, resource_names_subscribe=subscribe, initial_resource_versions=versions
    )
    made.node.id, made.node.cluster = "pod", fleet
    return made


async def end(call: Call) -> str:
    """Why it ends, whatever else comes before."""
    while (found := await outcome(call)) == "served":
        pass
    return found


async def outcome(call: Call) -> str:
    try:
        async with asyncio.timeout(10):
            answer = await call.read()
    except grpc.aio.AioRpcError as error:
        return error.code().name
    return "served" if isinstance(answer, discoveryv3.DeltaDiscoveryResponse) else (await call.code()).name


@asynccontextmanager
async def serving(**limits: float) -> AsyncIterator[Server]:
    identity = ServingIdentity()
    identity.use((AUTHORITY,))
    server = Server(CrowdLimits(**limits))  # type: ignore[arg-type]  # counts are whole numbers, seconds are not
    server.port = await server.discovery.start("127.0.0.1:0", mutual_tls(identity.credentials))
    try:
        async with server.clients:
            yield server
    finally:
        await server.discovery.stop()


def names(count: int, prefix: str = "a") -> list[str]:
    return [f"{prefix}/{number}" for number in range(count)]


async def test_names_of_what_does_not_exist_are_bounded() -> None:
    async with serving() as server:
        many = names(150_000)
        assert await server.ask("evil", ResourceType.VIRTUAL_HOST, subscribe=many) == EXHAUSTED
        versions = dict.fromkeys(many, "1")
        assert await server.ask("evil", versions=versions) == EXHAUSTED
        assert await server.ask("evil") == "served"
        statistics = server.discovery.statistics()
        assert (statistics.streams_denied, statistics.streams_failed) == (2, 0)


async def test_also_a_few_at_a_time() -> None:
    async with serving(names=100) as server:
        call = await server.opened("evil")
        for number in range(12):
            with suppress(asyncio.InvalidStateError, grpc.aio.AioRpcError):  # it may be over already
                await call.write(request("evil", ResourceType.ENDPOINTS, subscribe=names(10, str(number))))
        assert await end(call) == EXHAUSTED


async def test_also_by_several_streams_of_a_fleet_and_at_no_cost_to_others() -> None:
    async with serving(names=100) as server:
        some = names(33)
        for _ in range(3):
            assert await server.ask("evil", ResourceType.ENDPOINTS, subscribe=some) == "served"
        assert await server.ask("evil", ResourceType.ENDPOINTS, subscribe=some) == EXHAUSTED
        assert await server.ask("shop", ResourceType.ENDPOINTS, subscribe=some) == "served"


async def test_what_a_fleet_has_may_be_named_by_all_of_its_proxies() -> None:
    wanted = [cluster(name) for name in names(50)]
    versions = {resource.key.name: resource.version for resource in wanted}
    async with serving(names=0) as server:
        server.discovery.apply("shop", ResourceDelta(changed=tuple(wanted)))
        for _ in range(3):
            call = await server.opened("shop", versions=versions)
            await call.write(request("shop", ResourceType.ENDPOINTS, subscribe=list(versions)))
            assert await outcome(call) == "served"


async def test_an_address_has_so_many_streams_until_one_ends() -> None:
    async with serving(streams_at_address=2) as server:
        first, _ = [await server.opened("evil") for _ in range(2)]
        assert await outcome(first) == "served"
        assert await server.ask("evil") == EXHAUSTED
        assert await server.ask("shop") == "served"
        await first.done_writing()
        assert await first.read() is grpc.aio.EOF  # type: ignore[attr-defined]  # the stub lacks it
        assert await server.ask("evil") == "served"


async def test_streams_without_a_request_end_and_are_in_nobodys_way() -> None:
    async with serving(first_requests=1, first_request_s=0.5) as server:
        silent = [await server.call("evil") for _ in range(2)]
        await asyncio.gather(*(call.wait_for_connection() for call in silent), return_exceptions=True)
        assert await server.ask("shop") == "served"
        assert [await outcome(call) for call in silent] == [EXHAUSTED] * 2
        assert await server.ask("evil") == "served"


async def test_a_request_of_unreasonable_size_is_not_read() -> None:
    async with serving() as server:
        assert await server.ask("evil", subscribe=["x" * MAX_REQUEST_BYTES]) == EXHAUSTED


async def test_a_name_of_unreasonable_length_is_refused() -> None:
    async with serving() as server:
        assert await server.ask("evil", subscribe=["x" * 100_000]) == EXHAUSTED
        assert await server.ask("evil", versions={"a": "1" * 100_000}) == EXHAUSTED
        assert await server.ask("e" * 600) == EXHAUSTED
        assert await server.ask("evil", ResourceType.ENDPOINTS, subscribe=["x" * 1000]) == "served"


async def test_what_nobody_asked_for_cannot_be_let_go_of() -> None:
    async with serving() as server:
        call = await server.opened("evil", ResourceType.ENDPOINTS, subscribe=names(2_000))
        assert await outcome(call) == "served"
        dropping = request("evil", ResourceType.ENDPOINTS, subscribe=[])
        dropping.resource_names_unsubscribe.extend(names(2_000))
        await call.write(dropping)
        dropping.resource_names_unsubscribe.extend(names(2_000, "b"))
        await call.write(dropping)
        assert await end(call) == EXHAUSTED
        assert server.discovery.statistics().streams_failed == 0


async def test_of_a_refusal_so_much_is_kept_as_a_person_would_read() -> None:
    wanted = [cluster("a")]
    async with serving() as server:
        server.discovery.apply("shop", ResourceDelta(changed=tuple(wanted)))
        call = await server.opened("shop")
        answer = await call.read()
        assert isinstance(answer, discoveryv3.DeltaDiscoveryResponse)
        refusing = request("shop", ResourceType.CLUSTER)
        refusing.response_nonce = answer.nonce
        refusing.error_detail.message = "no" * 1_000_000
        await call.write(refusing)
        async with asyncio.timeout(10):
            while not server.discovery.fleet("shop").refusals():  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.02)
        (refusal,) = server.discovery.fleet("shop").refusals()
        assert len(refusal.message) == 2_000


async def test_a_request_of_a_large_fleet_is_read() -> None:
    """What was removed while a proxy was away it still names."""
    async with serving() as server:
        call = await server.opened("shop", versions=dict.fromkeys(names(40_000), "1" * 64))
        await call.write(request("shop", ResourceType.ENDPOINTS, subscribe=["a/0"]))
        assert await outcome(call) == "served"
