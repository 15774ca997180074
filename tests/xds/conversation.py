"""A session and a fake Envoy with a stream between them, moved by hand."""

from collections import deque
from collections.abc import Callable, Iterable

from portway.model.resource import Readiness, Resource, ResourceDelta, ResourceKey, ResourceType
from portway.xds.fleet import FleetState
from portway.xds.flights import Limits
from portway.xds.messages import Outcome, Overdue, Refusal, Request, Response
from portway.xds.ordering import Timing
from portway.xds.positions import Marker
from tests.xds.fake_envoy import FakeEnvoy


class Conversation:
    """One fleet, one proxy. Nothing moves by itself; time is `now`."""

    def __init__(
        self, *, timing: Timing | None = None, limits: Limits | None = None, marker: Marker | None = None
    ) -> None:
        self.marker = marker
        self.timing = timing or Timing()
        self.limits = limits or Limits()
        self.now = 100.0
        self._unread: dict[ResourceKey, Resource] = {}
        self.fleet = FleetState(timing=self.timing, limits=self.limits, marker=marker)
        self.fleet.mark_synced()
        self.proxy = FakeEnvoy()
        self.session = self.fleet.connect("proxy", self.now)
        self.wire: deque[Response] = deque()
        """Responses that the proxy has not read."""
        self.sent: list[Response] = []
        """All responses of this stream."""
        self.received: list[Request] = []
        self.outcomes: list[Outcome] = []
        self.at_once_since: dict[str, float] = {}
        """The clusters of which the version sent last on this stream needs no warming, and since when that is so."""

    def apply(self, *changed: Resource, removed: Iterable[Resource] = ()) -> None:
        """Change what the fleet shall hold."""
        self.apply_delta(ResourceDelta(changed=changed, removed=tuple(resource.key for resource in removed)))

    def apply_delta(self, delta: ResourceDelta) -> None:
        """Change what the fleet shall hold."""
        if self.fleet.synced:
            self.fleet.apply(delta, self.now)
            return
        for resource in delta.changed:
            self._unread[resource.key] = resource
        for key in delta.removed:
            self._unread.pop(key, None)

    def poll(self) -> Response | None:
        """Let the session say one thing."""
        response, outcomes = self.session.poll(self.now)
        self.outcomes.extend(outcomes)
        if response is not None:
            self.sent.append(response)
            self.wire.append(response)
            if response.type is ResourceType.CLUSTER:
                self._note_clusters(response)
        return response

    def _note_clusters(self, response: Response) -> None:
        for resource in response.resources:
            if resource.readiness is Readiness.AT_ONCE:
                self.at_once_since.setdefault(resource.key.name, self.now)
            else:
                self.at_once_since.pop(resource.key.name, None)
        for name in response.removed:
            self.at_once_since.pop(name, None)

    def read(self) -> bool:
        """Let the proxy take one response in."""
        if not self.wire:
            return False
        self.proxy.read(self.wire.popleft())
        return True

    def write(self) -> Request | None:
        """Let the proxy say one thing."""
        request = self.proxy.write()
        if request is not None:
            self.received.append(request)
            self.outcomes.extend(self.fleet.receive(self.session, request, self.now))
        return request

    def step(self) -> bool:
        """One step of whoever has something to do; false: nobody has."""
        return self.write() is not None or self.read() or self.poll() is not None

    def settle(self, after_each: Callable[[], None] | None = None) -> int:
        """Steps until nobody has anything to do at this moment; how many there were."""
        steps = 0
        while self.step():
            steps += 1
            if after_each is not None:
                after_each()
            assert steps < 10_000, "the conversation does not end"
        return steps

    def wait(self, seconds: float, after_each: Callable[[], None] | None = None) -> None:
        """Let time pass, with everybody at work at each deadline."""
        end = self.now + seconds
        while True:
            self.settle(after_each)
            deadline = self.session.deadline(self.now)
            if deadline is None or deadline > end:
                break
            assert deadline > self.now, "a deadline that has come must be followed by something"
            self.now = deadline
        self.now = end
        self.settle(after_each)

    def reconnect(self) -> None:
        """The stream breaks; everything under way is lost."""
        self.fleet.disconnect(self.session)
        self.session = self.fleet.connect("proxy", self.now)
        self.proxy.disconnect()
        self.wire.clear()
        self.sent.clear()
        self.received.clear()
        self.at_once_since.clear()

    def restart(self, *, remembering: bool = False) -> None:
        """The control plane is another process now, which knows nothing until `sync`.

        Args:
            remembering: whether it has what its predecessor kept on disk.
        """
        good = tuple(self.fleet.good_resources()) if remembering else ()
        wanted = tuple(resource for kind in ResourceType for resource in self.fleet.snapshot.of_type(kind).values())
        self.fleet = FleetState(timing=self.timing, limits=self.limits, marker=self.marker)
        self.fleet.remember_good(good)
        self._unread = {resource.key: resource for resource in (*self._unread.values(), *wanted)}
        self.reconnect()

    def sync(self) -> None:
        """The control plane has read its sources."""
        if not self.fleet.synced:
            self.fleet.apply(ResourceDelta(changed=tuple(self._unread.values())), self.now)
            self._unread = {}
            self.fleet.mark_synced()

    # What tests ask.

    def sent_names(self, kind: ResourceType) -> list[str]:
        """Names of all resources of a type that were sent on this stream, in order."""
        return [resource.key.name for response in self.sent if response.type is kind for resource in response.resources]

    @property
    def refusals(self) -> list[ResourceKey]:
        """Of all streams."""
        return [outcome.key for outcome in self.outcomes if isinstance(outcome, Refusal)]

    @property
    def overdue(self) -> set[str]:
        """Clusters that did not become ready in time, on any stream."""
        return {outcome.cluster for outcome in self.outcomes if isinstance(outcome, Overdue)}
