"""The rules of Portway's own kinds as CEL, which the API server checks when an object is written.

One table, by struct as in `portway.objects.rules.portway` and `.fleets`, whose rules these are. `tests/deploy` has a
real API server and Portway judge the same objects, and fails if a struct with rules there has none here. What a schema
can say by itself (bounds, patterns, enumerations, unique keys of lists) is no rule: `tools/definitions.py` takes it
from the structs.
"""

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from portway.objects import fleets_v1alpha1 as fleets
from portway.objects import pods_v1 as pods
from portway.objects import portway_v1alpha1 as own
from portway.objects.meta import Part
from portway.objects.rules.fleets import OWN_LABELS
from portway.objects.scalars import DNS_SUBDOMAIN, QUALIFIED_NAME


class Rule(NamedTuple):
    """One rule about one struct, `self`."""

    rule: str
    message: str
    """As Portway words it, without the value."""


def for_go(pattern: str) -> str:
    r"""A pattern as RE2 has it: its `$` is Python's `\Z`.

    Raises:
        ValueError: RE2 does not know it.
    """
    if "(?=" in pattern or "(?!" in pattern or "(?<" in pattern:
        raise ValueError(f"the API server knows no look-around: {pattern}")
    return pattern.replace(r"\Z", "$")


def _exactly_one(*names: str, **counted: str) -> Rule:
    """Of some fields exactly one is set; `counted` are those whose condition is another one than to be there."""
    conditions = [*(f"has(self.{name})" for name in names), *counted.values()]
    listed = ", ".join((*names, *counted))
    return Rule(f"[{', '.join(conditions)}].filter(one, one).size() == 1", f"set exactly one of {listed}")


def _longer_than_zero(name: str) -> Rule:
    return Rule(f"!has(self.{name}) || duration(self.{name}) > duration('0s')", f"{name} must be longer than zero")


def _at_least(name: str) -> Rule:
    return Rule(f"duration(self.{name}) >= duration('100ms')", f"{name} must be 100ms or more")


def _named_field(**fields: str) -> Iterable[Rule]:
    """Of a union, exactly the field that `type` names is set; by field, the value of `type`."""
    for name, value in fields.items():
        yield Rule(f"has(self.{name}) == (self.type == '{value}')", f"{name} is for type {value}, which needs it")


def _keys(name: str, *, folded: bool = False, own_labels: bool = False) -> Iterable[Rule]:
    """Keys of a map are qualified names."""
    key = "key.lowerAscii()" if folded else "key"
    named = f"{_qualified(key)} && (!key.contains('/') || key.split('/')[0].size() <= 253)"
    yield Rule(
        f"!has(self.{name}) || self.{name}.all(key, {named})",
        f"keys of {name} are names of at most 63 letters, digits, '-', '_', '.' after an optional domain and '/'",
    )
    if own_labels:
        free = " && ".join(f"!key.startsWith('{prefix}')" for prefix in OWN_LABELS)
        yield Rule(f"!has(self.{name}) || self.{name}.all(key, {free})", f"{name} has a label that Portway itself sets")


def _qualified(expression: str) -> str:
    return f"{expression}.matches(r'{for_go(QUALIFIED_NAME)}')"


def _qualified_name(name: str) -> Rule:
    fits = f"{_qualified(f'self.{name}')} && (!self.{name}.contains('/') || self.{name}.split('/')[0].size() <= 253)"
    return Rule(f"!has(self.{name}) || ({fits})", f"{name} is a name such as version or example.com/version")


def _only(name: str, condition: str, message: str) -> Rule:
    return Rule(f"!has(self.{name}) || ({condition})", f"{name} {message}")


_TARGETS: Final = "(target.group == '' && target.kind == 'Service') || "
_HASHES: Final = "self.type in ['RingHash', 'Maglev']"
_SAME: Final = "one.group == other.group && one.kind == other.kind && one.name == other.name"
_NONE: Final = "(has(self.{0}) && (type(self.{0}) == int ? self.{0} == 0 : self.{0} == '0%'))"
_NO_SERVICE: Final = "self.type in ['LoadBalancer', 'NodePort']"

RULES: Final[Mapping[type[Part], tuple[Rule, ...]]] = {
    own.BackendSpec: (
        _exactly_one("addresses", "dns", "unixSocket"),
        Rule(
            "!has(self.tls) || has(self.tls.hostname) || has(self.dns) || self.tls.insecureSkipVerify",
            "tls.hostname is required where there is no dns name",
        ),
        _qualified_name("appProtocol"),
    ),
    own.BackendAddress: (Rule("isIP(self.address)", "address is not an IP address; a name belongs into spec.dns"),),
    own.BackendTLS: (
        _exactly_one("caCertificateRefs", "wellKnownCACertificates", insecureSkipVerify="self.insecureSkipVerify"),
    ),
    own.UpstreamPolicySpec: (
        Rule(
            f"self.targetRefs.all(target, {_TARGETS}(target.group == 'portway.dev' && target.kind == 'Backend'))",
            'targetRefs name Services (group "") or Backends (portway.dev)',
        ),
        Rule(
            "self.targetRefs.all(target, target.kind != 'Backend' || !has(target.sectionName))",
            "a Backend has no sections",
        ),
        Rule(
            f"self.targetRefs.all(one, self.targetRefs.all(other, !({_SAME}) || "
            "has(one.sectionName) == has(other.sectionName)))",
            "of targetRefs to the same object, give a sectionName to all or keep the whole object",
        ),
        Rule(
            f"self.targetRefs.all(one, self.targetRefs.exists_one(other, {_SAME} && "
            "(has(one.sectionName) ? one.sectionName : '') == (has(other.sectionName) ? other.sectionName : '')))",
            "targetRefs has the same twice",
        ),
        Rule(
            "!has(self.sessionAffinity) || !has(self.loadBalancer) || "
            "!(self.loadBalancer.type in ['RingHash', 'Maglev'])",
            "sessionAffinity is set, but loadBalancer already ties clients to endpoints",
        ),
    ),
    own.LoadBalancer: (
        Rule(f"!has(self.hashOn) || self.hashOn.size() == 0 || {_HASHES}", "hashOn is for type RingHash or Maglev"),
        _only("slowStart", "self.type in ['RoundRobin', 'LeastRequest']", "is for type RoundRobin or LeastRequest"),
    ),
    own.HashOn: tuple(_named_field(header="Header", cookie="Cookie", queryParam="QueryParam")),
    own.SlowStart: (_longer_than_zero("window"),),
    own.HealthCheck: (_exactly_one("http", "grpc", "tcp"), _longer_than_zero("timeout"), _at_least("interval")),
    own.OutlierDetection: (_at_least("interval"), _longer_than_zero("baseEjectionTime")),
    own.UpstreamTimeouts: (_longer_than_zero("connect"),),
    fleets.FleetParametersSpec: (
        _only(
            "addresses",
            "self.addresses.all(one, one.type in ['IPAddress', 'Hostname'])",
            "are of IPAddress or Hostname",
        ),
        _only("addresses", "self.addresses.all(one, has(one.value) && one.value != '')", "have a value each"),
        _only(
            "addresses",
            "self.addresses.all(one, one.type != 'IPAddress' || !has(one.value) || isIP(one.value))",
            "has an IPAddress whose value is none",
        ),
        _only(
            "addresses",
            "self.addresses.all(one, one.type != 'Hostname' || !has(one.value) || "
            f"one.value.matches(r'{for_go(DNS_SUBDOMAIN)}'))",
            "has a Hostname whose value is none",
        ),
    ),
    fleets.WorkloadParameters: (
        Rule(
            "!has(self.type) || self.type != 'DaemonSet' || !has(self.replicas) && !has(self.autoscaling)",
            "a DaemonSet has one proxy on each of its Nodes: remove replicas and autoscaling",
        ),
        Rule(
            "!has(self.replicas) || !has(self.autoscaling) || !has(self.autoscaling.minReplicas)",
            "autoscaling keeps the number: keep autoscaling.minReplicas only",
        ),
        Rule(
            f"!({_NONE.format('maxSurge')} && {_NONE.format('maxUnavailable')})",
            "maxSurge and maxUnavailable are 0: nothing could be updated",
        ),
    ),
    fleets.Autoscaling: (_only("minReplicas", "self.minReplicas <= self.maxReplicas", "is more than maxReplicas"),),
    fleets.DisruptionBudget: (_exactly_one("minAvailable", "maxUnavailable"),),
    fleets.PodParameters: (
        *_keys("labels", own_labels=True),
        *_keys("nodeSelector"),
        *_keys("annotations", folded=True),
        _longer_than_zero("terminationGracePeriod"),
    ),
    pods.Toleration: (
        Rule(
            "(has(self.key) && self.key != '') || (has(self.operator) && self.operator == 'Exists')",
            "without a key the operator must be Exists",
        ),
        Rule(
            "!has(self.operator) || self.operator != 'Exists' || !has(self.value) || self.value == ''",
            "value is set, but Exists compares no value",
        ),
    ),
    pods.ResourceRequirements: (*_keys("requests"), *_keys("limits")),
    fleets.ServiceParameters: (
        *_keys("labels", own_labels=True),
        *_keys("annotations", folded=True),
        *(
            _only(name, "!has(self.type) || self.type == 'LoadBalancer'", "is for type LoadBalancer")
            for name in ("loadBalancerClass", "loadBalancerSourceRanges", "allocateLoadBalancerNodePorts")
        ),
        _only("externalTrafficPolicy", f"!has(self.type) || {_NO_SERVICE}", "is for type LoadBalancer or NodePort"),
        Rule(
            f"!has(self.nodePorts) || self.nodePorts.size() == 0 || !has(self.type) || {_NO_SERVICE}",
            "nodePorts are for type LoadBalancer or NodePort",
        ),
        _only("loadBalancerSourceRanges", "self.loadBalancerSourceRanges.all(one, isCIDR(one))", "are networks"),
        _qualified_name("loadBalancerClass"),
    ),
}
"""By struct."""
