"""Which node a pod goes to: what Portway's manifests ask for, without resources and preferences.

Honoured: node selector, required node affinity, taints, host ports, required pod anti-affinity. Among the nodes that
remain, pods of one owner are spread over zones, then over nodes, which is more than topology spread constraints ask.
"""

from collections.abc import Iterable, Mapping, Sequence

from tests.cluster.objects import Node, NodeSelector, Pod, Taint, Toleration, matches, selects

ZONE = "topology.kubernetes.io/zone"


def choose_node(pod: Pod, nodes: Iterable[Node], pods: Sequence[Pod]) -> tuple[Node | None, str]:
    """The node for a pod, or `None` and why there is none.

    Args:
        pod: one without a node.
        nodes: all that exist.
        pods: all that are bound and not at their end.
    """
    by_name = {node.metadata.name: node for node in nodes}
    reasons = {name: _objection(pod, node, pods, by_name) for name, node in by_name.items()}
    fitting = [by_name[name] for name, reason in reasons.items() if not reason]
    if not fitting:
        listed = "; ".join(f"{name}: {reason}" for name, reason in sorted(reasons.items()))
        return None, f"0/{len(by_name)} nodes are available: {listed}"
    siblings = [other for other in pods if _owner(other) == _owner(pod) is not None]

    def burden(node: Node) -> tuple[int, int, int, str]:
        name, zone = node.metadata.name, node.metadata.labels.get(ZONE)
        zones = [
            by_name[other.spec.node_name].metadata.labels.get(ZONE)
            for other in siblings
            if other.spec.node_name in by_name
        ]
        here = sum(other.spec.node_name == name for other in siblings)
        return zones.count(zone), here, sum(other.spec.node_name == name for other in pods), name

    return min(fitting, key=burden), ""


def _objection(pod: Pod, node: Node, pods: Sequence[Pod], nodes: Mapping[str, Node]) -> str:
    labels = node.metadata.labels
    affinity = pod.spec.affinity.node_affinity.required
    if any(labels.get(key) != value for key, value in pod.spec.node_selector.items()):
        return "node selector"
    if affinity is not None and not _selects(affinity, node):
        return "node affinity"
    for taint in _taints(node):
        if taint.effect != "PreferNoSchedule" and not any(_tolerates(one, taint) for one in pod.spec.tolerations):
            return f"taint {taint.key}"
    here = [other for other in pods if other.spec.node_name == node.metadata.name]
    if ports := _host_ports(pod) & {port for other in here for port in _host_ports(other)}:
        return f"host port {min(ports)[1]} is taken"
    for term in pod.spec.affinity.pod_anti_affinity.required:
        value = labels.get(term.topology_key)
        for other in pods:
            near = nodes.get(other.spec.node_name)
            is_near = near is not None and near.metadata.labels.get(term.topology_key) == value
            is_ours = other.metadata.namespace == pod.metadata.namespace
            if is_near and is_ours and selects(term.label_selector, other.metadata.labels):
                return f"anti-affinity to {other.key}"
    return ""


def _taints(node: Node) -> tuple[Taint, ...]:
    cordoned = Taint(key="node.kubernetes.io/unschedulable", effect="NoSchedule")
    return (*node.spec.taints, *((cordoned,) if node.spec.unschedulable else ()))


def _tolerates(toleration: Toleration, taint: Taint) -> bool:
    if toleration.effect and toleration.effect != taint.effect:
        return False
    if toleration.operator == "Exists":
        return toleration.key in ("", taint.key)
    return toleration.key == taint.key and toleration.value == taint.value


def _selects(selector: NodeSelector, node: Node) -> bool:
    fields = {"metadata.name": node.metadata.name}
    return any(
        all(matches(one, node.metadata.labels) for one in term.match_expressions)
        and all(matches(one, fields) for one in term.match_fields)
        for term in selector.node_selector_terms
    )


def _host_ports(pod: Pod) -> set[tuple[str, int]]:
    ports = [port for container in pod.spec.containers for port in container.ports]
    if pod.spec.host_network:
        return {(port.protocol, port.container_port) for port in ports}
    return {(port.protocol, port.host_port) for port in ports if port.host_port}


def _owner(pod: Pod) -> str | None:
    return next((f"{one.kind}/{pod.metadata.namespace}/{one.name}" for one in pod.metadata.owner_references), None)
