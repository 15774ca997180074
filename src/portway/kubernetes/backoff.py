"""How long to wait before something is tried again.

Exponential, with jitter so that twenty watches of three replicas do not come back in one moment, and never earlier than
a server asks for. No circuit breaker: one attempt in ten seconds hurts nobody, and the end of an outage is noticed.
"""

import random
from collections.abc import Callable
from typing import Final, final

from portway.kubernetes.errors import ApiError, ApiUnreachable, ConnectionProblem

FIRST: Final = 0.1
"""Seconds: a watch that was cut off comes back at once, almost."""
LONGEST: Final = 10.0
"""Seconds. client-go goes to 30; an API server that is back should be heard soon."""
LONGEST_ASKED: Final = 120.0
"""Seconds that a server's `Retry-After` may hold us."""


def is_transient(error: Exception) -> bool:
    """Whether the same request may succeed later by itself: no answer, too many requests, the server's own fault."""
    match error:
        case ApiError():
            return error.status in (408, 429) or error.status >= 500
        case ApiUnreachable() | ConnectionProblem():
            return True
    return False


@final
class Backoff:
    """The waits of one loop that tries again."""

    def __init__(
        self,
        *,
        first: float = FIRST,
        longest: float = LONGEST,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """
        Args:
            first: seconds after the first failure; doubled with each one that follows.
            chance: from 0 to 1.
        """
        self._first = first
        self._longest = longest
        self._chance = chance
        self._failures = 0
        self._failures_before = 0
        """Of them, those that make the waits no longer."""
        self._is_asked = False

    @property
    def failures(self) -> int:
        """In a row."""
        return self._failures

    @property
    def is_asked(self) -> bool:
        """The last wait is one that the server asked for."""
        return self._is_asked

    def failed(self, error: Exception | None = None) -> float:
        """Seconds to wait now: between half of the current wait and all of it, but as long as the server asks for."""
        wait = min(self._longest, self._first * 2.0 ** min(self._failures - self._failures_before, 30))
        self._failures += 1
        wait *= 0.5 + self._chance() / 2
        asked = error.retry_after if isinstance(error, ApiError) else None
        self._is_asked = asked is not None
        # On top of what was asked for: else all who were told the same come back together.
        return wait if asked is None else min(asked, LONGEST_ASKED) + wait

    def hasten(self) -> None:
        """There is reason to hope: waits begin anew with the first one. It has not succeeded yet."""
        self._failures_before = self._failures

    def succeeded(self) -> None:
        self._failures = self._failures_before = 0
