"""`explain` and `status` of a control plane that runs for a cluster, over its admin address: of which proxies?"""

import asyncio
import base64
import datetime as dt
import json
import os
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from threading import Event
from urllib.error import HTTPError

import pytest
from aiohttp import web
from click.testing import CliRunner, Result

from portway.cli import main
from portway.identity.authorities import encode_authorities, make_authority
from portway.identity.contract import IDENTITY_PORT, XDS_PORT
from portway.kubernetes.client import resource_path
from tests.cluster.control_plane import ControlPlane
from tests.cluster.process import log_end
from tests.kit.manifests import CLASS, gateway, http_route, ingress, service
from tests.kit.ports import free_port
from tests.kubernetes.faulty import FaultyServer
from tests.kubernetes.planes import plane

__all__ = ["plane"]
pytestmark = pytest.mark.cluster

SHOP = "---\n".join(
    (
        *(f"{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}}}}}\n" for name in ("shop", "portway-system")),
        CLASS,
        service("a", []),
        service("b", []),
        gateway("web", [("http", 80, "HTTP"), ("more", 8080, "HTTP")]),
        gateway("edge", [("http", 80, "HTTP")]),
        http_route("web", "web", "shop.test", [("/", "a")]),
        http_route("both", "web", "both.test", [("/", "a")]),
        http_route("both-too", "edge", "both.test", [("/", "b")]),
        ingress("cart", "cart.test", [("/", "a")]),
    )
)
ADDRESS = "192.0.2.1"
"""Of the Gateway `edge`, as a load balancer would have given it."""
LISTEN = [str(ip_address(f"127.{number}.0.0") + os.getpid()) for number in (64, 128)]
"""Where they listen for proxies: the ports are fixed, and there may be two of each worker."""
READY_S = 60
READY = "ok\n"


@pytest.fixture(scope="module")
def live(plane: ControlPlane) -> Iterator[str]:
    """The admin address of one that has read all, and knows an address of one of its Services."""
    plane.kubectl("apply", "-f", "-", stdin=SHOP)
    with running(plane, "portway-system", LISTEN[0]) as (address, log):
        wait("Portway is ready", lambda: readiness(address) == READY, log)
        wait("its Service has an address", lambda: is_given_an_address(plane), log)
        asked = (f"http://{ADDRESS}/", "-H", "Host: both.test")
        wait("it knows that address", lambda: explain(address, *asked).exit_code == 0, log)
        yield address


@contextmanager
def running(
    plane: ControlPlane, namespace: str, listen: str, kubeconfig: Path | None = None
) -> Iterator[tuple[str, Path]]:
    """A Portway of a namespace: its admin address, and its log.

    Args:
        kubeconfig: `None`: the administrator's.
    """
    address, log = f"127.0.0.1:{free_port()}", plane.folder / f"{namespace}.log"
    options = (
        *(
            "--infrastructure=kubernetes",
            f"--kubeconfig={kubeconfig or plane.kubeconfig}",
            f"--system-namespace={namespace}",
        ),
        *("--proxy-image=portway", f"--listen-address={listen}", f"--admin-address={address}"),
        *(f"--state-dir={plane.folder / namespace}", "--log-format=json"),
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PORTWAY_")}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "portway", "run", *options], stdout=output, stderr=output, env=environment
        )
    try:
        yield address, log
    finally:
        process.terminate()
        process.wait(30)


def wait(what: str, is_true: Callable[[], bool], log: Path) -> None:
    for _ in range(READY_S * 4):
        if is_true():
            return
        Event().wait(0.25)
    raise AssertionError(f"not in time: {what}\n{log_end(log)}")


def readiness(address: str) -> str:
    """What `/readyz` says; empty: nothing yet."""
    try:
        with urllib.request.urlopen(f"http://{address}/readyz", timeout=10) as answer:
            return str(answer.read().decode())
    except HTTPError as error:
        return error.read().decode()
    except OSError:
        return ""


def is_given_an_address(plane: ControlPlane) -> bool:
    if "portway-edge" not in plane.kubectl("-n", "shop", "get", "services", "-o", "name"):
        return False
    status = {"status": {"loadBalancer": {"ingress": [{"ip": ADDRESS}]}}}
    arguments = ("patch", "service", "portway-edge", "--subresource=status", "--type=merge", "-p", json.dumps(status))
    plane.kubectl("-n", "shop", *arguments)
    return True


def run(address: str, *command: str) -> Result:
    return CliRunner().invoke(main, [*command, "--admin-address", address])


def explain(address: str, url: str, *options: str) -> Result:
    return run(address, "explain", "GET", url, *options)


WAYS = {
    # URL, options: the proxies, where it goes
    ("http://shop.test/", ()): ("Gateway shop/web", "Service shop/a"),
    ("http://shop.test:8080/", ()): ("Gateway shop/web", "Service shop/a"),
    ("http://cart.test/", ()): ("IngressClass portway", "Service shop/a"),
    ("http://both.test/", ("--gateway", "shop/web")): ("Gateway shop/web", "Service shop/a"),
    ("http://both.test/", ("--gateway", "shop/edge")): ("Gateway shop/edge", "Service shop/b"),
    ("http://both.test/", ("--class", "portway")): ("IngressClass portway", "404: there is no route for both.test"),
    ("http://both.test/", ("--listen-address", ADDRESS)): ("Gateway shop/edge", "Service shop/b"),
    (f"http://{ADDRESS}/", ("-H", "Host: both.test")): ("Gateway shop/edge", "Service shop/b"),
}


@pytest.mark.parametrize(("url", "options"), WAYS)
def test_a_request_is_explained_by_the_proxies_that_get_it(live: str, url: str, options: tuple[str, ...]) -> None:
    result = explain(live, url, *options)
    fleet, goes = WAYS[url, options]
    assert f"  at        {fleet}" in result.stdout.splitlines(), result.output
    assert goes in result.stdout


REFUSED = {
    # URL, options: what is said
    ("http://both.test/", ()): (
        "3 sets of proxies have port 80 open, 2 of them have something for both.test; say which is meant: "
        f"--gateway shop/edge ({ADDRESS}), --gateway shop/web"
    ),
    ("http://nobody.test/", ()): (
        "3 sets of proxies have port 80 open; say which is meant: --gateway shop/edge "
        f"({ADDRESS}), --gateway shop/web, --class portway"
    ),
    (
        "http://shop.test/",
        ("--gateway", "shop/wbe"),
    ): "Gateway shop/wbe has no proxies of Portway's; say which is meant",
    ("http://shop.test/", ("--gateway", "web")): '--gateway: "web" is not NAMESPACE/NAME',
    ("http://shop.test/", ("--class", "portway", "--gateway", "shop/web")): "--gateway and --class name different",
}


@pytest.mark.parametrize(("url", "options"), REFUSED)
def test_who_does_not_say_enough_is_told_what_to_type(live: str, url: str, options: tuple[str, ...]) -> None:
    result = explain(live, url, *options)
    assert result.exit_code == 2
    assert f"Error: {REFUSED[url, options]}" in result.stderr, result.output


def test_fleets_are_counted(live: str) -> None:
    assert "  fleets: 3" in run(live, "status").stdout.splitlines()
    with urllib.request.urlopen(f"http://{live}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    states = {"": 3, "_held": 0, "_updating": 0, "_to_update": 0, "_failed": 0}
    assert {f"portway_fleets{state} {count:.1f}" for state, count in states.items()} <= set(lines)


def test_status_of_the_proxies_of_one_gateway(live: str) -> None:
    reports = json.loads(run(live, "status", "--gateway", "shop/edge", "-o", "json").stdout)["reports"]
    assert {one["object"] for one in reports} == {"Gateway shop/edge", "HTTPRoute shop/both-too"}
    refused = run(live, "status", "--gateway", "shop/wbe")
    assert refused.exit_code == 2
    assert (
        "Error: Gateway shop/wbe has no proxies of Portway's; say which is meant: --gateway shop/edge" in refused.stderr
    )


SECRET = """
{apiVersion: v1, kind: Namespace, metadata: {name: portway-other}}
---
{apiVersion: v1, kind: Secret, metadata: {name: portway-ca, namespace: portway-other}, data: DATA}
"""


def secret(data: Mapping[str, bytes]) -> str:
    return SECRET.replace("DATA", json.dumps({name: base64.b64encode(value).decode() for name, value in data.items()}))


def test_it_is_not_ready_before_proxies_can_come(plane: ControlPlane) -> None:
    """Without authorities nobody can: a rollout must stop there, and say why."""
    plane.kubectl("apply", "-f", "-", stdin=secret({"authority-1.crt": b"x"}))
    with running(plane, "portway-other", LISTEN[1]) as (address, log):
        wait("it says why not", lambda: "Secret portway-other/portway-ca: authority-1" in readiness(address), log)
        good = encode_authorities([make_authority(dt.datetime.now(dt.UTC))])
        plane.kubectl("apply", "-f", "-", stdin=secret(good))
        wait("it is ready", lambda: readiness(address) == READY, log)
        for port in (XDS_PORT, IDENTITY_PORT):
            socket.create_connection((LISTEN[1], port), timeout=5).close()


KUBECONFIG = """
{apiVersion: v1, kind: Config, current-context: it, contexts: [{name: it, context: {cluster: it, user: it}}],
 clusters: [{name: it, cluster: {server: "SERVER"}}], users: [{name: it, user: {}}]}
"""
UNDECRYPTABLE = 'Internal error occurred: unable to transform key "/registry/secrets/shop/old"'
BROKEN = {"kind": "Status", "status": "Failure", "code": 500, "reason": "InternalError", "message": UNDECRYPTABLE}


async def test_a_kind_that_cannot_be_read_is_named_by_a_start_that_waits_for_it(
    plane: ControlPlane, tmp_path: Path
) -> None:
    """As when one Secret cannot be decrypted any more."""
    good = encode_authorities([make_authority(dt.datetime.now(dt.UTC))])
    plane.kubectl("apply", "-f", "-", stdin=secret(good))
    secrets = resource_path("", "v1", "secrets")
    async with FaultyServer(plane.administrator) as faulty:
        faulty.intercept = lambda request: web.json_response(BROKEN, status=500) if request.path == secrets else None
        kubeconfig = tmp_path / "kubeconfig"
        kubeconfig.write_text(KUBECONFIG.replace("SERVER", faulty.connection.server))
        with running(plane, "portway-other", LISTEN[1], kubeconfig) as (address, log):

            async def wait_until(what: str, is_true: Callable[[], bool]) -> None:
                await asyncio.to_thread(wait, what, is_true, log)

            because = "the sources are still being read: waiting for Secret: "
            error = f"{secrets}: 500 InternalError: {UNDECRYPTABLE}"
            await wait_until("it says why not", lambda: readiness(address).startswith(because))
            await wait_until("it says the error", lambda: error in readiness(address))
            refused = ("not served as declared", "Secret cannot be followed: ", error)
            await wait_until("the log has it", lambda: logs(log, *refused))
            await wait_until("it says that it waits", lambda: logs(log, "not ready yet", because, error))
            faulty.intercept = lambda request: None
            await wait_until("it is ready", lambda: readiness(address) == READY)


def logs(log: Path, event: str, *problem: str) -> bool:
    """Whether there is such an event, with a problem in which these are."""
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    return any(all(part in line["problem"] for part in problem) for line in lines if line["event"] == event)
