"""What clients notice when endpoints fail: as little as can be, and never more requests than were sent."""

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager

import pytest

from tests.kit.answer import Answer, Failure
from tests.kit.backends import Kind
from tests.kit.client import fetch
from tests.kit.load import Load
from tests.kit.manifests import gateway_with, http_route, ingress, service, upstream_policy
from tests.kit.world import World, world_fixture

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

world = world_fixture()


def declare(world: World, name: str, ports: list[int], policy: str = "", **annotations: str) -> None:
    """A Service with these endpoints behind an Ingress for `<name>.test`."""
    dashed = {key.replace("_", "-"): value for key, value in annotations.items()}
    documents = [service(name, ports), ingress(name, f"{name}.test", [("/", name)], annotations=dashed)]
    world.declare(name, *documents, *([upstream_policy(name, policy)] if policy else []))


def url(world: World, name: str, path: str = "/") -> str:
    return f"http://{name}.test:{world.running.http_port}{path}"


async def ask(world: World, name: str, path: str = "/", **more: object) -> Answer:
    return await world.running.get(f"http://{name}.test{path}", **more)


class Counting:
    """A TCP port that counts connections and does with each what it is told."""

    def __init__(self) -> None:
        self.connections = 0
        self.requests = 0
        self.port = 0


@asynccontextmanager
async def closing_after_request() -> AsyncIterator[Counting]:
    """Reads a request and closes without an answer: nobody can tell whether it was carried out."""
    counted = Counting()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        counted.connections += 1
        if await reader.read(4096):
            counted.requests += 1
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    counted.port = server.sockets[0].getsockname()[1]
    async with server:
        yield counted


@pytest.mark.parametrize(
    "policy", ["", "outlierDetection: {consecutiveGatewayErrors: 0}"], ids=["default", "never ejected"]
)
async def test_one_of_two_refuses_and_nobody_notices(world: World, policy: str) -> None:
    name = f"half-{len(policy)}"
    good = await world.backends.start(f"good-{name}")
    bad = await world.backends.start(f"bad-{name}", Kind.REFUSED)
    declare(world, name, [good.port, bad.port], policy)
    await world.served(f"http://{name}.test/", by=good.name)
    # Some time an answer: while the good one is idle, the other does not seem less busy.
    async with Load(url(world, name, "/?delay=10ms"), rate=300, connections=16) as load:
        await load.answered(900)
    assert not load.report().wrong({good.name}), load.report().summary()


async def test_two_of_three_refuse_and_nobody_notices(world: World) -> None:
    good = await world.backends.start("good-of-three")
    bad = [await world.backends.start(f"bad-of-three-{number}", Kind.REFUSED) for number in range(2)]
    declare(
        world,
        "third",
        [good.port, *(one.port for one in bad)],
        "outlierDetection: {consecutiveGatewayErrors: 0}",
    )
    await world.served("http://third.test/", by=good.name)
    async with Load(url(world, "third", "/?delay=10ms"), rate=300, connections=16) as load:
        await load.answered(1_500)
    assert not load.report().wrong({good.name}), load.report().summary()


async def test_all_refuse_and_the_answer_comes_at_once(world: World) -> None:
    ports = [(await world.backends.start(f"refusing-{number}", Kind.REFUSED)).port for number in range(2)]
    declare(world, "none", ports)
    answer = await world.answered(lambda: ask(world, "none"), status=502)
    begin = asyncio.get_running_loop().time()
    async with Load(url(world, "none"), rate=100, connections=8) as load:
        await load.answered(100)
    assert load.report().answers() == Counter({(502, None): len(load.report().samples)}), load.report().summary()
    assert load.report().latency_ms(0.99) < 500
    assert answer.pod is None
    assert asyncio.get_running_loop().time() - begin < 5


async def test_tries_are_bounded_when_everything_breaks(world: World) -> None:
    """A request that was sent is not repeated by default, whatever its method: 1 try each."""
    async with closing_after_request() as backend:
        declare(world, "storm", [backend.port])
        await world.answered(lambda: ask(world, "storm"), status=502)
        backend.requests = 0
        answers = [await ask(world, "storm", method=method, body=b"x") for method in ("GET", "POST", "PUT") * 5]
        assert {answer.status for answer in answers} == {502}
        assert backend.requests == len(answers)


async def test_a_retry_that_is_asked_for_spares_what_is_not_idempotent(world: World) -> None:
    good = await world.backends.start("idempotent")
    async with closing_after_request() as backend:
        declare(
            world, "next", [backend.port, good.port], proxy_next_upstream="error timeout", proxy_next_upstream_tries="3"
        )
        await world.served("http://next.test/", by="idempotent")
        gets = [await ask(world, "next") for _ in range(20)]
        assert {(answer.status, answer.pod) for answer in gets} == {(200, "idempotent")}
        backend.requests = 0
        good.seen.clear()
        posts = [await ask(world, "next", method="POST", body=b"x") for _ in range(20)]
        assert backend.requests + len(good.seen) == len(posts), "a POST was sent twice"


async def test_what_fails_is_ejected_and_comes_back(world: World) -> None:
    first = await world.backends.start("ejected-a")
    second = await world.backends.start("ejected-b")
    policy = "outlierDetection: {consecutive5xx: 3, interval: 500ms, baseEjectionTime: 1s, maxEjectionPercent: 50}"
    declare(world, "eject", [first.port, second.port], policy)
    for name in ("ejected-a", "ejected-b"):
        await world.served("http://eject.test/", by=name)

    async def pods() -> set[str | None]:
        return {(await ask(world, "eject")).pod for _ in range(10)}

    # Only one of them answers 500: it is asked for by its turn, so ask until its count is full.
    async def is_ejected() -> bool:
        await ask(world, "eject", "/status/500")
        return len(await pods_of_errors(world)) == 0 or len(await pods()) == 1

    await world.until(is_ejected, "one is ejected")

    async def is_back() -> bool:
        return len(await pods()) == 2

    await world.until(is_back, "both serve again", seconds=15)


async def pods_of_errors(world: World) -> list[str | None]:
    answers = [await ask(world, "eject", "/status/500") for _ in range(6)]
    return [answer.pod for answer in answers if answer.status == 500]


async def test_active_checks_keep_requests_away(world: World) -> None:
    healthy = await world.backends.start("healthy")
    sick = await world.backends.start("sick")
    policy = (
        "healthCheck: {interval: 100ms, timeout: 500ms, unhealthyThreshold: 1, http: {path: /health}},"
        " outlierDetection: {consecutiveGatewayErrors: 0}"
    )
    declare(world, "checked", [healthy.port, sick.port], policy)
    for name in ("healthy", "sick"):
        await world.served("http://checked.test/", by=name)
    assert any(request.target == "/health" for request in sick.seen)
    await world.backends.stop("sick")

    async def only_healthy() -> bool:
        return {(await ask(world, "checked")).pod for _ in range(10)} == {"healthy"}

    await world.until(only_healthy, "kept away")
    await world.backends.start("sick", port=sick.port)
    await world.served("http://checked.test/", by="sick")


async def test_circuit_breaker(world: World) -> None:
    slow = await world.backends.start("circuit")
    declare(world, "circuit", [slow.port], "circuitBreaker: {maxRequests: 3}")
    await world.served("http://circuit.test/", by="circuit")
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(ask(world, "circuit", "/?delay=500ms")) for _ in range(12)]
    statuses = Counter(task.result().status for task in tasks)
    # Each of two workers may let one more through than the limit before it sees the other's.
    assert 3 <= statuses[200] <= 5, statuses
    assert statuses[200] + statuses[503] == 12
    assert (await ask(world, "circuit")).status == 200


async def test_timeouts(world: World) -> None:
    made = await world.backends.start("late")
    declare(world, "late", [made.port], proxy_read_timeout="1")
    await world.served("http://late.test/", by="late")
    # Silence, not length: 15 chunks over 1.5 s pass, a silence of 3 s does not.
    assert len((await ask(world, "late", "/slow?chunks=15&interval=100ms")).body) == 15
    silent = await ask(world, "late", "/?delay=3s")
    assert (silent.status, silent.pod) == (504, None)
    port = world.ports.take()
    route = http_route("bounded", "bounded", "bounded.test", [("/", "late")])
    world.declare(
        "bounded",
        gateway_with("bounded", [f"name: http, port: {port}, protocol: HTTP"]),
        route.rstrip() + "\n    timeouts: {request: 300ms}\n",
    )
    await world.answered(lambda: fetch(f"http://bounded.test:{port}/"))
    assert (await fetch(f"http://bounded.test:{port}/?delay=2s")).status == 504


@contextmanager
def silent_port() -> Iterator[int]:
    """A port whose queue of connections is full: the kernel leaves further ones unanswered, as a lost machine does."""
    with ExitStack() as sockets:
        full = sockets.enter_context(socket.socket())
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        fillers = [sockets.enter_context(socket.socket()) for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        yield port


async def test_connect_timeout(world: World) -> None:
    with silent_port() as port:
        declare(world, "full", [port], "timeouts: {connect: 200ms}", proxy_connect_timeout="1")
        begin = asyncio.get_running_loop().time()
        answer = await world.answered(lambda: ask(world, "full", seconds=9), status=504)
        assert answer.pod is None
        assert asyncio.get_running_loop().time() - begin < 9


async def test_an_endpoint_whose_machine_is_gone_does_not_seem_idle(world: World) -> None:
    """Requests that wait for its connection count, so it gets few. All that wait fail at one time, and the retry budget
    has room for 100 of them: an endpoint that seemed idle would have three times as many."""
    good = await world.backends.start("remains")
    with silent_port() as port:
        declare(world, "gone", [good.port, port], proxy_connect_timeout="1")
        await world.served("http://gone.test/", by=good.name)
        async with Load(url(world, "gone", "/?delay=10ms"), rate=200, connections=250) as load:
            await load.answered(800)
    assert not load.report().wrong({good.name}), load.report().summary()


@pytest.mark.parametrize(("endpoints", "most"), [(2, 0.38), (5, 0.12)])
async def test_an_endpoint_that_hangs_gets_less_than_its_turn(world: World, endpoints: int, most: float) -> None:
    """Of two endpoints that are drawn the less busy one is taken: only who draws the bad one twice meets it for sure,
    1 in 4 of two and 1 in 25 of five. In turns it would be every second and every fifth."""
    name = f"hangs-{endpoints}"
    good = [(await world.backends.start(f"{name}-{number}")).port for number in range(endpoints - 1)]
    declare(world, name, [*good, (await world.backends.start(name, Kind.HANG)).port], proxy_read_timeout="1")
    await world.answered(lambda: ask(world, name))

    async with asyncio.TaskGroup() as group:
        tasks = []
        for _ in range(250):
            tasks.append(group.create_task(ask(world, name)))
            await asyncio.sleep(0.005)  # at one blow the others would seem as busy
    found = Counter(task.result().status for task in tasks)
    assert set(found) <= {200, 504}, found
    assert found[504] / found.total() < most, found


async def test_a_backend_that_dies_within_an_answer(world: World) -> None:
    made = await world.backends.start("dies")
    other = await world.backends.start("lives")
    declare(world, "dies", [made.port])
    await world.served("http://dies.test/", by="dies")
    broken = await ask(world, "dies", "/truncated")
    # Half an answer is no answer: the client must be able to tell.
    assert broken.failure in {Failure.TRUNCATED, Failure.RESET}
    h2 = await ask(world, "dies", "/truncated", http2=True)
    assert h2.failure is Failure.RESET
    slow = asyncio.get_running_loop().create_task(ask(world, "dies", "/slow?chunks=20&interval=100ms"))
    await asyncio.sleep(0.3)
    await world.backends.stop("dies")
    assert (await slow).failure in {Failure.TRUNCATED, Failure.RESET}
    declare(world, "dies", [made.port, other.port])
    await world.served("http://dies.test/", by="lives")
    assert {(await ask(world, "dies")).status for _ in range(20)} == {200}
