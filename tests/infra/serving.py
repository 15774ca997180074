"""A bootstrap that serves by itself, and small clients, to see that requests get through whatever processes do."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Mapping
from types import MappingProxyType

import msgspec

# Imported so that their messages are known when they are read as JSON.
from envoy.extensions.filters.http.router.v3 import router_pb2 as routerv3
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcmv3
from google.protobuf import json_format

from portway.envoy.bootstrap import BootstrapSettings, build_bootstrap, encode_bootstrap

KNOWN = (routerv3.Router.DESCRIPTOR.full_name, hcmv3.HttpConnectionManager.DESCRIPTOR.full_name)
TYPE = "type.googleapis.com/"
EVERYTHING = MappingProxyType({"prefix": "/"})


def free_port() -> int:
    """A port that is free now. The kernel hands out others first, so it stays free for the length of a test."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def serving_bootstrap(
    port: int,
    text: str,
    backend: int | None = None,
    *,
    match: Mapping[str, object] = EVERYTHING,
    max_connections: int | None = None,
) -> bytes:
    """Portway's bootstrap without xDS, but with a listener that answers `text`, or forwards `/backend` to that port.

    Args:
        match: what is answered, as JSON.
        max_connections: see `BootstrapSettings`.
    """
    bootstrap = build_bootstrap(BootstrapSettings(node_id="test", fleet="test", max_connections=max_connections))
    bootstrap.ClearField("dynamic_resources")
    json_format.ParseDict(_static(port, text, backend, match), bootstrap.static_resources)
    return encode_bootstrap(bootstrap)


def _static(port: int, text: str, backend: int | None, match: Mapping[str, object]) -> dict[str, object]:
    routes: list[object] = [{"match": dict(match), "direct_response": {"status": 200, "body": {"inline_string": text}}}]
    clusters: list[object] = []
    if backend is not None:
        routes.insert(0, {"match": {"prefix": "/backend"}, "route": {"cluster": "backend", "timeout": "60s"}})
        endpoint = {"address": {"socket_address": {"address": "127.0.0.1", "port_value": backend}}}
        assignment = {"cluster_name": "backend", "endpoints": [{"lb_endpoints": [{"endpoint": endpoint}]}]}
        clusters.append({"name": "backend", "type": "STATIC", "load_assignment": assignment})
    return {"listeners": [_listener(port, routes)], "clusters": clusters}


def http_listener(port: int, text: str) -> dict[str, object]:
    """A listener that answers `text` to everything, as JSON."""
    return _listener(
        port, [{"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": text}}}]
    )


def _listener(port: int, routes: list[object]) -> dict[str, object]:
    manager = {
        "@type": TYPE + KNOWN[1],
        "stat_prefix": "http",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {"@type": TYPE + KNOWN[0]}}],
    }
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    return {
        "name": "http",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [{"filters": filters}],
    }


class Tally(msgspec.Struct, kw_only=True):
    """What a client saw. `over` stops it, so that the proxy can end without being missed."""

    over: asyncio.Event = msgspec.field(default_factory=asyncio.Event)
    answers: int = 0
    texts: set[str] = msgspec.field(default_factory=set)
    failures: list[str] = msgspec.field(default_factory=list)


async def get(port: int, path: str = "/") -> str:
    """The body of the answer to one request on a connection of its own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n".encode())
        _, text = await _answer(reader)
    except asyncio.IncompleteReadError as error:
        raise ConnectionError(f"cut off after {error.partial[:80]!r}") from error
    finally:
        writer.close()
    return text


@contextlib.asynccontextmanager
async def constant_requests(port: int) -> AsyncIterator[Tally]:
    """While the context is open, new connections and kept ones send requests, a few hundred a second."""
    tally = Tally()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_new_connections(port, tally))
        tasks.create_task(_kept_connection(port, tally))
        try:
            yield tally
        finally:
            tally.over.set()


async def _new_connections(port: int, tally: Tally) -> None:
    while not tally.over.is_set():
        try:
            tally.texts.add(await get(port))
            tally.answers += 1
        except OSError as error:
            tally.failures.append(f"new connection: {error!r}")
        await asyncio.sleep(0.004)


async def _kept_connection(port: int, tally: Tally) -> None:
    """One connection for all requests, left as soon as the server asks for it, as HTTP clients do."""
    while not tally.over.is_set():
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError as error:
            tally.failures.append(f"kept connection: {error!r}")
            await asyncio.sleep(0.01)
            continue
        try:
            while not tally.over.is_set() and await _one_more(reader, writer, tally):  # noqa: ASYNC110 - this is a pace
                await asyncio.sleep(0.004)
        except (OSError, asyncio.IncompleteReadError) as error:
            tally.failures.append(f"kept connection: {error!r}")
        finally:
            writer.close()


async def _one_more(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, tally: Tally) -> bool:
    """One request on a kept connection; whether it may be kept longer."""
    writer.write(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n")
    head, text = await _answer(reader)
    tally.texts.add(text)
    tally.answers += 1
    return "connection: close" not in head


async def _answer(reader: asyncio.StreamReader) -> tuple[str, str]:
    """Head in lower case and body of one answer. Envoy closes late, so its length counts, not the end of the stream."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    if " 200 " not in head.partition("\r\n")[0]:
        raise ConnectionError(f"answered {head[:80]!r}")
    length = next(int(line.split(":")[1]) for line in head.split("\r\n") if line.startswith("content-length"))
    return head, (await reader.readexactly(length)).decode()


@contextlib.asynccontextmanager
async def slow_backend(delay_s: float) -> AsyncIterator[tuple[int, asyncio.Event]]:
    """A server that answers `slow` after a while. Yields its port, and an event that is set when a request came in."""
    arrived = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            arrived.set()
            await asyncio.sleep(delay_s)
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\nconnection: close\r\n\r\nslow")
            await writer.drain()
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], arrived
