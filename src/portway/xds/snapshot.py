"""What a fleet of proxies shall hold: the current resources, by type and name, shared by all sessions of the fleet.

Besides the wanted state it keeps small memories of the past. Superseded versions (bounded): a proxy that reconnects
reports versions only, and what an old version requires decides which clusters must stay. Versions that some proxy
refused: other proxies get them alone, so that nothing else is refused with them. And the last version that a proxy
acknowledged of a resource whose wanted one none has: if that is refused, a proxy that comes later shall serve no less
than the others. Proxies of one fleet are alike, so what one of them took counts as good.
"""

from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import final

import msgspec

from portway.model.resource import Resource, ResourceDelta, ResourceKey, ResourceType
from portway.xds.positions import Reading

RECALLED = 20_000  # superseded versions, kept without their bytes: well under 1 KB each

WITHOUT_REQUIREMENTS = frozenset(
    {ResourceType.CLUSTER, ResourceType.ENDPOINTS, ResourceType.SECRET, ResourceType.EXTENSION}
)
"""Types that keep no cluster alive, so nobody ever asks for their past."""


def route_configuration_of(virtual_host: str) -> str:
    """The route configuration that a virtual host belongs to: all before the last slash, as Envoy splits it (VHDS)."""
    return virtual_host.rpartition("/")[0]


@final
class Snapshot:
    """The wanted resources of one fleet. Only `apply` changes them."""

    def __init__(self, *, recalled: int = RECALLED) -> None:
        self.synced = False
        """Whether the wanted state is complete. Until then nothing may be sent: a missing resource might only be
        late."""
        self.reading = Reading()
        """Up to where in the sources all is in here."""
        self._resources: dict[ResourceType, dict[str, Resource]] = {kind: {} for kind in ResourceType}
        self._hosts: dict[str, dict[str, None]] = {}
        self._past: OrderedDict[tuple[ResourceType, str, str], Resource] = OrderedDict()
        self._recalled = recalled
        self._refused: dict[ResourceKey, str] = {}
        self._unproven: set[ResourceKey] = set()
        """Those whose wanted version no proxy has acknowledged so far."""
        self._good: dict[ResourceKey, Resource] = {}
        self._retired: OrderedDict[str, Resource] = OrderedDict()

    def get(self, kind: ResourceType, name: str) -> Resource | None:
        """The wanted version; `None`: there shall be none."""
        return self._resources[kind].get(name)

    def of_type(self, kind: ResourceType) -> Mapping[str, Resource]:
        """All wanted resources of a type by name, live; not to be kept."""
        return self._resources[kind]

    def virtual_hosts(self, route_configuration: str) -> Collection[str]:
        """The names of its virtual hosts, live; empty if there are none."""
        return self._hosts.get(route_configuration, {}).keys()

    def __len__(self) -> int:
        return sum(len(resources) for resources in self._resources.values())

    def apply(self, delta: ResourceDelta) -> tuple[ResourceKey, ...]:
        """Take a change in; the keys whose wanted version is another now, in the delta's order."""
        keys = [resource.key for resource in delta.changed if self._put(resource)]
        keys.extend(key for key in delta.removed if self._drop(key))
        return tuple(keys)

    def _put(self, resource: Resource) -> bool:
        kind, name = resource.key
        of_type = self._resources[kind]
        old = of_type.get(name)
        of_type[name] = resource
        if old is not None:
            if old.version == resource.version:
                return False
            if resource.key not in self._unproven:
                self._good[resource.key] = old
            self._remember(old)
        elif kind is ResourceType.VIRTUAL_HOST:
            self._hosts.setdefault(route_configuration_of(name), {})[name] = None
        elif kind is ResourceType.ENDPOINTS:
            self._retired.pop(name, None)
        self._unproven.add(resource.key)
        return True

    def _drop(self, key: ResourceKey) -> bool:
        old = self._resources[key.type].pop(key.name, None)
        self._good.pop(key, None)  # also one that a former control plane had and this one never wanted
        if old is None:
            return False
        self._remember(old)
        self._unproven.discard(key)
        if key.type is ResourceType.ENDPOINTS:
            self._retired[key.name] = old
            if len(self._retired) > self._recalled:
                self._retired.popitem(last=False)
        elif key.type is ResourceType.VIRTUAL_HOST:
            owner = route_configuration_of(key.name)
            hosts = self._hosts[owner]
            del hosts[key.name]
            if not hosts:
                del self._hosts[owner]
        return True

    def _remember(self, old: Resource) -> None:
        self._refused.pop(old.key, None)
        if old.key.type not in WITHOUT_REQUIREMENTS:
            self._keep(old)

    def _keep(self, old: Resource) -> None:
        past = (old.key.type, old.key.name, old.version)
        self._past[past] = msgspec.structs.replace(old, body=b"")
        self._past.move_to_end(past)
        if len(self._past) > self._recalled:
            self._past.popitem(last=False)

    def recall(self, kind: ResourceType, name: str, version: str) -> Resource | None:
        """The wanted or a former version of a resource, the latter without its bytes; `None`: not known (any more)."""
        current = self._resources[kind].get(name)
        if current is not None and current.version == version:
            return current
        return self._past.get((kind, name, version))

    def retired_endpoints(self, cluster: str) -> Resource | None:
        """The last endpoints of a cluster that is not wanted any more, nor are they: a proxy that still serves from it
        may need them once more."""
        if cluster in self._resources[ResourceType.CLUSTER]:
            return None
        return self._retired.get(cluster)

    def note_refusal(self, key: ResourceKey, version: str) -> None:
        """Some proxy refused this version; forgotten once another is wanted."""
        good = self._good.get(key)
        if good is not None and good.version == version:
            del self._good[key]
        current = self.get(key.type, key.name)
        if current is not None and current.version == version:
            self._refused[key] = version

    def note_acceptance(self, resource: Resource) -> None:
        """Some proxy has this version: if it is the wanted one, it is no suspect, and no older one is needed."""
        key = resource.key
        if key not in self._unproven:
            return
        current = self.get(key.type, key.name)
        if current is not None and current.version == resource.version:
            self._unproven.discard(key)
            self._refused.pop(key, None)
            self._good.pop(key, None)

    def remember_good(self, resources: Iterable[Resource]) -> None:
        """Take over from a former control plane what proxies had acknowledged; before the first `apply`."""
        for resource in resources:
            self._good[resource.key] = resource
            if resource.key.type not in WITHOUT_REQUIREMENTS:
                self._keep(resource)

    def good(self) -> Iterator[Resource]:
        """Each wanted resource in the latest version that some proxy acknowledged, if there is one. O(all)."""
        for of_type in self._resources.values():
            for resource in of_type.values():
                proven = resource if resource.key not in self._unproven else self._good.get(resource.key)
                if proven is not None:
                    yield proven

    def last_good(self, key: ResourceKey) -> Resource | None:
        """The version to be served while the wanted one is refused; `None`: not known."""
        return self._good.get(key)

    def is_suspect(self, resource: Resource) -> bool:
        """Whether some proxy refused this very version."""
        return bool(self._refused) and self._refused.get(resource.key) == resource.version
