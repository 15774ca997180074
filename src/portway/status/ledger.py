"""What is to be said of each object, what was written of it, and what waits to be written.

What was written is remembered, so a statement that says the same costs nothing; of some objects also how they stood
then, so that the next write needs no reading.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Final, final

import msgspec

from portway.objects.verdict import ObjectKey
from portway.status.first import first_status
from portway.status.merge import Merged, Statement, merge
from portway.status.programmed import unconfirmed
from portway.status.queue import Urgency, WriteQueue, is_settled, urgency_of
from portway.status.raw import Raw
from portway.status.references import HAVE_PARENTS
from portway.status.troubles import Troubles

WRITTEN_KINDS: Final = HAVE_PARENTS | {"GatewayClass", "Gateway", "ListenerSet", "Ingress", "Backend", "UpstreamPolicy"}
"""Kinds that have a status of ours."""
KNOWN: Final = 256
"""Objects that are remembered as they were written."""
MANY: Final = 100
"""Objects of which there is news: that is much."""


@final
class Ledger:
    """That of one writer; what it decides is done by the writer and the audit."""

    def __init__(
        self,
        controller: str,
        queue: WriteQueue,
        troubles: Troubles,
        *,
        settle: timedelta,
        clock: Callable[[], float],
        wall: Callable[[], datetime],
    ) -> None:
        """
        Args:
            settle: for which a statement that may soon be a better one waits.
            clock, wall: as for `StatusWriter`.
        """
        self.queue = queue
        self.awake = asyncio.Event()
        """Set whenever there may be something to write."""
        self.much_news = asyncio.Event()
        self._controller = controller
        self._troubles = troubles
        self._settle = settle.total_seconds()
        self._clock = clock
        self._wall = wall
        self._wanted: dict[ObjectKey, Statement] = {}
        self._written: dict[ObjectKey, Statement] = {}
        self._known: OrderedDict[ObjectKey, bytes] = OrderedDict()
        """As they were sent: taken apart each takes ten times the room."""
        self._news = 0
        self._heard_at = 0.0
        self._withheld: dict[ObjectKey, None] = {}
        """Of which less was written than is wanted."""

    @property
    def wanted(self) -> Mapping[ObjectKey, Statement]:
        """The statements that there are."""
        return self._wanted

    def began(self, heard_at: float) -> None:
        """Somebody else may have written meanwhile: forget all but what is wanted.

        Args:
            heard_at: until then other replicas may have proxies of which we have not heard: nothing becomes
                `Programmed`; what is stays so.
        """
        self._heard_at = heard_at
        self._withheld.clear()
        self._written.clear()
        self._known.clear()
        self.queue.clear()

    def want(self, statement: Statement) -> bool:
        """This is to be said from now on; whether it is another statement than before."""
        key = statement.key
        if key.kind not in WRITTEN_KINDS or self._wanted.get(key) == statement:
            return False
        self._wanted[key] = statement
        return True

    def forget(self, key: ObjectKey) -> None:
        """The object is gone."""
        self._wanted.pop(key, None)
        self.lose(key)

    def lose(self, key: ObjectKey) -> None:
        """Forget what was written of an object, and what waits."""
        self.queue.drop(key)
        self._written.pop(key, None)
        self._known.pop(key, None)

    # What waits.

    def put(self, statement: Statement) -> None:
        """To be written, unless it was."""
        written = self._written.get(statement.key)
        if written == statement and not self.queue.holds(statement.key):
            return
        if written is None and not statement.says_something:
            return  # what a former life left behind is the audit's business
        settle = 0.0 if is_settled(statement, written) else self._settle
        urgency = urgency_of(statement, written)
        self.queue.put(statement, urgency, self._clock(), settle=settle)
        self._news += urgency is Urgency.NEWS
        if self._news >= MANY:
            self.much_news.set()
        self.awake.set()

    def put_anew(self, statement: Statement) -> None:
        """To be written or looked at, whatever was written."""
        self._written.pop(statement.key, None)
        self.queue.put(statement, urgency_of(statement, None), self._clock())
        self.awake.set()

    def heard(self) -> None:
        """We have heard of all proxies: write what was withheld."""
        for key in self._withheld:
            if (statement := self._wanted.get(key)) is not None:
                self.put_anew(statement)
        self._withheld.clear()

    def count_news(self) -> None:
        """Begin to count: `much_news` is set when it has become much."""
        self._news = 0
        self.much_news.clear()

    # What was written.

    def is_new(self, key: ObjectKey) -> bool:
        """Whether nothing is known of what stands there."""
        return key not in self._written and key not in self._known

    def note_written(self, statement: Statement) -> None:
        """It stands there."""
        if statement.says_something:
            self._written[statement.key] = statement
        else:
            self._written.pop(statement.key, None)

    def remember(self, key: ObjectKey, current: bytes) -> None:
        """How the whole object stands there, a JSON object."""
        self._known[key] = current
        while len(self._known) > KNOWN:
            self._known.popitem(last=False)

    def recall(self, key: ObjectKey, api_version: str) -> Raw | None:
        """How it stood, in that version; only once, as a write that fails shows that it stands otherwise."""
        data = self._known.pop(key, None)
        if data is None:
            return None
        known = msgspec.json.decode(data, type=dict[str, object])
        return known if known.get("apiVersion") == api_version else None

    # What becomes of it.

    def merged(self, current: Raw, statement: Statement) -> Merged:
        """What becomes of the status of an object that stands so."""
        before = self._written.get(statement.key)
        merged = merge(current, statement, controller=self._controller, now=self._now(), before=before)
        if merged.status is not None and self._clock() < self._heard_at:
            less = merge(current, _unconfirmed(statement), controller=self._controller, now=self._now(), before=before)
            if less.status != merged.status:
                self._withheld[statement.key] = None
                merged = less
        self._troubles.left_out(statement.key, merged.left_out)
        return merged

    def first(self, statement: Statement) -> bytes | None:
        """The patch that writes the status of a route that has none; `None`: there is nothing to write."""
        if self._clock() < self._heard_at:
            self._withheld[statement.key] = None
            statement = _unconfirmed(statement)
        merged, patch = first_status(statement, controller=self._controller, now=self._now())
        if merged.status is None:
            return None
        self._troubles.left_out(statement.key, merged.left_out)
        return patch

    def _now(self) -> str:
        return self._wall().strftime("%Y-%m-%dT%H:%M:%SZ")


def _unconfirmed(statement: Statement) -> Statement:
    return msgspec.structs.replace(statement, report=unconfirmed(statement.report))
