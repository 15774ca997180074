"""What goes wrong with statuses: how long to wait for each, and what is said of it, once."""

from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Final, TypeGuard, final

import structlog

from portway.kubernetes.errors import ApiError, ApiUnreachable
from portway.objects.kinds import KINDS, Kind
from portway.objects.verdict import ObjectKey
from portway.status.outage import PATIENT, Outage, concerns_all

log = structlog.get_logger(__name__)

LONGEST_WAIT: Final = timedelta(seconds=10)
"""... of an object that fails again and again, such as by an admission webhook; the first is a hundredth of it."""
MOST_TOLD: Final = 1_000
"""Things that are said only once. More at once is no log that anybody reads."""
FORBIDDEN_AGAIN: Final = timedelta(minutes=1)
"""RBAC is mended by people."""


@final
class Troubles:
    """Those of one writer."""

    def __init__(self, clock: Callable[[], float], chance: Callable[[], float]) -> None:
        self.outage = Outage(chance)
        self.failed = 0
        """Requests without success, to be tried again."""
        self._clock = clock
        self._chance = chance
        self._told: set[str] = set()

    def began(self) -> None:
        """Forget what was."""
        self._told.clear()
        self.outage.began()

    def write_failed(self, error: ApiError | ApiUnreachable, attempts: int, key: ObjectKey) -> float:
        """An object could not be read or written. Seconds until its next turn.

        Args:
            attempts: that failed in a row before.
        """
        self.failed += 1
        if self._is_outage(error):
            return 0.0
        if _is_forbidden(error):
            plural = KINDS[key.kind].plural
            self._tell(f"{error.verb} {plural}", "statuses cannot be written", resource=plural, problem=str(error))
            return FORBIDDEN_AGAIN.total_seconds() * (0.5 + self._chance())
        if isinstance(error, ApiError) and error.status == 404:
            if attempts >= PATIENT:  # none of its versions
                plural = KINDS[key.kind].plural
                self._tell(f"no {plural}", "statuses cannot be written", resource=plural, problem=str(error))
        elif attempts == PATIENT:
            log.error("status could not be written", object=str(key), problem=str(error), attempts=attempts)
        return LONGEST_WAIT.total_seconds() * min(1.0, 0.01 * 2.0 ** min(attempts, 10)) * (0.5 + self._chance() / 2)

    def list_failed(self, error: ApiError | ApiUnreachable, kind: Kind, namespace: str) -> bool:
        """A kind could not be listed. Whether that is for long: the rules do not allow it."""
        self.failed += 1
        if self._is_outage(error) or not _is_forbidden(error):
            return False
        said = {"resource": kind.plural, "namespace": namespace, "problem": str(error)}
        self._tell(f"list {kind.plural} {namespace}", "statuses cannot be listed, so they are read singly", **said)
        return True

    def left_out(self, key: ObjectKey, what: Iterable[str]) -> None:
        """These found no room in the status of an object."""
        for one in what:
            self._tell(f"{key}: {one}", "no room in the status", object=str(key), what=one)

    def _is_outage(self, error: ApiError | ApiUnreachable) -> bool:
        is_outage = concerns_all(error)
        if is_outage:
            self.outage.failed(error, self._clock())
        return is_outage

    def _tell(self, once: str, event: str, **said: str) -> None:
        if once not in self._told and len(self._told) < MOST_TOLD:
            self._told.add(once)
            log.error(event, **said)


def _is_forbidden(error: ApiError | ApiUnreachable) -> TypeGuard[ApiError]:
    return isinstance(error, ApiError) and error.status == 403
