"""Retries, ejection, hashing and sticky sessions, as Envoy does them."""

import asyncio
from collections import Counter

import envoy.extensions.filters.http.stateful_session.v3.stateful_session_pb2
import envoy.extensions.http.stateful_session.cookie.v3.cookie_pb2  # noqa: F401
import pytest

from portway.model.resource import ResourceType
from tests.kit.backends import Kind
from tests.kit.client import fetch
from tests.kit.connect import Endpoint
from tests.kit.http1_client import Http1Connection
from tests.kit.lab import Laboratory, eventually, laboratory, settled, until_answer
from tests.kit.resources import (
    connection_manager,
    eds_cluster,
    endpoints,
    http_listener,
    http_options,
    listener,
    route,
    router_filter,
    routes,
    typed,
    virtual_host,
)

pytestmark = pytest.mark.e2e

PREVIOUS_HOSTS = {
    "name": "previous_hosts",
    "typed_config": typed("envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"),
}
RETRIES = {
    "retry_on": "connect-failure,refused-stream,reset-before-request",
    "num_retries": 2,
    "retry_host_predicate": [PREVIOUS_HOSTS],
    "host_selection_retry_max_attempts": 3,
    "retry_back_off": {"base_interval": "0.001s", "max_interval": "0.001s"},
}
BUDGET = {"thresholds": [{"retry_budget": {"budget_percent": {"value": 20}, "min_retry_concurrency": 100}}]}
DRAINING_TOO = {"statuses": ["UNKNOWN", "HEALTHY", "DEGRADED", "DRAINING"]}


async def serve(lab: Laboratory, *ports: int, action: dict[str, object] | None = None, **cluster: object) -> int:
    """These endpoints behind cluster `c-a` and every host; the proxy's port."""
    port, ads = lab.ports.take(), lab.ads
    ads.put(endpoints("c-a", *ports), routes("r", virtual_host("a", ["*"], route("c-a", action=action))))
    assert (await ads.update(eds_cluster("c-a", **cluster))).error is None
    assert (await ads.update(http_listener("l", port, "r"))).error is None
    await until_answer(f"http://a.example:{port}/")
    return port


@pytest.mark.parametrize("retries", [True, False])
async def test_retries_on_the_cluster_hide_an_endpoint_that_refuses(retries: bool) -> None:
    async with laboratory() as lab:
        good, refusing = await lab.backends.start("good"), await lab.backends.start("refusing", Kind.REFUSED)
        options = http_options(**({"retry_policy": RETRIES} if retries else {}))
        port = await serve(
            lab, good.port, refusing.port, typed_extension_protocol_options=options, circuit_breakers=BUDGET
        )
        async with await Http1Connection.open(Endpoint(port=port)) as connection:
            statuses = Counter([(await connection.request("/", host="a.example")).status for _ in range(200)])
        assert (statuses[503] == 0) is retries, statuses


async def test_an_endpoint_that_fails_is_ejected_by_watching_it() -> None:
    async with laboratory() as lab:
        good, resetting = await lab.backends.start("good"), await lab.backends.start("resetting", Kind.RESET)
        ejection = {"consecutive_5xx": 3, "interval": "0.1s", "base_ejection_time": "60s", "max_ejection_percent": 50}
        port = await serve(lab, good.port, resetting.port, outlier_detection=ejection)

        async def ejected() -> bool:
            await fetch(f"http://a.example:{port}/")
            return "failed_outlier_check" in await lab.envoy.admin("/clusters")

        await eventually(ejected)
        assert [(await fetch(f"http://a.example:{port}/")).pod for _ in range(20)] == ["good"] * 20


@pytest.mark.parametrize(
    ("limit", "ejects"),
    [({"timeout": "0.3s"}, True), ({"timeout": "0s", "idle_timeout": "0.3s"}, False)],
    ids=["request timeout", "idle timeout"],
)
async def test_only_timeouts_of_whole_requests_count_as_failures(limit: dict[str, object], ejects: bool) -> None:
    """And only in a row: each request that begins at an endpoint sets its count to 0, so they have to end together."""
    async with laboratory() as lab:
        good, hanging = await lab.backends.start("good"), await lab.backends.start("hanging", Kind.HANG)
        counted = {"split_external_local_origin_errors": True, "max_ejection_percent": 50, "base_ejection_time": "60s"}
        port = await serve(lab, good.port, hanging.port, action=limit, outlier_detection=counted)
        answers = await asyncio.gather(*(fetch(f"http://a.example:{port}/") for _ in range(24)))
        assert Counter(answer.status for answer in answers) == {200: 12, 504: 12}
        # The main thread ejects, some moment after the worker has counted.
        await asyncio.sleep(0.3)
        assert ("failed_outlier_check" in await lab.envoy.admin("/clusters")) is ejects


@pytest.mark.parametrize("policy", ["RING_HASH", "MAGLEV"])
async def test_hashing_by_a_header_sends_equal_values_to_one_endpoint(policy: str) -> None:
    async with laboratory() as lab:
        ports = [(await lab.backends.start(name)).port for name in ("a", "b", "c")]
        action: dict[str, object] = {"hash_policy": [{"header": {"header_name": "x-user"}}]}
        port = await serve(lab, *ports, action=action, lb_policy=policy)
        chosen: dict[str, set[str | None]] = {}
        for user in [str(number) for number in range(30)] * 3:
            answer = await fetch(f"http://a.example:{port}/", headers=[("x-user", user)])
            chosen.setdefault(user, set()).add(answer.pod)
        assert {len(pods) for pods in chosen.values()} == {1}
        assert set[str | None]().union(*chosen.values()) == {"a", "b", "c"}


@pytest.mark.parametrize("keeps", [True, False])
async def test_a_sticky_session_outlives_draining_only_if_draining_may_be_overridden(keeps: bool) -> None:
    async with laboratory() as lab:
        ads, port = lab.ads, lab.ports.take()
        backends = {name: await lab.backends.start(name) for name in ("a", "b")}
        ports = {name: backend.port for name, backend in backends.items()}
        cookie = typed(
            "envoy.extensions.http.stateful_session.cookie.v3.CookieBasedSessionState",
            cookie={"name": "sticky", "path": "/"},
        )
        sessions = typed(
            "envoy.extensions.filters.http.stateful_session.v3.StatefulSession",
            session_state={"name": "envoy.http.stateful_session.cookie", "typed_config": cookie},
        )
        manager = connection_manager("r", http_filters=[{"name": "s", "typed_config": sessions}, router_filter()])
        ads.put(endpoints("c-a", *ports.values()), routes("r", virtual_host("a", ["*"], route("c-a"))))
        common = {"common_lb_config": {"override_host_status": DRAINING_TOO}} if keeps else {}
        assert (await ads.update(eds_cluster("c-a", **common))).error is None
        assert (await ads.update(listener("l", port, {"filters": [manager]}))).error is None
        first = await until_answer(f"http://a.example:{port}/")
        assert first.pod is not None
        session = ("cookie", (first.header("set-cookie") or "").split(";")[0])
        for _ in range(5):
            assert (await fetch(f"http://a.example:{port}/", headers=[session])).pod == first.pod
        other = next(name for name in ports if name != first.pod)
        mixed = endpoints("c-a", ports[other])
        mixed.endpoints[0].lb_endpoints.extend(
            endpoints("c-a", ports[first.pod], health_status="DRAINING").endpoints[0].lb_endpoints
        )
        assert (await ads.update(mixed)).error is None
        await settled(ads, ResourceType.ENDPOINTS)
        assert {(await fetch(f"http://a.example:{port}/")).pod for _ in range(6)} == {other}  # no new sessions there
        again = await fetch(f"http://a.example:{port}/", headers=[session])
        assert again.pod == (first.pod if keeps else other)
