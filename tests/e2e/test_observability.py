"""What operators see: access log, traces, metrics, logs; and what can be switched while Envoy runs."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc.aio
import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.kit.backends import Backends
from tests.kit.client import fetch
from tests.kit.manifests import CLASS, GATEWAY_CLASS, gateway_with, http_route, ingress, service
from tests.kit.ports import Ports
from tests.kit.portway import Portway, portway

pytestmark = pytest.mark.e2e


@pytest.fixture
async def backends() -> AsyncIterator[dict[str, int]]:
    async with Backends() as running:
        yield {name: (await running.start(name)).port for name in "ab"}


def files(backends: dict[str, int]) -> dict[str, str]:
    return {
        "class.yaml": f"{CLASS}---\n{GATEWAY_CLASS}",
        "services.yaml": "---\n".join(service(name, [port]) for name, port in backends.items()),
        "route.yaml": ingress("shop", "shop.test", [("/", "a")]),
    }


async def metrics(running: Portway) -> list[Metric]:
    """The metrics page, parsed; raises ValueError for what Prometheus would not take."""
    answer = await running.admin("/metrics")
    assert (answer.header("content-type") or "").startswith("text/plain")
    types = Counter(line.split()[2] for line in answer.text.splitlines() if line.startswith("# TYPE "))
    assert max(types.values()) == 1, f"{types.most_common(1)} stand there more than once"
    return list(text_string_to_metric_families(answer.text))


def series(families: list[Metric]) -> int:
    return sum(len(family.samples) for family in families)


def upstreams(families: list[Metric]) -> set[str]:
    """Upstreams that are counted by themselves."""
    return {
        sample.labels["portway_upstream"]
        for family in families
        for sample in family.samples
        if "portway_upstream" in sample.labels
    }


# Access log


async def logged(running: Portway, path: str) -> dict[str, object]:
    """The line of the access log about a path."""
    found: dict[str, object] = {}

    async def is_logged() -> bool:
        for line in running.log.read_text().splitlines():
            entry = json.loads(line) if line.startswith("{") else {}
            if entry.get("path") == path:
                found.update(entry)
        return bool(found)

    await running.until(is_logged, f"{path} logged", seconds=15)
    return found


async def test_access_log(tmp_path: Path, backends: dict[str, int]) -> None:
    with Ports() as ports:
        port = ports.take()
        world = files(backends)
        world["gateway.yaml"] = "---\n".join(
            [
                gateway_with("gw", [f"name: http, port: {port}, protocol: HTTP"]),
                http_route("web", "gw", "gw.test", [("/", "b")]),
            ]
        )
        async with portway(tmp_path, world) as running:
            await running.get("http://shop.test/status/404?q=1", headers=[("user-agent", 'a"b\\c')])
            line = await logged(running, "/status/404?q=1")
            assert {key: line[key] for key in ("method", "authority", "protocol", "status", "route", "tries")} == {
                "method": "GET",
                "authority": f"shop.test:{running.http_port}",
                "protocol": "HTTP/1.1",
                "status": 404,
                "route": "Ingress/shop/shop",
                "tries": 1,
            }
            assert line["client"] == "127.0.0.1"
            assert line["user_agent"] == 'a"b\\c'
            assert line["upstream_address"] == f"127.0.0.1:{backends['a']}"
            assert isinstance(line["duration_ms"], int)
            await running.get("https://shop.test/secure", http2=True)
            secure = await logged(running, "/secure")
            assert (secure["protocol"], secure["server_name"]) == ("HTTP/2", "shop.test")

            async def is_served() -> bool:
                return (await fetch(f"http://gw.test:{port}/gateway")).pod == "b"

            await running.until(is_served, "served")
            assert str((await logged(running, "/gateway"))["route"]).startswith("HTTPRoute/shop/web")
            await running.get("http://nobody.test/nobody")
            assert (await logged(running, "/nobody"))["status"] == 404


# Traces


@asynccontextmanager
async def collector() -> AsyncIterator[tuple[int, list[bytes]]]:
    """An OpenTelemetry collector (OTLP over gRPC): its port, and the requests that came, encoded."""
    requests: list[bytes] = []

    async def export(request: bytes, _: object) -> bytes:
        requests.append(request)
        return b""

    server = grpc.aio.server()
    name = "opentelemetry.proto.collector.trace.v1.TraceService"
    handlers = {"Export": grpc.unary_unary_rpc_method_handler(export)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield port, requests
    finally:
        await server.stop(None)


async def test_the_access_log_names_what_the_client_asked_for(tmp_path: Path, backends: dict[str, int]) -> None:
    annotations = {"rewrite-target": "/new/$1", "upstream-vhost": "inner.test"}
    world = files(backends)
    world["rewritten.yaml"] = ingress("moved", "moved.test", [("/old/(.*)", "a")], annotations=annotations)
    async with portway(tmp_path, world) as running:
        sent = (await running.get("http://moved.test/old/x?q=1")).echoed()
        assert (sent.path, sent.host) == ("/new/x?q=1", "inner.test")
        line = await logged(running, "/old/x?q=1")
        assert line["authority"] == f"moved.test:{running.http_port}"


TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"  # W3C Trace Context, §3.2.2.3: the example


async def test_an_access_log_in_a_file_of_ones_own(
    tmp_path: Path, backends: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The path may be relative, although Envoy works in another folder; one that cannot be written is said at once."""
    monkeypatch.chdir(tmp_path)
    async with portway(tmp_path, files(backends), "--access-log", "requests.log") as running:
        assert (await running.get("http://shop.test/own")).status == 200

        async def is_written() -> bool:
            return '"path":"/own"' in (tmp_path / "requests.log").read_text()

        await running.until(is_written, "logged", seconds=15)
        assert await running.stop() == 0
        running.arguments = ("--access-log", "nowhere/requests.log")
        await running.start(ready=False)
        assert await running.ended() == 1
        assert "--access-log nowhere/requests.log cannot be written: No such file or directory" in running.log_end()


async def test_traces_reach_a_collector(tmp_path: Path, backends: dict[str, int]) -> None:
    async with (
        collector() as (port, requests),
        portway(tmp_path, files(backends), "--tracing-collector", f"127.0.0.1:{port}") as running,
    ):
        parent = f"00-{TRACE}-00f067aa0ba902b7-01"
        answer = await running.get("http://shop.test/traced", headers=[("traceparent", parent)])
        forwarded = answer.echoed().header("traceparent") or ""
        assert forwarded.split("-")[1] == TRACE, "the backend is not in the client's trace"
        assert forwarded != parent, "the proxy's span is not the backend's parent"

        async def is_traced() -> bool:
            return any(bytes.fromhex(TRACE) in request and b"/traced" in request for request in requests)

        await running.until(is_traced, "traced", seconds=20)  # Envoy sends spans every 5 s
        # A client without a trace gets one.
        untraced = (await running.get("http://shop.test/")).echoed().header("traceparent") or ""
        assert len(untraced.split("-")) == 4


async def test_a_collector_that_is_away_hurts_nobody(tmp_path: Path, backends: dict[str, int]) -> None:
    with Ports() as ports:
        address = f"127.0.0.1:{ports.take()}"
        async with portway(tmp_path, files(backends), "--tracing-collector", address) as running:
            answers = [await running.get("http://shop.test/") for _ in range(50)]
    assert {answer.status for answer in answers} == {200}


# Metrics


async def test_metrics_are_one_page_that_does_not_grow_with_services(tmp_path: Path, backends: dict[str, int]) -> None:
    async with portway(tmp_path, files(backends)) as running:
        await running.get("http://shop.test/")
        before = await metrics(running)
        assert {"portway_objects", "envoy_http_downstream_rq"} <= {family.name for family in before}
        assert not upstreams(before)
        names = [f"many-{number}" for number in range(100)]
        running.write("many.yaml", "---\n".join(service(name, [backends["a"]]) for name in names))
        running.write("routes.yaml", "---\n".join(ingress(name, f"{name}.test", [("/", name)]) for name in names))

        async def are_served() -> bool:
            return all([(await running.get(f"http://{name}.test/")).pod == "a" for name in names])

        await running.until(are_served, "served")  # each as soon as its own cluster is ready
        after = await metrics(running)
        assert series(after) < series(before) + 100
        assert series(after) < 5_000


async def test_services_are_counted_without_a_restart(tmp_path: Path, backends: dict[str, int]) -> None:
    """Neither of Envoy nor of Portway: the settings file is followed."""
    settings = tmp_path / "settings.yaml"
    settings.write_text("zone: a\n")
    async with portway(tmp_path, files(backends), "--settings", str(settings)) as running:
        envoys, process = running.envoys(), running.pid
        for wanted, expected in (("statistics-for: [shop/a]\n", {"shop/a_80"}), ("", set())):
            settings.write_text(f"zone: a\n{wanted}")

            async def is_counted(expected: set[str] = expected) -> bool:
                await running.get("http://shop.test/")
                return upstreams(await metrics(running)) == expected

            await running.until(is_counted, f"counted: {expected}")
        assert (running.envoys(), running.pid) == (envoys, process), "something was restarted"
        settings.write_text("zone: b\nhsts: perhaps\n")
        await running.until(lambda: _says(running, "settings cannot be used, the old ones stay"), "refused")
        settings.write_text("zone: b\n")
        await running.until(lambda: _says(running, "settings need a restart of Portway"), "late")


async def _says(running: Portway, event: str) -> bool:
    return event in running.log.read_text()


async def test_log_levels(tmp_path: Path, backends: dict[str, int]) -> None:
    async with portway(
        tmp_path, files(backends), "--log-level", "debug", "--envoy-log-level", "debug", "--access-log", ""
    ) as running:
        assert (await running.get("http://shop.test/quiet")).status == 200
        await asyncio.sleep(0.3)
        text = running.log.read_text()
        assert '"path":"/quiet"' not in text, "an access log although none is wanted"
        events = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
        assert {"timestamp", "level", "event"} <= set(events[0])
        envoy_logs = "".join(path.read_text(errors="replace") for path in (tmp_path / "state").rglob("*.log"))
        assert "[debug]" in envoy_logs or "debug" in text
