"""Whether the cluster's definitions of Gateway API are of a release that Portway is made for.

Others are served as far as they go: a field that an older release lacks is just never set, one that a newer release
brings is not looked at. So a GatewayClass is accepted all the same, and says that this is a matter of luck.

Source: Gateway API, `gatewayclass_types.go`, `GatewayClassConditionStatusSupportedVersion`: false if any definition has
no version or an unsupported one.
"""

import re
from collections import defaultdict
from collections.abc import Mapping
from typing import Final

from portway.model.condition import Condition
from portway.objects.references_v1 import GATEWAY_GROUP
from portway.objects.verdict import Severity
from portway.translate.gateway import findings
from portway.translate.gateway.findings import Problem

SUPPORTED: Final = "v1.7"
"""The release whose conformance suite Portway passes, and whose rules it checks objects by."""
_SUPPORTED_VERSION: Final = re.compile(rf"{re.escape(SUPPORTED)}\.\d+", re.ASCII)


def version_problems(installed: Mapping[str, str]) -> tuple[Problem, ...]:
    """What is wrong with the definitions that are there.

    Args:
        installed: as `GATEWAY_DEFINITIONS`.
    """
    others: dict[str, list[str]] = defaultdict(list)
    for name, version in sorted(installed.items()):
        if not _SUPPORTED_VERSION.fullmatch(version):
            others[version].append(name.removesuffix(f".{GATEWAY_GROUP}"))
    if not others:
        return ()
    # Which they are matters only where some are left over from another release.
    is_mixed = len(others) > 1 or sum(map(len, others.values())) < len(installed)
    said = (
        (version or "no version that is named") + (f" ({', '.join(names)})" if is_mixed else "")
        for version, names in sorted(others.items())
    )
    return (
        Problem(
            condition=findings.SUPPORTED_VERSION,
            reason="UnsupportedVersion",
            field="",
            message=f"the cluster's definitions of Gateway API are of {', '.join(said)}; Portway supports {SUPPORTED}; "
            "what they declare is served as far as the two agree",
            remedy=f"install the definitions of Gateway API {SUPPORTED}, and remove those that it does not have",
            severity=Severity.WARNING,
        ),
    )


def supported_version(installed: Mapping[str, str]) -> tuple[Condition, ...]:
    """The condition of a GatewayClass; none where nothing is known."""
    if not installed:
        return ()
    message = f"Gateway API {', '.join(sorted(set(installed.values())))}"
    return (findings.condition(findings.SUPPORTED_VERSION, version_problems(installed), "SupportedVersion", message),)
