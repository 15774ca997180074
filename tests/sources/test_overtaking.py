"""Endpoints do not wait for a bulk change; and whatever overtakes whatever, the last version of a file counts."""

import asyncio
from pathlib import Path

import pytest

from portway.objects.discovery_v1 import EndpointSlice
from portway.sources.files import FileSource
from portway.store import ChangeSet, Store
from tests.kit.manifests import endpoint_slice
from tests.sources.suite import port_of, reading

FILES, EACH = 20, 100


def bulk(folder: Path, port: int) -> None:
    """Change 2,000 Services in 20 files: some hundred milliseconds of work."""
    for number in range(FILES):
        names = range(number * EACH, number * EACH + EACH)
        (folder / f"bulk{number:02}.yaml").write_text("---\n".join(service(f"s{name}", port) for name in names))


def service(name: str, port: int) -> str:
    meta = f"metadata: {{name: {name}, namespace: shop}}"
    return f"apiVersion: v1\nkind: Service\n{meta}\nspec: {{ports: [{{name: http, port: {port}}}]}}\n"


def is_done(store: Store, port: int) -> bool:
    keys = store.keys("Service")
    return len(keys) == FILES * EACH and all(port_of(store, key) == port for key in keys)


def addresses(change: ChangeSet) -> list[str]:
    slices = [stored.object for stored in change.changed if isinstance(stored.object, EndpointSlice)]
    return [address for one in slices for endpoint in one.endpoints for address in endpoint.addresses]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "conf"
    path.mkdir()
    bulk(path, 80)
    (path / "zz.yaml").write_text(endpoint_slice("own", [8080], address="10.0.0.1"))
    return path


@pytest.mark.parametrize("file", ["zz.yaml", "aa.yaml"])
async def test_endpoints_that_change_with_a_bulk_go_ahead_of_it(folder: Path, file: str) -> None:
    (folder / "zz.yaml").rename(folder / file)
    async with reading(FileSource([str(folder)])) as reader:
        bulk(folder, 81)
        (folder / file).write_text(endpoint_slice("own", [8081], address="10.0.0.2"))
        before = len(reader.seen)
        await reader.until(lambda store: is_done(store, 81))
        (change,) = [change for change in reader.seen[before:] if addresses(change)]
        assert addresses(change) == ["10.0.0.2"]
        assert len(change.changed) < FILES * EACH


async def test_endpoints_that_change_during_a_bulk_go_ahead_of_it(folder: Path) -> None:
    async with reading(FileSource([str(folder)])) as reader:
        bulk(folder, 81)

        async def edit() -> None:
            await asyncio.sleep(0.06)
            (folder / "zz.yaml").write_text(endpoint_slice("own", [8080], address="10.0.0.2"))

        before = len(reader.seen)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(edit())
            await reader.until(lambda store: is_done(store, 81))
        told = [position for position, change in enumerate(reader.seen[before:]) if addresses(change)]
        assert len(told) == 1
        assert told[0] < len(reader.seen[before:]) - 1, "before the bulk's last change set"


async def test_a_port_that_is_called_otherwise_waits_for_its_service(folder: Path) -> None:
    async with reading(FileSource([str(folder)])) as reader:
        bulk(folder, 81)
        renamed = endpoint_slice("own", [8080], address="10.0.0.2").replace("name: http", "name: web")
        (folder / "zz.yaml").write_text(renamed)
        await reader.until(lambda store: is_done(store, 81))
        assert addresses(reader.seen[-1]) == ["10.0.0.2"]
        assert len(reader.seen[-1].changed) > 1


async def test_the_last_version_counts_whatever_was_read_ahead(folder: Path) -> None:
    """Files that wait in a bulk, read but not taken in, change again."""
    async with reading(FileSource([str(folder)])) as reader:
        bulk(folder, 81)

        async def edit() -> None:
            for port in (82, 83):
                await asyncio.sleep(0.04)
                bulk(folder, port)

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(edit())
            await reader.until(lambda store: is_done(store, 83))
        async with asyncio.timeout(1.5):
            while True:  # and nothing older comes after it
                try:
                    async with asyncio.timeout(0.5):
                        await reader.step()
                except TimeoutError:
                    break
        assert is_done(reader.store, 83)
