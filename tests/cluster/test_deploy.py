"""Portway installed by its manifests, each way in turn: it works, asks for nothing that it may not, and goes again."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.cluster.cluster import MiniCluster
from tests.cluster.outline import Outline
from tests.cluster.portway_in import CONTROL_PLANE, PROXIES, SYSTEM, gateway, logs
from tests.deploy.kustomizations import kustomization
from tests.deploy.test_overlays import SHOP
from tools.make_manifests import DEPLOY

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

KINDS = (
    "namespaces,clusterroles,clusterrolebindings,crds,gatewayclasses,ingressclasses,gateways,pods,services,deployments,"
    "daemonsets,serviceaccounts,secrets,configmaps,leases,endpointslices,poddisruptionbudgets"
)
GONE_S = 90.0
"""A namespace ends when its pods have: withdrawal, drain, and the namespace controller's own five seconds."""


@asynccontextmanager
async def fresh(folder: Path) -> AsyncIterator[MiniCluster]:
    """A cluster of its own: nobody else's Portway goes when this one does."""
    async with MiniCluster.started(Outline(folder=folder / "cluster")) as outside:
        with outside.inside():
            async with MiniCluster.attached(folder / "cluster") as inside:
                yield inside


@asynccontextmanager
async def installed(cluster: MiniCluster, *folders: Path) -> AsyncIterator[None]:
    """Apply kustomizations; both replicas become ready. Afterwards delete them; nothing is left."""
    for folder in folders:
        await asyncio.to_thread(cluster.kubectl, "apply", "--server-side", f"--kustomize={folder}")
    try:
        await cluster.wait_ready(SYSTEM, CONTROL_PLANE, count=2, seconds=90)
        yield
        log = await asyncio.to_thread(logs, cluster, lines=-1)
        assert "orbidden" not in log
    finally:
        await uninstall(cluster, *folders)

    async def nothing() -> bool:
        found = await asyncio.to_thread(cluster.kubectl, "get", KINDS, "--all-namespaces", "--output=name")
        left = [line for line in found.split() if "portway" in line]
        assert left == []
        return True

    await cluster.wait_for("all of Portway gone", nothing, seconds=GONE_S)


async def uninstall(cluster: MiniCluster, *folders: Path) -> None:
    """As docs/installing.md says: first the Gateways, whose proxies go with them, then what was applied."""
    await asyncio.to_thread(cluster.kubectl, "delete", "gateways", "--all", "--all-namespaces")
    for folder in reversed(folders):
        await asyncio.to_thread(
            cluster.kubectl, "delete", "--ignore-not-found", "--wait=false", f"--kustomize={folder}"
        )


async def served(cluster: MiniCluster, namespace: str, *, count: int = 2) -> None:
    """A Gateway there gets proxies that are ready."""
    with contextlib.suppress(AssertionError):  # it is there
        await asyncio.to_thread(cluster.kubectl, "create", "namespace", namespace)
    await cluster.api.apply(gateway("web"), namespace=namespace)
    await cluster.wait_ready(namespace, PROXIES, count=count)


async def test_each_way_to_install_serves_and_goes_again(tmp_path: Path) -> None:
    async with fresh(tmp_path) as cluster:
        async with installed(cluster, DEPLOY):
            await served(cluster, SHOP)
            # The IngressClass has proxies, too.
            await cluster.wait_ready(SYSTEM, PROXIES, count=2)

        some = kustomization(
            tmp_path / "some",
            components=["namespaced", "named-secrets", "network-policy"],
            namespaces=[SHOP],
            environment={"PORTWAY_WATCH_NAMESPACE": f"{SYSTEM},{SHOP}"},
        )
        async with installed(cluster, DEPLOY / "crds", some):
            await served(cluster, SHOP)

        await asyncio.to_thread(cluster.kubectl, "label", "node", "node-a1", "node-b1", "portway.dev/edge=true")
        async with installed(cluster, DEPLOY / "crds", DEPLOY / "host-network"):
            # One on each Node with the label.
            await served(cluster, SHOP)
            pods = await cluster.pods(SHOP, PROXIES)
            assert {pod.spec.node_name for pod in pods} == {"node-a1", "node-b1"}
