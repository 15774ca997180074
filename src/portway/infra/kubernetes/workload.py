"""The pods of a fleet, and the Deployment or DaemonSet that keeps them.

A proxy runs without any right: not as root, nothing to write but its state folder, no capability, no token for the API
server. That it can listen on port 80 all the same is a sysctl of the pod's own network, which Kubernetes counts as
safe. In the Node's network that is forbidden, so there it runs as root with the one capability that it needs.

Source: Kubernetes, "Pod Security Standards" (restricted; `hostNetwork` and `hostPorts` need privileged), "Using
sysctls"; `portway.identity.contract` for ports, paths and variables.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Final

import msgspec

from portway.identity import contract
from portway.infra.kubernetes.data_plane import DataPlane
from portway.infra.kubernetes.names import fleet_name_of, selector_of, theirs
from portway.infra.kubernetes.service import on_nodes, port_name
from portway.infra.kubernetes.values import Data, given, plain
from portway.model.fleet import Fleet, health_port_of
from portway.objects.fleets_v1alpha1 import (
    Autoscaling,
    ContainerParameters,
    DisruptionBudget,
    PodParameters,
    ProxyParameters,
    WorkloadParameters,
    WorkloadType,
)
from portway.objects.pods_v1 import IntOrPercent

REPLICAS: Final = 2
"""Of a Deployment of which nothing else is said: a Node may fail."""
REQUESTS: Final[Data] = {"cpu": "100m", "memory": "256Mi"}
"""What an idle proxy and some hundred routes need; an autoscaler measures against it."""
_STATE, _AUTHORITIES, _TOKEN = "state", "authorities", "token"


class Pods(msgspec.Struct, frozen=True, kw_only=True):
    """What a workload keeps running."""

    selector: Mapping[str, str]
    template: Data


class Parameters(msgspec.Struct, frozen=True, kw_only=True):
    """Parameters of the workload, with what holds where nothing is said."""

    workload_type: WorkloadType
    replicas: int | None
    """Said by somebody; `None`: nobody did."""
    least_replicas: int
    """How many there are at least."""
    autoscaling: Autoscaling | None
    disruption_budget: DisruptionBudget | None


def joined_parameters(fleet: Fleet) -> Parameters:
    """The parameters of a fleet's workload."""
    wanted = fleet.parameters.workload or WorkloadParameters()
    scaling = wanted.autoscaling
    least = REPLICAS if wanted.replicas is None else wanted.replicas
    if scaling is not None:
        least = min(scaling.min_replicas or max(least, 1), scaling.max_replicas)
    return Parameters(
        workload_type=wanted.type or WorkloadType.DEPLOYMENT,
        replicas=wanted.replicas if scaling is None else None,
        least_replicas=least,
        autoscaling=scaling,
        disruption_budget=wanted.disruption_budget,
    )


def deployment_of(fleet: Fleet, pods: Pods) -> Data:
    """`spec` of a Deployment; without `replicas` where nobody said a number."""
    return given(
        replicas=joined_parameters(fleet).replicas,
        selector={"matchLabels": pods.selector},
        strategy={"type": "RollingUpdate", "rollingUpdate": _rolling(fleet)},
        template=pods.template,
    )


def daemon_set_of(fleet: Fleet, pods: Pods) -> Data:
    """`spec` of a DaemonSet."""
    return {
        "selector": {"matchLabels": pods.selector},
        "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": _rolling(fleet)},
        "template": pods.template,
    }


def _rolling(fleet: Fleet) -> Data:
    """A new proxy serves before an old one goes; but two cannot have the same port of a Node."""
    wanted = fleet.parameters.workload or WorkloadParameters()
    surge: IntOrPercent = 0 if on_nodes(fleet) else 1
    missing: IntOrPercent = 1 if on_nodes(fleet) else 0
    if wanted.max_surge is not None:
        # What is said of one must not meet a default of the other that leaves no room.
        surge, missing = wanted.max_surge, 1 if wanted.max_surge in (0, "0%") else missing
    if wanted.max_unavailable is not None:
        missing = wanted.max_unavailable
        if wanted.max_surge is None and missing in (0, "0%"):
            surge = 1
    return {"maxSurge": surge, "maxUnavailable": missing}


def pods_of(fleet: Fleet, plane: DataPlane, labels: Mapping[str, str], annotations: Mapping[str, str]) -> Pods:
    """The pods of a fleet.

    Args:
        labels, annotations: of all objects of the fleet.
    """
    pod = fleet.parameters.pod or PodParameters()
    selector = dict(selector_of(fleet))
    spec = given(
        serviceAccountName=fleet_name_of(fleet.owner),
        automountServiceAccountToken=False,
        enableServiceLinks=False,
        terminationGracePeriodSeconds=_grace_seconds(fleet, plane),
        securityContext={**_pod_rights(fleet), **plain(pod.security_context)},
        hostNetwork=True if pod.host_network else None,
        dnsPolicy="ClusterFirstWithHostNet" if pod.host_network else None,
        nodeSelector=dict(pod.node_selector) or None,
        tolerations=None if pod.tolerations is None else [plain(each) for each in pod.tolerations],
        affinity=None if pod.affinity is None else plain(pod.affinity),
        topologySpreadConstraints=_spread(fleet, selector),
        priorityClassName=pod.priority_class_name,
        imagePullSecrets=None if pod.image_pull_secrets is None else [plain(each) for each in pod.image_pull_secrets],
        containers=[_container(fleet, plane)],
        volumes=_volumes(fleet),
    )
    metadata = {"labels": {**pod.labels, **labels}, "annotations": {**theirs(pod.annotations), **annotations}}
    return Pods(selector=selector, template={"metadata": metadata, "spec": spec})


def drain_of(fleet: Fleet, plane: DataPlane) -> timedelta:
    """How long requests may take to end."""
    return (fleet.parameters.proxy or ProxyParameters()).drain_time or plane.drain


def _grace_seconds(fleet: Fleet, plane: DataPlane) -> int:
    wanted: timedelta | None = (fleet.parameters.pod or PodParameters()).termination_grace_period
    if wanted is None:
        wanted = plane.withdrawal + drain_of(fleet, plane) + timedelta(seconds=contract.END_MARGIN_S)
    return max(1, -(-wanted // timedelta(seconds=1)))


def _pod_rights(fleet: Fleet) -> dict[str, object]:
    profile: dict[str, object] = {"seccompProfile": {"type": "RuntimeDefault"}}
    if (fleet.parameters.pod or PodParameters()).host_network:
        return profile
    sysctl = {"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}
    return {**profile, "runAsNonRoot": True, "sysctls": [sysctl]}


def _container_rights(fleet: Fleet) -> dict[str, object]:
    rights: dict[str, object] = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True}
    if (fleet.parameters.pod or PodParameters()).host_network:
        # Without an ambient set a capability reaches nobody but root.
        return {**rights, "runAsUser": 0, "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}}
    return {**rights, "capabilities": {"drop": ["ALL"]}}


def _spread(fleet: Fleet, selector: Data) -> list[Data] | None:
    wanted = (fleet.parameters.pod or PodParameters()).topology_spread_constraints
    if wanted is not None:
        return [{"labelSelector": {"matchLabels": selector}, **plain(each)} for each in wanted]
    if joined_parameters(fleet).workload_type is WorkloadType.DAEMON_SET:
        return None
    return [
        {
            "maxSkew": 1,
            "topologyKey": key,
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": selector},
            # Those of one version: else the old ones decide where the new ones go, and leave them lopsided.
            "matchLabelKeys": ["pod-template-hash"],
        }
        for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
    ]


def _container(fleet: Fleet, plane: DataPlane) -> Data:
    wanted = fleet.parameters.container or ContainerParameters()
    resources = plain(wanted.resources)
    ports: list[Data] = [
        {"name": "health", "containerPort": health_port_of(fleet.name, fleet.parameters), "protocol": "TCP"}
    ]
    if wanted.host_ports:
        ports += [
            {
                "name": port_name(port),
                "containerPort": port.port,
                "hostPort": port.port,
                "protocol": port.transport.value.upper(),
            }
            for port in fleet.ports
        ]
    return given(
        name="proxy",
        image=wanted.image or plane.image,
        imagePullPolicy=wanted.image_pull_policy or plane.image_pull_policy or None,
        args=["proxy"],
        env=_variables(fleet, plane),
        ports=ports,
        resources={"requests": REQUESTS, **resources},
        securityContext={**_container_rights(fleet), **plain(wanted.security_context)},
        volumeMounts=[
            {"name": _STATE, "mountPath": contract.STATE_MOUNT},
            {"name": _AUTHORITIES, "mountPath": contract.AUTHORITIES_MOUNT, "readOnly": True},
            {"name": _TOKEN, "mountPath": contract.TOKEN_MOUNT, "readOnly": True},
        ],
        **_probes(),
    )


def _probes() -> dict[str, object]:
    """A proxy that waits for its first configuration is alive, and not ready. One that has lost the control plane is
    both: it goes on serving."""

    def ask(path: str, period: int, failures: int, timeout: int) -> Data:
        return {
            "httpGet": {"path": path, "port": "health"},
            "periodSeconds": period,
            "failureThreshold": failures,
            "timeoutSeconds": timeout,
        }

    return {
        "startupProbe": ask(contract.LIVE_PATH, period=1, failures=60, timeout=1),
        "readinessProbe": ask(contract.READY_PATH, period=2, failures=2, timeout=2),
        "livenessProbe": ask(contract.LIVE_PATH, period=10, failures=6, timeout=5),
    }


def _variables(fleet: Fleet, plane: DataPlane) -> list[Data]:
    proxy = fleet.parameters.proxy or ProxyParameters()
    any_address = f"[{plane.any_address}]" if ":" in plane.any_address else plane.any_address
    health_port = health_port_of(fleet.name, fleet.parameters)
    values = {
        **plane.variables,
        contract.CONTROL_PLANE_VARIABLE: plane.control_plane,
        contract.FLEET_VARIABLE: fleet.name,
        contract.STATE_DIR_VARIABLE: contract.STATE_DIR,
        contract.HEALTH_ADDRESS_VARIABLE: f"{any_address}:{health_port}",
        contract.WITHDRAWAL_VARIABLE: _seconds(plane.withdrawal),
        contract.DRAIN_VARIABLE: _seconds(drain_of(fleet, plane)),
    }
    if proxy.log_level is not None:
        values[contract.ENVOY_LOG_LEVEL_VARIABLE] = proxy.log_level.value
    if proxy.concurrency is not None:
        values[contract.CONCURRENCY_VARIABLE] = str(proxy.concurrency)
    if proxy.max_connections is not None:
        values[contract.MAX_CONNECTIONS_VARIABLE] = str(proxy.max_connections)
    fields = {
        contract.NODE_ID_VARIABLE: "metadata.name",
        contract.POD_NAMESPACE_VARIABLE: "metadata.namespace",
        contract.NODE_NAME_VARIABLE: "spec.nodeName",
        contract.ZONE_VARIABLE: "metadata.labels['topology.kubernetes.io/zone']",
    }
    return [
        *({"name": name, "value": value} for name, value in sorted(values.items())),
        *({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}} for name, path in fields.items()),
    ]


def _seconds(duration: timedelta) -> str:
    """As settings are written: `30s`, `1500ms`."""
    milliseconds = duration // timedelta(milliseconds=1)
    return f"{milliseconds // 1000}s" if milliseconds % 1000 == 0 else f"{milliseconds}ms"


def _volumes(fleet: Fleet) -> list[Data]:
    token = {
        "audience": contract.AUDIENCE,
        "expirationSeconds": contract.TOKEN_LIFETIME_S,
        "path": contract.TOKEN_NAME,
    }
    return [
        {"name": _STATE, "emptyDir": {}},
        {"name": _AUTHORITIES, "configMap": {"name": fleet_name_of(fleet.owner)}},
        {"name": _TOKEN, "projected": {"sources": [{"serviceAccountToken": token}]}},
    ]
