"""Times at which the API server is away or has too much to do, and nobody should ask it anything."""

from collections.abc import Callable
from typing import Final, final

import structlog

from portway.kubernetes.backoff import Backoff
from portway.kubernetes.errors import ApiError, ApiUnreachable

log = structlog.get_logger(__name__)

PATIENT: Final = 3
"""Failures in a row that are nobody's business: an API server that restarts."""


def concerns_all(error: ApiError | ApiUnreachable) -> bool:
    """Whether the next request would fare no better: the server is away, or has too much to do."""
    return isinstance(error, ApiUnreachable) or error.status in (401, 429, 503)


@final
class Outage:
    """Whether to wait, and how long."""

    def __init__(self, chance: Callable[[], float]) -> None:
        self._backoff = Backoff(chance=chance)
        self.until = 0.0
        """Nothing should be asked before."""

    def began(self) -> None:
        """Forget what was."""
        self.until = 0.0

    def failed(self, error: ApiError | ApiUnreachable, now: float) -> None:
        """A request failed in a way that concerns all."""
        if self.until > now:
            return  # one of those that were under way together
        self.until = now + self._backoff.failed(error)
        if self._backoff.failures == PATIENT:
            log.warning("statuses cannot be written for now", problem=str(error))

    def succeeded(self) -> bool:
        """A request was answered. Whether that ended an outage that somebody was told of."""
        ended = self._backoff.failures >= PATIENT
        if ended:
            log.info("statuses can be written again")
        self._backoff.succeeded()
        return ended
