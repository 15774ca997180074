"""The admin interface of a real Envoy, and what Portway's bootstrap makes of its statistics."""

import asyncio
import base64
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from envoy.config.bootstrap.v3 import bootstrap_pb2 as bootstrapv3
from envoy.config.cluster.v3 import cluster_pb2 as clusterv3
from google.protobuf import json_format

from portway.envoy.bootstrap import COUNTED_PREFIX, EXCLUDED_STATISTICS, UPSTREAM_TAG, encode_bootstrap, statistics_name
from portway.infra.envoy_admin import (
    AdminUnreachable,
    EnvoyAdmin,
    Host,
    ListenerState,
    ServerState,
    parse_clusters,
    parse_listeners,
)
from portway.infra.logs import LogSettings
from portway.infra.proxy import HostSettings
from tests.infra.material import self_signed
from tests.infra.running import BRISK, envoy, reached, running
from tests.infra.serving import free_port, get, serving_bootstrap


def with_clusters(bootstrap: bytes, names: dict[str, bool]) -> bytes:
    """The bootstrap and so many more clusters; the value says whether each is counted."""
    message = bootstrapv3.Bootstrap()
    json_format.Parse(bootstrap, message)
    for name, counted in names.items():
        cluster = message.static_resources.clusters.add(
            name=name, type=clusterv3.Cluster.STATIC, alt_stat_name=statistics_name(name, counted=counted)
        )
        cluster.load_assignment.cluster_name = name
        locality = cluster.load_assignment.endpoints.add()
        locality.locality.zone = "a"
        address = locality.lb_endpoints.add().endpoint.address.socket_address
        address.address, address.port_value = "127.0.0.1", 9
    return encode_bootstrap(message)


@pytest.mark.e2e
async def test_answers_of_a_running_proxy(tmp_path: Path) -> None:
    port = free_port()
    bootstrap = with_clusters(serving_bootstrap(port, "one"), {"shop/cart:80": True})
    async with running(tmp_path / "state", bootstrap) as proxy:
        admin = proxy.admin
        assert await admin.state() is ServerState.LIVE
        info = await admin.server_info()
        assert (info.command_line_options.concurrency, info.command_line_options.log_level) == (1, "warning")
        clusters = await admin.clusters()
        assert clusters["shop/cart:80"] == (Host(address="127.0.0.1:9", healthy=True, failures=(), weight=1, zone="a"),)
        assert list(await admin.clusters("^shop/")) == ["shop/cart:80"]
        assert await admin.listeners() == ()  # the only one is static
        await get(port)
        assert (await admin.statistics(r"^http\.http\.downstream_rq_2xx$")) == {"http.http.downstream_rq_2xx": 1}
        await admin.set_log_level("debug")
        assert (await admin.server_info()).command_line_options.log_level == "warning"
        assert "shop/cart:80" in await admin.config_dump({"resource": "static_clusters"})
        with pytest.raises(AdminUnreachable, match="answers 404"):
            await admin.config_dump({"resource": "no_such_thing"})


@pytest.mark.e2e
async def test_configuration_is_shown_without_keys(tmp_path: Path) -> None:
    certificate, key = self_signed("shop.example")
    message = bootstrapv3.Bootstrap()
    json_format.Parse(serving_bootstrap(free_port(), "one"), message)
    secret = message.static_resources.secrets.add(name="shop/certificate")
    secret.tls_certificate.certificate_chain.inline_bytes = certificate
    secret.tls_certificate.private_key.inline_bytes = key
    async with running(tmp_path / "state", encode_bootstrap(message)) as proxy:
        shown = await proxy.admin.config_dump()
    assert "shop/certificate" in shown
    assert key.decode().splitlines()[1] not in shown
    assert base64.b64encode(key).decode()[:60] not in shown


@pytest.mark.e2e
async def test_nobody_there(tmp_path: Path) -> None:
    admin = EnvoyAdmin(str(tmp_path / "admin.sock"))
    with pytest.raises(AdminUnreachable, match=r"GET /ready on .*admin\.sock"):
        await admin.state()


async def test_half_an_answer_is_none(tmp_path: Path) -> None:
    """Envoy ended in the midst of it."""
    path = str(tmp_path / "admin.sock")

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n10\r\nonly so far")
        writer.close()

    async with await asyncio.start_unix_server(answer, path):
        with pytest.raises(AdminUnreachable, match="IncompleteRead"):
            await EnvoyAdmin(path).server_info()


@pytest.mark.e2e
async def test_only_chosen_upstreams_have_series(tmp_path: Path) -> None:
    """At 5,000 upstreams a page of Envoy's default statistics has 850,000 series."""
    names = {f"shop/cart{number}:80": number == 7 for number in range(300)}
    async with running(tmp_path / "state", with_clusters(serving_bootstrap(free_port(), "one"), names)) as proxy:
        page = await proxy.admin.prometheus()
        series = [line for line in page.splitlines() if line and not line.startswith("#")]
        upstreams = {line.partition(f'{UPSTREAM_TAG}="')[2].partition('"')[0] for line in series} - {""}
        assert upstreams == {"shop/cart7_80"}
        assert len(series) < 1_000
        kept = await proxy.admin.statistics("")
        assert not [name for name in kept if name.startswith(EXCLUDED_STATISTICS)]
        assert any(name.startswith(f"cluster.{COUNTED_PREFIX}shop/cart7_80.") for name in kept)


@pytest.mark.e2e
async def test_log_is_rotated_and_followed(tmp_path: Path) -> None:
    """Envoy opens its log anew when it is told to, and goes on there."""
    settings = HostSettings(
        concurrency=1,
        drain=BRISK.drain,
        parent_shutdown=BRISK.parent_shutdown,
        stop=BRISK.stop,
        log_level="debug",
        application_log=LogSettings(max_bytes=2_000, kept=1),
    )
    state = tmp_path / "state"
    async with running(state, serving_bootstrap(free_port(), "one"), settings) as proxy:
        logs = state / "proxies" / "test" / "logs"
        await reached(lambda: sizes(logs).get("envoy.log.1", 0) > 0)
        await proxy.admin.server_info()  # says something at this level
        await reached(lambda: sizes(logs).get("envoy.log", 0) > 0)
        assert set(sizes(logs)) == {"envoy.log", "envoy.log.1", "output.log"}


def sizes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in folder.iterdir()}


@pytest.mark.e2e
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
async def test_runs_as_an_ordinary_user(tmp_path: Path) -> None:
    """Started, killed and adopted as a user without rights."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    home = tmp_path / "home"
    prepare(home, serving_bootstrap(port, "mine"))
    # The interpreter may lie in root's home: reading it is the one thing that this user may do more than others.
    reading = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *reading, *supervisor(home)]
    for origin in ("started", "adopted"):
        process = await asyncio.create_subprocess_exec(
            *command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=Path(__file__).parent.parent.parent
        )
        assert process.stdout is not None
        assert process.stderr is not None
        async with asyncio.timeout(20):
            while (line := (await process.stdout.readline()).decode()) and not line.startswith("live"):
                pass
        assert line.split()[3:] == [origin], (await process.stderr.read()).decode()
        assert await get(port) == "mine"
        if origin == "started":
            process.kill()
        else:
            process.terminate()
        await process.communicate()


def prepare(home: Path, bootstrap: bytes) -> None:
    home.mkdir()
    (home / "bootstrap.json").write_bytes(bootstrap)
    for path in (home, home / "bootstrap.json"):
        os.chown(path, 65534, 65534)
    for parent in home.parents:  # pytest's folders are closed to others
        if parent.stat().st_uid == os.geteuid() and str(parent).startswith("/tmp/"):
            parent.chmod(parent.stat().st_mode | 0o011)


def supervisor(home: Path) -> list[str]:
    return [sys.executable, "-m", "tests.infra.supervisor", str(home / "state"), str(home / "bootstrap.json")]


def test_health_of_endpoints_is_read_whole() -> None:
    text = """{"cluster_statuses": [{"name": "c", "host_statuses": [
      {"address": {"pipe": {"path": "/run/x.sock"}}, "weight": 3, "locality": {"zone": "b"},
       "health_status": {"eds_health_status": "DRAINING", "failed_outlier_check": true}},
      {"address": {"socket_address": {"address": "10.0.0.1", "port_value": 80}},
       "health_status": {"failed_active_health_check": true, "eds_health_status": "HEALTHY"}},
      {"address": {"socket_address": {"address": "10.0.0.2", "port_value": 80}}, "health_status": {}}]}]}"""
    hosts = parse_clusters(text)["c"]
    assert [host.failures for host in hosts] == [
        ("eds_health_status DRAINING", "failed_outlier_check"),
        ("failed_active_health_check",),
        (),
    ]
    assert [host.address for host in hosts] == ["/run/x.sock", "10.0.0.1:80", "10.0.0.2:80"]
    assert (hosts[0].weight, hosts[0].zone, hosts[2].healthy) == (3, "b", True)


def test_listener_states() -> None:
    text = """{"configs": [
      {"name": "warming", "warming_state": {"version_info": "1", "listener": {"name": "warming"}}},
      {"name": "active", "active_state": {"version_info": "1"}, "error_state": {"details": "refused because"}}]}"""
    assert parse_listeners(text) == (
        ListenerState(name="active", active=True, warming=False, error="refused because"),
        ListenerState(name="warming", active=False, warming=True, error=""),
    )
    assert parse_listeners("{}") == ()


def test_packaged_envoy_is_the_pinned_release() -> None:
    assert envoy().version.startswith("1.40.")
