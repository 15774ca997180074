"""Which release of Gateway API a real API server has."""

import asyncio
from datetime import timedelta

import msgspec
import pytest
import yaml

from portway.kubernetes.client import MERGE_PATCH, ApiClient, resource_path
from portway.sources.kubernetes.definitions import BUNDLE_VERSION, GROUP, NAMES, PLURAL, DefinitionWatch, Versions
from tests.cluster.api import Api
from tests.cluster.control_plane import ControlPlane
from tests.kubernetes.planes import client_of, plane
from tools.access import CLASSES_STATUS
from tools.make_manifests import role_of

__all__ = ["plane"]
pytestmark = pytest.mark.cluster

USER = "definitions"
BINDING = f"""
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {{name: {USER}}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: {CLASSES_STATUS.name}}}
subjects: [{{apiGroup: rbac.authorization.k8s.io, kind: User, name: {USER}}}]
"""
UDPROUTES = "udproutes.gateway.networking.k8s.io"


async def annotate(client: ApiClient, name: str, version: str) -> None:
    body = msgspec.json.encode({"metadata": {"annotations": {BUNDLE_VERSION: version}}})
    await client.patch(resource_path(GROUP, "v1", PLURAL, name=name), body, content_type=MERGE_PATCH)


async def test_versions_are_told_as_they_change_and_not_where_they_may_not_be_read(plane: ControlPlane) -> None:
    told: list[Versions] = []
    admin, client = client_of(plane.administrator), client_of(plane.user(USER))
    watch = DefinitionWatch(client, told.append, again=timedelta(milliseconds=50))

    async def until(expected: Versions) -> None:
        async with asyncio.timeout(20):
            while not told or told[-1] != expected:  # noqa: ASYNC110 - the API server is asked
                await asyncio.sleep(0.02)

    every = dict.fromkeys(NAMES, "v1.7.0")
    async with Api(plane.administrator) as api:
        await api.apply(yaml.safe_dump(role_of(CLASSES_STATUS)))
        running = asyncio.ensure_future(watch.run())  # noqa: TID251 - ended below
        try:
            await until({})
            await api.apply(BINDING)
            await until(every)
            await annotate(admin, UDPROUTES, "v1.9.0")
            await until({**every, UDPROUTES: "v1.9.0"})
            await admin.delete(resource_path(GROUP, "v1", PLURAL, name=UDPROUTES))
            await until({name: version for name, version in every.items() if name != UDPROUTES})
            assert client.statistics().requests.keys() == {("get", PLURAL)}
        finally:
            running.cancel()
            await asyncio.wait([running])
            await api.delete_manifests(BINDING)
            await client.close()
            await admin.close()
