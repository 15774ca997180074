"""The control plane by itself, on the loopback."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.cluster.api import Api, Refused
from tests.cluster.control_plane import Component, ControlPlane

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio(loop_scope="module")]

CONFIG_MAP = "{apiVersion: v1, kind: ConfigMap, metadata: {name: colours}, data: {sky: blue}}"
READERS = """
{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: reader},
  rules: [{apiGroups: [""], resources: [configmaps], verbs: [get, list]}]}
---
{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRoleBinding, metadata: {name: reader},
  roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: reader},
  subjects: [{kind: Group, name: readers, apiGroup: rbac.authorization.k8s.io}]}
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def plane(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ControlPlane]:
    async with ControlPlane(tmp_path_factory.mktemp("control-plane")) as plane:
        yield plane


async def test_gateway_api_is_served(plane: ControlPlane) -> None:
    await plane.apply_gateway_api("standard")
    assert "gateways.gateway.networking.k8s.io" in plane.kubectl("get", "crd", "-o", "name")


async def test_a_user_may_do_what_rbac_gives(plane: ControlPlane) -> None:
    async with Api(plane.administrator) as administrator:
        await administrator.apply(READERS)
    async with Api(plane.user("joe", ["readers"])) as joe:
        await joe.request("GET", "/api/v1/configmaps")
        with pytest.raises(Refused, match="nodes is forbidden"):
            await joe.request("GET", "/api/v1/nodes")


async def test_a_service_account_has_a_token(plane: ControlPlane) -> None:
    async with Api(await plane.service_account("default", "default")) as account:
        with pytest.raises(Refused, match="system:serviceaccount:default:default"):
            await account.request("GET", "/api/v1/nodes")


async def test_killed_api_server_comes_back_with_its_objects(plane: ControlPlane) -> None:
    async with Api(plane.administrator) as api:
        await api.apply(CONFIG_MAP)
    await plane.restart(Component.API_SERVER)
    assert "colours" in plane.kubectl("get", "configmaps", "-o", "name")


async def test_etcd_goes_back_in_time(plane: ControlPlane) -> None:
    async with Api(plane.administrator) as api:
        await api.delete("/api/v1/namespaces/default/configmaps/colours")
        plane.save_etcd("before")
        await api.apply(CONFIG_MAP)
    await plane.restore_etcd("before")
    assert "colours" not in plane.kubectl("get", "configmaps", "-o", "name")
