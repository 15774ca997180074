"""A laboratory: a real Envoy, a delta-ADS server that one drives by hand, backends and ports; all gone at the end.

async with laboratory() as lab:
    a = await lab.backends.start("a")
    lab.ads.put(...)
    assert (await lab.ads.update(eds_cluster("c-a"))).error is None
"""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
from envoy.config.bootstrap.v3 import bootstrap_pb2 as bootstrapv3

from tests.kit.ads import AdsServer, Sent
from tests.kit.answer import Answer
from tests.kit.backends import Backends
from tests.kit.client import fetch
from tests.kit.envoy import EnvoyProcess, minimal_bootstrap, running_envoy
from tests.kit.ports import Ports
from tests.kit.resources import eds_cluster, endpoints, http_listener, route, vhds_routes, virtual_host

_POLL_SECONDS = 0.005  # Envoy offers no event for "live now": we ask


class Laboratory(msgspec.Struct, frozen=True, kw_only=True):
    """What a test works with."""

    ads: AdsServer
    envoy: EnvoyProcess
    backends: Backends
    ports: Ports


@asynccontextmanager
async def laboratory(
    *,
    concurrency: int = 1,
    log_level: str = "warning",
    change: Callable[[bootstrapv3.Bootstrap], None] | None = None,
    ads: AdsServer | None = None,
) -> AsyncIterator[Laboratory]:
    """Start everything; Envoy has asked for clusters and listeners when the block begins.

    Args:
        concurrency: Envoy's worker threads.
        log_level: of Envoy's log, in `lab.envoy.log()`.
        change: a last change to the bootstrap.
        ads: with resources that Envoy is to find when it starts; `None`: an empty server.
    """
    server = ads or AdsServer()
    with tempfile.TemporaryDirectory(prefix="pw") as name, Ports() as ports:
        folder = Path(name)
        socket = folder / "ads.sock"
        async with (
            Backends() as backends,
            server.serving(socket),
            running_envoy(
                folder, minimal_bootstrap(socket), concurrency=concurrency, log_level=log_level, change=change
            ) as envoy,
        ):
            async with asyncio.timeout(20):
                await server.listening.wait()
            yield Laboratory(ads=server, envoy=envoy, backends=backends, ports=ports)


async def eventually(check: Callable[[], Awaitable[bool]], *, seconds: float = 15.0) -> None:
    """Ask until it holds.

    Raises:
        TimeoutError: it did not within that time.
    """
    async with asyncio.timeout(seconds):
        while True:
            if await check():
                return
            await asyncio.sleep(_POLL_SECONDS)


async def until_subscribed(ads: AdsServer, type_: str, *names: str) -> None:
    """Wait until Envoy has asked for these names.

    Raises:
        TimeoutError: it did not.
    """

    async def check() -> bool:
        return set(names) <= ads.subscribed[type_]

    await eventually(check)


async def accepted(sent: Sent) -> None:
    """Wait for an acknowledgement, less long than Envoy's own 15 s after which it gives up warming a cluster.

    Raises:
        TimeoutError: no answer.
    """
    async with asyncio.timeout(8):
        reply = await sent.reply()
    assert reply.error is None, reply.error


async def settled(ads: AdsServer, type_: str) -> None:
    """Wait until Envoy has worked through all that was sent before: one more, empty response is answered after it.

    A type whose acknowledgement is held back (clusters that warm) cannot tell; name another.
    """
    reply = await ads.send(type_)
    assert reply.error is None, reply.error


async def serve_host(lab: Laboratory, host: str, backend: str = "a") -> int:
    """Start a backend behind one host: cluster `c-<backend>`, virtual host `r/<backend>` (VHDS), listener `l`.

    Returns:
        The proxy's port.
    """
    port, started, ads = lab.ports.take(), await lab.backends.start(backend), lab.ads
    cluster = f"c-{backend}"
    ads.put(endpoints(cluster, started.port), vhds_routes("r"), virtual_host(f"r/{backend}", [host], route(cluster)))
    assert (await ads.update(eds_cluster(cluster))).error is None
    assert (await ads.update(http_listener("l", port, "r"))).error is None
    await until_answer(f"http://{host}:{port}/", pod=backend)
    return port


async def until_answer(url: str, *, status: int = 200, pod: str | None = None, seconds: float = 15.0) -> Answer:
    """Ask a URL until it answers with this status (and from this backend, if one is named); returns that answer.

    Raises:
        TimeoutError: it did not within that time; the message tells the last answer.
    """
    answer: Answer | None = None
    try:
        async with asyncio.timeout(seconds):
            while True:
                answer = await fetch(url)
                if answer.status == status and pod in (None, answer.pod):
                    return answer
                await asyncio.sleep(_POLL_SECONDS)
    except TimeoutError as error:
        raise TimeoutError(f"{url}: wanted {status} from {pod}, the last answer was {answer}") from error
