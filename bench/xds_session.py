"""What delta ADS costs in Python: the session alone, no gRPC and no Envoy (a fake that answers at once).

    python bench/xds_session.py [SIZE ...]

Rows: a fresh proxy gets SIZE clusters, endpoints and virtual hosts (decisions, then messages built and serialised); one
changed virtual host, one changed endpoint, one switched backend among them; a reconnect with nothing to send.
"""

import gc
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable

from portway.model.resource import Readiness, Resource, ResourceDelta, ResourceKey, ResourceType, make_resource
from portway.xds.fleet import FleetState
from portway.xds.messages import Request, Response
from portway.xds.session import Session
from portway.xds.wire import build_response

ROUTES = "gateway/http"
BODY = b"x" * 400
ROUNDS = 200


def resources(size: int, *, generation: int = 0) -> list[Resource]:
    """A listener, its route configuration, and SIZE triples of about the bytes that real ones have."""
    made = [
        make_resource(ResourceKey(ResourceType.LISTENER, "http"), BODY),
        make_resource(ResourceKey(ResourceType.ROUTES, ROUTES), BODY),
    ]
    for number in range(size):
        made += triple(number, generation)
    return made


def triple(number: int, generation: int) -> list[Resource]:
    """A cluster, its endpoints, and a virtual host that points at it."""
    key = ResourceKey(ResourceType.CLUSTER, f"c{number}-{generation}")
    body = b"%d %d" % (number, generation) + BODY
    return [
        make_resource(key, body, readiness=Readiness.ENDPOINTS),
        make_resource(ResourceKey(ResourceType.ENDPOINTS, key.name), body[:120]),
        make_resource(ResourceKey(ResourceType.VIRTUAL_HOST, f"{ROUTES}/h{number}"), body, requires=(key,)),
    ]


class Proxy:
    """Answers everything with an ACK, subscribes to the endpoints of clusters it gets; keeps the time we take."""

    def __init__(self, fleet: FleetState, *, encode: bool = False) -> None:
        self.fleet = fleet
        self.session: Session = fleet.connect("bench", time.monotonic())
        self.encode = encode
        self.seconds = 0.0
        self.responses = 0
        self.versions: dict[ResourceType, dict[str, str]] = {kind: {} for kind in ResourceType}

    def timed(self, work: Callable[[], object]) -> None:
        start = time.perf_counter()
        work()
        self.seconds += time.perf_counter() - start

    def say(self, request: Request) -> None:
        self.timed(lambda: self.fleet.receive(self.session, request, time.monotonic()))

    def start(self) -> None:
        """The first requests on a stream, with what is held."""
        for kind in (ResourceType.CLUSTER, ResourceType.LISTENER):
            self.say(Request(type=kind, versions=self.versions[kind]))
        endpoints = self.versions[ResourceType.ENDPOINTS]
        if endpoints:
            self.say(Request(type=ResourceType.ENDPOINTS, subscribe=tuple(endpoints), versions=endpoints))
        self.say(Request(type=ResourceType.ROUTES, subscribe=(ROUTES,), versions=self.versions[ResourceType.ROUTES]))
        hosts = self.versions[ResourceType.VIRTUAL_HOST]
        self.say(Request(type=ResourceType.VIRTUAL_HOST, versions=hosts))

    def converse(self) -> None:
        """Until there is nothing more to say."""
        while (response := self.poll()) is not None:
            self.responses += 1
            versions = self.versions[response.type]
            new = [resource.key.name for resource in response.resources if resource.key.name not in versions]
            versions.update({resource.key.name: resource.version for resource in response.resources})
            for name in response.removed:
                versions.pop(name, None)
            if response.type is ResourceType.CLUSTER and new:
                self.say(Request(type=ResourceType.ENDPOINTS, subscribe=tuple(new)))
            self.say(Request(type=response.type, nonce=response.nonce))

    def poll(self) -> Response | None:
        start = time.perf_counter()
        response, _ = self.session.poll(time.monotonic())
        if response is not None and self.encode:
            build_response(response).SerializeToString()
        self.session.deadline(time.monotonic())
        self.seconds += time.perf_counter() - start
        return response


def fresh(size: int, *, encode: bool) -> tuple[FleetState, Proxy]:
    """A fleet of that size and a proxy that holds it."""
    fleet = FleetState()
    fleet.apply(ResourceDelta(changed=tuple(resources(size))), time.monotonic())
    fleet.mark_synced()
    proxy = Proxy(fleet, encode=encode)
    proxy.start()
    proxy.converse()
    return fleet, proxy


def one_change(fleet: FleetState, proxy: Proxy, change: Callable[[int], ResourceDelta]) -> list[float]:
    """Microseconds of each of some changes, from the delta to the last response built and answered."""
    seconds = []
    for turn in range(ROUNDS):
        delta = change(turn)
        proxy.seconds = 0.0
        proxy.timed(lambda delta=delta: fleet.apply(delta, time.monotonic()))  # type: ignore[misc]  # bound at once
        proxy.converse()
        seconds.append(proxy.seconds * 1e6)
    return seconds


def changed_host(turn: int) -> ResourceDelta:
    """Another version of one virtual host."""
    wanted = triple(7, 0)[2]
    return ResourceDelta(changed=(make_resource(wanted.key, b"%d" % turn + BODY, requires=wanted.requires),))


def changed_endpoints(turn: int) -> ResourceDelta:
    """Another version of the endpoints of one cluster."""
    return ResourceDelta(changed=(make_resource(triple(7, 0)[1].key, b"%d" % turn + BODY),))


def switched_backend(turn: int) -> ResourceDelta:
    """One virtual host with a new cluster and its endpoints."""
    return ResourceDelta(changed=tuple(triple(7, turn + 1)))


CHANGES: dict[str, Callable[[int], ResourceDelta]] = {
    "one changed virtual host": changed_host,
    "one changed endpoint": changed_endpoints,
    "one switched backend": switched_backend,
}


def row(name: str, size: int, value: str) -> None:
    print(f"{name:<42} {size:>7,} {value}")


def main() -> None:
    sizes = [int(argument) for argument in sys.argv[1:]] or [1000, 5000, 20_000]
    for size in sizes:
        tracemalloc.start()
        fleet, proxy = fresh(size, encode=False)
        before = tracemalloc.get_traced_memory()[0]
        extra = Proxy(fleet)
        extra.start()
        extra.converse()
        row("memory of one more session", size, f"{(tracemalloc.get_traced_memory()[0] - before) / 2**20:9.1f} MiB")
        tracemalloc.stop()
        for encode, name in ((False, "fresh proxy, decisions"), (True, "fresh proxy, with messages")):
            gc.collect()
            fleet, proxy = fresh(size, encode=encode)
            row(name, size, f"{proxy.seconds * 1000:9.1f} ms in {proxy.responses} responses")
        for name, change in CHANGES.items():
            taken = one_change(fleet, proxy, change)
            row(name, size, f"{statistics.median(taken):9.1f} µs p50, {sorted(taken)[-2]:.1f} µs p99")
        again = Proxy(fleet, encode=True)
        again.versions = proxy.versions
        again.start()
        again.converse()
        row("reconnect, nothing changed", size, f"{again.seconds * 1000:9.1f} ms in {again.responses} responses")


if __name__ == "__main__":
    main()
