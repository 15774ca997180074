"""A scheduler and the kubelets of several nodes in one process, whose containers are processes of this machine.

The nodes are real to the API server and to the network: each has a Node with a Lease, an address with a namespace of
its own for pods with hostNetwork, and a kubelet API on it. A node can die: its pods' processes end, its Lease runs out,
its address falls silent; and it can come back.
"""

import asyncio
import contextlib
import ssl
import sys
import traceback
from collections.abc import Sequence
from typing import TypeVar, final

import aiohttp
import msgspec

from tests.cluster.api import Refused, follow
from tests.cluster.logs import ContainerLog
from tests.cluster.network import Attachment
from tests.cluster.nodes import NodeOutline, keep_alive, log_server, register
from tests.cluster.objects import ConfigMap, Node, Pod, Secret, now
from tests.cluster.pods import STRATEGIC, Place, PodLife, Surroundings
from tests.cluster.scheduler import choose_node

S = TypeVar("S", Secret, ConfigMap)
_SOON_S = 1.0
"""How often pods for which there was no node are looked at again."""


class KubeletStatistics(msgspec.Struct, frozen=True):
    """What the kubelets have done."""

    pods: int
    """That live now."""

    start_s: tuple[float, ...]
    """Of each pod that has become ready and lives: from its binding to the Ready condition in the API server."""


@final
class Kubelets:
    """All nodes of a cluster."""

    def __init__(self, shared: Surroundings, outlines: Sequence[NodeOutline], context: ssl.SSLContext) -> None:
        """
        Args:
            shared: API, network, images.
            outlines: the nodes.
            context: TLS of the kubelet API.
        """
        self._shared = shared
        self._context = context
        self._outlines = {outline.name: outline for outline in outlines}
        self._attachments: dict[str, Attachment] = {
            outline.name: shared.network.attach_node(number) for number, outline in enumerate(outlines, 1)
        }
        self._dead: set[str] = set()
        self._heartbeats: dict[str, asyncio.Task[None]] = {}
        self._nodes: dict[str, Node] = {}
        self._pods: dict[str, Pod] = {}
        self._lives: dict[str, tuple[PodLife, asyncio.Task[None]]] = {}
        self._assumed: dict[str, Pod] = {}
        self._unscheduled = asyncio.Event()
        self._nodes_known = asyncio.Event()
        self._tasks = asyncio.TaskGroup()
        self.ready = asyncio.Event()
        """Set when all nodes are registered and pods are followed."""

        self.nodes_ready = asyncio.Event()
        """Set when pods may go to every node: a new one is tainted until its readiness has been noticed."""

    async def run(self) -> None:
        """Serve the nodes, for ever."""
        attachments = list(self._attachments.values())
        async with log_server(self, attachments, self._context), self._tasks as tasks:
            sources = self._shared.sources
            tasks.create_task(self._follow_sources("/api/v1/secrets", Secret, sources.secrets))
            tasks.create_task(self._follow_sources("/api/v1/configmaps", ConfigMap, sources.config_maps))
            async with asyncio.TaskGroup() as registering:
                for name in self._outlines:
                    registering.create_task(self.start_node(name))
            tasks.create_task(self._follow_nodes())
            await self._nodes_known.wait()
            tasks.create_task(self._schedule())
            await self._follow_pods()

    def statistics(self) -> KubeletStatistics:
        """What they have done until now."""
        starts = (life.ready_after_s for life, _ in self._lives.values())
        return KubeletStatistics(len(self._lives), tuple(start for start in starts if start is not None))

    def find_log(self, namespace: str, pod: str, container: str, *, previous: bool) -> ContainerLog | None:
        """As `Logs` says."""
        life = self.find(f"{namespace}/{pod}")
        found = life.container(container) if life else None
        if found is None:
            return None
        return found.previous_log if previous else found.log

    def find(self, key: str) -> PodLife | None:
        """A living pod by `namespace/name`."""
        return next((life for life, _ in self._lives.values() if life.pod.key == key), None)

    async def start_node(self, name: str) -> None:
        """Register a node and keep it alive; after `kill_node`: boot it. Its pods, if still bound, start again."""
        if name in self._heartbeats:
            return
        outline, attachment = self._outlines[name], self._attachments[name]
        if name in self._dead:
            self._dead.discard(name)
            self._shared.network.isolate(attachment.address, isolated=False)
        await register(self._shared.api, outline, attachment.address)
        self._heartbeats[name] = self._tasks.create_task(keep_alive(self._shared.api, outline, attachment.address))
        for pod in list(self._pods.values()):
            self._consider(pod)

    async def kill_node(self, name: str) -> None:
        """Cut a node's power: its processes are gone, nobody is told. Nothing happens to one that is dead."""
        if name not in self._heartbeats:
            return
        self._heartbeats.pop(name).cancel()
        self._dead.add(name)
        self._shared.network.isolate(self._attachments[name].address)
        doomed = [uid for uid, (life, _) in self._lives.items() if life.place.name == name]
        for uid in doomed:
            await self._end(uid)

    async def _follow_sources(self, path: str, type_: type[S], known: dict[str, S]) -> None:
        async for change in follow(self._shared.api, path, type_):
            if change is None:
                continue
            metadata = change.object.metadata
            if change.gone:
                known.pop(f"{metadata.namespace}/{metadata.name}", None)
            else:
                known[f"{metadata.namespace}/{metadata.name}"] = change.object

    async def _follow_nodes(self) -> None:
        async for change in follow(self._shared.api, "/api/v1/nodes", Node):
            if change is None:
                self._nodes_known.set()
            elif change.gone:
                self._nodes.pop(change.object.metadata.name, None)
            else:
                self._nodes[change.object.metadata.name] = change.object
            if self._outlines.keys() <= self._nodes.keys() and not any(
                node.spec.taints for node in self._nodes.values()
            ):
                self.nodes_ready.set()

    async def _follow_pods(self) -> None:
        async for change in follow(self._shared.api, "/api/v1/pods", Pod):
            if change is None:
                self.ready.set()
            elif change.gone:
                await self._forget(change.object.metadata.uid)
            else:
                self._pods[change.object.metadata.uid] = change.object
                self._consider(change.object)

    def _consider(self, pod: Pod) -> None:
        uid = pod.metadata.uid
        if not pod.spec.node_name:
            if not pod.metadata.deletion_timestamp and not pod.spec.scheduling_gates:
                self._unscheduled.set()
            return
        self._assumed.pop(uid, None)
        if uid in self._lives:
            self._lives[uid][0].update(pod)
        elif pod.spec.node_name in self._heartbeats:
            is_over = pod.status.phase in ("Succeeded", "Failed")
            if not is_over or pod.metadata.deletion_timestamp:
                self._begin(pod)

    def _begin(self, pod: Pod) -> None:
        place = Place(pod.spec.node_name, self._attachments[pod.spec.node_name])
        life = PodLife(pod, place, self._shared)
        life.update(pod)
        self._lives[pod.metadata.uid] = life, self._tasks.create_task(self._live(life))

    async def _live(self, life: PodLife) -> None:
        """One pod's life; a bug in it must not end the others'."""
        try:
            await life.run()
        except Exception:  # noqa: BLE001 - the edge that has to survive; tests see it in the log and by the missing pod
            print(f"pod {life.pod.key}:\n{traceback.format_exc()}", file=sys.stderr, flush=True)  # noqa: T201
            await asyncio.sleep(_SOON_S)
            self._lives.pop(life.pod.metadata.uid, None)
            if (pod := self._pods.get(life.pod.metadata.uid)) is not None:
                self._consider(pod)
        else:
            self._lives.pop(life.pod.metadata.uid, None)

    async def _forget(self, uid: str) -> None:
        self._pods.pop(uid, None)
        self._assumed.pop(uid, None)
        await self._end(uid)

    async def _end(self, uid: str) -> None:
        if uid in self._lives:
            _, task = self._lives.pop(uid)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _schedule(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_SOON_S):
                    await self._unscheduled.wait()
            self._unscheduled.clear()
            await self.ready.wait()
            for pod in [*self._pods.values()]:
                waits = not pod.spec.node_name and pod.metadata.uid not in self._assumed
                if waits and not pod.metadata.deletion_timestamp and not pod.spec.scheduling_gates:
                    await self._bind(pod)

    async def _bind(self, pod: Pod) -> None:
        bound = [other for other in self._pods.values() if other.spec.node_name] + list(self._assumed.values())
        node, reason = choose_node(pod, self._nodes.values(), bound)
        with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError, Refused):
            if node is None:
                await self._complain(pod, reason)
                return
            name = node.metadata.name
            binding = {
                "apiVersion": "v1",
                "kind": "Binding",
                "metadata": {"name": pod.metadata.name, "uid": pod.metadata.uid},
                "target": {"apiVersion": "v1", "kind": "Node", "name": name},
            }
            spec = msgspec.structs.replace(pod.spec, node_name=name)
            self._assumed[pod.metadata.uid] = msgspec.structs.replace(pod, spec=spec)
            try:
                await self._shared.api.request("POST", f"{pod.path}/binding", msgspec.json.encode(binding))
            except BaseException:
                self._assumed.pop(pod.metadata.uid, None)
                raise

    async def _complain(self, pod: Pod, reason: str) -> None:
        condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": reason}
        condition["lastTransitionTime"] = now()
        if not any(one.type == "PodScheduled" and one.message == reason for one in pod.status.conditions):
            body = msgspec.json.encode({"status": {"conditions": [condition]}})
            await self._shared.api.request("PATCH", f"{pod.path}/status", body, content_type=STRATEGIC)
