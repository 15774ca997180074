"""Envoy's admin interface, typed.

It is a Unix socket that only its owner may use. Each request takes a connection of its own: during a hot restart the
same path leads to another process from one moment to the next, and a kept connection would still speak with the old
one. asyncio does the waiting and `http.client` reads the answer, once it is there: an HTTP client of its own for
questions over a local socket would take a quarter of a second of every start to import.

Source: Envoy docs, "Administration interface".
"""

import asyncio
import io
import socket
from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from http.client import HTTPException, HTTPResponse
from typing import cast, final
from urllib.parse import urlencode

import msgspec

PATIENCE = timedelta(seconds=20)
"""Envoy answers from its main thread, which a large update may hold for a second."""


class AdminUnreachable(Exception):
    """Envoy's admin interface does not answer, or refuses. The message says which request."""


class ServerState(StrEnum):
    """`admin.v3.ServerInfo.State`."""

    LIVE = "LIVE"
    DRAINING = "DRAINING"
    PRE_INITIALIZING = "PRE_INITIALIZING"
    INITIALIZING = "INITIALIZING"


class CommandLine(msgspec.Struct, frozen=True, kw_only=True):
    base_id: str = "0"
    concurrency: int = 0
    restart_epoch: int = 0
    log_level: str = ""


class ServerInfo(msgspec.Struct, frozen=True, kw_only=True):
    version: str
    """As `EnvoyBinary.build`."""
    state: ServerState
    hot_restart_version: str
    uptime_current_epoch: str = ""
    command_line_options: CommandLine = CommandLine()


class _Value(msgspec.Struct, frozen=True, kw_only=True):
    name: str = ""
    value: int | float | str = 0


class _Values(msgspec.Struct, frozen=True, kw_only=True):
    stats: list[_Value] = []


class Host(msgspec.Struct, frozen=True, kw_only=True):
    """One endpoint as the proxy sees it."""

    address: str
    """`IP:PORT`, or the path of a socket."""
    healthy: bool
    """Whether new requests go to it."""
    failures: tuple[str, ...]
    """Why not: Envoy's names of the failed checks, `failed_active_health_check`, `failed_outlier_check` ... Sorted."""
    weight: int
    zone: str


class ListenerState(msgspec.Struct, frozen=True, kw_only=True):
    """What a proxy makes of one listener. Warming: it waits for routes or secrets, and its port is not open yet."""

    name: str
    active: bool
    warming: bool
    error: str
    """Envoy's words on its last refused update; empty if there is none."""


@final
class EnvoyAdmin:
    """Every method raises `AdminUnreachable` if Envoy does not answer."""

    def __init__(self, socket_path: str) -> None:
        self._socket_path = socket_path

    async def state(self) -> ServerState:
        """LIVE once clusters and listeners came in; `GET /ready`, the cheapest question there is."""
        status, text = await self._ask("GET", "/ready")
        try:
            return ServerState(text.strip())
        except ValueError as error:
            raise AdminUnreachable(f"GET /ready on {self._socket_path} answers {status} {text[:100]!r}") from error

    async def server_info(self) -> ServerInfo:
        return msgspec.json.decode(await self._get("/server_info"), type=ServerInfo)

    async def prometheus(self, *, pattern: str = "") -> str:
        """The metrics page, as it is; with `pattern` (RE2) only what it finds by Envoy's own names."""
        query = {"filter": pattern} if pattern else {}
        return await self._get("/stats/prometheus", query)

    async def statistics(self, pattern: str) -> dict[str, int]:
        """Counters and gauges whose name the RE2 `pattern` finds. Histograms and text values are left out."""
        values = msgspec.json.decode(await self._get("/stats", {"format": "json", "filter": pattern}), type=_Values)
        return {
            value.name: int(value.value) for value in values.stats if value.name and not isinstance(value.value, str)
        }

    async def clusters(self, pattern: str = "") -> dict[str, tuple[Host, ...]]:
        """Warm clusters by name with their endpoints; a cluster that is still warming is missing. `pattern` is RE2."""
        query = {"format": "json"} | ({"filter": pattern} if pattern else {})
        return parse_clusters(await self._get("/clusters", query))

    async def listeners(self) -> tuple[ListenerState, ...]:
        """All that came over LDS, by name."""
        return parse_listeners(await self._get("/config_dump", {"resource": "dynamic_listeners"}))

    async def config_dump(self, query: Mapping[str, str] | None = None) -> str:
        """Envoy's whole configuration as JSON; it replaces what is secret by `[redacted]` itself."""
        return await self._get("/config_dump", query or {})

    async def set_log_level(self, level: str) -> None:
        await self._post("/logging", {"level": level})

    async def fail_health_check(self) -> None:
        """From now on every response asks its client to leave: `connection: close`, GOAWAY. Listeners stay open."""
        await self._post("/healthcheck/fail")

    async def drain_gradually(self) -> None:
        """From now on more and more responses ask their clients to leave, all of them after `--drain-time-s`.

        Listeners stay open, also after that. Asked again it does nothing.
        """
        await self._post("/drain_listeners?graceful&skip_exit")

    async def close_listeners(self) -> None:
        """Accept no more connections; those that exist live on."""
        await self._post("/drain_listeners")

    async def quit(self) -> None:
        await self._post("/quitquitquit")

    async def _get(self, path: str, query: Mapping[str, str] | None = None) -> str:
        return await self._success("GET", path, query)

    async def _post(self, path: str, query: Mapping[str, str] | None = None) -> str:
        return await self._success("POST", path, query)

    async def _success(self, method: str, path: str, query: Mapping[str, str] | None) -> str:
        target = f"{path}?{urlencode(query)}" if query else path
        status, text = await self._ask(method, target)
        if status != 200:
            raise AdminUnreachable(f"{method} {target} on {self._socket_path} answers {status} {text[:200]!r}")
        return text

    async def _ask(self, method: str, target: str) -> tuple[int, str]:
        request = f"{method} {target} HTTP/1.1\r\nhost: envoy\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        try:
            async with asyncio.timeout(PATIENCE.total_seconds()):
                return _parse_answer(await self._exchange(request.encode()))
        except (OSError, HTTPException) as error:  # TimeoutError is an OSError
            reason = str(error) or ("no answer in time" if isinstance(error, TimeoutError) else type(error).__name__)
            raise AdminUnreachable(f"{method} {target} on {self._socket_path}: {reason}") from error

    async def _exchange(self, request: bytes) -> bytes:
        """All that comes back until Envoy closes the connection."""
        reader, writer = await asyncio.open_unix_connection(self._socket_path)
        try:
            writer.write(request)
            return await reader.read()
        finally:
            writer.close()


class _Received:
    """What `HTTPResponse` needs of a socket."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, _mode: str) -> io.BytesIO:
        return io.BytesIO(self._data)


def _parse_answer(data: bytes) -> tuple[int, str]:
    """Status and body. Raises HTTPException: it is no answer, or not all of one."""
    response = HTTPResponse(cast("socket.socket", _Received(data)))
    response.begin()
    return response.status, response.read().decode()


class _SocketAddress(msgspec.Struct, frozen=True):
    address: str = ""
    port_value: int = 0


class _Pipe(msgspec.Struct, frozen=True):
    path: str = ""


class _Address(msgspec.Struct, frozen=True):
    socket_address: _SocketAddress | None = None
    pipe: _Pipe | None = None


class _Locality(msgspec.Struct, frozen=True):
    zone: str = ""


class _HostStatus(msgspec.Struct, frozen=True):
    address: _Address = _Address()
    health_status: dict[str, bool | str] = {}
    weight: int = 0
    locality: _Locality = _Locality()


class _ClusterStatus(msgspec.Struct, frozen=True):
    name: str
    host_statuses: list[_HostStatus] = []


class _Clusters(msgspec.Struct, frozen=True):
    cluster_statuses: list[_ClusterStatus] = []


def parse_clusters(text: str) -> dict[str, tuple[Host, ...]]:
    """`admin.v3.Clusters` as JSON: hosts in Envoy's order. Absent fields have their default, as in protobuf."""
    clusters = msgspec.json.decode(text, type=_Clusters)
    return {cluster.name: tuple(map(_host, cluster.host_statuses)) for cluster in clusters.cluster_statuses}


def _host(status: _HostStatus) -> Host:
    # All boolean fields of HostHealthStatus name failures; `eds_health_status` says what the control plane thinks.
    failures = [name for name, value in status.health_status.items() if value is True]
    declared = status.health_status.get("eds_health_status", "HEALTHY")
    if declared not in ("HEALTHY", "UNKNOWN"):
        failures.append(f"eds_health_status {declared}")
    socket, pipe = status.address.socket_address, status.address.pipe
    address = f"{socket.address}:{socket.port_value}" if socket is not None else pipe.path if pipe is not None else ""
    return Host(
        address=address,
        healthy=not failures,
        failures=tuple(sorted(failures)),
        weight=status.weight,
        zone=status.locality.zone,
    )


class _ErrorState(msgspec.Struct, frozen=True):
    details: str = ""


class _Present(msgspec.Struct, frozen=True):
    """Of an active or warming version only that it is there."""


class _DynamicListener(msgspec.Struct, frozen=True):
    name: str = ""
    active_state: _Present | None = None
    warming_state: _Present | None = None
    error_state: _ErrorState | None = None


class _Listeners(msgspec.Struct, frozen=True):
    configs: list[_DynamicListener] = []


def parse_listeners(text: str) -> tuple[ListenerState, ...]:
    """The `dynamic_listeners` part of `admin.v3.ListenersConfigDump` as JSON; sorted by name."""
    states = [
        ListenerState(
            name=listener.name,
            active=listener.active_state is not None,
            warming=listener.warming_state is not None,
            error=listener.error_state.details if listener.error_state is not None else "",
        )
        for listener in msgspec.json.decode(text, type=_Listeners).configs
    ]
    return tuple(sorted(states, key=lambda state: state.name))
