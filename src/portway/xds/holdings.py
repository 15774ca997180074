"""What one proxy has and asked for, all types together, and the few things that concern more than one of them."""

from collections.abc import Iterable, Mapping
from typing import final

from portway.model.resource import ResourceKey, ResourceType
from portway.xds.channel import Channel
from portway.xds.hosts import Hosts
from portway.xds.ordering import Ordering
from portway.xds.snapshot import Snapshot, route_configuration_of

NO_HOST = "-"  # no virtual host is called so: it is no host name


@final
class Holdings:
    """The state of one session, apart from what is under way."""

    def __init__(self, snapshot: Snapshot, ordering: Ordering) -> None:
        self.snapshot = snapshot
        self.ordering = ordering
        self.hosts = Hosts()
        self.channels: Mapping[ResourceType, Channel] = {kind: Channel(kind, ordering) for kind in ResourceType}
        self.clusters = self.channels[ResourceType.CLUSTER]
        self.endpoints = self.channels[ResourceType.ENDPOINTS]
        self.secrets = self.channels[ResourceType.SECRET]
        self.routes = self.channels[ResourceType.ROUTES]
        self.virtual_hosts = self.channels[ResourceType.VIRTUAL_HOST]

    def is_covered(self, channel: Channel, name: str) -> bool:
        """Whether the proxy's subscription holds this name."""
        if name in channel.names:
            return True
        if channel is not self.virtual_hosts:
            return channel.wildcard
        owner = route_configuration_of(name)
        routes = self.routes.records.get(owner)
        return (channel.wildcard or owner in channel.names) and routes is not None and routes.held is not None

    def release(self, keys: Iterable[ResourceKey]) -> None:
        """Look at these again: what held them back has changed."""
        for kind, name in keys:
            self.channels[kind].dirty[name] = None

    def supplied(self, key: ResourceKey, nonce: int) -> None:
        """The proxy has taken endpoints or a secret, which were sent under `nonce`: some cluster may be ready now."""
        if key.type is ResourceType.SECRET:
            self.release(self.ordering.secret_acknowledged(key.name))
        else:
            self.release(self.ordering.endpoints_acknowledged(key.name, nonce))

    def has_routes(self, name: str) -> bool:
        """Whether the proxy has the route configuration, or may have it: it has not asked for any on this stream
        yet."""
        record = self.routes.records.get(name)
        return not self.routes.started or (record is not None and record.held is not None)

    def open(self, name: str, now: float, *, fresh: bool) -> None:
        """The proxy has the route configuration `name`; if it is `fresh`, it has no virtual host of it."""
        channel = self.virtual_hosts
        if not channel.started:
            return
        hosts = self.snapshot.virtual_hosts(name)
        if fresh:
            self.forget_hosts(name, now)
            self.hosts.open(name)
            if not hosts:
                channel.absent[f"{name}/{NO_HOST}"] = None
                channel.dirty[f"{name}/{NO_HOST}"] = None
        channel.mark(hosts)

    def forget(self, channel: Channel, name: str, now: float) -> None:
        """The proxy is no longer interested in `name`, or begins anew with it."""
        channel.forget(name, now)
        if channel is self.endpoints:
            self.ordering.endpoints_dropped(name)
        if channel is self.secrets:
            self.ordering.secret_dropped(name)
        if channel is self.routes:
            self.forget_hosts(name, now)

    def forget_hosts(self, route_configuration: str, now: float) -> None:
        """The proxy has none of its virtual hosts (any more)."""
        for host in self.hosts.forget(route_configuration):
            self.virtual_hosts.forget(host, now)
