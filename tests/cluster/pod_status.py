"""The status of a pod as the kubelet writes it. Source: Kubernetes docs, "Pod Lifecycle"; API reference, PodStatus."""

from collections.abc import Sequence
from typing import final

from tests.cluster.lifecycle import ContainerLife, Ended
from tests.cluster.objects import Pod, now


@final
class PodStatusWriter:
    """Makes a pod's status from the state of its containers; remembers when conditions changed."""

    def __init__(self) -> None:
        self._since: dict[str, tuple[str, str]] = {}
        self.start_time = now()

    @property
    def is_ready(self) -> bool:
        """Whether the status that was made last says so."""
        return self._since.get("Ready", ("", ""))[0] == "True"

    def status(
        self,
        pod: Pod,
        *,
        address: str,
        node_address: str,
        waiting_for: str,
        initial: Sequence[ContainerLife],
        main: Sequence[ContainerLife],
        is_initialized: bool,
    ) -> dict[str, object]:
        """What to write now.

        Args:
            pod: as last read.
            address: of the pod; empty while it has none.
            node_address: of its node.
            waiting_for: why its containers cannot be started yet; empty when they can.
            initial: init containers, in order.
            main: containers.
            is_initialized: whether all init containers are done.
        """
        containers_ready = is_initialized and bool(main) and all(life.is_ready for life in main)
        sidecars_ready = all(life.is_ready for life in initial if life.container.restart_policy == "Always")
        not_ready = [life.container.name for life in main if not life.is_ready]
        message = waiting_for or f"containers with unready status: {not_ready}"
        gates = [gate.condition_type for gate in pod.spec.readiness_gates]
        open_gates = [gate for gate in gates if not _has(pod, gate)]
        conditions = [
            self._condition("PodScheduled", True),
            self._condition("Initialized", is_initialized, "ContainersNotInitialized"),
            self._condition("ContainersReady", containers_ready and sidecars_ready, "ContainersNotReady", message),
            self._condition(
                "Ready",
                containers_ready and sidecars_ready and not open_gates,
                "ReadinessGatesNotReady" if containers_ready else "ContainersNotReady",
                f"conditions missing: {open_gates}" if containers_ready else message,
            ),
        ]
        status: dict[str, object] = {
            "phase": _phase(pod, main, is_initialized=is_initialized),
            "conditions": conditions,
            "startTime": self.start_time,
            "hostIP": node_address,
            "hostIPs": [{"ip": node_address}],
            "containerStatuses": [_container(life) for life in main],
        }
        if initial:
            status["initContainerStatuses"] = [_container(life) for life in initial]
        if address:
            # Replaced, not merged: after a node has been dead a pod may have another address.
            status |= {"podIP": address, "podIPs": [{"$patch": "replace"}, {"ip": address}]}
        return status

    def _condition(self, kind: str, true: bool, reason: str = "", message: str = "") -> dict[str, object]:
        value = "True" if true else "False"
        before, since = self._since.get(kind, ("", ""))
        if before != value:
            since = now()
            self._since[kind] = (value, since)
        condition: dict[str, object] = {"type": kind, "status": value, "lastTransitionTime": since}
        return condition | ({"reason": None, "message": None} if true else {"reason": reason, "message": message})


def _has(pod: Pod, condition: str) -> bool:
    return any(one.type == condition and one.status == "True" for one in pod.status.conditions)


def _phase(pod: Pod, main: Sequence[ContainerLife], *, is_initialized: bool) -> str:
    if not is_initialized or any(life.running is None and life.ended is None and not life.restarts for life in main):
        return "Pending"
    if all(life.ended is not None for life in main) and pod.spec.restart_policy != "Always":
        failed = any(life.ended and life.ended.code for life in main)
        if not failed:
            return "Succeeded"
        if pod.spec.restart_policy == "Never":
            return "Failed"
    return "Running"


def _container(life: ContainerLife) -> dict[str, object]:
    status: dict[str, object] = {
        "name": life.container.name,
        "image": life.container.image,
        "imageID": life.container.image,
        "ready": life.is_ready or (life.ended is not None and life.ended.code == 0 and not life.restarts),
        "started": life.is_started,
        "restartCount": life.restarts,
    }
    if life.running is not None:
        status["containerID"] = f"process://{life.running.process.pid}"
        status["state"] = {"running": {"startedAt": life.started_at}}
    elif life.ended is not None:
        status["ready"] = life.ended.code == 0
        status["state"] = {"terminated": _terminated(life.ended)}
    else:
        reason, message = life.waiting
        status["state"] = {"waiting": {"reason": reason, "message": message}}
    if life.last_ended is not None and life.last_ended is not life.ended:
        status["lastState"] = {"terminated": _terminated(life.last_ended)}
    return status


def _terminated(ended: Ended) -> dict[str, object]:
    return {
        "exitCode": ended.code,
        "reason": ended.reason,
        "startedAt": ended.started,
        "finishedAt": ended.finished,
    }
