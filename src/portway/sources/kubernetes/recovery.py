"""After an outage the kinds come back one by one: what they bring is handed out together.

A route that is read before the endpoints of its Service would be answered with 503, as would one whose change is read
after the endpoints that it leaves. So it is as at a start: nothing until all is read again; but what stands is served
meanwhile, and a kind that fails alone holds the others for a moment only.
"""

from collections.abc import Callable, Iterable
from typing import Final, final

from portway.kubernetes.reflector import Reflector

GATHER: Final = 5.0
"""Seconds from the first answer of the server for which the kinds wait for each other. A connection that was dialled
into nothing is dialled again by the kernel within four."""


@final
class Recovery:
    """Of one server. `followed` are all its collections."""

    def __init__(self, followed: Callable[[], Iterable[Reflector]], clock: Callable[[], float]) -> None:
        self._followed = followed
        self._clock = clock
        self._is_out = False
        self._until: float | None = None
        """`None`: the server has not answered yet."""

    def cut_off(self) -> None:
        """Nothing can be read."""
        self._is_out = True
        self._until = None

    def answered(self) -> None:
        """The server tells something about a collection: the others need not wait any longer to ask it."""
        if self._is_out and self._until is None:
            self._until = self._clock() + GATHER
            for one in self._followed():
                one.hasten()

    def is_gathering(self) -> bool:
        """Whether what was read is not to be handed out yet."""
        if self._until is None:
            return False
        if self._clock() >= self._until or not any(one.is_failing for one in self._followed()):
            self._is_out = False
            self._until = None
            return False
        return True
