"""Envoy as far as delta ADS can see it, without I/O or time: pure state that a test moves one step at a time.

It does what `tests/lab` found the real one to do: clusters warm and hold the acknowledgements of all clusters
meanwhile, a changed cluster waits for endpoints that it does not ask for, one bad virtual host voids a whole
response, virtual hosts of a route configuration that it lacks are lost although their versions are remembered,
listeners warm and drain.

Resources carry `Content` as JSON. The test owns both directions of the stream: `read` takes one response in, `write`
gives the next request out, `disconnect` loses whatever is under way.
"""

from collections import deque
from collections.abc import Iterable

import msgspec

from portway.model.resource import Resource, ResourceType
from portway.xds.messages import Request, Response

CLUSTER = ResourceType.CLUSTER
ENDPOINTS = ResourceType.ENDPOINTS
LISTENER = ResourceType.LISTENER
SECRET = ResourceType.SECRET
ROUTES = ResourceType.ROUTES
VIRTUAL_HOST = ResourceType.VIRTUAL_HOST

IN_ORDER = (CLUSTER, LISTENER, ENDPOINTS, SECRET, ROUTES, VIRTUAL_HOST)
"""The order in which Envoy sends its first requests after a reconnect."""


class Content(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a fake resource says, whatever its type."""

    number: int = 0
    """Makes versions differ."""
    clusters: tuple[str, ...] = ()
    """Of a virtual host or listener: what it points at."""
    secrets: tuple[str, ...] = ()
    """Of a cluster or listener: what it warms until they are there."""
    domains: tuple[str, ...] = ()
    """Of a virtual host: unique within a route configuration."""
    routes: str = ""
    """Of a listener: its route configuration."""
    has_endpoints: bool = True
    """Of a cluster: whether they come over EDS."""
    health_checked: bool = False
    """Of a cluster: it stays warming until `check_health`."""
    poison: bool = False
    """The proxy refuses it."""
    unnamed_poison: bool = False
    """Of a cluster: refused by validation, so that nothing of the response is applied."""


def content_of(resource: Resource) -> Content:
    """What a resource says."""
    return msgspec.json.decode(resource.body, type=Content)


class Cluster:
    """A cluster of the proxy, active or warming."""

    def __init__(self, version: str, content: Content) -> None:
        self.version = version
        self.content = content
        self.has_answer = not content.has_endpoints
        self.is_checked = not content.health_checked
        self.has_secrets = not content.secrets

    @property
    def is_warm(self) -> bool:
        return self.has_answer and self.has_secrets and self.is_checked


class FakeEnvoy:
    """The proxy; its state survives streams."""

    def __init__(self) -> None:
        self.clusters: dict[str, Cluster] = {}
        self.warming: dict[str, Cluster] = {}
        self.endpoints: dict[str, str] = {}
        """Version that each EDS cluster uses, active or warming."""
        self.secrets: dict[str, str] = {}
        """Version of each."""
        self.listeners: dict[str, tuple[str, Content]] = {}
        self.warming_listeners: dict[str, tuple[str, Content]] = {}
        self.draining: list[str] = []
        """Route configurations that listeners use which drain."""
        self.routes: dict[str, str] = {}
        """Version of each."""
        self.hosts: dict[str, dict[str, tuple[str, Content]]] = {}
        """By route configuration and name: version and content."""
        self.initialized: set[str] = set()
        """Route configurations that had an answer about virtual hosts."""
        self.versions: dict[ResourceType, dict[str, str]] = {kind: {} for kind in IN_ORDER}
        self.interested: dict[ResourceType, set[str]] = {ENDPOINTS: set(), SECRET: set(), ROUTES: set()}
        self.uses: set[ResourceType] = {CLUSTER}
        """Types that it subscribes to; the others come when something asks for them."""
        self.disconnect()

    # The stream.

    def disconnect(self) -> None:
        """The stream broke; the next `write` begins a new one."""
        self._started: set[ResourceType] = set()
        self._answers: deque[tuple[ResourceType, str, str | None]] = deque()
        self._added: dict[ResourceType, dict[str, None]] = {kind: {} for kind in IN_ORDER}
        self._removed: dict[ResourceType, dict[str, None]] = {kind: {} for kind in IN_ORDER}

    def write(self) -> Request | None:
        """The next request; `None`: it has nothing to say, or may not say it yet."""
        for index, (kind, nonce, error) in enumerate(self._answers):
            if not self._is_paused(kind):
                del self._answers[index]
                return self._request(kind, nonce, error)
        for kind in IN_ORDER:
            if self._is_paused(kind) or kind not in self.uses:
                continue
            starts = kind not in self._started and (kind not in self.interested or self.interested[kind])
            if starts or self._added[kind] or self._removed[kind]:
                return self._request(kind, "", None)
        return None

    def _is_paused(self, kind: ResourceType) -> bool:
        return kind is CLUSTER and bool(self.warming)

    def _request(self, kind: ResourceType, nonce: str, error: str | None) -> Request:
        subscribe = tuple(self._added[kind])
        versions: dict[str, str] = {}
        if kind not in self._started:
            subscribe = tuple(sorted(self.interested.get(kind, ())))
            versions = dict(self.versions[kind])
        request = Request(
            type=kind,
            subscribe=subscribe,
            unsubscribe=tuple(self._removed[kind]),
            versions=versions,
            nonce=nonce,
            error=error,
        )
        self._started.add(kind)
        self._added[kind] = {}
        self._removed[kind] = {}
        return request

    def read(self, response: Response) -> None:
        """Take a response in and have the answer ready."""
        apply = {
            CLUSTER: self._read_clusters,
            ENDPOINTS: self._read_endpoints,
            SECRET: self._read_secrets,
            LISTENER: self._read_listeners,
            ROUTES: self._read_routes,
            VIRTUAL_HOST: self._read_hosts,
        }[response.type]
        contents = [(resource.key.name, resource.version, content_of(resource)) for resource in response.resources]
        error = apply(contents, response.removed)
        if error is None:
            self._remember(response)
        self._answers.append((response.type, response.nonce, error))

    def _remember(self, response: Response) -> None:
        versions = self.versions[response.type]
        interested = self.interested.get(response.type)
        for resource in response.resources:
            if interested is None or resource.key.name in interested:
                versions[resource.key.name] = resource.version
        for name in response.removed:
            versions.pop(name, None)

    def _want(self, kind: ResourceType, name: str) -> None:
        self.uses.add(kind)
        if name not in self.interested[kind]:
            self.interested[kind].add(name)
            self._removed[kind].pop(name, None)
            self._added[kind][name] = None

    def _drop(self, kind: ResourceType, name: str) -> None:
        if name in self.interested[kind]:
            self.interested[kind].discard(name)
            self.versions[kind].pop(name, None)
            self._added[kind].pop(name, None)
            self._removed[kind][name] = None

    # Clusters.

    def _read_clusters(self, contents: list[tuple[str, str, Content]], removed: Iterable[str]) -> str | None:
        self.uses.add(LISTENER)  # also if it refuses the response: a bad one does not keep Envoy from starting
        if any(content.unnamed_poison for _, _, content in contents):
            return "Proto constraint validation failed"
        bad = [name for name, _, content in contents if content.poison]
        for name, version, content in contents:
            if not content.poison:
                self._apply_cluster(name, version, content)
        for name in removed:
            self.clusters.pop(name, None)
            self.warming.pop(name, None)
            self.endpoints.pop(name, None)
            self._drop(ENDPOINTS, name)
        self._drop_secrets()
        return f"Error adding/updating cluster(s) {', '.join(bad)}" if bad else None

    def _apply_cluster(self, name: str, version: str, content: Content) -> None:
        latest = self.warming.get(name) or self.clusters.get(name)
        if latest is not None and latest.version == version:
            return
        cluster = self.warming[name] = Cluster(version, content)
        if content.has_endpoints:
            self._want(ENDPOINTS, name)
        else:
            self._drop(ENDPOINTS, name)
            self.endpoints.pop(name, None)
        self._activate_if_warm(name, cluster)

    def _activate_if_warm(self, name: str, cluster: Cluster) -> None:
        if cluster.has_answer:  # it asks for secrets only then
            for secret in cluster.content.secrets:
                self._want(SECRET, secret)
            cluster.has_secrets |= self.secrets.keys() >= set(cluster.content.secrets)
        if cluster.is_warm:
            self.warming.pop(name, None)
            self.clusters[name] = cluster

    def _read_endpoints(self, contents: list[tuple[str, str, Content]], removed: Iterable[str]) -> str | None:
        if any(content.poison for _, _, content in contents):
            return "malformed endpoint"
        for name, version, _ in contents:
            if name in self.interested[ENDPOINTS]:
                self.endpoints[name] = version
                self._answered(name)
        for name in removed:
            if name in self.interested[ENDPOINTS]:
                self.endpoints.pop(name, None)
                self._answered(name)
        return None

    def _answered(self, name: str) -> None:
        cluster = self.warming.get(name)
        if cluster is not None:
            cluster.has_answer = True
            self._activate_if_warm(name, cluster)

    def check_health(self) -> None:
        """The first health checks of all warming clusters that have endpoints are over."""
        for name, cluster in list(self.warming.items()):
            if cluster.has_answer and cluster.has_secrets:
                cluster.is_checked = True
                self._activate_if_warm(name, cluster)

    # Secrets.

    def _read_secrets(self, contents: list[tuple[str, str, Content]], removed: Iterable[str]) -> str | None:
        if any(content.poison for _, _, content in contents):
            return "Failed to load certificate chain"
        for name, version, _ in contents:
            if name in self.interested[SECRET]:
                self.secrets[name] = version
        for name, cluster in list(self.warming.items()):
            self._activate_if_warm(name, cluster)
        self._activate_listeners()
        return None

    def give_up_secrets(self) -> None:
        """What waits for secrets has waited for 15 s, and does without."""
        for name, cluster in list(self.warming.items()):
            cluster.has_secrets |= cluster.has_answer
            self._activate_if_warm(name, cluster)
        self._activate_listeners(waits_for_secrets=False)

    def _drop_secrets(self) -> None:
        """Nothing uses them any more."""
        contents = [content for _, content in (*self.listeners.values(), *self.warming_listeners.values())]
        contents.extend(cluster.content for cluster in (*self.clusters.values(), *self.warming.values()))
        used = {secret for content in contents for secret in content.secrets}
        for name in sorted(self.interested[SECRET] - used):
            self._drop(SECRET, name)
            self.secrets.pop(name, None)

    # Listeners and routes.

    def _read_listeners(self, contents: list[tuple[str, str, Content]], removed: Iterable[str]) -> str | None:
        for name in removed:
            for group in (self.listeners, self.warming_listeners):
                if name in group:
                    self._retire(group.pop(name))
        bad = [name for name, _, content in contents if content.poison]
        for name, version, content in contents:
            latest = self.warming_listeners.get(name) or self.listeners.get(name)
            if content.poison or (latest is not None and latest[0] == version):
                continue
            if name in self.warming_listeners:
                self._retire(self.warming_listeners.pop(name))
            self.warming_listeners[name] = (version, content)
            if content.routes:
                self._want(ROUTES, content.routes)
            for secret in content.secrets:
                self._want(SECRET, secret)
        self._activate_listeners()
        return f"Error adding/updating listener(s) {', '.join(bad)}" if bad else None

    def _activate_listeners(self, *, waits_for_secrets: bool = True) -> None:
        for name, (version, content) in list(self.warming_listeners.items()):
            if waits_for_secrets and not self.secrets.keys() >= set(content.secrets):
                continue
            if not content.routes or content.routes in self.initialized:
                del self.warming_listeners[name]
                if name in self.listeners:
                    self._retire(self.listeners[name])
                self.listeners[name] = (version, content)

    def _retire(self, listener: tuple[str, Content]) -> None:
        if listener[1].routes:
            self.draining.append(listener[1].routes)

    def finish_draining(self) -> None:
        """Connections of former listeners have ended; route configurations that nobody uses any more go."""
        self.draining = []
        self._drop_secrets()
        used = {content.routes for _, content in (*self.listeners.values(), *self.warming_listeners.values())}
        for name in sorted(self.interested[ROUTES] - used):
            self._drop(ROUTES, name)
            self.routes.pop(name, None)
            self.hosts.pop(name, None)
            self.initialized.discard(name)

    def _read_routes(self, contents: list[tuple[str, str, Content]], removed: Iterable[str]) -> str | None:
        if any(content.poison for _, _, content in contents):
            return "bad route configuration"
        for name, version, _ in contents:
            if name in self.interested[ROUTES]:
                self.routes[name] = version
                self.hosts.setdefault(name, {})
                self.uses.add(VIRTUAL_HOST)
        return None

    def _read_hosts(self, contents: list[tuple[str, str, Content]], removed: Iterable[str]) -> str | None:
        if any(content.poison for _, _, content in contents):
            return "bad virtual host"
        touched = {name.rpartition("/")[0] for name in (*(name for name, _, _ in contents), *removed)}
        after = {owner: dict(self.hosts[owner]) for owner in touched if owner in self.hosts}
        for name in removed:
            after.get(name.rpartition("/")[0], {}).pop(name, None)
        for name, version, content in contents:
            owner = name.rpartition("/")[0]
            if owner in after:
                after[owner][name] = (version, content)
        for hosts in after.values():
            domains = [domain for _, content in hosts.values() for domain in content.domains]
            if len(domains) != len(set(domains)):
                return "Only unique values for domains are permitted"
        self.hosts.update(after)
        self.initialized.update(after)
        self._activate_listeners()
        return None
