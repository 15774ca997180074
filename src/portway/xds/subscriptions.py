"""What a proxy asks for: the first request of each type on a stream, with what it holds already, and later ones."""

from typing import assert_never, final

from portway.model.resource import ResourceType
from portway.xds.channel import WILDCARD, Channel
from portway.xds.holdings import Holdings
from portway.xds.messages import Request
from portway.xds.snapshot import route_configuration_of


@final
class Subscriptions:
    """Turns requests into what there is to be looked at."""

    def __init__(self, holdings: Holdings) -> None:
        self._holdings = holdings

    def take(self, channel: Channel, request: Request, now: float) -> None:
        """Take in what a request says about the proxy's interest."""
        if channel.started:
            self._subscribe(channel, request, now)
        else:
            self._start(channel, request, now)

    def _start(self, channel: Channel, request: Request, now: float) -> None:
        channel.start(request.subscribe)
        for name, version in request.versions.items():
            if channel is self._holdings.virtual_hosts and not self._holdings.has_routes(route_configuration_of(name)):
                continue  # Envoy remembers versions of hosts whose route configuration it has dropped
            known = self._holdings.snapshot.recall(channel.kind, name, version)
            channel.report(name, version, known)
            if known is not None:
                self._holdings.snapshot.note_acceptance(known)
            if channel is self._holdings.virtual_hosts:
                self._holdings.hosts.note(name)
        channel.mark(channel.names)
        match channel.kind:
            case ResourceType.CLUSTER:
                self._start_clusters(now)
            case ResourceType.ENDPOINTS:
                self._start_endpoints()
            case ResourceType.LISTENER:
                self._mark_all(channel)
            case ResourceType.ROUTES:
                self._start_routes(now)
            case ResourceType.VIRTUAL_HOST:
                self._start_virtual_hosts(now)
            case ResourceType.SECRET:
                for name in channel.records:
                    self._holdings.release(self._holdings.ordering.secret_acknowledged(name))
            case ResourceType.EXTENSION:
                pass
            case _:
                assert_never(channel.kind)

    def _start_clusters(self, now: float) -> None:
        for name in self._holdings.clusters.records:
            self._holdings.release(self._holdings.ordering.reported(name))
            if self._holdings.snapshot.get(ResourceType.CLUSTER, name) is None:
                self._holdings.ordering.doom(name, now)
        self._mark_all(self._holdings.clusters)

    def _start_endpoints(self) -> None:
        channel = self._holdings.endpoints
        channel.absent.update(dict.fromkeys(channel.names))
        if not self._holdings.clusters.started:
            # Envoy asks for clusters first, unless one is warming: a changed one, whose endpoints went down with the
            # former stream. It would wait for them in vain and then come up without any.
            for name in channel.records:
                channel.force(name)
                channel.absent[name] = None
        for name in channel.names:
            # A cluster that was sent before the proxy said what else it has: its endpoints follow now.
            cluster = self._holdings.clusters.records.get(name)
            if cluster is not None and cluster.nonce:
                channel.force(name)

    def _start_routes(self, now: float) -> None:
        for owner in self._holdings.hosts.owners():
            if owner not in self._holdings.routes.records:
                self._holdings.forget_hosts(owner, now)
        for name in self._holdings.routes.records:
            self._holdings.open(name, now, fresh=not self._holdings.hosts.noted(name))

    def _start_virtual_hosts(self, now: float) -> None:
        channel = self._holdings.virtual_hosts
        channel.mark(channel.records)
        for name in [name for name, record in self._holdings.routes.records.items() if record.held is not None]:
            self._holdings.open(name, now, fresh=not self._holdings.hosts.noted(name))

    def _mark_all(self, channel: Channel) -> None:
        if channel.wildcard:
            channel.owes_answer = not channel.records
            channel.mark(self._holdings.snapshot.of_type(channel.kind))
        channel.mark(channel.records)

    def _subscribe(self, channel: Channel, request: Request, now: float) -> None:
        for name in request.unsubscribe:
            channel.names.discard(name)
            if name == WILDCARD:
                channel.wildcard = False
            self._holdings.forget(channel, name, now)
        for name in request.subscribe:
            if name == WILDCARD:
                channel.wildcard = True
                channel.mark(self._holdings.snapshot.of_type(channel.kind))
                continue
            channel.names.add(name)
            if channel is self._holdings.routes:
                self._holdings.forget(channel, name, now)  # a new user: the former one took its virtual hosts along
            elif channel is self._holdings.secrets:
                self._holdings.ordering.secret_dropped(name)  # it let go of it in between
            channel.force(name)
            if channel is self._holdings.endpoints or channel is self._holdings.virtual_hosts:
                channel.absent[name] = None
