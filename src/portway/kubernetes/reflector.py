"""Follows one collection of an API server for ever: lists it, watches it, comes back after every outage.

What happens to a watch, and what is done:

- it ends after some minutes, as asked for: it goes on from the last resource version;
- it is cut off, refused, or silent for longer than the server's bookmarks allow: the same, after a wait with jitter;
- `410 Expired`, a server whose versions are older than ours (a watch from a version of the future is silent for ever),
  or one that failed twice in a row (its etcd may come from a backup, and be past our version before we can compare):
  everything is listed anew, what is gone is reported as deleted;
- events repeat, come out of order or are left out: `versions` drops the first two; for the third, everything is listed
  once an hour, and what is known already costs nothing further on; also when somebody who knows more asks for it;
- the server says `429` or `5xx`: it is asked again, not before the time that it names;
- the server was away and answers others: who knows it says so, and it is asked at once (`hasten`);
- there is no such kind (`404`): waited for without noise. Objects that were there are reported as deleted only if the
  server is ready and its discovery does not know the kind either;
- we may not read it (`403`): said with the rule that is missing, and tried again seldom, but soon at first if it has
  never been read: its rule may be on its way. What is known stays. A server that is not ready does not know its rules
  yet and refuses everything: that is an outage.

Source: Kubernetes docs, "API Concepts"; client-go's `tools/cache/reflector.go` for the same task.
"""

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from functools import partial
from typing import Final, final

from portway.kubernetes.backoff import Backoff
from portway.kubernetes.client import IDLE, ApiClient
from portway.kubernetes.errors import ApiError, ApiUnreachable, error_of
from portway.kubernetes.events import Event, EventType, ReflectorStatistics, State
from portway.kubernetes.pages import PAGE, PAGE_BYTES, pages
from portway.kubernetes.progress import Progress
from portway.kubernetes.refusals import Refusal, is_gone, refusal_of
from portway.kubernetes.versions import Name, number_of
from portway.kubernetes.watch_lines import MALFORMED, line_of, list_version_of

WATCH_SECONDS: Final = (300, 600)
"""How long a watch is asked to take; at random between the two, so that they do not end together. As client-go."""
MISSING_WAIT: Final = 10.0
"""Seconds between two questions for a kind that is not there: a dozen kinds cost one cheap request a second."""
FORBIDDEN_WAIT: Final = 30.0
DOUBT: Final = 10.0
"""Seconds for which a collection that has never been read may be denied by mistake: an image may be rolled out a moment
before its ClusterRole, and an authorizer has hiccups."""
SHORT: Final = 1.0
"""Seconds: a watch that ends sooner is not opened again at once."""
EARLY: Final = 10.0
"""Seconds before its time that a watch may end without raising doubts."""
RELIST: Final = 3600.0
"""Seconds after which everything is listed again, should a watch have left something out."""
SLICE: Final = 0.005
"""Seconds for which the event loop may be held."""


class _Relist(Exception):
    """What we have may not be what the server has."""


_CANNOT_STREAM: Final = (400, 422)
"""Answers of servers that know no streaming lists: the parameter is refused as invalid."""


@final
class Reflector:
    """One collection. `events` may be iterated once."""

    def __init__(
        self,
        client: ApiClient,
        paths: Sequence[str],
        *,
        label_selector: str = "",
        field_selector: str = "",
        idle: float = IDLE,
        relist: float = RELIST,
        doubt: float = DOUBT,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """
        Args:
            paths: of the collection, one for each version of the kind, the preferred one first; the first that the
                server has is followed.
            idle: seconds of silence after which a watch counts as hung; not less than a minute, see `IDLE`.
            relist: seconds after which everything is listed again.
            doubt: seconds for which it may be denied by mistake, see `DOUBT`.
        """
        self._client = client
        self._paths = tuple(paths)
        self._path = self._paths[0]
        selectors = {"labelSelector": label_selector, "fieldSelector": field_selector}
        self._selectors: Mapping[str, str] = {name: value for name, value in selectors.items() if value}
        self._idle = idle
        self._relist = relist
        self._doubt = doubt
        self._clock = clock
        self._chance = chance
        self._backoff = Backoff(chance=chance)
        self._progress = Progress()
        self._is_streaming = True
        self._is_doubtful = False
        """The last watch did not end as it should: is this still the server, and the history, that we know?"""
        self._listed_at = float("-inf")
        self._denied_at = float("-inf")
        """Since when all answers were that we may not, if the last one was."""
        self._asked_at = float("-inf")
        """When the last list was asked for."""
        self._as_of = float("-inf")
        self._wanted_at = float("-inf")
        """A list is wanted that is asked for after this."""
        self._silence: asyncio.Timeout | None = None
        """Of a watch that waits for its next line."""
        self._is_answered = False
        """The server has answered the request that is under way."""
        self._hurry = asyncio.Event()
        self._slice_ends = 0.0
        self._state = State.LISTING
        self._error = ""
        self._lists = self._watches = self._events = self._repeated = 0

    def statistics(self) -> ReflectorStatistics:
        return ReflectorStatistics(
            path=self._path,
            state=self._state,
            objects=len(self._progress.known),
            lists=self._lists,
            watches=self._watches,
            events=self._events,
            repeated=self._repeated,
            failures=self._backoff.failures,
            error=self._error,
        )

    @property
    def is_failing(self) -> bool:
        """Whether the server cannot be followed now, for another reason than its rules."""
        return self._state is State.FAILING

    @property
    def is_denied_at_first(self) -> bool:
        """Whether we may not read what we have never read, by what the server says since a moment only."""
        is_young = self._clock() - self._denied_at < self._doubt
        return self._state is State.FORBIDDEN and self._listed_at == float("-inf") and is_young

    @property
    def failures(self) -> int:
        """In a row; 0 while all is well."""
        return self._backoff.failures

    @property
    def error(self) -> str:
        """The last one, while it lasts."""
        return self._error

    def known(self) -> Mapping[Name, int]:
        """Names of all objects in the collection, with their versions as numbers."""
        return self._progress.known

    @property
    def newest(self) -> int:
        """The newest version of an object that was told; 0: none."""
        return self._progress.newest

    @property
    def read_up_to(self) -> int:
        """All that happened in the collection up to this version has been told; 0: nothing yet."""
        return number_of(self._progress.resume)

    @property
    def as_of(self) -> float:
        """A time, by `clock`, since which everything was asked for and told, or the server, which is well, does not let
        us have it; minus infinity: nothing was yet. Not moved on by a watch, which may hang."""
        return self._as_of

    def list_since(self, time: float) -> None:
        """List everything anew, unless it was asked for since then: somebody has seen more than we."""
        if time <= self._asked_at:
            return
        self._wanted_at = time
        if self._silence is not None and self._silence.when() is None and self._progress.resume:
            self._silence.reschedule(0.0)

    def hasten(self) -> None:
        """Try again now, if the server could not be followed and did not say when to: it answers others. Should that
        fail, waits begin anew with the shortest."""
        if not self.is_failing or self._backoff.is_asked:
            return
        self._backoff.hasten()
        self._hurry.set()
        if self._silence is not None and self._silence.when() is None and not self._is_answered:
            self._silence.reschedule(0.0)  # it dials somebody who did not hear it

    async def events(self) -> AsyncGenerator[Event, None]:
        """Yield what exists, then `SYNCED`, then each change; for ever. Cancelling is the way to stop."""
        while True:
            wait = 0.0
            begin = self._clock()
            try:
                async with aclosing(self._follow()) as events:
                    async for event in events:
                        yield event
                        if event.type is EventType.SYNCED:
                            self._as_of = self._asked_at
                        await self._breathe()
                if self._clock() - begin < SHORT:
                    wait = self._backoff.failed()
            except _Relist:
                self._progress.resume = ""
            except ApiError as error:
                found, wait = await self._refused(error)
                for event in found:
                    yield event
            except ApiUnreachable as error:
                yield self._failed(error, State.FAILING)
                wait = self._backoff.failed(error)
            if wait:
                await self._pause(wait)

    async def _pause(self, seconds: float) -> None:
        self._hurry.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._hurry.wait()

    async def _refused(self, error: ApiError) -> tuple[list[Event], float]:
        """What to report of an error, and how long to wait."""
        match await refusal_of(self._client, error, failures=self._backoff.failures):
            case Refusal.ABSENT:
                return await self._not_found(error)
            case Refusal.DENIED:
                return self._denied(error)
            case Refusal.EXPIRED:
                self._progress.resume = ""
                return [], self._backoff.failed()
            case Refusal.BROKEN:
                self._as_of = self._asked_at
            case Refusal.OUTAGE:
                pass
        return [self._failed(error, State.FAILING)], self._backoff.failed(error)

    def _denied(self, error: ApiError) -> tuple[list[Event], float]:
        """As `_refused`: 1, 2, 4 ... s while it may be a mistake, and about when that ends."""
        self._as_of = self._asked_at
        if self._state is not State.FORBIDDEN:
            self._denied_at = self._clock()
        event = self._failed(error, State.FORBIDDEN)
        since = self._clock() - self._denied_at
        soon = max(self._doubt / 10, min(since, self._doubt - since))
        return [event], self._seldom(soon if self.is_denied_at_first else FORBIDDEN_WAIT)

    def _seldom(self, wait: float) -> float:
        return wait * (0.75 + self._chance() / 4)

    def _failed(self, error: ApiError | ApiUnreachable, state: State) -> Event:
        self._state = state
        self._error = str(error)
        self._is_doubtful = True
        is_throttled = isinstance(error, ApiError) and error.status == 429
        if self._backoff.failures and not is_throttled:
            self._progress.resume = ""  # not just a connection that was cut: the server was away
        return Event(EventType.DENIED if state is State.FORBIDDEN else EventType.FAILED, error=error)

    async def _follow(self) -> AsyncGenerator[Event, None]:
        """List if it is due, and watch until the watch ends."""
        is_wanted = self._wanted_at > self._asked_at
        if self._progress.resume and (is_wanted or self._clock() - self._listed_at > self._relist):
            self._progress.resume = ""
        if not self._progress.resume:
            self._asked_at = self._clock()
            if self._state is State.WATCHING:
                self._state = State.LISTING
            self._lists += 1
            self._progress.begin_list()
            if self._is_streaming:
                try:
                    async with aclosing(self._stream_list()) as events:
                        async for event in events:
                            yield event
                except ApiError as error:
                    if error.status not in _CANNOT_STREAM or self._progress.resume:
                        raise
                    self._is_streaming = False
                else:
                    return
            async with aclosing(self._page_list()) as events:
                async for event in events:
                    yield event
        elif self._is_doubtful:
            await self._compare_with_server()
        async with aclosing(self._watch({"resourceVersion": self._progress.resume}, is_list=False)) as events:
            async for event in events:
                yield event

    def _stream_list(self) -> AsyncGenerator[Event, None]:
        params = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan"}
        return self._watch(params, is_list=True)

    async def _page_list(self) -> AsyncGenerator[Event, None]:
        version = ""
        get = partial(self._client.get, limit_bytes=PAGE_BYTES)
        async with aclosing(pages(get, self._path, self._selectors, size=PAGE)) as found:
            async for page in found:
                version = page.metadata.resource_version
                for item in page.items or ():
                    try:
                        event = self._progress.listed(item)
                    except MALFORMED as error:
                        raise self._malformed(error) from None
                    self._events += 1
                    if event is not None:
                        yield event
        for event in self._list_ends(version):
            yield event

    def _list_ends(self, version: str) -> list[Event]:
        self._listed_at = self._clock()
        self._is_well()
        self._backoff.succeeded()
        return self._progress.end_list(version)

    def _is_well(self) -> None:
        self._state = State.WATCHING
        self._error = ""
        self._is_doubtful = False

    async def _watch(self, start: Mapping[str, str], *, is_list: bool) -> AsyncGenerator[Event, None]:
        """Watch until it ends.

        Args:
            is_list: the watch begins with all that exists.
        """
        shortest, longest = WATCH_SECONDS
        seconds = shortest + int(self._chance() * (longest - shortest))
        params = {"allowWatchBookmarks": "true", "timeoutSeconds": str(seconds), **self._selectors, **start}
        self._watches += 1
        begin = self._clock()
        is_silent = True
        self._is_answered = False
        on_open = partial(self._opened, is_list=is_list)
        async with (
            aclosing(self._client.stream(self._path, params, idle=self._idle, on_open=on_open)) as stream,
            aclosing(self._unless_doubted(stream)) as lines,
        ):
            async for data in lines:
                try:
                    line = line_of(data)
                    if line.type == "ERROR":
                        raise error_of("watch", self._path, 0, "", bytes(line.object))
                    if line.type == "BOOKMARK":
                        ends_list = self._progress.bookmark(line) and is_list
                        is_list = is_list and not ends_list
                        for event in self._list_ends(self._progress.resume) if ends_list else ():
                            yield event
                    else:
                        is_listed = is_list and line.type == "ADDED"
                        found = self._progress.listed(line.object) if is_listed else self._progress.changed(line)
                        self._events += 1
                        self._repeated += found is None
                        if found is not None:
                            yield found
                except MALFORMED as error:
                    raise self._malformed(error) from None
                if is_silent and not is_list:
                    is_silent = False
                    self._backoff.succeeded()
        if is_silent:
            # A healthy server sends at least a bookmark before it ends a watch.
            what = "a list" if is_list else "a watch"
            raise ApiUnreachable(f"{self._client.connection.server}: ended {what} of {self._path} too early")
        self._is_doubtful = self._clock() - begin < seconds - EARLY

    def _opened(self, *, is_list: bool) -> None:
        self._is_answered = True
        if not is_list:
            self._is_well()

    async def _unless_doubted(self, lines: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        """The lines of a watch. Raises `_Relist` when a list is wanted instead."""
        while True:
            try:
                async with asyncio.timeout(None) as self._silence:
                    line = await anext(lines, None)
            except TimeoutError:
                raise _Relist from None
            finally:
                self._silence = None
            if line is None:
                return
            yield line
            if self._progress.resume and self._wanted_at > self._asked_at:
                raise _Relist

    async def _compare_with_server(self) -> None:
        """Raises `_Relist` if the server's newest version is older than what we have seen of it."""
        data = await self._client.get(self._path, {**self._selectors, "limit": "1"})
        try:
            newest = list_version_of(data)
        except MALFORMED as error:
            raise self._malformed(error) from None
        if self._progress.is_older(newest):
            raise _Relist

    async def _not_found(self, error: ApiError) -> tuple[list[Event], float]:
        """The path that we follow is not there (any more): another version, a kind that is gone, or a server that
        starts and does not know all its kinds yet."""
        self._progress.resume = ""
        place = self._paths.index(self._path) + 1
        self._path = self._paths[place % len(self._paths)]
        if place < len(self._paths):
            return [], 0.0
        if self._state is State.MISSING:
            self._as_of = self._asked_at
            return [], self._seldom(MISSING_WAIT)
        if not await is_gone(self._client, self._paths):
            return [self._failed(error, State.FAILING)], self._backoff.failed(error)
        self._backoff.succeeded()
        self._state = State.MISSING
        self._error = ""
        return [*self._progress.clear(), Event(EventType.MISSING, error=error)], self._seldom(MISSING_WAIT)

    def _malformed(self, error: Exception) -> ApiUnreachable:
        return ApiUnreachable(f"{self._client.connection.server}: {self._path}: an answer that cannot be read: {error}")

    async def _breathe(self) -> None:
        """Let others run if our slice is over; what the consumer did with the event counts."""
        if self._clock() >= self._slice_ends:
            await asyncio.sleep(0)
            self._slice_ends = self._clock() + SLICE
