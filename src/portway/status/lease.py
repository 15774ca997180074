"""Who leads: what to do about a Lease, as client-go does it.

The holder renews it every few seconds. Everybody else watches whether it still does: a Lease that has not changed
before our own eyes for its whole duration is up for grabs. Times written in it are never compared with our clock, so
clocks that differ or jump do no harm. Two who grab at once are told apart by the resource version.

The holder gives up by itself if it cannot renew for `renew_within`, which is shorter than the duration: there is a time
without a leader rather than one with two.

Pure: a Lease as it was read and the time in, what to do out.

Source: client-go, `tools/leaderelection`; Kubernetes docs, "Leases".
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Final, final

import msgspec

from portway.status.raw import Raw, as_map, as_number, as_text

ADDRESS: Final = "portway.dev/status-address"
"""Annotation: where the leader hears what the other replicas' proxies acknowledge."""


class LeaseSettings(msgspec.Struct, frozen=True, kw_only=True):
    """client-go's defaults."""

    duration: timedelta = timedelta(seconds=15)
    """So long a holder that is not heard of keeps it."""
    renew_within: timedelta = timedelta(seconds=10)
    """A holder that could not renew it for so long stops leading."""
    retry: timedelta = timedelta(seconds=2)
    """Between two attempts to renew or to get it."""


class Move(Enum):
    """What to do."""

    TAKE = "take it"
    RENEW = "renew it"
    WAIT = "wait for its end"


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """What a Lease says."""

    holder: str = ""
    """Empty: nobody holds it."""
    duration_s: int = 0
    address: str = ""
    transitions: int = 0


def read_lease(lease: Raw) -> Held:
    """What a Lease says; what it does not say is empty."""
    spec = as_map(lease.get("spec"))
    annotations = as_map(as_map(lease.get("metadata")).get("annotations"))
    return Held(
        holder=as_text(spec.get("holderIdentity")),
        duration_s=as_number(spec.get("leaseDurationSeconds")),
        address=as_text(annotations.get(ADDRESS)),
        transitions=as_number(spec.get("leaseTransitions")),
    )


@final
class Observer:
    """What one candidate has seen of a Lease."""

    def __init__(self, identity: str, settings: LeaseSettings) -> None:
        """
        Args:
            identity: ours; unique among the candidates, and not that of a former life.
        """
        self._identity = identity
        self._settings = settings
        self._seen: object = None
        self._seen_at = 0.0
        self.held = Held()

    def saw(self, lease: Raw, now: float) -> Move:
        """The Lease reads so now.

        Args:
            lease: the object.
            now: seconds, never going back; when the answer is there: it was so a little earlier, we only wait longer.
        """
        spec = lease.get("spec")
        if self._seen is None or spec != self._seen:
            self._seen, self._seen_at = spec, now
        self.held = read_lease(lease)
        return self.move(now)

    def move(self, now: float) -> Move:
        """What to do if the Lease is still as it was seen."""
        if self.held.holder == self._identity:
            return Move.RENEW
        if not self.held.holder or now >= self.ends_at:
            return Move.TAKE
        return Move.WAIT

    @property
    def ends_at(self) -> float:
        """When the Lease is free unless it is renewed."""
        return self._seen_at + (self.held.duration_s or self._settings.duration.total_seconds())


def written_lease(
    current: Raw, identity: str, address: str, settings: LeaseSettings, wall: datetime
) -> dict[str, object]:
    """The Lease, taken or renewed by us.

    Args:
        current: as it was read; what others put into it stays.
        address: where the leader hears replicas; empty: nowhere.
        wall: the time of day, for people who read it.
    """
    held = read_lease(current)
    spec = as_map(current.get("spec"))
    metadata = as_map(current.get("metadata"))
    annotations = {**as_map(metadata.get("annotations")), ADDRESS: address}
    is_ours = held.holder == identity
    written = _micro_time(wall)
    return {
        **current,
        "metadata": {**metadata, "annotations": annotations},
        "spec": {
            **spec,
            "holderIdentity": identity,
            "leaseDurationSeconds": int(settings.duration.total_seconds()),
            "acquireTime": spec.get("acquireTime") if is_ours else written,
            "renewTime": written,
            "leaseTransitions": held.transitions + (0 if is_ours or not spec else 1),
        },
    }


def new_lease(namespace: str, name: str, labels: Mapping[str, str]) -> dict[str, object]:
    """A Lease that nobody holds yet."""
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"namespace": namespace, "name": name, "labels": dict(labels)},
    }


def released_lease(current: Raw, wall: datetime) -> dict[str, object]:
    """The Lease, given up: whoever sees it may take it at once."""
    spec = as_map(current.get("spec"))
    metadata = as_map(current.get("metadata"))
    annotations = {name: text for name, text in as_map(metadata.get("annotations")).items() if name != ADDRESS}
    released = {
        "holderIdentity": "",
        "leaseDurationSeconds": 1,
        "renewTime": _micro_time(wall),
        "acquireTime": _micro_time(wall),
        "leaseTransitions": as_number(spec.get("leaseTransitions")),
    }
    return {**current, "metadata": {**metadata, "annotations": annotations}, "spec": released}


def _micro_time(wall: datetime) -> str:
    return wall.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
