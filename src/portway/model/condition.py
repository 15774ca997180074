"""What is to be said about objects: Kubernetes conditions, per parent where the kind has parents, beside the verdicts.

Pure content: no time, no generation (the writer stamps the generation of the object that was read).
"""

import msgspec

from portway.model.names import SecretKey, SocketKey, TableKey
from portway.objects.verdict import ObjectKey, Verdict


class Condition(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    type: str
    status: bool
    reason: str
    message: str = ""
    provisional: bool = False
    """Only until proxies have answered: a `True` of the same generation that is written already stays instead. So
    nothing flaps when a fleet grows, or when the control plane starts again and proxies come back one by one."""


class Serving(msgspec.Struct, frozen=True, kw_only=True):
    """What proxies must hold before a listener serves: the sockets that it shares with others, and its key material."""

    sockets: tuple[SocketKey, ...]
    secrets: tuple[SecretKey, ...] = ()
    table: TableKey | None = None
    """Where its requests are looked up. What is in it by then belongs to the first `Programmed` of a generation."""


class ParentReport(msgspec.Struct, frozen=True, kw_only=True):
    """Conditions towards one parent (`status.parents[]`, `status.ancestors[]`)."""

    parent: ObjectKey
    section: str = ""
    port: int = 0
    index: int = 0
    """Position in `spec.parentRefs`; for ancestors 0."""
    conditions: tuple[Condition, ...] = ()
    tables: tuple[TableKey, ...] = ()
    """Where requests of an attached HTTPRoute or GRPCRoute are looked up: its virtual hosts there are what proxies must
    hold."""
    sockets: tuple[SocketKey, ...] = ()
    """Where an attached route is served."""
    elsewhere: bool = False
    """The parent is a Gateway which another Portway serves: what stands there about it stays."""


class ListenerReport(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of `status.listeners`."""

    name: str
    supported_kinds: tuple[tuple[str, str], ...] = ()
    """(group, kind)"""
    attached_routes: int = 0
    conditions: tuple[Condition, ...] = ()
    serving: Serving | None = None
    """`None`: it cannot serve, whatever proxies acknowledge."""


class ObjectReport(msgspec.Struct, frozen=True, kw_only=True):
    """All there is to say about one object, but for what proxies acknowledged: the conditions say `Programmed=True`
    where nothing but that is missing, and `status/programmed.py` puts it in."""

    object: ObjectKey
    ours: bool = True
    """False: of another class or controller; then there is nothing to write."""
    conditions: tuple[Condition, ...] = ()
    parents: tuple[ParentReport, ...] = ()
    listeners: tuple[ListenerReport, ...] = ()
    serving: tuple[Serving, ...] = ()
    """Of a Gateway or ListenerSet: its listeners that can serve, for a Gateway those of its ListenerSets among them.
    All are waited for; that one serves is enough where others are refused. Of an Ingress: all sockets that Ingress is
    served on, had or not."""
    attached_listener_sets: int = 0
    addresses: tuple[tuple[str, str], ...] = ()
    """`status.addresses` of a Gateway: (type, value)."""
    addresses_known: bool = True
    """False: nothing has been seen of its fleet yet, and the addresses that stand there stay."""
    elsewhere: bool = False
    """A Gateway, or a ListenerSet of one, that another Portway with the same controller name serves: nothing is
    written, as each would undo what the other one says."""
    supported_features: tuple[str, ...] = ()
    """`status.supportedFeatures` of a GatewayClass, sorted."""
    verdicts: tuple[Verdict, ...] = ()


class Reported(msgspec.Struct, frozen=True, kw_only=True):
    """A report, and the object that it is about."""

    report: ObjectReport
    generation: int
    """`metadata.generation` of the object that the report was computed from; 0: no API server has it."""
    uid: str = ""
