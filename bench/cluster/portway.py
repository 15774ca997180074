"""Portway as it is measured: installed by its own manifests, one replica, one proxy with one worker."""

from typing import Final, final

from bench.cluster.objects import GATEWAY, NAMESPACE
from bench.cluster.stage import Processes, gateway_manifest, metrics_page, pids_of
from portway.identity.contract import HEALTH_PORT
from tests.cluster.binaries import ROOT
from tests.cluster.cluster import MiniCluster
from tests.cluster.containers import Image

INSTALL: Final = ROOT / "deploy"
SYSTEM: Final = "portway-system"
CONTROL_PLANE: Final = "app.kubernetes.io/name=portway,app.kubernetes.io/component=control-plane"
FLEET: Final = f"portway-{GATEWAY}"
PROXY: Final = f"app.kubernetes.io/name=portway-proxy,gateway.networking.k8s.io/gateway-name={GATEWAY}"

_CLASS = """\
apiVersion: portway.dev/v1alpha1
kind: FleetParameters
metadata: {{name: bench, namespace: portway-system}}
spec:
  workload: {{replicas: {proxies}}}
  proxy: {{concurrency: 1}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {{name: bench}}
spec:
  controllerName: portway.dev/gateway-controller
  parametersRef: {{group: portway.dev, kind: FleetParameters, name: bench, namespace: portway-system}}
"""


@final
class Portway:
    """This checkout.

    Args:
        replicas: of the control plane.
        proxies: of the Gateway.
        arguments: further ones of `portway run`.
    """

    name = "Portway"
    images: tuple[Image, ...] = ()
    service = FLEET

    def __init__(self, *, replicas: int = 1, proxies: int = 1, arguments: tuple[str, ...] = ()) -> None:
        self._replicas = replicas
        self._proxies = proxies
        self._arguments = arguments

    async def install(self, cluster: MiniCluster) -> str:
        """As `Contender`."""
        cluster.kubectl("apply", "--server-side", f"--kustomize={INSTALL}")
        if self._arguments:
            added = ",".join(
                f'{{"op":"add","path":"/spec/template/spec/containers/0/args/-","value":"{argument}"}}'
                for argument in self._arguments
            )
            cluster.kubectl("patch", "deployment", "portway", "-n", SYSTEM, "--type=json", "-p", f"[{added}]")
        cluster.kubectl("scale", "deployment", "portway", "-n", SYSTEM, f"--replicas={self._replicas}")
        await cluster.api.apply(_CLASS.format(proxies=self._proxies))
        await cluster.api.apply(gateway_manifest("bench"))
        await cluster.wait_ready(SYSTEM, CONTROL_PLANE, count=self._replicas)
        address = await cluster.load_balancer(NAMESPACE, FLEET)
        await cluster.wait_ready(NAMESPACE, PROXY, count=self._proxies)
        return address

    async def processes(self, cluster: MiniCluster) -> Processes:
        """As `Contender`."""
        return Processes(
            control_plane=await pids_of(cluster, SYSTEM, CONTROL_PLANE),
            proxy=await pids_of(cluster, NAMESPACE, PROXY),
        )

    async def metrics(self, cluster: MiniCluster) -> str:
        """As `Contender`."""
        return await metrics_page(cluster, PROXY, HEALTH_PORT)
