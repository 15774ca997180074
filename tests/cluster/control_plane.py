"""etcd, kube-apiserver and kube-controller-manager as child processes: a real control plane without nodes.

By itself it serves tests that need no more than an API server (clients, sources, status), on the loopback and without
any privilege. `tests.cluster.server` runs one inside the network namespace of a miniature cluster.

RBAC is on. Pods get ServiceAccounts and projected tokens as anywhere. An administrator has a token; other users are
made on demand by client certificates, so Portway's own manifests decide what Portway may do.
"""

import asyncio
import ipaddress
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Self, final

import aiohttp
import msgspec
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.cluster import binaries
from tests.cluster.api import Access, Api, Refused, documents
from tests.cluster.process import Process, log_end, start_logged
from tests.kit.certificates import Authority
from tests.kit.ports import free_port

READY_S = 60.0
"""Longest wait for `/readyz`: 3 s on an idle machine, which the tests' machine is not."""

NODE_GRACE_S = 12
"""How long a node may be silent until its pods are not ready. Kubernetes' own 50 s would make tests wait; where a busy
machine holds up what beats for the nodes as long as this, all backends are unready at once, and requests get 503."""

CONTROLLERS = (
    "deployment-controller",
    "replicaset-controller",
    "daemonset-controller",
    "endpointslice-controller",
    "namespace-controller",
    "garbage-collector-controller",
    "serviceaccount-controller",
    "serviceaccount-token-controller",
    "root-ca-certificate-publisher-controller",
    "node-lifecycle-controller",
    "taint-eviction-controller",
    "pod-garbage-collector-controller",
    "disruption-controller",
)


class Component(StrEnum):
    """The processes of a control plane."""

    ETCD = "etcd"
    API_SERVER = "kube-apiserver"
    CONTROLLERS = "kube-controller-manager"


class Addresses(msgspec.Struct, frozen=True, kw_only=True):
    """Where the control plane listens. The default is the loopback."""

    api_server: str = "127.0.0.1"
    api_server_port: int = 0
    """0: one that is free now. Inside a namespace of its own it may be fixed."""

    services: str = "10.97.0.0/16"
    advertised: bool = False
    """Whether the Service `default/kubernetes` gets this address as its endpoint; loopback addresses may not."""


@final
class ControlPlane:
    """One control plane; an async context manager. All it writes lies in `folder`."""

    def __init__(self, folder: Path, addresses: Addresses = Addresses()) -> None:  # noqa: B008 - frozen
        """
        Args:
            folder: need not exist; etcd's data, certificates, kubeconfigs, logs.
            addresses: where to listen.
        """
        self.folder = folder
        self._addresses = addresses
        self._port = addresses.api_server_port or free_port()
        self._etcd_ports = (2379, 2380) if addresses.api_server_port else (free_port(), free_port())
        self._controllers_port = 10257 if addresses.api_server_port else free_port()
        self._authority = Authority("miniature cluster")
        self._processes: dict[Component, Process] = {}
        self.programs = folder

    @property
    def url(self) -> str:
        """`https://address:port` of the API server."""
        return f"https://{self._addresses.api_server}:{self._port}"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's."""
        return self.folder / "admin.kubeconfig"

    @property
    def administrator(self) -> Access:
        """Who may do everything, by a token."""
        return Access(server=self.url, authority=self._authority.certificate, token="administrator")

    def user(self, name: str, groups: Sequence[str] = ()) -> Access:
        """Any user, by a client certificate; may do what RBAC gives the name and the groups."""
        return Access(
            server=self.url,
            authority=self._authority.certificate,
            certificate=self._authority.issue_user(name, groups),
        )

    def write_kubeconfig(self, access: Access, name: str) -> Path:
        """A kubeconfig file for that user."""
        path = self.folder / f"{name.replace('/', '-').replace(':', '-')}.kubeconfig"
        path.touch(mode=0o600)
        path.write_bytes(access.kubeconfig(name))
        return path

    async def service_account(self, namespace: str, name: str) -> Access:
        """A ServiceAccount, by a token of the TokenRequest API that is good for an hour. It must exist."""
        async with Api(self.administrator) as api:
            path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
            answer = await api.request("POST", path, b'{"spec":{"expirationSeconds":3600}}')
        token = msgspec.json.decode(answer, type=_TokenRequest).status.token
        return Access(server=self.url, authority=self._authority.certificate, token=token)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Build what is missing, start all three, wait until the API server is ready.

        Raises:
            AssertionError: one of them ended, or was not ready in time; with the end of its log.
        """
        self.programs = binaries.build(binaries.kube())
        self.folder.mkdir(parents=True, exist_ok=True)
        self._write_files()
        for component in Component:
            self._start(component)
        await self.wait_ready()

    async def stop(self) -> None:
        """End them all, quickly: nobody needs their data any more."""
        for component in reversed(Component):
            if component in self._processes:
                await self._processes.pop(component).kill()

    async def kill(self, component: Component) -> None:
        """SIGKILL, as a crash does."""
        await self._processes[component].kill()

    async def restart(self, component: Component) -> None:
        """Start it again, after killing it if it runs; back when the API server is ready."""
        await self.start_anew(component)
        await self.wait_ready()

    async def start_anew(self, component: Component) -> None:
        """The same, without waiting for anything."""
        await self.kill(component)
        self._start(component)

    def pause(self, component: Component) -> None:
        """SIGSTOP: connections stay, answers do not come."""
        self._processes[component].signal(signal.SIGSTOP)

    def resume(self, component: Component) -> None:
        """The end of `pause`."""
        self._processes[component].signal(signal.SIGCONT)

    def pid(self, component: Component) -> int:
        """Its process id."""
        return self._processes[component].pid

    def save_etcd(self, name: str) -> None:
        """Keep a copy of etcd's data under a name, as it is at this moment."""
        # Stopped in the middle of its work, as a power cut would: etcd's log makes that a good state.
        self.pause(Component.ETCD)
        try:
            shutil.copytree(self.folder / "etcd", self.folder / f"etcd-{name}", dirs_exist_ok=True)
        finally:
            self.resume(Component.ETCD)

    async def restore_etcd(self, name: str) -> None:
        """Go back to that copy. Resource versions go back too, so the API server is started anew as one has to."""
        for component in (Component.API_SERVER, Component.ETCD):
            await self.kill(component)
        shutil.rmtree(self.folder / "etcd")
        shutil.copytree(self.folder / f"etcd-{name}", self.folder / "etcd")
        for component in (Component.ETCD, Component.API_SERVER):
            self._start(component)
        await self.restart(Component.CONTROLLERS)

    async def wait_ready(self) -> None:
        """Until `/readyz` says so.

        Raises:
            AssertionError: not in time, or a process ended.
        """
        began = time.monotonic()
        async with Api(self.administrator) as api:
            while True:
                for component, process in self._processes.items():
                    if process.returncode is not None:
                        raise AssertionError(
                            f"{component} ended with {process.returncode}:\n{log_end(self._log(component))}"
                        )
                try:
                    await api.request("GET", "/readyz")
                    # Made by the controllers; without it pods are refused.
                    await api.request("GET", "/api/v1/namespaces/default/serviceaccounts/default")
                except (aiohttp.ClientError, TimeoutError, Refused) as error:
                    if time.monotonic() - began > READY_S:
                        log = log_end(self._log(Component.API_SERVER))
                        raise AssertionError(f"the API server is not ready after {READY_S} s:\n{log}") from error
                    await asyncio.sleep(0.05)
                else:
                    return

    async def apply_gateway_api(self, channel: str = "standard") -> None:
        """Apply the CRDs of the Gateway API and wait until they are served.

        Args:
            channel: `standard` or `experimental`; only one in the life of an etcd.
        """
        paths = binaries.gateway_api_crds(channel)
        async with Api(self.administrator) as api:
            await api.apply(documents(paths))
            await wait_established(api)

    def kubectl(self, *arguments: str, stdin: str = "") -> str:
        """Run kubectl as administrator; blocks. Its standard output.

        Raises:
            AssertionError: it failed; with its standard error.
        """
        return run_kubectl(self.programs / "kubectl", self.kubeconfig, *arguments, stdin=stdin)

    def _write_files(self) -> None:
        host = self._addresses.api_server
        first = _first_address(self._addresses.services)
        names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"]
        serving = self._authority.issue(*names, host, first, "127.0.0.1", "localhost")
        signing = rsa.generate_private_key(65537, 2048)
        files = {
            "ca.crt": self._authority.certificate,
            "serving.crt": serving.certificate,
            "serving.key": serving.key,
            "tokens": 'administrator,administrator,administrator,"system:masters"\n',
            "service-accounts.key": signing.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.TraditionalOpenSSL,
                serialization.NoEncryption(),
            ).decode(),
        }
        for name, text in files.items():
            path = self.folder / name
            path.touch(mode=0o600)
            path.write_text(text)
        self.kubeconfig.touch(mode=0o600)
        self.kubeconfig.write_bytes(self.administrator.kubeconfig("administrator"))

    def _start(self, component: Component) -> None:
        flags: dict[Component, Callable[[], list[str]]] = {
            Component.ETCD: self._etcd_flags,
            Component.API_SERVER: self._api_server_flags,
            Component.CONTROLLERS: self._controllers_flags,
        }
        # As if they had a machine of their own: with a hundred proxies on two cores a namespace took 40 s to go.
        first = ["nice", "-n", "-10"] if os.geteuid() == 0 else []
        command = [*first, str(self.programs / component), *flags[component]()]
        self._processes[component] = start_logged(command, self._log(component))

    def _log(self, component: Component) -> Path:
        return self.folder / f"{component}.log"

    def _etcd_flags(self) -> list[str]:
        client, peer = (f"http://127.0.0.1:{port}" for port in self._etcd_ports)
        return [
            f"--data-dir={self.folder / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--unsafe-no-fsync",
            "--log-level=warn",
        ]

    def _api_server_flags(self) -> list[str]:
        folder = self.folder
        reconciler = ["--endpoint-reconciler-type=none"]
        if self._addresses.advertised:
            reconciler = [f"--advertise-address={self._addresses.api_server}"]
        return [
            f"--etcd-servers=http://127.0.0.1:{self._etcd_ports[0]}",
            f"--bind-address={self._addresses.api_server}",
            f"--secure-port={self._port}",
            f"--tls-cert-file={folder / 'serving.crt'}",
            f"--tls-private-key-file={folder / 'serving.key'}",
            f"--client-ca-file={folder / 'ca.crt'}",
            f"--token-auth-file={folder / 'tokens'}",
            f"--service-cluster-ip-range={self._addresses.services}",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            f"--service-account-key-file={folder / 'service-accounts.key'}",
            f"--service-account-signing-key-file={folder / 'service-accounts.key'}",
            "--authorization-mode=RBAC",
            "--allow-privileged=true",
            "--kubelet-preferred-address-types=InternalIP",
            # Pods of a dead node are moved after seconds instead of five minutes.
            "--default-not-ready-toleration-seconds=2",
            "--default-unreachable-toleration-seconds=2",
            # A miniature cluster is used by few, in bursts; fair queueing would only measure itself.
            "--max-requests-inflight=2000",
            "--max-mutating-requests-inflight=1000",
            *reconciler,
        ]

    def _controllers_flags(self) -> list[str]:
        return [
            f"--kubeconfig={self.kubeconfig}",
            "--bind-address=127.0.0.1",
            f"--secure-port={self._controllers_port}",
            "--leader-elect=false",
            "--use-service-account-credentials=false",
            f"--service-account-private-key-file={self.folder / 'service-accounts.key'}",
            f"--root-ca-file={self.folder / 'ca.crt'}",
            f"--controllers={','.join(CONTROLLERS)}",
            "--concurrent-gc-syncs=5",
            "--kube-api-qps=500",
            "--kube-api-burst=1000",
            "--node-monitor-period=1s",
            f"--node-monitor-grace-period={NODE_GRACE_S}s",
        ]


async def wait_established(api: Api) -> None:
    """Until every CRD is served."""
    while True:
        path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        found = await api.get(path, _Definitions)
        if all(_is_established(definition) for definition in found.items):
            return
        await asyncio.sleep(0.05)


def run_kubectl(program: Path, kubeconfig: Path, *arguments: str, stdin: str = "") -> str:
    """Run kubectl as the kubeconfig's user; blocks. Its standard output.

    Raises:
        AssertionError: it failed; with its standard error.
    """
    # The cache of what the server serves belongs to this cluster, not into the home folder.
    command = [str(program), f"--kubeconfig={kubeconfig}", f"--cache-dir={kubeconfig.parent / 'cache'}", *arguments]
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        raise AssertionError(f"kubectl {' '.join(arguments)}: {done.stderr}")
    return done.stdout


class _Token(msgspec.Struct, frozen=True):
    token: str


class _TokenRequest(msgspec.Struct, frozen=True):
    status: _Token


class _Condition(msgspec.Struct, frozen=True):
    type: str
    status: str


class _DefinitionStatus(msgspec.Struct, frozen=True):
    conditions: tuple[_Condition, ...] | None = None
    """Null for a moment after a definition was made."""


class _Definition(msgspec.Struct, frozen=True):
    status: _DefinitionStatus = _DefinitionStatus()


class _Definitions(msgspec.Struct, frozen=True):
    items: tuple[_Definition, ...] = ()


def _is_established(definition: _Definition) -> bool:
    return any(one.type == "Established" and one.status == "True" for one in definition.status.conditions or ())


def _first_address(network: str) -> str:
    """The address that Kubernetes gives to the Service `default/kubernetes`."""
    return str(ipaddress.ip_network(network)[1])
