"""Writes Events while we lead. What an Event says and whether there is one is `news.py`'s.

An Event that exists already, since its name follows from its content, is counted up: it is as `kubectl describe` shows
`x3 over 10m`. Events are worth no second attempt but after an outage.

Source: Kubernetes, `events.k8s.io/v1` `Event`, `EventSeries`.
"""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, Protocol, final

import msgspec
import structlog

from portway.kubernetes.backoff import Backoff, is_transient
from portway.kubernetes.errors import ApiError, ApiUnreachable
from portway.kubernetes.paths import resource_path
from portway.objects.kinds import KINDS
from portway.status.news import News, NewsDesk
from portway.status.raw import Raw, as_map, as_number, decoded

log = structlog.get_logger(__name__)

LOOK_S: Final = 0.1
"""Pause between looks for news."""
GROUP: Final = "events.k8s.io"


class EventApi(Protocol):
    """What is asked of an `ApiClient`."""

    async def get(self, path: str, /) -> bytes: ...

    async def create(self, path: str, body: bytes, /) -> bytes: ...

    async def replace(self, path: str, body: bytes, /) -> bytes: ...


@final
class EventWriter:
    """Tells what the desk has to tell."""

    def __init__(
        self,
        api: EventApi,
        desk: NewsDesk,
        *,
        controller: str,
        instance: str,
        clock: Callable[[], float] | None = None,
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """
        Args:
            controller: our `controllerName`.
            instance: this replica's name.
            clock: seconds, never going back, as the desk's; by default the event loop's.
            wall: the time of day.
        """
        self._api = api
        self._desk = desk
        self._controller = controller
        self._instance = instance[:128]
        self._clock = clock or (lambda: asyncio.get_running_loop().time())
        self._wall = wall
        self.written = 0
        """Events created or counted up."""
        self.failed = 0
        self._told_failure = False

    async def run(self) -> None:
        """Until cancelled."""
        backoff = Backoff()
        while True:
            news = self._desk.take(self._clock())
            if news is None:
                await asyncio.sleep(LOOK_S)
                continue
            try:
                await self._write(news)
            except (ApiError, ApiUnreachable) as error:
                self.failed += 1
                if is_transient(error):
                    self._desk.again(news)
                    await asyncio.sleep(backoff.failed(error))
                elif not self._told_failure:
                    self._told_failure = True
                    log.warning("events cannot be written", problem=str(error))
            else:
                self.written += 1
                backoff.succeeded()

    async def _write(self, news: News) -> None:
        namespace = news.object.namespace or "default"
        collection = resource_path(GROUP, "v1", "events", namespace)
        try:
            await self._api.create(collection, msgspec.json.encode(self._event(news, namespace)))
        except ApiError as error:
            if error.status == 404 or error.is_of_ending_namespace:
                return  # its namespace is going
            if error.status != 409:
                raise
        else:
            return
        path = f"{collection}/{news.name}"
        current = decoded(path, await self._api.get(path))
        try:
            await self._api.replace(path, msgspec.json.encode(self._counted_up(current)))
        except ApiError as error:
            if error.status not in (404, 409):
                raise

    def _event(self, news: News, namespace: str) -> dict[str, object]:
        kind = KINDS[news.object.kind]
        return {
            "apiVersion": f"{GROUP}/v1",
            "kind": "Event",
            "metadata": {"namespace": namespace, "name": news.name},
            "eventTime": self._micro_time(),
            "type": "Warning",
            "reason": news.reason,
            "note": news.note,
            "action": "Programming",
            "regarding": {
                "apiVersion": kind.api_versions[0],
                "kind": kind.name,
                "namespace": news.object.namespace,
                "name": news.object.name,
                "uid": news.uid,
            },
            "reportingController": self._controller,
            "reportingInstance": self._instance,
        }

    def _counted_up(self, current: Raw) -> dict[str, object]:
        # The first time a series has two.
        count = max(1, as_number(as_map(current.get("series")).get("count"))) + 1
        return {**current, "series": {"count": count, "lastObservedTime": self._micro_time()}}

    def _micro_time(self) -> str:
        return self._wall().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
