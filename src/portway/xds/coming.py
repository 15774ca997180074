"""A cluster on its way to being ready in one proxy: what was sent of it, and what the proxy has said to that.

What an Envoy says about one version is no news about another: endpoints that it took before a version went to the one
before, and a cluster that it acknowledged before a removal is gone. See `ordering.py` for what waits for it.
"""

from typing import final

from portway.model.resource import Readiness, Resource, ResourceType


@final
class Coming:
    """A cluster that was sent but is not ready: its present life, as the proxy will see it."""

    __slots__ = ("at_once_since", "born", "has_endpoints", "lacking", "nonce", "readiness", "secrets", "since")

    def __init__(self, nonce: int, now: float) -> None:
        self.since = now
        """When its first version was sent."""
        self.born = nonce
        """Under which that was: what the proxy says to an earlier one is about a former life."""
        self.nonce = nonce
        """Of the latest version."""
        self.readiness = Readiness.WARM
        """Of the latest version."""
        self.at_once_since: float | None = None
        """Since when the latest versions need no warming; `None`: the latest does."""
        self.has_endpoints = False
        """Whether endpoints are acknowledged that were sent after the latest version."""
        self.secrets: frozenset[str] = frozenset()
        """Names of those that the latest version requires."""
        self.lacking: frozenset[str] = frozenset()
        """Those of them that the proxy does not have: the cluster warms until they come, whatever else is there."""

    def send(self, cluster: Resource, nonce: int, now: float) -> None:
        """A version is under way."""
        self.nonce = nonce
        self.readiness = cluster.readiness
        self.secrets = frozenset(name for kind, name in cluster.requires if kind is ResourceType.SECRET)
        self.has_endpoints = False
        if cluster.readiness is not Readiness.AT_ONCE:
            self.at_once_since = None
        elif self.at_once_since is None:
            self.at_once_since = now

    @property
    def is_supplied(self) -> bool:
        """Whether the proxy has all that a cluster needs which is not checked: it is warm then."""
        return self.readiness is Readiness.ENDPOINTS and self.has_endpoints and not self.lacking

    def settled_at(self, settle: float) -> float | None:
        """When it counts as ready without an acknowledgement; `None`: never."""
        return None if self.at_once_since is None or self.lacking else self.at_once_since + settle

    def until(self, wait: float, settle: float) -> float:
        """When nothing waits for it any longer."""
        bound = self.since + wait
        settled = self.settled_at(settle)
        return bound if settled is None else min(settled, bound)
