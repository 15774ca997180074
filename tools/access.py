"""What Portway may do in a cluster: the table from which `deploy/rbac` and `docs/rbac.md` are made.

Rights are cut by what they are for, so that an installation leaves out what it does not need by leaving out a role, and
restricts what it keeps by binding a role in some namespaces instead of the whole cluster. Each rule says what would not
work without it. Names and verbs come from the code that uses them where it has a table of its own
(`portway.objects.kinds`, `portway.status.ledger`, `portway.infra.kubernetes.rbac`).

CRDs are not needed to serve: kinds that a cluster lacks are found out by their 404. Discovery, `/readyz` and `/version`
are open to every ServiceAccount by Kubernetes' own `system:discovery` and `system:public-info-viewer`.
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import Final, NamedTuple

from portway.identity.contract import AUTHORITY_SECRET
from portway.infra.kubernetes import rbac
from portway.objects.kinds import KINDS, Kind
from portway.objects.portway_v1alpha1 import PORTWAY_GROUP
from portway.sources.kubernetes import definitions
from portway.sources.kubernetes.scope import MATERIAL
from portway.status.ledger import WRITTEN_KINDS
from portway.status.references import ROUTES as ROUTE_KINDS

READ: Final = ("list", "watch")


class Scope(StrEnum):
    """Where a role is bound."""

    CLUSTER = "cluster"
    """The whole cluster, always: what it is about lies in no namespace."""
    NAMESPACES = "namespaces"
    """The whole cluster, or each namespace that Portway looks at."""
    OWN = "own"
    """Portway's own namespace."""
    PEOPLE = "people"
    """Not bound to Portway: for those who use it."""


class Rule(NamedTuple):
    """A rule of a role."""

    groups: tuple[str, ...]
    resources: tuple[str, ...]
    verbs: tuple[str, ...]
    reason: str
    """What needs it, for whoever reads the manifest."""
    names: tuple[str, ...] = ()
    """Of the only objects that it is about; empty: all."""


class Role(NamedTuple):
    """A ClusterRole, or a Role in Portway's own namespace."""

    name: str
    scope: Scope
    purpose: str
    """One sentence."""
    without: str
    """What does not work without it."""
    rules: tuple[Rule, ...]
    aggregated_to: tuple[str, ...] = ()
    """Kubernetes' own roles that it becomes a part of."""
    is_optional: bool = True


def _by_group(kinds: Iterable[Kind]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for kind in kinds:
        found[kind.group] = (*found.get(kind.group, ()), kind.plural)
    return found


def _read(kinds: Iterable[Kind], reason: str, verbs: tuple[str, ...] = READ) -> tuple[Rule, ...]:
    return tuple(Rule((group,), plurals, verbs, reason) for group, plurals in _by_group(kinds).items())


def _status(kinds: Iterable[Kind]) -> tuple[Rule, ...]:
    """The writer reads an object again where it is in doubt, by name or all of a kind, and replaces its status."""
    kinds = tuple(kinds)
    return tuple(
        rule
        for group, plurals in _by_group(kinds).items()
        for rule in (
            Rule((group,), plurals, ("get", "list"), "the object whose status is written, as it is now"),
            Rule((group,), tuple(f"{plural}/status" for plural in plurals), ("update",), "conditions and addresses"),
        )
    )


def _release(reason: str) -> Rule:
    """The definitions of Gateway API by name: each says of which release it is."""
    return Rule(
        (definitions.GROUP,),
        (definitions.PLURAL,),
        ("get",),
        f"the version of Gateway API, {reason}",
        definitions.NAMES,
    )


_ALL: Final = tuple(KINDS.values())
_OWN: Final = tuple(kind for kind in _ALL if kind.group == PORTWAY_GROUP)
_CLASSES: Final = tuple(kind for kind in _ALL if not kind.namespaced and kind.name != "Namespace")
_DECLARED: Final = tuple(kind for kind in _ALL if kind.namespaced and kind.name not in MATERIAL)
_WRITTEN: Final = tuple(kind for kind in _ALL if kind.name in WRITTEN_KINDS)

CLASSES: Final = Role(
    name="portway-classes",
    scope=Scope.CLUSTER,
    purpose="Know which classes are Portway's, and the labels of namespaces.",
    without="nothing is served",
    is_optional=False,
    rules=(
        *_read(_CLASSES, "which GatewayClasses and IngressClasses are Portway's"),
        *_read((KINDS["Namespace"],), "`allowedRoutes.namespaces.selector` and the like choose by labels"),
    ),
)
CLASSES_STATUS: Final = Role(
    name="portway-classes-status",
    scope=Scope.CLUSTER,
    purpose="Say that a GatewayClass is accepted, and what it can.",
    without="a GatewayClass has no status; its Gateways are served all the same. Set `--no-write-status`",
    rules=(
        *_status(kind for kind in _WRITTEN if not kind.namespaced),
        _release("for condition `SupportedVersion`, which is left out without this rule"),
    ),
)
FLEET_NODES: Final = Role(
    name="portway-fleet-nodes",
    scope=Scope.CLUSTER,
    purpose="Know proxies by their tokens, and the addresses and zones of Nodes.",
    without="proxies in the cluster get no certificate, so no configuration",
    rules=(
        Rule(("authentication.k8s.io",), ("tokenreviews",), ("create",), "whose proxy it is that shows a token"),
        *(Rule(*rule) for rule in rbac.NODES),
    ),
)
ROUTES: Final = Role(
    name="portway-routes",
    scope=Scope.NAMESPACES,
    purpose="Read what is declared: Ingresses, Gateways, routes, policies, Services and their endpoints.",
    without="nothing is served; a kind that is missing in it is named in the log, the others are served",
    is_optional=False,
    rules=_read(_DECLARED, "what is served"),
)
SECRETS: Final = Role(
    name="portway-secrets",
    scope=Scope.NAMESPACES,
    purpose="Read certificates, credentials and CAs that objects refer to.",
    without="each Secret and ConfigMap that is referred to needs a rule with its name (component `named-secrets`)",
    rules=_read(
        (KINDS[name] for name in MATERIAL),
        "certificates, credentials, CAs; of the others only names are kept in memory",
        ("get", *READ),
    ),
)
STATUS: Final = Role(
    name="portway-status",
    scope=Scope.NAMESPACES,
    purpose="Say what becomes of objects: their status, and Events.",
    without="objects have no status; they are served all the same. Set `--no-write-status`",
    rules=(
        *_status(kind for kind in _WRITTEN if kind.namespaced),
        *(
            Rule(
                (group,),
                tuple(f"{plural}/status" for plural in plurals),
                ("patch",),
                "the first status of a new route; without this rule the route is read before",
            )
            for group, plurals in _by_group(kind for kind in _WRITTEN if kind.name in ROUTE_KINDS).items()
        ),
        Rule(
            ("events.k8s.io",),
            ("events",),
            ("get", "create", "update"),
            "what an owner must know; one that comes again is counted up",
        ),
    ),
)
FLEETS: Final = Role(
    name="portway-fleets",
    scope=Scope.NAMESPACES,
    purpose="Start proxies for Gateways and IngressClasses.",
    without="proxies run elsewhere (`--infrastructure host`)",
    rules=tuple(Rule(*rule) for rule in (*rbac.WRITES, *rbac.PODS)),
)
LEADER: Final = Role(
    name="portway-leader",
    scope=Scope.OWN,
    purpose="Agree among replicas who writes.",
    without="nobody leads: no status is written and no fleet is made; what is there goes on. Set `--no-write-status`",
    rules=(
        Rule(
            ("coordination.k8s.io",),
            ("leases",),
            ("get", "list", "watch", "create", "update"),
            "who leads; RBAC cannot restrict `create` to a name",
        ),
    ),
)
IDENTITY: Final = Role(
    name="portway-identity",
    scope=Scope.OWN,
    purpose="Keep the authorities that vouch for control plane and proxies.",
    without="proxies in the cluster get no configuration",
    rules=(
        Rule(
            ("",),
            ("secrets",),
            ("get", "update"),
            "the authorities with their keys; the Secret comes, empty, with the manifests; also when it was deleted",
            (AUTHORITY_SECRET,),
        ),
        Rule(("",), ("pods",), ("get",), "the image of its own pod, which its proxies run, too"),
    ),
)
READER: Final = Role(
    name="portway-reader",
    scope=Scope.PEOPLE,
    purpose="For people and pipelines that ask `portway check`, `explain`, `diff` or `status` about a cluster.",
    without="",
    rules=(
        *_read((*_CLASSES, KINDS["Namespace"], *_DECLARED, KINDS["ConfigMap"]), "what is declared", ("get", *READ)),
        _release("of which `portway check` says nothing without this rule"),
    ),
)
VIEW: Final = Role(
    name="portway-view",
    scope=Scope.PEOPLE,
    purpose="Who may view a namespace may view Portway's objects there.",
    without="",
    rules=_read(_OWN, "Portway's own kinds", ("get", *READ)),
    aggregated_to=("view", "edit", "admin"),
)
EDIT: Final = Role(
    name="portway-edit",
    scope=Scope.PEOPLE,
    purpose="Who may edit a namespace may edit Portway's objects there: FleetParameters decide what runs as a pod, "
    "which they may create themselves.",
    without="",
    rules=tuple(
        Rule((group,), plurals, ("create", "update", "patch", "delete", "deletecollection"), "Portway's own kinds")
        for group, plurals in _by_group(_OWN).items()
    ),
    aggregated_to=("edit", "admin"),
)

ROLES: Final = (
    CLASSES,
    CLASSES_STATUS,
    FLEET_NODES,
    ROUTES,
    SECRETS,
    STATUS,
    FLEETS,
    LEADER,
    IDENTITY,
    READER,
    VIEW,
    EDIT,
)
"""All of them, in the order of the page."""

IN_A_CLUSTER: Final = tuple(role for role in ROLES if role.scope is not Scope.PEOPLE)
"""Those that a Portway with proxies in the cluster is bound to."""
OUTSIDE: Final = (CLASSES, CLASSES_STATUS, ROUTES, SECRETS, STATUS, LEADER)
"""Those of a Portway whose proxies run on its own machine."""
