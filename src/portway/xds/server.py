"""Delta ADS over gRPC: one task reads a stream, one writes it, every decision is the session's.

The address is a Unix socket in a folder of our own, or TCP with the caller's TLS credentials. A proxy's node names its
fleet (`node.cluster`) and itself (`node.id`); `authorize` has the last word on that.
"""

import asyncio
import stat
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import final

import grpc
import grpc.aio
import msgspec
import structlog
from envoy.service.discovery.v3 import discovery_pb2 as discoveryv3

from portway.model.resource import ResourceDelta, ResourceKey
from portway.xds.crowd import Crowd, CrowdLimits, TooMuch
from portway.xds.drift import Drift
from portway.xds.fleet import FleetState, FleetStatistics
from portway.xds.flights import Limits
from portway.xds.messages import Acceptance, Outcome, Overdue, Refusal
from portway.xds.ordering import Timing
from portway.xds.positions import Marker, Position, Shown
from portway.xds.session import Session
from portway.xds.wire import build_response, parse_request

SERVICE = "envoy.service.discovery.v3.AggregatedDiscoveryService"
MAX_REQUEST_BYTES = 32 << 20  # a reconnect names all versions: 20,000 resources need more than gRPC's default of 4 MB
KEEPALIVE_S = 30
KEEPALIVE_TIMEOUT_S = 10
MAX_CONNECTION_AGE_S = 3600
"""Of connections with TLS; gRPC spreads it by a tenth. A proxy that is asked to come again shows what it may have now,
and may find a replica that has less to do; it gets nothing that it has."""
STOP_GRACE_S = 1.0  # streams never end by themselves; this is for bytes on their way
EARLY_S = 2.0
"""So long a proxy is kept that comes before it is known which fleets there are. Then it may look for another replica:
this one may have started without an API server."""

AGE_OPTIONS = [
    ("grpc.max_connection_age_ms", MAX_CONNECTION_AGE_S * 1000),
    ("grpc.max_connection_age_grace_ms", 1_000),  # streams never end by themselves
]

_Context = grpc.aio.ServicerContext[discoveryv3.DeltaDiscoveryRequest, discoveryv3.DeltaDiscoveryResponse]

log = structlog.get_logger(__name__)


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """Who opened a stream, as far as known."""

    address: str
    """As gRPC writes it: `unix:`, `ipv4:10.0.0.1:1234`."""
    node_id: str
    fleet: str
    """The fleet that the node says it belongs to (`node.cluster`)."""
    zone: str = ""
    """Where the node says that it runs (`node.locality.zone`); empty: it does not say."""
    identities: tuple[bytes, ...] = ()
    """What its client certificate proves (subject alternative names, else the common name); empty without mTLS."""


Authorize = Callable[[Peer], bool]
"""Whether a peer may have the configuration of the fleet that it names."""


def allow(peer: Peer) -> bool:
    """Trust the socket: whoever can open it may have any fleet's configuration."""
    return True


class ServerStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """What the server does right now and did so far."""

    fleets: Mapping[str, FleetStatistics]
    streams: int
    """Open ones."""
    streams_waiting: int
    """Of proxies that came before it is known which fleets there are."""
    streams_opened: int
    streams_denied: int
    streams_failed: int
    """Ended by a mistake of ours; each is in the log."""
    streams_sent_on: int
    """Ended so that the proxy looks for another replica."""


class _SentOn(Exception):
    """The proxy shall look for another replica; why."""


async def _known() -> object:
    """The fleets are known from the start."""
    return True


@final
class _Stream:
    """One open stream: its session, and the bell that wakes its writer."""

    def __init__(self, fleet: FleetState, session: Session) -> None:
        self.fleet = fleet
        self.session = session
        self.awake = asyncio.Event()
        self.ended = False
        self.is_lag_told = False
        self.is_to_drift = False


@final
class DiscoveryServer:
    """Serves any number of fleets to any number of proxies. To be used within one event loop."""

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        timing: Timing | None = None,
        limits: Limits | None = None,
        crowd: CrowdLimits | None = None,
        authorize: Authorize = allow,
        fleets_known: Callable[[], Awaitable[object]] = _known,
        on_outcome: Callable[[str, str, Outcome], None] | None = None,
        marker: Marker | None = None,
    ) -> None:
        """
        Args:
            marker: carries the positions of `announce` to the proxies; `None`: there are none.
            clock: seconds, never going back.
            timing: how long sessions wait for what.
            limits: how much may be under way to one proxy.
            crowd: how much proxies may ask for.
            authorize: asked once per stream.
            fleets_known: returns as soon as `authorize` can tell. A proxy that comes before is kept waiting: dialling
                again and shaking hands would cost it more.
            on_outcome: called with fleet, proxy and outcome for each answer; must not block or raise.
        """
        self._clock = clock
        self._timing = timing or Timing()
        self._limits = limits or Limits()
        self._crowd = Crowd(crowd or CrowdLimits())
        self._authorize = authorize
        self._fleets_known = fleets_known
        self._on_outcome = on_outcome
        self._marker = marker
        self._announced: Position | None = None
        self._reached: tuple[Position, Mapping[str, float]] | None = None
        self._fleets: dict[str, FleetState] = {}
        self._streams: dict[str, dict[_Stream, None]] = {}
        self._dropped: set[str] = set()
        self._stirred: dict[str, asyncio.Event] = {}
        self._server: grpc.aio.Server | None = None
        self._drift: Drift[_Stream] = Drift()
        self._waiting = self._opened = self._denied = self._failed = self._sent_on = 0

    # What proxies shall hold.

    def fleet(self, name: str) -> FleetState:
        """The fleet of that name; made empty and not synced if it is new."""
        fleet = self._fleets.get(name)
        if fleet is None:
            fleet = FleetState(timing=self._timing, limits=self._limits, marker=self._marker)
            if self._announced is not None:
                fleet.announce(self._announced)
            if self._reached is not None:
                fleet.reach(*self._reached)
            self._fleets[name] = fleet
            self._streams[name] = {}
            self._stirred[name] = asyncio.Event()
        return fleet

    def fleets(self) -> Mapping[str, FleetState]:
        """All of them by name, live; not to be kept."""
        return self._fleets

    def drop(self, name: str) -> None:
        """Nobody wants the fleet any more: it is forgotten with its last proxy, unless `mark_synced` comes before."""
        if name in self._fleets:
            self._dropped.add(name)
            self._forget_dropped(name)

    def _forget_dropped(self, name: str) -> None:
        if name in self._dropped and not self._streams[name]:
            self._dropped.discard(name)
            del self._fleets[name], self._streams[name], self._stirred[name]

    def apply(self, fleet: str, delta: ResourceDelta) -> None:
        """Change what a fleet shall hold; it is on its way when the event loop comes round."""
        self.fleet(fleet).apply(delta, self._clock())
        self._wake(fleet)

    def mark_synced(self, fleet: str) -> None:
        """What was applied to the fleet is complete: start sending."""
        self._dropped.discard(fleet)
        self.fleet(fleet).mark_synced()
        self._wake(fleet)

    def announce(self, position: Position) -> None:
        """What is applied from now on, to any fleet, may come from the sources as they were there.

        Called before the first `apply` of what follows from a change of the sources.
        """
        self._announced = position
        for fleet in self._fleets.values():
            fleet.announce(position)

    def reach(self, position: Position, as_of: Mapping[str, float] | None = None) -> dict[str, Shown]:
        """All that follows from the sources up to there has been applied, to all fleets.

        A proxy that has seen more than that is kept waiting; see `positions.py`.

        Args:
            as_of: by kind, a time, by `clock`, after which the source was asked for all that there is.

        Returns:
            By kind, what proxies that wait have seen of it: a source that has not come so far may hang.
        """
        is_first = self._reached is None
        self._reached = position, as_of or {}
        awaited: dict[str, Shown] = {}
        for name, fleet in self._fleets.items():
            before = [(stream, stream.session.awaited) for stream in self._streams[name]]
            fleet.reach(*self._reached)
            for stream, waited_for in before:
                if waited_for or is_first:
                    stream.awake.set()
                for kind, shown in stream.session.awaited.items():
                    awaited[kind] = max(shown, awaited.get(kind, shown))
        return awaited

    def note_cut_off(self, is_cut_off: bool) -> None:
        """Whether the sources cannot be read at all. Told again and again, each second or so: while it lasts, proxies
        are sent to look for a replica that can (`drift.py`)."""
        if not is_cut_off:
            if self._drift.sent:
                log.info("this replica reaches the API server again, so its proxies stay")
            self._drift.end()
            return
        streams = [stream for streams in self._streams.values() for stream in streams]
        is_first = not self._drift.sent
        due = self._drift.due(streams, self._clock())
        if due and is_first:
            what = "this replica is cut off from the API server, so it sends its proxies to others"
            log.warning(what, proxies=len(streams))
        for stream in due:
            stream.is_to_drift = True
            stream.awake.set()

    def _wake(self, fleet: str) -> None:
        for stream in self._streams[fleet]:
            stream.awake.set()

    async def stirred(self, fleet: str) -> AsyncIterator[frozenset[ResourceKey]]:
        """Yield, for ever, the resources whose `progress` may have changed since the last time. For one reader per
        fleet.

        Coalescing: a slow reader sees fewer and larger sets. What went before there was a reader is left out.
        """
        state = self.fleet(fleet)
        event = self._stirred[fleet]
        state.is_watched = True
        try:
            while True:
                await event.wait()
                event.clear()
                yield state.take_stirred()
        finally:
            state.is_watched = False

    def statistics(self) -> ServerStatistics:
        """A frozen view of all fleets and streams."""
        return ServerStatistics(
            fleets={name: fleet.statistics() for name, fleet in self._fleets.items()},
            streams=sum(len(streams) for streams in self._streams.values()),
            streams_waiting=self._waiting,
            streams_opened=self._opened,
            streams_denied=self._denied,
            streams_failed=self._failed,
            streams_sent_on=self._sent_on,
        )

    # The socket.

    async def start(self, address: str, credentials: grpc.ServerCredentials | None = None) -> int:
        """Listen.

        Args:
            address: `unix:/path` in a folder that only we may enter, or `host:port`.
            credentials: TLS of a TCP address; without them only loopback is served.

        Returns:
            The port that was bound; 1 for a Unix socket.

        Raises:
            ValueError: the address would hand private keys to others.
            OSError: it cannot be bound.
        """
        check_address(address, secured=credentials is not None)
        age = [] if credentials is None else AGE_OPTIONS
        server = grpc.aio.server(
            options=[
                *age,
                ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
                ("grpc.max_send_message_length", -1),
                ("grpc.keepalive_time_ms", KEEPALIVE_S * 1000),
                ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_S * 1000),
                ("grpc.keepalive_permit_without_calls", 1),
                ("grpc.http2.max_pings_without_data", 0),
                # Envoy asks every 30 s whether we are there; by default gRPC takes two pings in 5 min for abuse.
                ("grpc.http2.min_ping_interval_without_data_ms", 1_000),
                ("grpc.so_reuseport", 0),  # a second control plane on the same port shall fail, not share it
            ]
        )
        server.add_generic_rpc_handlers((self._handler(),))
        try:
            if credentials is None:
                port = server.add_insecure_port(address)
            else:
                port = server.add_secure_port(address, credentials)
        except RuntimeError as error:
            raise OSError(f"cannot serve discovery on {address}: {error}") from error
        await server.start()
        self._server = server
        log.info("discovery server listens", address=address)
        return port

    async def stop(self) -> None:
        """End all streams and close the socket; proxies keep what they hold."""
        if self._server is None:
            return
        server, self._server = self._server, None
        await server.stop(STOP_GRACE_S)

    def _handler(
        self,
    ) -> "grpc.GenericRpcHandler[discoveryv3.DeltaDiscoveryRequest, discoveryv3.DeltaDiscoveryResponse]":
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "DeltaAggregatedResources": grpc.stream_stream_rpc_method_handler(
                    self._admit,
                    request_deserializer=discoveryv3.DeltaDiscoveryRequest.FromString,
                    response_serializer=discoveryv3.DeltaDiscoveryResponse.SerializeToString,
                ),
                "StreamAggregatedResources": grpc.stream_stream_rpc_method_handler(
                    self._state_of_the_world,
                    request_deserializer=discoveryv3.DiscoveryRequest.FromString,
                    response_serializer=discoveryv3.DiscoveryResponse.SerializeToString,
                ),
            },
        )

    # Streams.

    async def _state_of_the_world(self, requests: object, context: _Context) -> None:
        await context.abort(
            grpc.StatusCode.UNIMPLEMENTED,
            "Portway serves delta discovery only: set ads_config.api_type to DELTA_GRPC in the proxy's bootstrap",
        )

    async def _admit(self, requests: AsyncIterator[discoveryv3.DeltaDiscoveryRequest], context: _Context) -> None:
        """Run one stream, unless it is one too many, or asks for too much."""
        identities, address = tuple(context.peer_identities() or ()), context.peer() or ""
        try:
            with self._crowd.stream(identities, address):
                async with self._crowd.first_request(identities):
                    first = await anext(requests, None)
                if first is not None:
                    await self._delta(first, requests, context)
        except TooMuch as error:
            self._denied += 1
            log.warning("discovery stream denied", address=address, identities=identities, problem=str(error))
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error))

    async def _delta(
        self,
        first: discoveryv3.DeltaDiscoveryRequest,
        requests: AsyncIterator[discoveryv3.DeltaDiscoveryRequest],
        context: _Context,
    ) -> None:
        """Run one stream, from the first request to its end. Raises TooMuch."""
        peer = _peer_of(first, context)
        if peer.identities:
            self._crowd.check_node(peer.node_id, peer.fleet, peer.zone)
        await self._wait_for_fleets(context)
        if not peer.fleet or not self._authorize(peer):
            self._denied += 1
            log.warning("discovery stream denied", proxy=peer.node_id, fleet=peer.fleet, address=peer.address)
            await context.abort(
                grpc.StatusCode.PERMISSION_DENIED,
                f"this proxy may not have the configuration of fleet {peer.fleet!r} (node.cluster in its bootstrap)",
            )
        fleet = self.fleet(peer.fleet)
        stream = _Stream(fleet, fleet.connect(peer.node_id, self._clock()))
        self._streams[peer.fleet][stream] = None
        self._opened += 1
        bound = log.bind(proxy=peer.node_id, fleet=peer.fleet)
        bound.info("proxy connected", address=peer.address)
        sent_on = ""
        too_much: Exception | None = None
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._read(first, requests, stream, peer))
                tasks.create_task(self._write(context.write, stream, peer))
        except* _SentOn as group:
            self._sent_on += 1
            sent_on = str(group.exceptions[0])
        except* TooMuch as group:
            too_much = group.exceptions[0]
        except* (grpc.aio.UsageError, grpc.aio.InternalError):  # before or while it was handed to the socket
            bound.info("proxy went away while a response was written")
        except* Exception:  # noqa: BLE001 - the edge that must survive; it is logged and counted
            # A mistake of ours must not go on with a wrong picture of the proxy: it reconnects and says what it holds.
            self._failed += 1
            bound.exception("discovery stream failed")
        finally:
            del self._streams[peer.fleet][stream]
            fleet.disconnect(stream.session)
            self._stirred[peer.fleet].set()
            self._forget_dropped(peer.fleet)
            bound.info("proxy disconnected")
        if too_much is not None:
            raise too_much
        if sent_on:
            await context.abort(grpc.StatusCode.UNAVAILABLE, sent_on)

    async def _wait_for_fleets(self, context: _Context) -> None:
        self._waiting += 1
        try:
            async with asyncio.timeout(EARLY_S):
                await self._fleets_known()
        except TimeoutError:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "this replica of the control plane is not ready yet")
        finally:
            self._waiting -= 1

    async def _read(
        self,
        first: discoveryv3.DeltaDiscoveryRequest,
        requests: AsyncIterator[discoveryv3.DeltaDiscoveryRequest],
        stream: _Stream,
        peer: Peer,
    ) -> None:
        try:
            self._take_in(first, stream, peer)
            async for message in requests:
                self._take_in(message, stream, peer)
        finally:
            stream.ended = True
            stream.awake.set()

    def _take_in(self, message: discoveryv3.DeltaDiscoveryRequest, stream: _Stream, peer: Peer) -> None:
        if peer.identities:
            self._check(message, stream)
        request = parse_request(message)
        if request is None:
            if not message.response_nonce:
                log.warning("discovery type is not served", proxy=peer.node_id, type_url=message.type_url)
            return
        log.debug("request received", proxy=peer.node_id, type=request.type.name, nonce=request.nonce)
        self._report(peer, stream.fleet.receive(stream.session, request, self._clock()))
        stream.awake.set()

    def _check(self, message: discoveryv3.DeltaDiscoveryRequest, stream: _Stream) -> None:
        """Before any of it is taken out of the message. Raises TooMuch."""
        dropped = len(message.resource_names_unsubscribe)
        more = len(message.resource_names_subscribe) + len(message.initial_resource_versions)
        # What it says of a refusal is cut.
        self._crowd.check_size(message.ByteSize() - message.error_detail.ByteSize(), dropped + more)
        self._crowd.check_dropped(stream.session, dropped)
        self._crowd.check_names(stream.session, more, stream.fleet.sessions, len(stream.fleet.snapshot))

    async def _write(
        self, send: Callable[[discoveryv3.DeltaDiscoveryResponse], Awaitable[None]], stream: _Stream, peer: Peer
    ) -> None:
        while not stream.ended:
            stream.awake.clear()
            now = self._clock()
            response, outcomes = stream.session.poll(now)
            self._report(peer, outcomes)
            if response is not None:
                await send(build_response(response, peer.zone))
                log.debug("response sent", proxy=peer.node_id, type=response.type.name, nonce=response.nonce)
                continue
            if stream.is_to_drift:
                raise _SentOn("this replica of the control plane is cut off from the API server")
            if stream.session.is_to_leave(now):
                log.warning(
                    "this replica has not caught up with a proxy, so it sends it to another",
                    proxy=peer.node_id,
                    fleet=peer.fleet,
                )
                raise _SentOn("this replica of the control plane has not read so far")
            deadline = stream.session.deadline(now)
            self._tell_lag(stream, peer)
            try:
                async with asyncio.timeout(None if deadline is None else max(0.0, deadline - now)):
                    await stream.awake.wait()
            except TimeoutError:
                continue  # the deadline has come: the session says what that means

    def _tell_lag(self, stream: _Stream, peer: Peer) -> None:
        """Once per stream: that the proxy waits for us."""
        awaited = {} if stream.is_lag_told else stream.session.awaited
        if awaited:
            stream.is_lag_told = True
            lacking = {kind: shown.version for kind, shown in awaited.items()}
            log.warning("proxy has seen more than this replica, so it waits", proxy=peer.node_id, lacking=lacking)

    def _report(self, peer: Peer, outcomes: tuple[Outcome, ...]) -> None:
        for outcome in outcomes:
            match outcome:
                case Acceptance():
                    self._stirred[peer.fleet].set()
                case Refusal(key=key, version=version, message=message, origins=origins):
                    self._stirred[peer.fleet].set()
                    log.warning(
                        "proxy refused a resource",
                        proxy=peer.node_id,
                        type=key.type.name,
                        resource=key.name,
                        version=version,
                        message=message,
                        origins=[str(origin) for origin in origins],
                    )
                case Overdue(cluster=cluster, origins=origins):
                    log.warning(
                        "cluster is not ready in time, its routes are sent all the same",
                        proxy=peer.node_id,
                        resource=cluster,
                        origins=[str(origin) for origin in origins],
                    )
            if self._on_outcome is not None:
                self._on_outcome(peer.fleet, peer.node_id, outcome)


def check_address(address: str, *, secured: bool) -> None:
    """Refuse an address on which others could read the private keys that resources hold.

    Raises:
        ValueError: a Unix socket in a folder that others may enter, or TCP without TLS off the loopback.
    """
    if address.startswith("unix:"):
        folder = Path(address.removeprefix("unix:").removeprefix("//")).parent
        mode = stat.S_IMODE(folder.stat().st_mode)
        if mode & 0o077:
            raise ValueError(
                f"{folder}: mode is {mode:04o}; a discovery socket hands out private keys, so make it 0700"
            )
        return
    host = address.rpartition(":")[0]
    if not secured and host not in ("127.0.0.1", "[::1]", "localhost"):
        raise ValueError(f"{address}: discovery hands out private keys; off the loopback it needs TLS credentials")


def _peer_of(first: discoveryv3.DeltaDiscoveryRequest, context: _Context) -> Peer:
    return Peer(
        address=context.peer() or "",
        node_id=first.node.id,
        fleet=first.node.cluster,
        zone=first.node.locality.zone,
        identities=tuple(context.peer_identities() or ()),
    )
