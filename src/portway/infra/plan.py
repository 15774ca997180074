"""What to do about an Envoy that already runs in a proxy's folder, and how long to wait after a crash: pure decisions.

    found                                              then
    nothing                                            start one
    the newest is the wanted build, does the wanted    adopt it: nothing happens to its connections
    another bootstrap or build, serving, same          hot restart: it hands its sockets to a successor and drains
      hot restart version
      or one that does not answer
    serving, but cannot hand over, or failed to        start one beside it (the ports are shared, SO_REUSEPORT), then
                                                       drain the old one; a connection in its queue at the end is lost
    unfit, and not serving                             end it, start one

Older ones than the newest drain already, whatever they are.
Source: Envoy docs, "Hot restart".
"""

from datetime import timedelta
from enum import StrEnum

import msgspec

from portway.infra.binary import EnvoyBinary
from portway.infra.envoy_admin import ServerInfo, ServerState
from portway.infra.process import Launch


class Start(StrEnum):
    """How to come to a running proxy."""

    FRESH = "started"
    ADOPT = "adopted"
    HAND_OVER = "hot restart"
    BESIDE = "started beside the old one"
    INSTEAD = "started instead of a useless one"


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A process in the folder."""

    launch: Launch
    info: ServerInfo | None
    """What its admin interface says; `None` if it does not answer, as when it drains after a hot restart."""


def plan_start(newest: Found | None, wanted: Launch, binary: EnvoyBinary) -> Start:
    """The row of the table above that fits the newest process in the folder."""
    if newest is None:
        return Start.FRESH
    if newest.info is None:
        # Its successor died while nobody watched. Whether it still has its ports, only a successor can find out.
        return Start.HAND_OVER
    if newest.info.version == binary.build and wanted.is_same_work(newest.launch):
        # One that still waits for its first configuration gets it from us as well as a new one would.
        return Start.ADOPT
    if newest.info.state is not ServerState.LIVE:
        return Start.INSTEAD
    same = newest.info.hot_restart_version == binary.hot_restart_version
    return Start.HAND_OVER if same else Start.BESIDE


STEADY = timedelta(seconds=10)
"""A process that lived this long did not die of what it was started with."""
FIRST_DELAY = timedelta(milliseconds=100)
LONGEST_DELAY = timedelta(seconds=5)


def restart_delay(early_deaths: int) -> timedelta:
    """How long to wait before the next start, after so many processes in a row that did not live for `STEADY`.

    None after the first: its ports are closed meanwhile. Then 0.1 s, doubling up to 5 s.
    """
    if early_deaths <= 1:
        return timedelta(0)
    doublings = min(early_deaths - 2, 10)
    return min(LONGEST_DELAY, FIRST_DELAY * (1 << doublings))
