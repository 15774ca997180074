"""The miniature cluster does what tests rely on: pods run, are reached, are replaced, and vanish."""

import asyncio
import contextlib
import time

import pytest

from tests.cluster.cluster import ClusterFailed, MiniCluster
from tests.cluster.control_plane import Component
from tests.cluster.network import API_SERVER
from tests.cluster.objects import Pod
from tests.kit.answer import ConnectionFailed
from tests.kit.client import fetch
from tests.kit.stream_client import ask_udp

pytestmark = pytest.mark.cluster

SERVER = """
import http.server, os, signal, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        print(f"{os.environ['NAME']} got {self.path}", flush=True)
        try:
            text = open(self.path[5:]).read() if self.path.startswith("/file") else os.environ["NAME"]
        except OSError as error:
            text = f"no: {error}"
        self.send_response(200)
        self.end_headers()
        self.wfile.write(text.encode())
    def log_message(self, *_): pass
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
http.server.ThreadingHTTPServer(("0.0.0.0", 8080), Handler).serve_forever()
"""


def workload(name: str, *, replicas: int = 2, container: str = "", pod: str = "", kind: str = "LoadBalancer") -> str:
    """A Deployment of HTTP servers that answer with their pod's name, and a Service on port 80."""
    program = "\n".join(f"            {line}" for line in SERVER.splitlines())
    return f"""
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      terminationGracePeriodSeconds: 5
      {pod}
      containers:
      - name: server
        image: local/python
        command: [python, -u, -c]
        args:
        - |
{program}
        env: [{{name: NAME, valueFrom: {{fieldRef: {{fieldPath: metadata.name}}}}}}]
        readinessProbe: {{httpGet: {{path: /probe, port: 8080}}, periodSeconds: 1}}
        {container}
---
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec: {{type: {kind}, selector: {{app: {name}}}, ports: [{{name: http, port: 80, targetPort: 8080}}]}}
"""


async def get(address: str, path: str = "/", port: int = 80) -> str:
    """The body of an answer, or how there was none."""
    answer = await fetch(f"http://{address}:{port}{path}", address=address, seconds=2)
    return f"no answer: {answer.failure}" if answer.failure else answer.body.decode()


async def answering(cluster: MiniCluster, address: str, pods: tuple[Pod, ...]) -> None:
    """Wait until all these pods, and none but them, answer at an address."""
    names = {pod.metadata.name for pod in pods}

    async def look() -> bool:
        return {await get(address) for _ in range(8 * len(names))} == names

    await cluster.wait_for(f"{names} answer at {address}", look)


async def test_service_reaches_all_pods_of_a_deployment(cluster: MiniCluster, namespace: str) -> None:
    await cluster.api.apply(workload("web"), namespace=namespace)
    pods = await cluster.wait_ready(namespace, count=2)
    assert {pod.spec.node_name[:6] for pod in pods} == {"node-a", "node-b"}, "one in each zone"
    await answering(cluster, await cluster.load_balancer(namespace, "web"), pods)


async def test_ports_of_the_node_lead_to_the_pod_and_go_with_it(cluster: MiniCluster, namespace: str) -> None:
    ports = "ports: [{containerPort: 8080, hostPort: 8090}]"
    await cluster.api.apply(workload("web", container=ports, kind="ClusterIP"), namespace=namespace)
    one, other = await cluster.wait_ready(namespace, count=2)
    for pod in (one, other):
        assert await get(pod.status.host_ip, port=8090) == pod.metadata.name
    await cluster.api.patch(f"/apis/apps/v1/namespaces/{namespace}/deployments/web", {"spec": {"replicas": 0}})
    await cluster.wait_gone(one.path)
    await cluster.wait_gone(other.path)
    assert await get(one.status.host_ip, port=8090) == "no answer: refused"


async def test_pods_start_well_below_a_second(cluster: MiniCluster, namespace: str) -> None:
    began = time.monotonic()
    await cluster.api.apply(workload("many", replicas=10, kind="ClusterIP"), namespace=namespace)
    await cluster.wait_ready(namespace, count=10)
    each = (time.monotonic() - began) / 10
    print(f"10 pods: {each:.2f} s each; kubelet {sorted((await cluster.statistics()).start_s)}")  # noqa: T201 - the figure
    assert each < 2


async def test_logs_are_complete_at_once(cluster: MiniCluster, namespace: str) -> None:
    await cluster.api.apply(workload("web", replicas=1), namespace=namespace)
    (pod,) = await cluster.wait_ready(namespace, count=1)
    await get(pod.status.pod_ip, "/first", port=8080)
    await asyncio.sleep(1.1)
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    for number in range(3):
        await get(pod.status.pod_ip, f"/{number}", port=8080)
    path = f"/api/v1/namespaces/{namespace}/pods/{pod.metadata.name}/log"
    lines = (await cluster.api.request("GET", path, params={"sinceTime": since})).decode().splitlines()
    assert [line.split()[-1] for line in lines if "/probe" not in line] == ["/0", "/1", "/2"]
    tail = await cluster.api.request("GET", path, params={"tailLines": "1"})
    assert tail.count(b"\n") == 1
    assert cluster.kubectl("logs", "-n", namespace, pod.metadata.name, "--timestamps").startswith("20")


async def test_logs_can_be_followed(cluster: MiniCluster, namespace: str) -> None:
    await cluster.api.apply(workload("web", replicas=1), namespace=namespace)
    (pod,) = await cluster.wait_ready(namespace, count=1)
    path = f"/api/v1/namespaces/{namespace}/pods/{pod.metadata.name}/log"
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        asking = tasks.create_task(get(pod.status.pod_ip, "/now", port=8080))
        async for line in cluster.api.stream(path, {"follow": "true"}):
            if line.endswith(b"/now"):
                break
        await asking


async def test_volumes_wait_for_their_sources_and_follow_them(cluster: MiniCluster, namespace: str) -> None:
    volumes = "volumes: [{name: colours, configMap: {name: colours}}, {name: scratch, emptyDir: {}}]"
    mounts = "volumeMounts: [{name: colours, mountPath: /etc/colours}, {name: scratch, mountPath: /var/scratch}]"
    await cluster.api.apply(workload("web", replicas=1, pod=volumes, container=mounts), namespace=namespace)

    async def waits() -> bool:
        pods = await cluster.pods(namespace)
        return bool(pods) and any("colours does not exist" in (one.message or "") for one in pods[0].status.conditions)

    await cluster.wait_for("the pod waits", waits)
    colours = "{apiVersion: v1, kind: ConfigMap, metadata: {name: colours}, data: {sky: %s}}"
    await cluster.api.apply(colours % "blue", namespace=namespace)
    (pod,) = await cluster.wait_ready(namespace, count=1)
    assert await get(pod.status.pod_ip, "/file/etc/colours/sky", port=8080) == "blue"
    await cluster.api.apply(colours % "grey", namespace=namespace)

    async def is_grey() -> bool:
        return await get(pod.status.pod_ip, "/file/etc/colours/sky", port=8080) == "grey"

    await cluster.wait_for("the file follows", is_grey)


async def test_pod_has_a_token_a_name_and_the_clusters_names(cluster: MiniCluster, namespace: str) -> None:
    await cluster.api.apply(workload("web", replicas=1), namespace=namespace)
    (pod,) = await cluster.wait_ready(namespace, count=1)
    folder = "/var/run/secrets/kubernetes.io/serviceaccount"
    assert await get(pod.status.pod_ip, f"/file{folder}/namespace", port=8080) == namespace
    assert (await get(pod.status.pod_ip, f"/file{folder}/token", port=8080)).count(".") == 2
    assert "BEGIN CERTIFICATE" in await get(pod.status.pod_ip, f"/file{folder}/ca.crt", port=8080)
    assert pod.metadata.name in await get(pod.status.pod_ip, "/file/etc/hosts", port=8080)


CLIENT = """
import ssl, sys, urllib.request
folder = "/var/run/secrets/kubernetes.io/serviceaccount"
request = urllib.request.Request("https://kubernetes.default.svc/api/v1/nodes")
request.add_header("Authorization", "Bearer " + open(folder + "/token").read())
try:
    urllib.request.urlopen(request, context=ssl.create_default_context(cafile=folder + "/ca.crt"), timeout=5)
except urllib.error.HTTPError as error:
    print(error.read().decode())
print(urllib.request.urlopen("http://web", timeout=5).read().decode())
"""


def job(name: str, program: str, *, more: str = "") -> str:
    """A pod that runs a Python program once."""
    text = "\n".join(f"      {line}" for line in program.splitlines())
    return f"""
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  restartPolicy: Never
  {more}
  containers:
  - name: client
    image: local/python
    command: [python, -c]
    args:
    - |
{text}
"""


async def finished(cluster: MiniCluster, namespace: str, name: str) -> str:
    """Wait until a pod is over; its log."""

    async def look() -> bool:
        pod = await cluster.api.get(f"/api/v1/namespaces/{namespace}/pods/{name}", Pod)
        return pod.status.phase in ("Succeeded", "Failed")

    await cluster.wait_for(f"pod {name} over", look)
    return cluster.kubectl("logs", "-n", namespace, name)


async def test_pods_reach_services_by_name(cluster: MiniCluster, namespace: str) -> None:
    await cluster.api.apply(workload("web", replicas=1), namespace=namespace)
    (pod,) = await cluster.wait_ready(namespace, count=1)
    await cluster.api.apply(job("client", CLIENT), namespace=namespace)
    log = await finished(cluster, namespace, "client")
    assert f"system:serviceaccount:{namespace}:default" in log, "the API server knows the pod"
    assert pod.metadata.name in log


async def test_user_and_read_only_root(cluster: MiniCluster, namespace: str) -> None:
    program = "import os, socket; print(os.getuid(), os.getgid(), socket.create_server(('', 80)).getsockname()[1])"
    program += "\ntry: open('/new', 'w')\nexcept OSError as error: print(error)"
    context = "securityContext: {runAsUser: 65532, runAsGroup: 65532}"
    pod = job("user", program, more=context) + "    securityContext: {readOnlyRootFilesystem: true}\n"
    await cluster.api.apply(pod, namespace=namespace)
    log = await finished(cluster, namespace, "user")
    assert "65532 65532 80" in log
    assert "Read-only file system" in log


async def test_host_network_is_the_nodes(cluster: MiniCluster, namespace: str) -> None:
    pod = "hostNetwork: true\n      nodeSelector: {kubernetes.io/hostname: node-b2}"
    await cluster.api.apply(workload("web", replicas=1, pod=pod), namespace=namespace)
    (found,) = await cluster.wait_ready(namespace, count=1)
    assert (found.spec.node_name, found.status.pod_ip) == ("node-b2", "10.240.1.4")
    assert await get("10.240.1.4", port=8080) == found.metadata.name


async def test_pod_that_no_node_fits_says_why(cluster: MiniCluster, namespace: str) -> None:
    await cluster.api.apply(workload("web", replicas=1, pod="nodeSelector: {disk: fast}"), namespace=namespace)

    async def look() -> bool:
        pods = await cluster.pods(namespace)
        return bool(pods) and any("node-a1: node selector" in (one.message or "") for one in pods[0].status.conditions)

    await cluster.wait_for("the pod complains", look)


async def test_the_image_portway_is_this_checkout(cluster: MiniCluster, namespace: str) -> None:
    pod = """
apiVersion: v1
kind: Pod
metadata: {name: portway}
spec:
  restartPolicy: Never
  containers:
  - name: portway
    image: example.com/portway:1
    args: [--help]
    securityContext: {runAsNonRoot: true, readOnlyRootFilesystem: true}
"""
    await cluster.api.apply(pod, namespace=namespace)
    assert "Usage: python -m portway" in await finished(cluster, namespace, "portway")


DATAGRAMS = """
import socket
server = socket.socket(type=socket.SOCK_DGRAM)
server.bind(("0.0.0.0", 53))
while True:
    data, client = server.recvfrom(2048)
    server.sendto(data + b" from " + client[0].encode(), client)
"""


async def test_datagrams_are_balanced_too(cluster: MiniCluster, namespace: str) -> None:
    pod = job("datagrams", DATAGRAMS).replace("{name: datagrams}", "{name: datagrams, labels: {app: datagrams}}")
    service = """
apiVersion: v1
kind: Service
metadata: {name: datagrams}
spec: {type: LoadBalancer, selector: {app: datagrams}, ports: [{port: 5353, targetPort: 53, protocol: UDP}]}
"""
    await cluster.api.apply(f"{pod}\n---\n{service}", namespace=namespace)
    await cluster.wait_ready(namespace, count=1)
    address = await cluster.load_balancer(namespace, "datagrams")

    async def look() -> bool:
        with contextlib.suppress(ConnectionFailed, TimeoutError):
            async with asyncio.timeout(1):
                return await ask_udp(b"hello", port=5353, host=address) == b"hello from 10.240.0.1"
        return False

    await cluster.wait_for("an answer from our own address", look)


async def test_killed_container_starts_again(cluster: MiniCluster, namespace: str) -> None:
    await cluster.api.apply(workload("web", replicas=1), namespace=namespace)
    (pod,) = await cluster.wait_ready(namespace, count=1)
    await cluster.kill_pod(namespace, pod.metadata.name)

    async def look() -> bool:
        found = cluster.kubectl("get", "pod", "-n", namespace, pod.metadata.name, "-o", "jsonpath={..restartCount}")
        return found == "1" and await get(pod.status.pod_ip, port=8080) == pod.metadata.name

    await cluster.wait_for("the container is back", look)


async def test_failed_liveness_probe_restarts(cluster: MiniCluster, namespace: str) -> None:
    probe = "livenessProbe: {exec: {command: ['false']}, periodSeconds: 1, failureThreshold: 1}"
    await cluster.api.apply(workload("web", replicas=1, container=probe), namespace=namespace)

    async def look() -> bool:
        counts = cluster.kubectl("get", "pods", "-n", namespace, "-o", "jsonpath={..restartCount}")
        return counts not in ("", "0")

    await cluster.wait_for("a restart", look)


async def test_deleted_pod_drains_and_is_replaced(cluster: MiniCluster, namespace: str) -> None:
    hook = "lifecycle: {preStop: {exec: {command: [sleep, '1']}}}"
    await cluster.api.apply(workload("web", container=hook), namespace=namespace)
    pods = await cluster.wait_ready(namespace, count=2)
    address = await cluster.load_balancer(namespace, "web")
    await answering(cluster, address, pods)
    await cluster.api.delete(f"/api/v1/namespaces/{namespace}/pods/{pods[0].metadata.name}")
    began = time.monotonic()
    await cluster.wait_gone(pods[0].path)
    assert 0.9 < time.monotonic() - began < 4
    await answering(cluster, address, await cluster.wait_ready(namespace, count=2))


async def test_service_without_endpoints_refuses(cluster: MiniCluster, namespace: str) -> None:
    await cluster.api.apply(workload("web", replicas=0), namespace=namespace)
    assert await get(await cluster.load_balancer(namespace, "web")) == "no answer: refused"


async def test_address_that_a_service_asks_for(cluster: MiniCluster, namespace: str) -> None:
    service = (
        "{apiVersion: v1, kind: Service, metadata: {name: %s}, "
        "spec: {type: LoadBalancer, loadBalancerIP: %s, ports: [{port: 80}]}}"
    )
    for name, address in (("good", "10.250.0.7"), ("taken", "10.250.0.7"), ("foreign", "192.0.2.1")):
        await cluster.api.apply(service % (name, address), namespace=namespace)
        if name == "good":
            assert await cluster.load_balancer(namespace, name) == address
    for name in ("taken", "foreign"):
        with pytest.raises(ClusterFailed):
            await cluster.load_balancer(namespace, name, seconds=0.5)
    await cluster.api.delete(f"/api/v1/namespaces/{namespace}/services/good")
    assert await cluster.load_balancer(namespace, "taken") == "10.250.0.7"


async def test_partition_and_its_end(cluster: MiniCluster, namespace: str) -> None:
    await cluster.api.apply(workload("web", replicas=1), namespace=namespace)
    (pod,) = await cluster.wait_ready(namespace, count=1)
    ask = f"import socket; socket.create_connection(('{API_SERVER}', 16443), 1)"
    async with cluster.isolation(pod.status.pod_ip):
        assert await get(pod.status.pod_ip, port=8080) == "no answer: timeout"
        await cluster.api.apply(job("other", ask), namespace=namespace)
        assert await finished(cluster, namespace, "other") == ""
    assert await get(pod.status.pod_ip, port=8080) == pod.metadata.name
    async with cluster.partition(pod.status.pod_ip, "10.240.0.1"):
        assert await get(pod.status.pod_ip, port=8080) == "no answer: timeout"
    assert await get(pod.status.pod_ip, port=8080) == pod.metadata.name


@pytest.mark.disturbs
async def test_api_server_cut_off_and_back(cluster: MiniCluster) -> None:
    async with cluster.isolation(API_SERVER):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await cluster.api.request("GET", "/version")
    await cluster.api.request("GET", "/version")


@pytest.mark.disturbs
async def test_pods_of_a_dead_node_move(cluster: MiniCluster, namespace: str) -> None:
    await cluster.api.apply(workload("web"), namespace=namespace)
    pods = await cluster.wait_ready(namespace, count=2)
    dead = pods[0].spec.node_name
    address = await cluster.load_balancer(namespace, "web")
    await cluster.kill_node(dead)
    try:

        async def moved() -> bool:
            living = [pod for pod in await cluster.pods(namespace) if pod.is_ready and pod.spec.node_name != dead]
            return len(living) == 2 and "no answer" not in "".join([await get(address) for _ in range(8)])

        await cluster.wait_for("the pods have moved", moved, seconds=60)
    finally:
        await cluster.start_node(dead)
    await cluster.wait_gone(pods[0].path)
    await cluster.wait_ready(namespace, count=2)


@pytest.mark.disturbs
async def test_traffic_flows_while_the_api_server_is_down(cluster: MiniCluster, namespace: str) -> None:
    await cluster.api.apply(workload("web"), namespace=namespace)
    pods = await cluster.wait_ready(namespace, count=2)
    address = await cluster.load_balancer(namespace, "web")
    await answering(cluster, address, pods)
    await cluster.kill(Component.API_SERVER)
    await answering(cluster, address, pods)
    await cluster.restart(Component.API_SERVER)
    await cluster.api.delete(f"/api/v1/namespaces/{namespace}/pods/{pods[0].metadata.name}")
    await cluster.wait_gone(pods[0].path)
    await answering(cluster, address, await cluster.wait_ready(namespace, count=2))


@pytest.mark.disturbs
async def test_etcd_goes_back_and_pods_with_it(cluster: MiniCluster, namespace: str) -> None:
    await cluster.save_etcd("before")
    await cluster.api.apply(workload("web"), namespace=namespace)
    pods = await cluster.wait_ready(namespace, count=2)
    await cluster.restore_etcd("before")

    async def gone() -> bool:
        return "web" not in "".join([await get(pod.status.pod_ip, port=8080) for pod in pods])

    await cluster.wait_for("pods that do not exist any more have ended", gone)


async def test_namespace_is_gone_in_seconds(cluster: MiniCluster, namespace: str) -> None:
    await cluster.api.apply(workload("web"), namespace=namespace)
    await cluster.wait_ready(namespace, count=2)
    began = time.monotonic()
    await cluster.api.delete(f"/api/v1/namespaces/{namespace}")
    await cluster.wait_gone(f"/api/v1/namespaces/{namespace}")
    print(f"namespace gone in {time.monotonic() - began:.1f} s")  # noqa: T201 - the figure
    assert time.monotonic() - began < 20
