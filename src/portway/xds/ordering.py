"""Make before break, for one proxy: which resource waits for which cluster, and when a cluster may go.

A route that reaches the workers before its cluster answers 503, one that outlives its cluster, too (Envoy docs,
"Eventual consistency considerations"). So a resource is held back, it alone, until each cluster that it requires is
ready in this proxy, and a cluster is removed only when no version that the proxy may be using requires it any more,
and a grace later for requests that are before the router or about to be retried.

When a cluster is ready depends on its kind (`Readiness`): of the version that was sent, not of the one that is wanted
meanwhile. Readiness is kept until the cluster is removed: while a changed cluster warms, Envoy serves the old one.
What a proxy says about a former life, before a removal, is none of the next. Every wait is bounded. It starts when the
cluster was sent, so that a long queue before it costs nothing, and it is per cluster, so that a cluster that never
becomes ready costs its routes one wait, not one for each of their versions.

Time is an argument, in seconds of a clock that never goes back.
"""

import heapq
from collections.abc import Callable, Iterable
from enum import IntEnum
from typing import final

import msgspec

from portway.model.resource import Readiness, Resource, ResourceKey, ResourceType
from portway.xds.coming import Coming
from portway.xds.snapshot import Snapshot


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """How long a session waits for what; seconds."""

    wait: float = 5.0
    """The longest time that a resource is held back by a cluster that was sent but is not ready."""
    grace: float = 30.0
    """From the last use of an unwanted cluster to its removal: for requests in flight and their retries."""
    settle: float = 0.25
    """How long a cluster that needs no warming waits for its acknowledgement. The stream's order alone would do, if the
    proxy could not refuse the response; and the acknowledgement cannot be waited for, since Envoy withholds it while
    any other cluster is warming."""
    behind: float = 5.0
    """How long a proxy that has seen more of the sources than we waits for us to catch up, before it is sent away to
    look for another replica (`positions.py`)."""


class Timer(IntEnum):
    """What is due; by urgency."""

    WAIT = 0
    REMOVAL = 1


class Due(msgspec.Struct, frozen=True, kw_only=True):
    """What time has brought about."""

    released: tuple[ResourceKey, ...] = ()
    """Held-back resources to be looked at again."""
    overdue: tuple[str, ...] = ()
    """Clusters whose bounded wait expired."""
    removable: tuple[str, ...] = ()
    """Clusters to be removed now, unless they came into use again (`may_remove`)."""


def required_clusters(resource: Resource) -> list[str]:
    """The names of the clusters that a resource requires. Secrets hold nothing back from being sent: a proxy asks for
    them only after it has seen what uses them. It waits by itself, and so does what requires a cluster that waits."""
    return [name for kind, name in resource.requires if kind is ResourceType.CLUSTER]


@final
class Ordering:
    """The clusters of one proxy as far as others depend on them."""

    def __init__(self, snapshot: Snapshot, timing: Timing) -> None:
        self._snapshot = snapshot
        self._timing = timing
        self._ready: set[str] = set()
        self._overdue: set[str] = set()
        self._settle = min(timing.settle, timing.wait)
        self._coming: dict[str, Coming] = {}
        self._secrets: set[str] = set()  # that the proxy has
        self._needing: dict[str, dict[str, None]] = {}  # by secret: the coming clusters that require it
        self._waiting: dict[str, dict[ResourceKey, None]] = {}
        self._users: dict[str, int] = {}
        self._unknown: set[ResourceKey] = set()
        self._doomed: dict[str, float | None] = {}  # when it may go; None: still in use
        self._timers: list[tuple[float, Timer, str]] = []

    # What the proxy has.

    def sent(self, cluster: Resource, nonce: int, now: float) -> None:
        """The cluster is under way, new or changed."""
        name = cluster.key.name
        if name in self._ready:
            return
        coming = self._coming.get(name)
        if coming is None:
            coming = self._coming[name] = Coming(nonce, now)
        before = self._until(coming)
        self._forget_needs(name, coming)
        coming.send(cluster, nonce, now)
        coming.lacking = coming.secrets - self._secrets
        for secret in coming.secrets:
            self._needing.setdefault(secret, {})[name] = None
        self._bring_forward(name, coming, before)

    def _until(self, coming: Coming) -> float:
        return coming.until(self._timing.wait, self._settle)

    def _bring_forward(self, cluster: str, coming: Coming, before: float) -> None:
        """What waits until `before` may have to wait less long now."""
        until = self._until(coming)
        if cluster in self._waiting and until < before:
            heapq.heappush(self._timers, (until, Timer.WAIT, cluster))

    def acknowledged(self, cluster: Resource, nonce: int) -> tuple[ResourceKey, ...]:
        """The proxy has acknowledged this version of the cluster, so it is warm; without endpoints, if we had to tell
        it that there are none yet. Returns what was held back by it.

        Args:
            cluster: the version that was sent; it need not be wanted any more.
            nonce: under which it was sent.
        """
        name = cluster.key.name
        coming = self._coming.get(name)
        if coming is None or nonce < coming.born:
            return ()
        if cluster.readiness is Readiness.ENDPOINTS and not coming.has_endpoints:
            return ()
        return self._became_ready(name)

    def endpoints_acknowledged(self, cluster: str, nonce: int) -> tuple[ResourceKey, ...]:
        """The proxy has acknowledged endpoints of the cluster. Returns what was held back by it.

        Args:
            cluster: its name.
            nonce: under which the endpoints were sent. Those sent before the cluster's latest version went to a former
                one: the latest is still without.
        """
        coming = self._coming.get(cluster)
        if coming is None or nonce < coming.nonce:
            return ()
        coming.has_endpoints = True
        return self._became_ready(cluster) if coming.is_supplied else ()

    def secret_acknowledged(self, secret: str) -> tuple[ResourceKey, ...]:
        """The proxy has the secret. Returns what was held back by clusters that wait for it."""
        self._secrets.add(secret)
        released: list[ResourceKey] = []
        for name in tuple(self._needing.get(secret, ())):
            coming = self._coming[name]
            before = self._until(coming)
            coming.lacking -= {secret}
            if coming.is_supplied:
                released.extend(self._became_ready(name))
            else:
                self._bring_forward(name, coming, before)
        return tuple(released)

    def secret_dropped(self, secret: str) -> None:
        """The proxy is no longer interested in the secret, or asks for it anew."""
        self._secrets.discard(secret)
        for name in self._needing.get(secret, ()):
            self._coming[name].lacking |= {secret}

    def reported(self, cluster: str) -> tuple[ResourceKey, ...]:
        """The proxy holds it since before this stream. It asks for clusters only when all it has are warm: a request
        for clusters is withheld as their acknowledgement is. Returns what was held back by it."""
        return self._became_ready(cluster)

    def voided(self, cluster: str) -> None:
        """The response with this cluster was refused, and the proxy has no former version of it."""
        self._ready.discard(cluster)
        self._forget_coming(cluster)

    def removed(self, cluster: str) -> None:
        """Its removal is under way: from here on the proxy lacks it."""
        self._ready.discard(cluster)
        self._overdue.discard(cluster)
        self._forget_coming(cluster)
        self._doomed.pop(cluster, None)

    def endpoints_dropped(self, cluster: str) -> None:
        """The proxy is no longer interested in its endpoints."""
        coming = self._coming.get(cluster)
        if coming is not None:
            coming.has_endpoints = False

    def _became_ready(self, cluster: str) -> tuple[ResourceKey, ...]:
        self._ready.add(cluster)
        self._overdue.discard(cluster)
        self._forget_coming(cluster)
        return tuple(self._waiting.pop(cluster, ()))

    def _forget_coming(self, cluster: str) -> None:
        coming = self._coming.pop(cluster, None)
        if coming is not None:
            self._forget_needs(cluster, coming)

    def _forget_needs(self, cluster: str, coming: Coming) -> None:
        for secret in coming.secrets:
            needing = self._needing[secret]
            del needing[cluster]
            if not needing:
                del self._needing[secret]

    # What waits.

    def blockers(self, resource: Resource) -> list[str]:
        """The clusters that hold the resource back. One that is not wanted at all never does: nothing will make it
        come."""
        if not resource.requires:
            return []
        clusters = self._snapshot.of_type(ResourceType.CLUSTER)
        ready, overdue = self._ready, self._overdue
        return [
            name
            for name in required_clusters(resource)
            if name not in ready and name in clusters and name not in overdue
        ]

    def is_coming(self, cluster: str) -> bool:
        """Whether a cluster that is not ready can be expected to become so: it is not if its endpoints are unknown."""
        wanted = self._snapshot.get(ResourceType.CLUSTER, cluster)
        if wanted is None or wanted.readiness is not Readiness.ENDPOINTS:
            return wanted is not None
        return self._snapshot.get(ResourceType.ENDPOINTS, cluster) is not None

    def hold(self, key: ResourceKey, blockers: Iterable[str], now: float) -> None:
        """Hold a resource back until one of `blockers` changes; then it is to be looked at again."""
        for cluster in blockers:
            waiting = self._waiting.get(cluster)
            if waiting is None:
                self._waiting[cluster] = {key: None}
                coming = self._coming.get(cluster)
                until = self._until(coming) if coming is not None else now + self._bound(cluster)
                heapq.heappush(self._timers, (until, Timer.WAIT, cluster))
            else:
                waiting[key] = None

    def _bound(self, cluster: str) -> float:
        """How long the wanted version may be waited for once it is sent."""
        wanted = self._snapshot.get(ResourceType.CLUSTER, cluster)
        is_at_once = wanted is not None and wanted.readiness is Readiness.AT_ONCE
        return self._settle if is_at_once else self._timing.wait

    def _bounded_until(self, cluster: str, now: float, is_queued: Callable[[str], bool]) -> float | None:
        """Until when a wait that seems over goes on, since the cluster was sent later than the wait began."""
        if is_queued(cluster):
            return now + self._bound(cluster)
        coming = self._coming.get(cluster)
        if coming is None:
            return None
        until = self._until(coming)
        return until if until > now else None

    def _has_settled(self, cluster: str, now: float) -> bool:
        coming = self._coming.get(cluster)
        settled = coming.settled_at(self._settle) if coming is not None else None
        return settled is not None and settled <= now

    # Who uses what.

    def use(self, resource: Resource) -> None:
        """The proxy may be using this version from now on. Each call wants its `unuse`."""
        for name in required_clusters(resource):
            self._users[name] = self._users.get(name, 0) + 1
            if name in self._doomed:
                self._doomed[name] = None

    def unuse(self, resource: Resource, now: float) -> None:
        """The proxy no longer uses this version for one of the reasons that it did."""
        for name in required_clusters(resource):
            users = self._users[name] - 1
            if users:
                self._users[name] = users
                continue
            del self._users[name]
            if name in self._doomed:
                self._start_grace(name, now)

    def use_unknown(self, key: ResourceKey) -> None:
        """The proxy holds a version of which nobody knows what it requires: no cluster may go until that is over."""
        self._unknown.add(key)

    def unuse_unknown(self, key: ResourceKey) -> None:
        """The unknown version has been replaced or dropped."""
        self._unknown.discard(key)

    def is_used(self, cluster: str) -> bool:
        """Whether some version that the proxy may be using requires it."""
        return cluster in self._users

    # When a cluster goes.

    def unwanted(self, cluster: str) -> tuple[ResourceKey, ...]:
        """The cluster is no longer wanted, so nothing waits for it. Returns what was held back by it."""
        return tuple(self._waiting.pop(cluster, ()))

    def doom(self, cluster: str, now: float) -> None:
        """The proxy may have a cluster that is not wanted: remove it once it is out of use, and a grace later."""
        if self._doomed.get(cluster) is not None:
            return
        self._doomed[cluster] = None
        if cluster not in self._users:
            self._start_grace(cluster, now)

    def spare(self, cluster: str) -> None:
        """The cluster is wanted again."""
        self._doomed.pop(cluster, None)

    def may_remove(self, cluster: str, now: float) -> bool:
        """Whether an unwanted cluster may be removed now."""
        due = self._doomed.get(cluster)
        return due is not None and due <= now and cluster not in self._users and not self._unknown

    def _start_grace(self, cluster: str, now: float) -> None:
        due = now + self._timing.grace
        self._doomed[cluster] = due
        heapq.heappush(self._timers, (due, Timer.REMOVAL, cluster))

    # Time.

    def deadline(self) -> float | None:
        """When `advance` wants to be called next; `None`: nothing depends on time."""
        return self._timers[0][0] if self._timers else None

    def advance(self, now: float, *, is_queued: Callable[[str], bool]) -> Due:
        """What has become due.

        Args:
            now: not before any earlier call's.
            is_queued: whether a cluster is still about to be sent; the bound of its wait has not begun then.
        """
        released: dict[ResourceKey, None] = {}
        overdue: list[str] = []
        removable: list[str] = []
        while self._timers and self._timers[0][0] <= now:
            _, kind, cluster = heapq.heappop(self._timers)
            if kind is Timer.REMOVAL:
                self._removal_due(cluster, now, removable)
            elif cluster in self._waiting:
                again = self._bounded_until(cluster, now, is_queued)
                if again is not None:
                    heapq.heappush(self._timers, (again, Timer.WAIT, cluster))
                    continue
                released.update(self._waiting.pop(cluster))
                if self._has_settled(cluster, now):
                    self._became_ready(cluster)
                else:
                    self._overdue.add(cluster)
                    overdue.append(cluster)
        return Due(released=tuple(released), overdue=tuple(overdue), removable=tuple(removable))

    def _removal_due(self, cluster: str, now: float, removable: list[str]) -> None:
        due = self._doomed.get(cluster)
        if due is None or due > now:
            return  # in use again, wanted again, or in use for a while meanwhile: another timer stands for that
        if self._unknown:
            self._start_grace(cluster, now)
        else:
            removable.append(cluster)
