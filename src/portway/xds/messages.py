"""What a session hears and says. The discovery messages themselves are `wire.py`'s business."""

from collections.abc import Mapping

import msgspec

from portway.model.resource import Resource, ResourceKey, ResourceType
from portway.objects.verdict import ObjectKey


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A DeltaDiscoveryRequest: a subscription, an answer to a response, or both at once."""

    type: ResourceType
    subscribe: tuple[str, ...] = ()
    unsubscribe: tuple[str, ...] = ()
    versions: Mapping[str, str] = msgspec.field(default_factory=dict)
    """`initial_resource_versions`: what the proxy holds already; only in the first request of a type on a stream."""
    nonce: str = ""
    """Of the response that this answers; empty: it answers none."""
    error: str | None = None
    """The proxy's own words why it refuses that response; `None`: it accepts it."""


class Response(msgspec.Struct, frozen=True, kw_only=True):
    """A DeltaDiscoveryResponse."""

    type: ResourceType
    nonce: str
    resources: tuple[Resource, ...] = ()
    """In no order that matters; names are unique."""
    removed: tuple[str, ...] = ()
    """Names that the proxy shall drop; also the answer to a subscription for something that does not exist."""


class Acceptance(msgspec.Struct, frozen=True, kw_only=True):
    """A proxy took one response: it holds `resources` in these versions now, and no longer what was removed."""

    type: ResourceType
    resources: tuple[Resource, ...] = ()
    removed: tuple[str, ...] = ()


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """A proxy refuses one resource, found by sending it alone. It keeps what it held of it before."""

    key: ResourceKey
    version: str
    """The refused one; empty: it refuses to drop the resource."""
    message: str
    """The proxy's own words."""
    origins: tuple[ObjectKey, ...] = ()
    """The declared objects behind the resource."""


class Overdue(msgspec.Struct, frozen=True, kw_only=True):
    """A cluster did not become ready within the bounded wait: what waited for it is sent all the same."""

    cluster: str
    origins: tuple[ObjectKey, ...] = ()
    """The declared objects behind the cluster."""


Outcome = Acceptance | Refusal | Overdue
"""What became of something that was sent."""
