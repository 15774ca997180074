"""The nodes as the API server sees them: registered, kept alive by Leases, asked for logs."""

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Protocol

import aiohttp
import msgspec
from aiohttp import web

from tests.cluster import kernel
from tests.cluster.api import Api, Refused
from tests.cluster.logs import ContainerLog
from tests.cluster.network import Attachment
from tests.cluster.objects import now

KUBELET_PORT = 10250
HEARTBEAT_S = 1.0
_RETRY_S = 0.2


class NodeOutline(msgspec.Struct, frozen=True):
    """A node to be."""

    name: str
    zone: str
    labels: dict[str, str] = {}


class Logs(Protocol):
    """Where containers' logs are found."""

    def find_log(self, namespace: str, pod: str, container: str, *, previous: bool) -> ContainerLog | None:
        """The log of a container; `None` if there is none."""


async def register(api: Api, outline: NodeOutline, address: str) -> None:
    """Make the Node, or bring it up to date, and say that it is ready. Tries until it is done."""
    labels = {
        "kubernetes.io/hostname": outline.name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
        "topology.kubernetes.io/region": "miniature",
        "topology.kubernetes.io/zone": outline.zone,
    }
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": outline.name, "labels": labels | outline.labels}}
    resources = {"cpu": "64", "memory": "256Gi", "pods": "1000", "ephemeral-storage": "1Ti"}
    status = {
        "capacity": resources,
        "allocatable": resources,
        "addresses": [{"type": "InternalIP", "address": address}, {"type": "Hostname", "address": outline.name}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": KUBELET_PORT}},
        "conditions": _conditions(),
        "nodeInfo": {
            "architecture": "amd64",
            "bootID": "",
            "containerRuntimeVersion": "process://1",
            "kernelVersion": "",
            "kubeProxyVersion": "",
            "kubeletVersion": "v1.37.1",
            "machineID": "",
            "operatingSystem": "linux",
            "osImage": "this machine",
            "systemUUID": "",
        },
    }
    path = f"/api/v1/nodes/{outline.name}"
    while True:
        try:
            with contextlib.suppress(Refused):  # it exists
                await api.request("POST", "/api/v1/nodes", msgspec.json.encode(node))
            await api.patch(path, {"metadata": node["metadata"]})
            await api.patch(f"{path}/status", {"status": status})
        except (aiohttp.ClientError, OSError, TimeoutError, Refused):
            await asyncio.sleep(_RETRY_S)
        else:
            return


async def keep_alive(api: Api, outline: NodeOutline, address: str) -> None:
    """Renew the node's Lease for ever. After a silence that others may have noticed, register again."""
    path = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
    last = time.monotonic()
    while True:
        lease = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": outline.name, "namespace": "kube-node-lease"},
            "spec": {
                "holderIdentity": outline.name,
                "leaseDurationSeconds": 6,
                "renewTime": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
            },
        }
        try:
            async with asyncio.timeout(3 * HEARTBEAT_S):
                params = {"fieldManager": "kubelet", "force": "true"}
                await api.request(
                    "PATCH",
                    f"{path}/{outline.name}",
                    msgspec.json.encode(lease),
                    params=params,
                    content_type="application/apply-patch+yaml",
                )
            if time.monotonic() - last > 3 * HEARTBEAT_S:
                await register(api, outline, address)
            last = time.monotonic()
        except (aiohttp.ClientError, OSError, TimeoutError, Refused):
            pass  # the silence is the message
        await asyncio.sleep(HEARTBEAT_S)


@asynccontextmanager
async def log_server(logs: Logs, attachments: list[Attachment], context: ssl.SSLContext) -> AsyncIterator[None]:
    """The part of the kubelet's API that `kubectl logs` needs, on every node's address."""
    application = web.Application()

    async def answer(request: web.Request) -> web.StreamResponse:
        return await _container_logs(logs, request)

    application.router.add_get("/containerLogs/{namespace}/{pod}/{container}", answer)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        for attachment in attachments:
            # A listening socket stays in the namespace in which it was made. Nothing may be awaited in there.
            with kernel.inside(attachment.namespace):
                listening = socket.create_server((attachment.address, KUBELET_PORT))
            await web.SockSite(runner, listening, ssl_context=context).start()
        yield
    finally:
        await runner.cleanup()


async def _container_logs(logs: Logs, request: web.Request) -> web.StreamResponse:
    place, query = request.match_info, request.query
    previous = query.get("previous") == "true"
    log = logs.find_log(place["namespace"], place["pod"], place["container"], previous=previous)
    if log is None:
        raise web.HTTPNotFound(text=f"no log of container {place['container']} of {place['namespace']}/{place['pod']}")
    start = 0
    if "sinceTime" in query:
        start = log.since(datetime.fromisoformat(query["sinceTime"].replace("Z", "+00:00")).timestamp())
    elif "sinceSeconds" in query:
        start = log.since(time.time() - int(query["sinceSeconds"]))
    if "tailLines" in query:
        start = log.tail(int(query["tailLines"]), start)
    response = web.StreamResponse(headers={"Content-Type": "text/plain"})
    await response.prepare(request)
    with contextlib.suppress(ConnectionError):  # who followed has seen enough
        if query.get("follow") == "true":
            async for text in log.follow(start):
                await response.write(text)
        else:
            text = log.read_stamped(start) if query.get("timestamps") == "true" else log.read(start)
            limit = int(query.get("limitBytes", len(text)))
            await response.write(text[:limit])
        await response.write_eof()
    return response


def _conditions() -> list[dict[str, str]]:
    moment = now()
    good = {"MemoryPressure": "False", "DiskPressure": "False", "PIDPressure": "False", "Ready": "True"}
    return [
        {
            "type": kind,
            "status": status,
            "reason": "KubeletReady" if kind == "Ready" else "KubeletHasSufficient",
            "message": "",
            "lastHeartbeatTime": moment,
            "lastTransitionTime": moment,
        }
        for kind, status in good.items()
    ]
