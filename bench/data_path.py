"""Throughput: what a request costs in each proxy, side by side, alternating in one run.

The load (wrk) and the backend are processes of their own, so what counts is the processor time that the proxy itself
uses for a request: requests per second and core = requests / processor seconds of the proxy. Each proxy gets one
worker, the same access log (JSON, same fields as far as it can) and the same backend. `bare` is Envoy with a
hand-written minimal configuration and one route; it runs twice, and what differs between the two is noise. With as many
hosts as the others it says what so many virtual hosts and clusters cost by themselves. Programs that are not installed
are left out (`bench/setup.sh` installs them).
"""

import argparse
import asyncio
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import msgspec
from google.protobuf import json_format

from bench.report import cpu_seconds, machine, median, table, title
from bench.worlds import files, host
from portway.envoy.access_log import build_access_logs
from portway.infra.binary import packaged_envoy
from portway.settings import Edge
from tests.kit.client import fetch
from tests.kit.ports import Ports
from tests.kit.portway import portway

LOOPBACK = "127.0.0.1"
TYPES = "type.googleapis.com/envoy.extensions"


class Round(msgspec.Struct, frozen=True):
    """One run of the load against one proxy."""

    requests: int
    per_core: float
    """Requests per processor second of the proxy."""
    per_second: float
    p99_ms: float
    errors: int


class Proxy(msgspec.Struct, frozen=True):
    """A proxy that runs and serves all hosts."""

    name: str
    port: int
    pids: Callable[[], list[int]]
    address: str = LOOPBACK


def children(pid: int) -> list[int]:
    found = [pid]
    for entry in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in entry.read_text().split():
            found += children(int(child))
    return found


async def wait_served(port: int, name: str) -> None:
    for _ in range(1500):
        answer = await fetch(f"http://{name}:{port}/")
        if answer.status == 200:
            return
        await asyncio.sleep(0.02)
    raise RuntimeError(f"nothing serves {name} on port {port}")


@asynccontextmanager
async def process(*command: str, folder: Path) -> AsyncIterator[int]:
    """A program until the block ends; yields its pid.

    In a session of its own, as Portway starts its Envoy: the kernel schedules by session (`sched_autogroup_enabled`),
    and a proxy that has a group for itself is preempted otherwise than one that shares it with load and backend.
    """
    with (folder / "output.log").open("ab") as log:
        running = await asyncio.create_subprocess_exec(
            *command, stdout=log, stderr=log, cwd=folder, start_new_session=True
        )
    try:
        yield running.pid
    finally:
        if running.returncode is None:
            running.terminate()
        await running.wait()


def bare_envoy(
    port: int,
    backend: int,
    folder: Path,
    count: int | None = None,
    *,
    listen: str = LOOPBACK,
    upstream: str = LOOPBACK,
) -> str:
    """A minimal configuration, and the access log that Portway has.

    Args:
        count: virtual hosts, each with a route and a cluster; `None`: one route for every host.
        listen: address of the listener.
        upstream: address of the backend.
    """
    names = ["backend"] if count is None else [f"backend-{number}" for number in range(count)]
    domains = ["*"] if count is None else [host(number) for number in range(count)]
    virtual_hosts = [
        {
            "name": name,
            "domains": [domain],
            "routes": [{"match": {"prefix": "/"}, "route": {"cluster": name, "timeout": "0s"}}],
        }
        for name, domain in zip(names, domains, strict=True)
    ]
    logs = build_access_logs(Edge(access_log=str(folder / "access.log")))
    router = {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{TYPES}.filters.http.router.v3.Router"}}
    manager = {
        "@type": f"{TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bare",
        "access_log": [json_format.MessageToDict(log, preserving_proto_field_name=True) for log in logs],
        "route_config": {"virtual_hosts": virtual_hosts, "ignore_port_in_host_matching": True},
        "http_filters": [router],
    }
    return json.dumps(
        {
            "static_resources": {
                "listeners": [
                    {
                        "name": "l",
                        "address": _address(port, listen),
                        "filter_chains": [
                            {
                                "filters": [
                                    {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}
                                ]
                            }
                        ],
                    }
                ],
                "clusters": [_static_cluster(name, backend, upstream) for name in names],
            }
        }
    )


def backend_envoy(port: int, listen: str = LOOPBACK) -> str:
    """The backend: answers at once with two bytes."""
    router = {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{TYPES}.filters.http.router.v3.Router"}}
    answer = {"status": 200, "body": {"inline_string": "ok"}}
    manager = {
        "@type": f"{TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "backend",
        "route_config": {
            "virtual_hosts": [
                {"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "direct_response": answer}]}
            ]
        },
        "http_filters": [router],
    }
    listener = {
        "name": "l",
        "address": _address(port, listen),
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }
    return json.dumps({"static_resources": {"listeners": [listener]}})


def _address(port: int, address: str) -> dict[str, object]:
    return {"socket_address": {"address": address, "port_value": port}}


def _static_cluster(name: str, port: int, address: str) -> dict[str, object]:
    return {
        "name": name,
        "type": "STATIC",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(port, address)}}]}],
        },
    }


def _write(folder: Path, name: str, text: str) -> Path:
    folder.mkdir(exist_ok=True, parents=True)
    path = folder / name
    path.write_text(text)
    return path


@asynccontextmanager
async def envoy(configuration: str, folder: Path) -> AsyncIterator[int]:
    path = _write(folder, "envoy.json", configuration)
    arguments = ("-c", str(path), "--concurrency", "1", "--disable-hot-restart", "-l", "error")
    async with process(str(packaged_envoy()), *arguments, folder=folder) as pid:
        yield pid


@asynccontextmanager
async def bare_proxy(
    name: str, port: int, backend: int, folder: Path, count: int | None = None
) -> AsyncIterator[Proxy]:
    """What the others are compared with; `count` as in `bare_envoy`."""
    async with envoy(bare_envoy(port, backend, folder, count), folder) as pid:
        yield Proxy(name, port, lambda: [pid])


def nginx_configuration(port: int, backend: int, count: int, folder: Path) -> str:
    fields = ("method", "host", "uri", "status", "request_time", "upstream_addr", "remote_addr", "http_user_agent")
    names = {"method": "request_method", "uri": "request_uri"}
    json_format_text = ",".join(f'"{field}":"${names.get(field, field)}"' for field in fields)
    servers = "\n".join(
        f"server {{ listen 127.0.0.1:{port}; server_name {host(number)}; "
        'location / { proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Connection ""; } }'
        for number in range(count)
    )
    return f"""\
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{
  log_format json escape=json '{{{json_format_text}}}';
  access_log {folder}/access.log json;
  server_names_hash_max_size 65536; server_names_hash_bucket_size 128;
  keepalive_requests 1000000;
  client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
  uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
  upstream backend {{ server 127.0.0.1:{backend}; keepalive 64; keepalive_requests 1000000; }}
  {servers}
}}
"""


def haproxy_configuration(port: int, backend: int, count: int, folder: Path) -> str:
    (folder / "hosts.map").write_text("".join(f"{host(number)} b{number}\n" for number in range(count)))
    backends = "\n".join(
        f"backend b{number}\n  http-reuse always\n  server s 127.0.0.1:{backend}" for number in range(count)
    )
    host_field = "%[capture.req.hdr(0)]"
    fields = {"method": "%HM", "host": host_field, "path": "%HP", "status": "%ST", "upstream": "%s", "client": "%ci"}
    return f"""\
global
  nbthread 1
  log stdout format raw local0
defaults
  mode http
  timeout client 60s
  timeout server 60s
  timeout connect 5s
  log global
  log-format '{json.dumps(fields)}'
frontend f
  bind 127.0.0.1:{port}
  http-request capture req.hdr(Host) len 64
  use_backend %[req.hdr(host),host_only,map({folder}/hosts.map)]
{backends}
"""


def traefik_configuration(port: int, backend: int, count: int, folder: Path) -> str:
    routers = {
        f"r{number}": {"rule": f"Host(`{host(number)}`)", "service": "backend", "entryPoints": ["web"]}
        for number in range(count)
    }
    services = {"backend": {"loadBalancer": {"servers": [{"url": f"http://127.0.0.1:{backend}"}]}}}
    (folder / "dynamic.json").write_text(json.dumps({"http": {"routers": routers, "services": services}}))
    return json.dumps(
        {
            "entryPoints": {"web": {"address": f"127.0.0.1:{port}"}},
            "providers": {"file": {"filename": str(folder / "dynamic.json"), "watch": False}},
            "accessLog": {"filePath": str(folder / "access.log"), "format": "json"},
            "log": {"level": "ERROR"},
            "global": {"checkNewVersion": False, "sendAnonymousUsage": False},
        }
    )


@asynccontextmanager
async def competitor(
    name: str,
    configuration: Callable[[int, int, int, Path], str],
    command: Callable[[Path], list[str]],
    port: int,
    backend: int,
    count: int,
    folder: Path,
) -> AsyncIterator[Proxy]:
    folder.mkdir(parents=True)  # noqa: ASYNC240 - nothing runs beside it yet
    _write(folder, "configuration.json", configuration(port, backend, count, folder))
    async with process(*command(folder), folder=folder) as pid:
        yield Proxy(name, port, lambda: children(pid))


def load(proxy: Proxy, seconds: int, connections: int, target: str) -> Round:
    """One run of wrk; p99 and errors as it reports them."""
    before = {pid: cpu_seconds(pid) for pid in proxy.pids()}
    said = subprocess.run(
        [
            *("wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-H", f"Host: {target}"),
            f"http://{proxy.address}:{proxy.port}/",
        ],
        capture_output=True,
        text=True,
        check=True,
        start_new_session=True,
    ).stdout
    used = sum(cpu_seconds(pid) - before.get(pid, 0.0) for pid in proxy.pids())
    requests = int(_found(r"(\d+) requests in", said))
    errors = re.search(r"Non-2xx or 3xx responses: (\d+)", said)
    return Round(
        requests=requests,
        per_core=requests / used if used else float("nan"),
        per_second=float(_found(r"Requests/sec:\s+([\d.]+)", said)),
        p99_ms=_milliseconds(_found(r"99%\s+([\d.]+\w+)", said)),
        errors=int(errors[1]) if errors else 0,
    )


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    if match is None:
        raise RuntimeError(f"wrk printed something else:\n{text}")
    return match[1]


def _milliseconds(text: str) -> float:
    for unit, factor in (("us", 0.001), ("ms", 1.0), ("s", 1000.0)):
        if text.endswith(unit):
            return float(text.removesuffix(unit)) * factor
    raise ValueError(text)


async def compare(count: int, rounds: int, seconds: int, connections: int, competitors: bool) -> None:
    """One table: every proxy with `count` hosts, the rounds alternating."""
    with Ports() as ports:
        folder = Path(tempfile.mkdtemp(prefix="portway-bench-"))
        backend = ports.take()
        async with AsyncExitStack() as stack:
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            await stack.enter_async_context(envoy(backend_envoy(backend), folder / "backend"))
            bare: dict[str, int | None] = {"bare Envoy, 1 route": None, "the same again": None}
            if count > 1:
                bare[f"bare Envoy, {hosts_of(count)}"] = count
            proxies = [
                await stack.enter_async_context(
                    bare_proxy(name, ports.take(), backend, folder / name.replace(" ", "-"), hosts)
                )
                for name, hosts in bare.items()
            ]
            gateway = ports.take()
            running = await stack.enter_async_context(
                portway(
                    folder / "portway",
                    files(count, backend, gateway, per_file=100),
                    *("--concurrency", "1", "--access-log", str(folder / "access.log")),
                )
            )
            proxies.append(Proxy(f"Portway, {hosts_of(count)}", gateway, running.envoys))
            if competitors:
                for name, configuration, command in installed_competitors():
                    proxies.append(
                        await stack.enter_async_context(
                            competitor(
                                f"{name}, {hosts_of(count)}",
                                configuration,
                                command,
                                ports.take(),
                                backend,
                                count,
                                folder / name,
                            )
                        )
                    )
            target = host(count // 2)
            for proxy in proxies:
                await wait_served(proxy.port, target)
                load(proxy, 1, connections, target)
            results: dict[str, list[Round]] = {proxy.name: [] for proxy in proxies}
            for _ in range(rounds):
                for proxy in proxies:
                    results[proxy.name].append(load(proxy, seconds, connections, target))
    _print(results, count, connections)


def hosts_of(count: int) -> str:
    """For people."""
    return f"{count:,} {'host' if count == 1 else 'hosts'}"


def _print(results: dict[str, list[Round]], count: int, connections: int) -> None:
    title(f"Data path, {hosts_of(count)}, {connections} connections, keep-alive, one worker each")
    first, *_ = results
    base = results[first]
    table(
        ["proxy", "requests", "per second and core", "of bare", "requests/s", "p99 ms", "p99 of bare", "errors"],
        [
            (
                name,
                sum(one.requests for one in found),
                median(one.per_core for one in found),
                median(one.per_core / other.per_core for one, other in zip(found, base, strict=True)),
                median(one.per_second for one in found),
                median(one.p99_ms for one in found),
                median(one.p99_ms / other.p99_ms for one, other in zip(found, base, strict=True)),
                sum(one.errors for one in found),
            )
            for name, found in results.items()
        ],
    )


def _traefik_command(folder: Path) -> list[str]:
    return [str(shutil.which("traefik")), "--configFile", str(folder / "configuration.json")]


COMPETITORS: tuple[tuple[str, Callable[[int, int, int, Path], str], Callable[[Path], list[str]]], ...] = (
    ("nginx", nginx_configuration, lambda folder: ["nginx", "-c", str(folder / "configuration.json")]),
    ("haproxy", haproxy_configuration, lambda folder: ["haproxy", "-f", str(folder / "configuration.json")]),
    ("traefik", traefik_configuration, _traefik_command),
)


def installed_competitors() -> Iterator[tuple[str, Callable[[int, int, int, Path], str], Callable[[Path], list[str]]]]:
    """Those that can be run here; says which cannot."""
    for name, configuration, command in COMPETITORS:
        if shutil.which(name) is None:
            print(f"{name} is not installed and left out")
        else:
            yield name, configuration, command


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--hosts", type=int, nargs="*", default=[1, 5000])
    parser.add_argument("--no-competitors", action="store_true")
    given = parser.parse_args()
    if shutil.which("wrk") is None:
        parser.error("wrk is not installed; bench/setup.sh installs it")
    print(machine())
    os.environ["PATH"] = f"{Path('bench/.venv/bin').absolute()}:{os.environ['PATH']}:/usr/sbin"
    for count in given.hosts:
        asyncio.run(compare(count, given.rounds, given.seconds, given.connections, not given.no_competitors))


if __name__ == "__main__":
    main()
