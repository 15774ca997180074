"""Names and labels of what is made for a fleet.

All objects of a fleet have one name, `portway-<gateway>` or `portway-ingress-<class>`. A Gateway's name may have 253
characters and dots, a Service's 63 and none, so a name that does not fit is shortened and marked with a hash of the
whole. Whose an object is stands in labels (which controller) and an annotation (which fleet): a name alone never makes
an object ours.

Source: GEP-1762, "Gateway IP", labels; Kubernetes, "Recommended Labels", "Object Names and IDs".
"""

import hashlib
import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from portway.model.fleet import Fleet, owner_of
from portway.objects.verdict import ObjectKey

LONGEST: Final = 63
"""Of a label's value and of a Service's name (RFC 1035 §2.3.4)."""
_HASH: Final = 8

MANAGED_BY: Final = "app.kubernetes.io/managed-by"
MANAGER: Final = "portway"
NAME: Final = "app.kubernetes.io/name"
PROXY: Final = "portway-proxy"
INSTANCE: Final = "app.kubernetes.io/instance"
GATEWAY_NAME: Final = "gateway.networking.k8s.io/gateway-name"
OURS: Final = "portway.dev/"
"""Prefix of labels and annotations that nobody else gives an object of ours: we believe what they say."""
CONTROLLER: Final = "portway.dev/controller"
FLEET: Final = "portway.dev/fleet"
"""Annotation: the fleet's name, which is too long for a label."""
APPLIED: Final = "portway.dev/applied"
"""Annotation: digest of what was applied, so that a field that is not wanted any more is noticed."""

TEMPLATE: Final = "portway.dev/template"
"""Annotation of a workload: digest of its pods' template as it was applied. Another one makes all pods anew."""

DECLARED: Final = "portway.dev/declared"
"""Annotation of a workload: digest of what the fleet's owner itself has said of its pods, a dot, and one of its
listeners' ports where pods have these. If that is the same and the template is not, so are those of other fleets: by
another version of Portway, or the parameters of a class."""

_LABEL: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_INGRESS: Final = "ingress-"


class Account(NamedTuple):
    """The ServiceAccount that the proxies of a fleet run under."""

    namespace: str
    name: str


def fleet_name_of(owner: ObjectKey) -> str:
    """Name of the objects of a fleet, by whose it is; at most 63 characters, a DNS label."""
    if owner.kind == "Gateway":
        # A Gateway called as the objects of a class would be named is told apart by the hash.
        return _fitting("portway-", owner.name, marked=owner.name.startswith(_INGRESS))
    return _fitting(f"portway-{_INGRESS}", owner.name)


def account_of(fleet: str, namespace: str) -> Account | None:
    """The ServiceAccount of a fleet, from its name alone; `None`: no fleet has that name.

    Args:
        namespace: Portway's own, for the fleets of classes.
    """
    owner = owner_of(fleet)
    return None if owner is None else Account(owner.namespace or namespace, fleet_name_of(owner))


def controller_label(gateway_controller: str, namespace: str) -> str:
    """Value of the label that keeps the objects of several Portways apart.

    Nothing else that an operator may decide anew is in it: who watches one namespace more is the same Portway, and its
    fleets stay its own. One that sees less takes nothing for gone: fleets are looked at where their Gateways are.

    Args:
        gateway_controller: the setting of this name.
        namespace: where it is installed.
    """
    whole = "\n".join((gateway_controller, namespace))
    text = re.sub(r"[^-A-Za-z0-9_.]", "_", gateway_controller)[: LONGEST - _HASH - 1]
    return f"{text.strip('-_.') or MANAGER}-{_digest(whole)}"


def digest_of(body: bytes) -> str:
    """Tells one body from another, for an annotation."""
    return hashlib.sha256(body).hexdigest()[:16]


def label_value(text: str) -> str:
    """A name as a label's value: itself where it fits (dots do)."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST - _HASH - 1].rstrip('-.')}-{_digest(text)}"


def selector_of(fleet: Fleet) -> Mapping[str, str]:
    """Labels by which the Service and the workload find the pods; they never change."""
    return {NAME: PROXY, INSTANCE: fleet_name_of(fleet.owner)}


def labels_of(fleet: Fleet, controller: str) -> Mapping[str, str]:
    """Labels of all objects of a fleet, pods included; what users ask for never replaces ours."""
    own = {**selector_of(fleet), MANAGED_BY: MANAGER, CONTROLLER: controller}
    if fleet.owner.kind == "Gateway":
        own[GATEWAY_NAME] = label_value(fleet.owner.name)
    return {**theirs(fleet.labels), **own}


def theirs(said: Mapping[str, str]) -> Mapping[str, str]:
    """Labels or annotations that users ask for, without what only we say."""
    return {key: value for key, value in said.items() if not key.startswith(OURS)}


def _fitting(prefix: str, name: str, *, marked: bool = False) -> str:
    whole = f"{prefix}{name}"
    if not marked and len(whole) <= LONGEST and _LABEL.fullmatch(whole):
        return whole
    plain = re.sub(r"[^-a-z0-9]", "-", whole.lower())[: LONGEST - _HASH - 1].rstrip("-")
    return f"{plain}-{_digest(whole)}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:_HASH]
