"""`portway run` as its user meets it: files that break, folders that are missing, ports that are taken, signals."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.kit.backends import Backends
from tests.kit.client import fetch
from tests.kit.manifests import CLASS, backend, gateway, http_route, ingress, resource_ingress, service
from tests.kit.portway import Portway, portway

pytestmark = pytest.mark.e2e


@pytest.fixture
async def backends() -> AsyncIterator[dict[str, int]]:
    async with Backends() as running:
        yield {name: (await running.start(name)).port for name in "ab"}


def files(backends: dict[str, int]) -> dict[str, str]:
    return {
        "class.yaml": CLASS,
        "services.yaml": "---\n".join(service(name, [port]) for name, port in backends.items()),
        "route.yaml": ingress("shop", "shop.test", [("/", "a")]),
    }


async def pod(running: Portway, url: str = "http://shop.test/") -> str | None:
    return (await running.get(url)).pod


async def served(running: Portway, name: str, url: str = "http://shop.test/") -> bool:
    return await pod(running, url) == name


async def test_a_broken_file_keeps_serving_and_is_named(tmp_path: Path, backends: dict[str, int]) -> None:
    async with portway(tmp_path, files(backends)) as running:
        running.write("route.yaml", "kind: Ingress\n  metadata: {broken")

        async def named() -> bool:
            status = await running.status()
            return any("route.yaml:" in str(finding) for finding in status["findings"])  # type: ignore[attr-defined]

        await running.until(named, "reported")
        assert await pod(running) == "a"
        # Over a restart too.
        assert await running.stop() == 0
        await running.start()
        assert await pod(running) == "a"
        running.write("route.yaml", ingress("shop", "shop.test", [("/", "b")]))
        await running.until(lambda: served(running, "b"), "mended")


async def test_a_start_without_the_folder_serves_the_last_good_configuration(
    tmp_path: Path, backends: dict[str, int]
) -> None:
    async with portway(tmp_path, files(backends)) as running:
        assert await pod(running) == "a"
        assert await running.stop() == 0
        aside = running.files.with_name("aside")
        running.files.rename(aside)
        await running.start()
        assert await pod(running) == "a"
        assert "sources cannot be read" in running.log_end()
        assert f"listening on 127.0.0.1:{running.http_port}/tcp" in running.log.read_text()
        question = b'{"request": {"host": "shop.test", "port": 80}}'
        url = f"http://127.0.0.1:{running.admin_port}/api/v1/explain"
        answer = await fetch(url, method="POST", body=question)
        assert answer.status == 503, "what the sources would say is not known"
        assert b"the last good configuration is served" in answer.body
        aside.rename(running.files)
        running.write("route.yaml", ingress("shop", "shop.test", [("/", "b")]))
        await running.until(lambda: served(running, "b"), "followed again")
        assert "sources can be read again" in running.log_end()


async def test_what_left_while_the_folder_was_away_is_gone(tmp_path: Path, backends: dict[str, int]) -> None:
    async with portway(tmp_path, files(backends)) as running:
        assert await running.stop() == 0
        aside = running.files.with_name("aside")
        running.files.rename(aside)
        await running.start()
        assert await pod(running) == "a"
        (aside / "route.yaml").unlink()
        aside.rename(running.files)

        async def closed() -> bool:
            return (await running.get("http://shop.test/")).status in (0, 404)

        await running.until(closed, "removed")


async def test_a_port_that_is_taken_hurts_nobody_else(tmp_path: Path, backends: dict[str, int]) -> None:
    foreign = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    taken = foreign.sockets[0].getsockname()[1]
    async with foreign, portway(tmp_path, files(backends)) as running:
        running.write("gateway.yaml", gateway("gw", [("http", taken, "HTTP")]))
        running.write("routes.yaml", http_route("shop", "gw", "gw.test", [("/", "b")]))

        async def told() -> bool:
            return "PortUnavailable" in json.dumps(await running.status())

        await running.until(told, "told")
        assert await pod(running) == "a"
        assert "proxy refused" not in running.log_end(), "Envoy was asked to open what somebody else has"
        foreign.close()
        await foreign.wait_closed()

        async def opened() -> bool:
            return (await fetch(f"http://gw.test:{taken}/")).pod == "b"

        await running.until(opened, "opened once it is free")


async def test_an_ingress_whose_port_is_taken_says_so(tmp_path: Path, backends: dict[str, int]) -> None:
    foreign = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    taken = foreign.sockets[0].getsockname()[1]
    async with foreign, portway(tmp_path, files(backends), "--https-port", str(taken)) as running:
        assert await pod(running) == "a"
        assert await said_of_ingress(running) == ("PortUnavailable", True)
        foreign.close()
        await foreign.wait_closed()

        async def opened() -> bool:
            return await said_of_ingress(running) == ("Programmed", False)

        await running.until(opened, "opened once it is free")


async def said_of_ingress(running: Portway) -> tuple[str, bool]:
    """The reason of its condition, and whether a remark names the port."""
    status = await running.status()
    (report,) = (one for one in status["reports"] if one["object"].startswith("Ingress "))  # type: ignore[attr-defined]
    (condition,) = report["status"]["conditions"]
    return condition["reason"], any("Ingresses are not served there" in remark for remark in report["remarks"])


async def test_the_admin_address(tmp_path: Path, backends: dict[str, int]) -> None:
    async with portway(tmp_path, files(backends)) as running:
        assert (await running.admin("/healthz")).body == b"ok\n"
        assert (await running.admin("/readyz")).status == 200
        metrics = (await running.admin("/metrics")).body.decode()
        assert 'portway_objects{kind="Ingress"} 1.0' in metrics
        assert "envoy_listener_downstream_cx_total" in metrics
        series = [line for line in metrics.splitlines() if line and not line.startswith("#")]
        assert len(series) < 5_000
        status = await running.status()
        assert status["ready"] is True
        assert status["errors"] == 0
        answer = await fetch(f"http://127.0.0.1:{running.admin_port}/api/v1/explain", method="POST", body=b"{}")
        assert answer.status == 400
        rebound = [("host", f"evil.example:{running.admin_port}")]
        answer = await fetch(f"http://127.0.0.1:{running.admin_port}/api/v1/status", headers=rebound)
        assert answer.status == 421


async def test_nobody_is_sent_to_our_own_sockets(tmp_path: Path, backends: dict[str, int]) -> None:
    async with portway(tmp_path, files(backends)) as running:
        state = running.folder / "state"
        own = {
            "xds": f"unixSocket: {{path: {state}/xds.sock}}",
            "envoy": f"unixSocket: {{path: {state}/proxies/host/admin.sock}}",
            "here": "unixSocket: {path: /proc/self/cwd/admin.sock}",
            "admin": f"addresses: [{{address: 127.0.0.1, port: {running.admin_port}}}]",
        }
        other = {"web": f"addresses: [{{address: 127.0.0.1, port: {backends['a']}}}]"}
        for name, spec in (own | other).items():
            running.write(f"{name}.yaml", f"{backend(name, spec)}---\n{resource_ingress(name, f'{name}.test', name)}")
        await running.until(lambda: served(running, "a", "http://web.test/"), "served")
        for name in own:
            assert (await running.get(f"http://{name}.test/healthz")).status == 503
        status = await running.status()
        assert status["errors"] == len(own)


async def test_a_second_portway_on_the_same_folder_says_who_has_it(tmp_path: Path, backends: dict[str, int]) -> None:
    async with portway(tmp_path, files(backends)) as running:
        first = running.pid
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "portway"),
            *("run", "-f", str(running.files), "--state-dir", str(running.folder / "state"), "--admin-address", ""),
            stderr=asyncio.subprocess.PIPE,
        )
        _, said = await process.communicate()
        assert process.returncode == 1
        assert f"is in use by process {first}" in said.decode()


async def test_access_log_lines_reach_standard_output_with_the_object_that_routed(
    tmp_path: Path, backends: dict[str, int]
) -> None:
    async with portway(tmp_path, files(backends)) as running:
        await running.get("http://shop.test/some/path")

        async def logged() -> bool:
            lines = [json.loads(line) for line in running.log.read_text().splitlines() if line.startswith("{")]
            return any(
                line.get("path") == "/some/path" and line.get("route") == "Ingress/shop/shop" and line["status"] == 200
                for line in lines
            )

        await running.until(logged, "logged")


async def test_answers_over_tls_say_so_and_failed_connections_are_502(tmp_path: Path, backends: dict[str, int]) -> None:
    dead = files(backends)
    dead["dead.yaml"] = f"{service('dead', [1])}---\n{ingress('dead', 'dead.test', [('/', 'dead')])}"
    dead["none.yaml"] = f"{service('none', [])}---\n{ingress('none', 'none.test', [('/', 'none')])}"
    async with portway(tmp_path, dead, "--hsts") as running:
        secure = await running.get("https://shop.test/")
        assert dict(secure.headers)["strict-transport-security"] == "max-age=31536000; includeSubDomains"
        assert "strict-transport-security" in dict((await running.get("https://nowhere.test/")).headers)
        assert "strict-transport-security" not in dict((await running.get("http://shop.test/")).headers)
        assert (await running.get("http://dead.test/")).status == 502
        assert (await running.get("http://none.test/")).status == 503
