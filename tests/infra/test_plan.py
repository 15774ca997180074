"""The decisions about a proxy that runs already, and about pauses between starts."""

from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from portway.infra.binary import EnvoyBinary
from portway.infra.drain import Activity, parse_activity
from portway.infra.envoy_admin import ServerInfo, ServerState
from portway.infra.plan import Found, Start, plan_start, restart_delay
from portway.infra.process import Launch, parse_launch

BINARY = EnvoyBinary(path=Path("/envoy"), build="abc/1.40.0/Clean/RELEASE/BoringSSL", hot_restart_version="11.104")
LAUNCH = Launch(
    bootstrap="bootstrap-1.json",
    base_id=7,
    concurrency=2,
    drain=timedelta(seconds=30),
    parent_shutdown=timedelta(minutes=15),
)
LIVE = ServerInfo(version=BINARY.build, state=ServerState.LIVE, hot_restart_version="11.104")


def changed(**fields: object) -> Launch:
    return msgspec.structs.replace(LAUNCH, **fields)


PLANS: dict[str, tuple[Found | None, Start]] = {
    "nothing runs": (None, Start.FRESH),
    "the same": (Found(launch=LAUNCH, info=LIVE), Start.ADOPT),
    "the same after hot restarts": (Found(launch=changed(epoch=3, base_id=9), info=LIVE), Start.ADOPT),
    "another log level is no reason": (Found(launch=changed(log_level="debug"), info=LIVE), Start.ADOPT),
    "the same, still without configuration": (
        Found(launch=LAUNCH, info=msgspec.structs.replace(LIVE, state=ServerState.INITIALIZING)),
        Start.ADOPT,
    ),
    "another bootstrap": (Found(launch=changed(bootstrap="bootstrap-2.json"), info=LIVE), Start.HAND_OVER),
    "another number of workers": (Found(launch=changed(concurrency=4), info=LIVE), Start.HAND_OVER),
    "another build": (
        Found(launch=LAUNCH, info=msgspec.structs.replace(LIVE, version="abd/1.40.1/Clean/RELEASE/BoringSSL")),
        Start.HAND_OVER,
    ),
    "a build that cannot hand over": (
        Found(
            launch=LAUNCH,
            info=msgspec.structs.replace(LIVE, version="x/1.39.0/Clean/RELEASE/BoringSSL", hot_restart_version="11.9"),
        ),
        Start.BESIDE,
    ),
    "another bootstrap, but it never served": (
        Found(
            launch=changed(bootstrap="bootstrap-2.json"),
            info=msgspec.structs.replace(LIVE, state=ServerState.PRE_INITIALIZING),
        ),
        Start.INSTEAD,
    ),
    "no answer": (Found(launch=LAUNCH, info=None), Start.HAND_OVER),
}


@pytest.mark.parametrize("case", PLANS)
def test_plan(case: str) -> None:
    found, plan = PLANS[case]
    assert plan_start(found, LAUNCH, BINARY) is plan


def test_command_line_tells_all() -> None:
    launch = changed(epoch=2, log_level="debug")
    assert parse_launch(list(launch.arguments())) == launch


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--config-path", "x.json", "--base-id", "7"],
        [*LAUNCH.arguments(), "--more", "x"],
        ["-c", "x.json", *LAUNCH.arguments()[2:]],
        [argument.replace("900", "x") for argument in LAUNCH.arguments()],
    ],
)
def test_foreign_command_lines_are_not_ours(arguments: list[str]) -> None:
    assert parse_launch(arguments) is None


def test_pauses_between_starts() -> None:
    pauses = [restart_delay(deaths).total_seconds() for deaths in range(1, 10)]
    assert pauses == [0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5]
    assert restart_delay(10_000).total_seconds() == 5


def test_activity_leaves_out_the_admin_interface_and_workers() -> None:
    statistics = {
        "http.admin.downstream_rq_active": 1,
        "http.admin.downstream_cx_active": 1,
        "listener.admin.downstream_cx_active": 1,
        "listener.admin.main_thread.downstream_cx_active": 1,
        "http.ingress.downstream_rq_active": 3,
        "http.ingress.downstream_cx_active": 2,
        "listener.0.0.0.0_80.downstream_cx_active": 2,
        "listener.0.0.0.0_80.worker_0.downstream_cx_active": 2,
        "listener.0.0.0.0_9000.downstream_cx_active": 4,
    }
    activity = parse_activity(statistics)
    assert activity == Activity(connections=6, requests=3, tunnels=4)
    assert activity.busy == 7
