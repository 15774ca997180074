"""What a fleet shall hold, as a small model that property tests change at random; gives resources for it."""

import msgspec

from portway.model.resource import (
    Readiness,
    Resource,
    ResourceDelta,
    ResourceKey,
    ResourceType,
    make_resource,
)
from tests.xds.fake_envoy import Content, content_of

READINESS = (Readiness.ENDPOINTS, Readiness.WARM, Readiness.AT_ONCE)


def resource(kind: ResourceType, name: str, content: Content, *, readiness: Readiness = Readiness.AT_ONCE) -> Resource:
    """A fake resource; it requires the clusters and secrets that its content points at."""
    clusters = (ResourceKey(ResourceType.CLUSTER, cluster) for cluster in set(content.clusters))
    secrets = (ResourceKey(ResourceType.SECRET, secret) for secret in set(content.secrets))
    requires = tuple(sorted((*clusters, *secrets)))
    body = msgspec.json.encode(content)
    return make_resource(ResourceKey(kind, name), body, requires=requires, readiness=readiness)


def cluster(name: str, readiness: Readiness = Readiness.ENDPOINTS, **fields: object) -> Resource:
    """A cluster of that readiness."""
    content = msgspec.convert(
        {
            "has_endpoints": readiness is not Readiness.AT_ONCE,
            "health_checked": readiness is Readiness.WARM,
            **fields,
        },
        Content,
    )
    return resource(ResourceType.CLUSTER, name, content, readiness=readiness)


def endpoints(name: str, number: int = 0) -> Resource:
    """The endpoints of the cluster of that name."""
    return resource(ResourceType.ENDPOINTS, name, Content(number=number))


def secret(name: str, number: int = 0, *, poison: bool = False) -> Resource:
    """A certificate with its key."""
    return resource(ResourceType.SECRET, name, Content(number=number, poison=poison))


def listener(name: str, routes: str, *clusters: str, number: int = 0, secrets: tuple[str, ...] = ()) -> Resource:
    """A listener with that route configuration, if there is one, TCP to these clusters, and these certificates."""
    content = Content(routes=routes, clusters=clusters, number=number, secrets=secrets)
    return resource(ResourceType.LISTENER, name, content)


def routes(name: str, number: int = 0) -> Resource:
    """A route configuration; its virtual hosts are resources of their own."""
    return resource(ResourceType.ROUTES, name, Content(number=number))


def host(name: str, *clusters: str, number: int = 0, poison: bool = False, domains: tuple[str, ...] = ()) -> Resource:
    """A virtual host, named `<route configuration>/<anything>`."""
    content = Content(clusters=clusters, domains=domains or (name.rpartition("/")[2],), number=number, poison=poison)
    return resource(ResourceType.VIRTUAL_HOST, name, content)


def without_cluster(one: Resource, name: str) -> Resource:
    """The same resource, but it points at no cluster of that name."""
    content = content_of(one)
    if name not in content.clusters:
        return one
    left = tuple(cluster for cluster in content.clusters if cluster != name)
    return resource(*one.key, msgspec.structs.replace(content, clusters=left), readiness=one.readiness)


def difference(old: dict[ResourceKey, Resource], new: dict[ResourceKey, Resource]) -> ResourceDelta:
    """The delta from one wanted state to another."""
    changed = tuple(wanted for key, wanted in new.items() if key not in old or old[key].version != wanted.version)
    return ResourceDelta(changed=changed, removed=tuple(key for key in old if key not in new))
