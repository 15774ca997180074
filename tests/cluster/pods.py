"""One pod on one node: its network, its volumes, its containers, its status, its end."""

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import final

import aiohttp
import msgspec

from tests.cluster.api import Api, Refused
from tests.cluster.containers import MARKER, Image, Mount, Plan, find_image
from tests.cluster.environment import expand, variables_of
from tests.cluster.lifecycle import ContainerLife, Restart
from tests.cluster.logs import ContainerLog
from tests.cluster.network import GATEWAY, Attachment, Backend, Frontend, Network
from tests.cluster.objects import Container, Pod
from tests.cluster.pod_status import PodStatusWriter
from tests.cluster.probes import Prober
from tests.cluster.volumes import SourceMissing, Sources, Volumes

STRATEGIC = "application/strategic-merge-patch+json"
"""Conditions are merged by type: those of others, for readiness gates, stay."""

_RETRY_S = 0.2
_NOBODY = 65532
"""Who runs an image of which the pod only says that it must not be root; as in images of the "distroless" kind."""


class Surroundings(msgspec.Struct, frozen=True):
    """What all pods of a cluster share."""

    api: Api
    network: Network
    images: Sequence[Image]
    sources: Sources
    prober: Prober
    folder: Path
    run: str
    """Name of the run, for `MARKER`."""


class Place(msgspec.Struct, frozen=True):
    """The node on which a pod runs."""

    name: str
    attachment: Attachment


@final
class PodLife:
    """A pod that is bound to a node of ours, from then until its object is gone."""

    def __init__(self, pod: Pod, place: Place, shared: Surroundings) -> None:
        self.pod = pod
        self.place = place
        self._shared = shared
        self._folder = shared.folder / pod.metadata.uid
        self._volumes = Volumes(self._folder / "volumes", pod, shared.sources, shared.api)
        self._attachment: Attachment | None = None
        self._status = PodStatusWriter()
        self._dirty = asyncio.Event()
        self._deleted = asyncio.Event()
        self._waiting_for = ""
        self._written: dict[str, object] = {}
        self._is_written_ready = False
        self._is_initialized = False
        self._starts = 0
        self._seen = time.monotonic()
        self.ready_after_s: float | None = None
        """From its binding to its Ready condition in the API server."""

        policy = Restart(pod.spec.restart_policy)
        self.main = [self._life(container, policy) for container in pod.spec.containers]
        after = Restart.NEVER if policy is Restart.NEVER else Restart.ON_FAILURE
        self.initial = [
            self._life(container, Restart.ALWAYS if container.restart_policy == "Always" else after)
            for container in pod.spec.init_containers
        ]

    @property
    def address(self) -> str:
        """Its address; empty while it has none."""
        if self.pod.spec.host_network:
            return self.place.attachment.address
        return self._attachment.address if self._attachment else ""

    def container(self, name: str) -> ContainerLife | None:
        """One of its containers by name."""
        return next((life for life in (*self.main, *self.initial) if life.container.name == name), None)

    def update(self, pod: Pod) -> None:
        """Its object changed. A time of deletion begins its end."""
        self.pod = pod
        if pod.metadata.deletion_timestamp:
            self._deleted.set()
        # Of readiness gates others write the condition; and who takes the node for dead writes Ready=False.
        if pod.spec.readiness_gates or pod.is_ready != self._is_written_ready:
            self._written = {}
            self._dirty.set()

    async def run(self) -> None:
        """Until its object is deleted. Cancelled, all its processes die at once and nobody is told."""
        try:
            async with asyncio.TaskGroup() as tasks:
                writing = tasks.create_task(self._write_status())
                living = tasks.create_task(self._live())
                await self._deleted.wait()
                await self._stop()
                living.cancel()
                writing.cancel()
        finally:
            self._volumes.remove()
            if self._attachment is not None:
                self._shared.network.serve(dict.fromkeys(self._host_ports(), ()))
                self._shared.network.detach(self._attachment)
                self._attachment = None
        await self._confirm_end()

    async def _live(self) -> None:
        if self._deleted.is_set():
            return  # bound and deleted, or over: only its end is left to be confirmed
        if not self.pod.spec.host_network:
            self._attachment = self._attach()
            self._shared.network.serve(self._host_ports())
        self._volumes.address, self._volumes.node_address = self.address, self.place.attachment.address
        async with asyncio.TaskGroup() as tasks:
            renewal = await self._first_volumes()
            tasks.create_task(self._keep_volumes(renewal))
            for life in self.initial:
                running = tasks.create_task(life.run())
                if life.container.restart_policy == "Always":
                    await life.up.wait()
                elif await running:
                    return  # it failed and may not start again
            self._is_initialized = True
            for life in self.main:
                tasks.create_task(life.run())

    async def _stop(self) -> None:
        given = self.pod.metadata.deletion_grace_period_seconds
        grace_s = self.pod.spec.termination_grace_period_seconds if given is None else given
        ends = time.monotonic() + grace_s
        async with asyncio.TaskGroup() as tasks:
            for life in self.main:
                tasks.create_task(life.stop(grace_s))
        # Sidecars outlive what they serve, in reverse order.
        for life in reversed(self.initial):
            await life.stop(max(ends - time.monotonic(), 0.0))

    async def _confirm_end(self) -> None:
        while True:
            try:
                return await self._shared.api.delete(self.pod.path, uid=self.pod.metadata.uid, grace_s=0)
            except (aiohttp.ClientError, OSError, TimeoutError, Refused):
                await asyncio.sleep(_RETRY_S)

    def _attach(self) -> Attachment:
        sysctls = {one.name: one.value for one in self.pod.spec.security_context.sysctls}
        start = sysctls.get("net.ipv4.ip_unprivileged_port_start")
        # 0 is what container runtimes set, too.
        return self._shared.network.attach_pod(unprivileged_ports_from=int(start) if start else 0)

    def _host_ports(self) -> dict[Frontend, tuple[Backend, ...]]:
        """Ports of the node that lead to the pod, unless asked from the node's own network; none with hostNetwork."""
        return {
            Frontend(self.place.attachment.address, port.protocol, port.host_port): (
                Backend(self.address, port.container_port),
            )
            for life in (*self.initial, *self.main)
            for port in life.container.ports
            if port.host_port and not self.pod.spec.host_network
        }

    async def _first_volumes(self) -> float:
        while True:
            try:
                renewal = await self._volumes.update(time.time())
            except SourceMissing as error:
                self._wait_for(str(error))
            except (aiohttp.ClientError, OSError, TimeoutError, Refused) as error:
                self._wait_for(f"{type(error).__name__}: {error}")
            else:
                self._waiting_for = ""
                return renewal
            await asyncio.sleep(_RETRY_S)

    def _wait_for(self, message: str) -> None:
        if message != self._waiting_for:
            self._waiting_for = message
            self._dirty.set()

    async def _keep_volumes(self, renewal: float) -> None:
        """Follow Secrets, ConfigMaps and the lives of tokens. A source that vanishes leaves its files."""
        if not self.pod.spec.volumes:
            return
        while True:
            await asyncio.sleep(min(1.0, max(renewal - time.time(), 0.1)))
            with contextlib.suppress(SourceMissing, aiohttp.ClientError, OSError, TimeoutError, Refused):
                renewal = await self._volumes.update(time.time())

    async def _write_status(self) -> None:
        self._dirty.set()
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            status = self._status.status(
                self.pod,
                address=self.address,
                node_address=self.place.attachment.address,
                waiting_for=self._waiting_for,
                initial=self.initial,
                main=self.main,
                is_initialized=self._is_initialized,
            )
            if status == self._written:
                continue
            body = msgspec.json.encode({"metadata": {"uid": self.pod.metadata.uid}, "status": status})
            try:
                await self._shared.api.request("PATCH", f"{self.pod.path}/status", body, content_type=STRATEGIC)
            except Refused as error:
                if error.status not in (404, 409):
                    raise
            except (aiohttp.ClientError, OSError, TimeoutError):
                await asyncio.sleep(_RETRY_S)
                self._dirty.set()
            else:
                self._written = status
                self._is_written_ready = self._status.is_ready
                if self.ready_after_s is None and all(life.is_ready for life in self.main):
                    self.ready_after_s = time.monotonic() - self._seen

    def _life(self, container: Container, restart: Restart) -> ContainerLife:
        return ContainerLife(
            container,
            restart,
            plan=lambda: self._plan(container),
            new_log=lambda: self._new_log(container),
            prober=self._shared.prober,
            address=lambda: self.address,
            changed=self._dirty.set,
            grace_s=self.pod.spec.termination_grace_period_seconds,
        )

    def _new_log(self, container: Container) -> ContainerLog:
        folder = self._shared.folder.parent / "logs"
        folder.mkdir(exist_ok=True)
        name = f"{self.pod.metadata.namespace}_{self.pod.metadata.name}_{container.name}"[:200]
        return ContainerLog(folder / f"{name}_{self._starts}.log")

    def _plan(self, container: Container) -> Plan:
        image = find_image(self._shared.images, container.image)
        if image is None:
            raise FileNotFoundError(f"no program stands for the image {container.image}")
        entrypoint = container.command or image.entrypoint
        if not entrypoint:
            raise FileNotFoundError(f"the image {container.image} has no program of its own, and no command is given")
        self._starts += 1
        pod = self.pod
        hostname = (pod.spec.hostname or pod.metadata.name)[:63]
        base = {
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.defpath, "/usr/local/bin", "/usr/sbin"]),
            "HOME": "/",
            "HOSTNAME": hostname,
            "KUBERNETES_SERVICE_HOST": "10.97.0.1",
            "KUBERNETES_SERVICE_PORT": "443",
            MARKER: self._shared.run,
        }
        environment = base | image.environment
        environment |= variables_of(
            container, pod, self._shared.sources, self.address, self.place.attachment.address, environment
        )
        context, common = container.security_context, pod.spec.security_context
        user = common.run_as_user if context.run_as_user is None else context.run_as_user
        if user is None and context.run_as_non_root:
            user = _NOBODY
        return Plan(
            command=tuple(expand(word, environment) for word in (*entrypoint, *container.args)),
            environment=environment,
            network=(self._attachment or self.place.attachment).namespace,
            folder=self._folder / f"{container.name}-{self._starts}",
            hostname=self.place.name if pod.spec.host_network else hostname,
            files={"/etc/resolv.conf": _resolver(pod.metadata.namespace), "/etc/hosts": _hosts(self.address, hostname)},
            mounts=tuple(
                Mount(
                    os.path.realpath(f"{self._volumes.path(mount.name)}/{mount.sub_path}"),
                    mount.mount_path,
                    mount.read_only,
                )
                for mount in container.volume_mounts
            ),
            working_directory=container.working_dir or "/",
            user=user,
            group=common.run_as_group if context.run_as_group is None else context.run_as_group,
            read_only_root=context.read_only_root_filesystem,
        )


def _resolver(namespace: str) -> str:
    search = f"{namespace}.svc.cluster.local svc.cluster.local cluster.local"
    return f"nameserver {GATEWAY}\nsearch {search}\noptions ndots:5\n"


def _hosts(address: str, hostname: str) -> str:
    return f"127.0.0.1 localhost\n::1 localhost\n{address} {hostname}\n"
