"""One xDS resource, ready to be sent: all that `xds/` knows of the world.

`envoy/` makes them, one per thing that proxies hold; `xds/` decides when each proxy gets which. Equal content gives
equal bytes and so an equal version: nothing is sent that a proxy already holds.
"""

from enum import StrEnum
from hashlib import blake2b
from typing import NamedTuple

import msgspec

from portway.objects.verdict import ObjectKey


class ResourceType(StrEnum):
    """The xDS types in the order in which a proxy needs them; values are type URLs."""

    CLUSTER = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
    ENDPOINTS = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
    SECRET = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"  # noqa: S105 - a type URL
    EXTENSION = "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig"
    LISTENER = "type.googleapis.com/envoy.config.listener.v3.Listener"
    ROUTES = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
    VIRTUAL_HOST = "type.googleapis.com/envoy.config.route.v3.VirtualHost"


class ResourceKey(NamedTuple):
    type: ResourceType
    name: str


class Readiness(StrEnum):
    """When may a route point at this cluster? Meaningful for clusters only."""

    ENDPOINTS = "endpoints"
    """Once the proxy has acknowledged its endpoints (a plain EDS cluster)."""
    WARM = "warm"
    """Once the proxy has acknowledged the cluster itself, which it does only when it is warm: with active health checks
    endpoints are acknowledged at once while requests still get 503."""
    AT_ONCE = "at once"
    """As soon as it was sent: DNS clusters may take a minute to warm and never block, static ones need no wait."""


class Resource(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One resource. Two with the same key and version have the same body."""

    key: ResourceKey
    version: str
    body: bytes = msgspec.field(default=b"")
    """The serialised message, not yet wrapped in an Any. May hold keys: never logged."""
    by_zone: tuple[tuple[str, bytes], ...] = ()
    """Zones, sorted, whose proxies get another body than that. The version is that of all of them."""
    requires: tuple[ResourceKey, ...] = ()
    """What must be ready in a proxy before it may get this: the clusters of a virtual host, those of a TCP listener.
    Sorted, unique."""
    readiness: Readiness = Readiness.AT_ONCE
    origins: tuple[ObjectKey, ...] = ()
    """The declared objects behind it; they are named when a proxy refuses it. Sorted, unique."""

    def body_for(self, zone: str) -> bytes:
        """What a proxy of this zone gets."""
        return dict(self.by_zone).get(zone, self.body) if self.by_zone else self.body

    def __repr__(self) -> str:
        return f"Resource({self.key.type.name} {self.key.name} @{self.version}, {len(self.body):,} bytes)"


def make_resource(
    key: ResourceKey,
    body: bytes,
    *,
    by_zone: tuple[tuple[str, bytes], ...] = (),
    requires: tuple[ResourceKey, ...] = (),
    readiness: Readiness = Readiness.AT_ONCE,
    origins: tuple[ObjectKey, ...] = (),
) -> Resource:
    """A resource whose version is the digest of its content."""
    digest = blake2b(body, digest_size=9)
    for zone, of_zone in by_zone:
        digest.update(b"\0%b\0%d\0%b" % (zone.encode(), len(of_zone), of_zone))
    return Resource(
        key=key,
        version=digest.hexdigest(),
        body=body,
        by_zone=by_zone,
        requires=requires,
        readiness=readiness,
        origins=origins,
    )


class ResourceDelta(msgspec.Struct, frozen=True, kw_only=True):
    """What changed in the resources of one fleet. A key is in one of the two at most."""

    changed: tuple[Resource, ...] = ()
    removed: tuple[ResourceKey, ...] = ()
