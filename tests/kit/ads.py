"""A delta-ADS server that a test drives by hand: it sends what it is told, when it is told, and reports each answer.

It knows nothing of ordering or versions beyond the protocol; it is the counterpart to learn from what Envoy does, and
the floor against which Portway's own server is measured. Types are type URLs: `ResourceType`, or any other.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import grpc.aio
import msgspec
from envoy.service.discovery.v3 import discovery_pb2 as discoveryv3
from google.protobuf.message import Message

from portway.model.resource import ResourceType

if TYPE_CHECKING:  # generic in the stubs only
    Context = grpc.aio.ServicerContext[discoveryv3.DeltaDiscoveryRequest, discoveryv3.DeltaDiscoveryResponse]

_SERVICE = "envoy.service.discovery.v3.AggregatedDiscoveryService"
_UNLIMITED = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))

_WILDCARD: frozenset[str] = frozenset({ResourceType.CLUSTER, ResourceType.LISTENER})
"""Types of which a proxy asks for everything with its first request."""


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """The proxy's answer to one response."""

    error: str | None
    """Envoy's own words of a NACK; `None`: acknowledged."""
    seconds: float
    """From sending to the answer."""


def type_of(message: Message) -> str:
    """The type URL of a resource."""
    return f"type.googleapis.com/{message.DESCRIPTOR.full_name}"


def name_of(message: Message) -> str:
    """The name of a resource."""
    return str(getattr(message, "cluster_name" if type_of(message) == ResourceType.ENDPOINTS else "name"))


class Sent:
    """A response on its way."""

    def __init__(self, nonce: str) -> None:
        loop = asyncio.get_running_loop()
        self.nonce = nonce
        self._sent = loop.time()
        self._reply: asyncio.Future[Reply] = loop.create_future()

    @property
    def answered(self) -> bool:
        """Whether the proxy has acknowledged or refused it."""
        return self._reply.done()

    async def reply(self) -> Reply:
        """Wait for the answer; the caller sets the timeout. Cancelling loses nothing: one may wait again."""
        return await asyncio.shield(self._reply)

    def _answer(self, error: str | None) -> None:
        if not self._reply.done():
            self._reply.set_result(Reply(error=error, seconds=asyncio.get_running_loop().time() - self._sent))


class AdsServer:
    """Serves one proxy at a time."""

    def __init__(self) -> None:
        self.resources: dict[str, dict[str, bytes]] = defaultdict(dict)
        """What subscriptions are answered with; change it by `put`, then `push`."""
        self.manual: set[str] = set()
        """Types whose subscriptions are not answered by themselves. (A name that does not exist never is.)"""
        self.subscribed: dict[str, set[str]] = defaultdict(set)
        """Names that the proxy asks for; empty for a wildcard."""
        self.initial_versions: dict[str, Mapping[str, str]] = {}
        """What the proxy said to hold when it connected last."""
        self.refusals: list[str] = []
        """Messages of all NACKs, oldest first."""
        self.connected = asyncio.Event()
        """Set while a proxy is connected."""
        self.listening = asyncio.Event()
        """Set once it has asked for listeners, the last thing of its start; it ignores those sent before."""
        self._queue: asyncio.Queue[discoveryv3.DeltaDiscoveryResponse] = asyncio.Queue()
        self._open: dict[str, Sent] = {}
        self._count = 0

    @asynccontextmanager
    async def serving(self, socket: Path) -> AsyncIterator[None]:
        """Serve on a Unix socket until the block ends."""
        server = grpc.aio.server(options=_UNLIMITED)
        server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler(
                    _SERVICE,
                    {
                        "DeltaAggregatedResources": grpc.stream_stream_rpc_method_handler(
                            self._stream,
                            request_deserializer=discoveryv3.DeltaDiscoveryRequest.FromString,
                            response_serializer=discoveryv3.DeltaDiscoveryResponse.SerializeToString,
                        )
                    },
                ),
            )
        )
        server.add_insecure_port(f"unix:{socket}")
        await server.start()
        try:
            yield
        finally:
            await server.stop(None)

    def put(self, *messages: Message) -> None:
        """Hold these resources under their own names, without sending them."""
        for message in messages:
            self.resources[type_of(message)][name_of(message)] = message.SerializeToString(deterministic=True)

    def push(self, type_: str, names: Iterable[str] = (), *, removed: Iterable[str] = ()) -> Sent:
        """Send one response now.

        Args:
            type_: of all resources in it.
            names: resources held, to be sent as they are.
            removed: names to be removed in the proxy; they are forgotten here too.

        Raises:
            KeyError: a name that is not held.
        """
        self._count += 1
        gone = list(removed)
        response = discoveryv3.DeltaDiscoveryResponse(
            type_url=type_, nonce=str(self._count), removed_resources=gone, system_version_info=str(self._count)
        )
        for name in names:
            body = self.resources[type_][name]
            resource = response.resources.add(name=name, version=blake2b(body, digest_size=9).hexdigest())
            resource.resource.type_url = type_
            resource.resource.value = body
        for name in gone:
            self.resources[type_].pop(name, None)
        sent = self._open[response.nonce] = Sent(response.nonce)
        self._queue.put_nowait(response)
        return sent

    async def send(self, type_: str, names: Iterable[str] = (), *, removed: Iterable[str] = ()) -> Reply:
        """Send one response and wait for its answer; see `push`."""
        return await self.push(type_, names, removed=removed).reply()

    async def update(self, *messages: Message) -> Reply:
        """Hold and send these resources, all of one type, and wait for the answer."""
        self.put(*messages)
        return await self.send(type_of(messages[0]), [name_of(message) for message in messages])

    async def _stream(self, requests: AsyncIterator[discoveryv3.DeltaDiscoveryRequest], context: "Context") -> None:
        self._queue = asyncio.Queue()
        self.subscribed = defaultdict(set)
        self.initial_versions = {}
        first = set[str]()
        async with asyncio.TaskGroup() as group:
            writer = group.create_task(self._write(self._queue, context))
            self.connected.set()
            try:
                async for request in requests:
                    self._receive(request, is_first=request.type_url not in first)
                    first.add(request.type_url)
            finally:
                self.connected.clear()
                self.listening.clear()
                writer.cancel()

    @staticmethod
    async def _write(queue: "asyncio.Queue[discoveryv3.DeltaDiscoveryResponse]", context: "Context") -> None:
        while True:
            await context.write(await queue.get())

    def _receive(self, request: discoveryv3.DeltaDiscoveryRequest, *, is_first: bool) -> None:
        if request.response_nonce:
            error = request.error_detail.message if request.HasField("error_detail") else None
            if error is not None:
                self.refusals.append(error)
            sent = self._open.pop(request.response_nonce, None)
            if sent is not None:
                sent._answer(error)
        type_ = request.type_url
        if request.initial_resource_versions:
            self.initial_versions[type_] = dict(request.initial_resource_versions)
        asked = set(request.resource_names_subscribe)
        self.subscribed[type_] |= asked
        self.subscribed[type_] -= set(request.resource_names_unsubscribe)
        if type_ == ResourceType.LISTENER:
            self.listening.set()
        if type_ in self.manual:
            return
        names = self._names(type_, asked, is_first=is_first)
        if names or (is_first and type_ in _WILDCARD):
            self.push(type_, names)

    def _names(self, type_: str, asked: set[str], *, is_first: bool) -> list[str]:
        held = self.resources[type_]
        if is_first and not asked:
            return list(held)  # a wildcard; VHDS begins like one too, and asks for nothing later
        return [name for name in asked if name in held]
