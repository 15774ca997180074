"""Rules between the fields of an object: what a cluster's API server would refuse although each value fits its type.

One module per API group, each with a table `RULES` from a struct to its checks. A check looks at one struct only and
holds wherever that struct occurs: `HTTPRouteFilter` stands below rules and below backendRefs, its rules stand once. A
check yields problems with paths below its struct and never raises.

Sources: the validations of Gateway API's custom resource definitions (v1.7, Experimental channel), for the other
groups `pkg/apis/*/validation` of Kubernetes. In our own words; what differs between Gateway API's channels is noted
where it does.
"""

from collections.abc import Mapping
from typing import Final

from portway.objects.kinds import KINDS
from portway.objects.meta import Part
from portway.objects.problems import Problem
from portway.objects.rules import (
    core,
    discovery,
    fleets,
    gateway,
    grpcroute,
    httproute,
    l4routes,
    metadata,
    networking,
    policies,
    portway,
)
from portway.objects.rules.engine import Check, Checker, merged, uniqueness

RULES: Final[Mapping[type[Part], tuple[Check, ...]]] = merged(
    uniqueness(kind.struct for kind in KINDS.values()),
    metadata.RULES,
    core.RULES,
    discovery.RULES,
    networking.RULES,
    gateway.RULES,
    httproute.RULES,
    grpcroute.RULES,
    l4routes.RULES,
    policies.RULES,
    portway.RULES,
    fleets.RULES,
)
"""Rules of every version and source."""

_ALWAYS: Final = Checker(RULES)
_V1: Final = Checker(l4routes.V1_RULES)
_V1ALPHA2: Final = Checker(l4routes.V1ALPHA2_RULES)
_CLUSTER: Final = Checker(discovery.CLUSTER_RULES)


def check(node: Part) -> list[Problem]:
    """What is wrong in a struct and everything below it, whatever its version and source."""
    return _ALWAYS.check(node)


def check_version(node: Part, version: str) -> list[Problem]:
    """What a version of a kind has stricter than others: the version is `v1`, `v1alpha2` ..."""
    return (_V1ALPHA2 if version == "v1alpha2" else _V1).check(node)


def check_cluster(node: Part) -> list[Problem]:
    """What is wrong in an object that comes from a cluster, but may stand in a file."""
    return _CLUSTER.check(node)
