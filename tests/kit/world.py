"""A running Portway with backends beside it, shared by the tests of a module: each declares objects of its own.

    pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]
    world = world_fixture("--http3")

    async def test_something(world: World) -> None:
        await world.backends.start("something-a")
        world.declare("something", service(...), ingress(...))
        await world.served("http://something.test/", by="something-a")

Names of hosts, objects and backends are the test's own; nothing is removed before the module ends.
"""

from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec
import pytest
import pytest_asyncio

from tests.kit.answer import Answer
from tests.kit.backends import Backend, Backends, BackendSpec
from tests.kit.manifests import CLASS, GATEWAY_CLASS
from tests.kit.ports import Ports
from tests.kit.portway import Portway, portway


class World(msgspec.Struct, frozen=True, kw_only=True):
    """Portway, backends, and port numbers for listeners."""

    running: Portway
    backends: Backends
    ports: Ports
    _shared: dict[str, Backend] = msgspec.field(default_factory=dict)

    def declare(self, name: str, *documents: str) -> None:
        """Write these objects as the file `<name>.yaml`; they replace what it held."""
        self.running.write(f"{name}.yaml", "---\n".join(documents))

    async def backend(self, spec: BackendSpec) -> Backend:
        """A backend that tests share: started by the first that asks for its name."""
        if spec.name not in self._shared:
            self._shared[spec.name] = await self.backends.start_spec(spec)
        return self._shared[spec.name]

    async def served(self, url: str, *, by: str) -> None:
        """Wait until an Ingress host is answered by this backend."""

        async def is_served() -> bool:
            return (await self.running.get(url)).pod == by

        await self.running.until(is_served, f"{url} served by {by}")

    async def answered(self, ask: Callable[[], Awaitable[Answer]], *, status: int = 200) -> Answer:
        """Ask until the status is the wanted one; the answer that has it."""
        last = Answer()

        async def is_answered() -> bool:
            nonlocal last
            last = await ask()
            return last.status == status and last.failure is None

        await self.running.until(is_answered, f"answered with {status}")
        return last

    async def until(self, condition: Callable[[], Awaitable[bool]], what: str, *, seconds: float = 10.0) -> float:
        """Ask until the condition holds; returns how long it took in seconds."""
        return await self.running.until(condition, what, seconds=seconds)


async def run_world(folder_factory: pytest.TempPathFactory, *arguments: str) -> AsyncIterator[World]:
    """The body of a fixture: a world until the generator is closed."""
    folder = folder_factory.mktemp("portway")
    with Ports() as ports:
        async with (
            Backends() as backends,
            portway(folder, {"classes.yaml": f"{CLASS}---\n{GATEWAY_CLASS}"}, *arguments) as running,
        ):
            yield World(running=running, backends=backends, ports=ports)


def world_fixture(*arguments: str) -> Callable[[pytest.TempPathFactory], AsyncIterator[World]]:
    """A fixture of the module's: a world whose Portway has these arguments."""

    @pytest_asyncio.fixture(scope="module", loop_scope="module")
    async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
        async for made in run_world(tmp_path_factory, *arguments):
            yield made

    return world
