"""What a request costs with one route and with 3,000, as a share of what it costs in a bare Envoy.

The bare Envoy has a minimal configuration with one route and the access log that Portway has, and is a pod of the same
cluster behind an address of the same load balancer. All proxies have one worker. Load (wrk) and backend are processes
of their own; the rounds alternate. What counts are requests per processor second of the pod: what follows the access
log in Portway's pod is counted with it. A share is the median of what each round had of the bare round after it: a core
of a shared machine is worth a fifth less in one minute than in the next, and both have the same minute. Run:

    python -m bench.cluster.throughput [--routes N ...] [--beside]
"""

import argparse
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import msgspec

from bench.cluster.contenders import contenders, parser, start
from bench.cluster.objects import NAMESPACE, create_routes, host
from bench.cluster.stage import Contender, pids_of, standing
from bench.data_path import Proxy, Round, backend_envoy, bare_envoy, envoy, load
from bench.report import median, table, title
from portway.infra.binary import packaged_envoy
from tests.cluster.cluster import MiniCluster
from tests.cluster.network import GATEWAY
from tests.kit.ports import Ports

SIZES = (1, 3_000)
GOALS = {1: 0.97, 3_000: 0.95}
CONNECTIONS = 16

_BARE = """\
apiVersion: v1
kind: ConfigMap
metadata: {{name: bare, namespace: {namespace}}}
data: {{envoy.json: {configuration}}}
---
apiVersion: v1
kind: Pod
metadata: {{name: bare, namespace: {namespace}, labels: {{app: bare}}}}
spec:
  containers:
  - name: envoy
    image: local
    command: [{program}, -c, /configuration/envoy.json, --concurrency, "1", --disable-hot-restart, -l, error]
    readinessProbe: {{tcpSocket: {{port: 80}}, periodSeconds: 1}}
    volumeMounts: [{{name: configuration, mountPath: /configuration}}]
  volumes: [{{name: configuration, configMap: {{name: bare}}}}]
---
apiVersion: v1
kind: Service
metadata: {{name: bare, namespace: {namespace}}}
spec: {{type: LoadBalancer, selector: {{app: bare}}, ports: [{{port: 80}}]}}
"""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """One controller with so many routes, and the bare Envoy of the same rounds."""

    name: str
    routes: int
    rounds: Sequence[Round]
    bare: Sequence[Round]


async def bare_pod(cluster: MiniCluster, backend: int) -> Proxy:
    """The bare Envoy, ready."""
    configuration = bare_envoy(80, backend, Path("/tmp"), listen="0.0.0.0", upstream=GATEWAY)
    text = msgspec.json.encode(configuration).decode()
    manifests = _BARE.format(namespace=NAMESPACE, configuration=text, program=packaged_envoy())
    await cluster.api.apply(manifests)
    await cluster.wait_ready(NAMESPACE, "app=bare", count=1)
    pids = await pids_of(cluster, NAMESPACE, "app=bare")
    address = await cluster.load_balancer(NAMESPACE, "bare")
    return Proxy("bare Envoy", 80, lambda: list(pids), address)


async def measure(contender: Contender, sizes: Sequence[int], rounds: int, seconds: int) -> list[Outcome]:
    """Each number of routes, on one stage."""
    found: list[Outcome] = []
    with tempfile.TemporaryDirectory(prefix="portway-bench-") as folder, Ports() as ports:
        async with standing(contender) as edge:
            backend = ports.take()
            async with envoy(backend_envoy(backend, "0.0.0.0"), Path(folder) / "backend"):
                bare = await bare_pod(edge.cluster, backend)
                there = 0
                for routes in sizes:
                    await create_routes(edge.api, range(there, routes), backend)
                    await edge.served(map(host, range(there, routes)))
                    there = routes
                    processes = await contender.processes(edge.cluster)
                    pids = list(processes.proxy or processes.control_plane)
                    proxy = Proxy(contender.name, 80, lambda pids=pids: pids, edge.address)  # type: ignore[misc]
                    found.append(_alternate(proxy, bare, routes, rounds, seconds))
    return found


def _alternate(proxy: Proxy, bare: Proxy, routes: int, rounds: int, seconds: int) -> Outcome:
    target = host(routes // 2)
    results: dict[str, list[Round]] = {proxy.name: [], bare.name: []}
    for one in (proxy, bare):
        load(one, 1, CONNECTIONS, target)
    for _ in range(rounds):
        for one in (proxy, bare):
            results[one.name].append(load(one, seconds, CONNECTIONS, target))
    return Outcome(name=proxy.name, routes=routes, rounds=results[proxy.name], bare=results[bare.name])


def print_outcomes(outcomes: Sequence[Outcome]) -> None:
    """One row for each controller and number of routes."""
    title(f"Throughput over {CONNECTIONS} connections, of a bare Envoy with one route in the same rounds")
    head = ["controller", "routes", "requests", "per second and core", "of bare", "goal", "requests/s", "of bare"]
    table([*head, "p99 ms", "p99 of bare", "errors", "verdict"], map(_row, outcomes))


def _row(one: Outcome) -> tuple[object, ...]:
    per_core, share = _against(one, lambda round_: round_.per_core)
    goal = GOALS.get(one.routes)
    errors = sum(round_.errors for round_ in one.rounds)
    missed = [f"< {goal:g}"] if goal is not None and share < goal else []
    if errors:
        missed.append("errors")
    return (
        *(one.name, one.routes, sum(round_.requests for round_ in one.rounds), per_core, share),
        *(f"{goal:g}" if goal else "", *_against(one, lambda round_: round_.per_second)),
        *(*_against(one, lambda round_: round_.p99_ms), errors, ", ".join(missed) or "reached"),
    )


def _against(one: Outcome, figure: Callable[[Round], float]) -> tuple[float, float]:
    """A figure and its share of the bare Envoy's, medians of all rounds."""
    pairs = [(figure(round_), figure(bare)) for round_, bare in zip(one.rounds, one.bare, strict=True)]
    return median(mine for mine, _ in pairs), median(mine / bare for mine, bare in pairs)


async def run(given: argparse.Namespace) -> None:
    """Measure and print."""
    print_outcomes(
        [
            outcome
            for one in contenders(given)
            for outcome in await measure(one, given.routes, given.rounds, given.seconds)
        ]
    )


def main() -> None:
    flags = parser(__doc__)
    flags.add_argument("--routes", type=int, nargs="*", default=list(SIZES), help="in rising order")
    flags.add_argument("--rounds", type=int, default=15)
    flags.add_argument("--seconds", type=int, default=2, help="of a round")
    start(partial(run, flags.parse_args()))


if __name__ == "__main__":
    main()
