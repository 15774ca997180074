"""The Kubernetes source passes the suite of all sources, over all namespaces and restricted to some."""

import asyncio
from collections.abc import AsyncIterator
from typing import Final

import msgspec
import pytest
import pytest_asyncio

from portway.kubernetes.client import MERGE_PATCH, ApiClient, resource_path
from portway.kubernetes.reflector import Reflector
from portway.objects.kinds import KINDS, kind_of
from portway.objects.verdict import ObjectKey
from portway.sources.kubernetes.scope import Followed
from portway.sources.kubernetes.source import KubernetesSource
from tests.cluster.control_plane import ControlPlane
from tests.kubernetes.planes import client_of, plane
from tests.sources.suite import *  # noqa: F403 - the suite's tests become this module's
from tests.sources.suite import Manifest

__all__ = ["plane"]
pytestmark = pytest.mark.cluster

NAMESPACES: Final = ("shop", "pay")


class ClusterWorld:
    """An API server, of which only what the tests make is seen."""

    def __init__(self, client: ApiClient, namespaces: tuple[str, ...]) -> None:
        self._client = client
        self._namespaces = namespaces

    def source(self) -> KubernetesSource:
        return KubernetesSource(self._client, namespaces=self._namespaces, make_reflector=self._reflector)

    def _reflector(self, collection: Followed) -> Reflector:
        fields = [collection.field_selector] if collection.field_selector else []
        if collection.kind.name == "Service":
            fields.append("metadata.namespace!=default")  # the API server's own Service lives there
        return Reflector(self._client, collection.paths, field_selector=",".join(fields))

    async def create(self, manifest: Manifest) -> None:
        await self._client.create(self._path(manifest, is_new=True), msgspec.json.encode(manifest))

    async def update(self, manifest: Manifest) -> None:
        await self._client.patch(self._path(manifest), msgspec.json.encode(manifest), content_type=MERGE_PATCH)

    async def delete(self, key: ObjectKey) -> None:
        kind = KINDS[key.kind]
        await self._client.delete(resource_path(kind.group, kind.versions[0], kind.plural, key.namespace, key.name))

    def _path(self, manifest: Manifest, *, is_new: bool = False) -> str:
        metadata = manifest["metadata"]
        assert isinstance(metadata, dict)
        kind = kind_of(str(manifest["apiVersion"]), str(manifest["kind"]))
        assert kind is not None
        name = "" if is_new else metadata["name"]
        return resource_path(kind.group, kind.versions[0], kind.plural, metadata["namespace"], name)


@pytest_asyncio.fixture(params=["all namespaces", "two namespaces"])
async def world(request: pytest.FixtureRequest, plane: ControlPlane) -> AsyncIterator[ClusterWorld]:
    client = client_of(plane.administrator)
    for name in NAMESPACES:
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        await client.apply(resource_path("", "v1", "namespaces", "", name), msgspec.json.encode(body), manager="test")
    yield ClusterWorld(client, NAMESPACES if request.param == "two namespaces" else ())
    services = [resource_path("", "v1", "services", name) for name in NAMESPACES]
    for path in services:
        listed = msgspec.json.decode(await client.get(path))
        await asyncio.gather(*(client.delete(f"{path}/{item['metadata']['name']}") for item in listed["items"]))
    await client.close()
