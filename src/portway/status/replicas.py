"""What replicas tell the leader about their proxies, and what it makes of that.

Every replica compiles the same objects and judges them against its own proxies (`judge.py`). A follower tells how many
proxies of each fleet are connected to it, and per object the generation that it has judged and the parts that not all
of those proxies hold; a part that is not named is held by all of them. So in quiet times nothing is said, and a new
leader learns everything from one claim of some forty bytes per object.

A follower that has not come to a generation yet, or has not spoken of an object, has proxies that do not hold it. Who
has no proxy of a fleet has no say about it.

Pure; `exchange.py` carries it.
"""

from collections.abc import Iterator, Mapping
from typing import Final, final

import msgspec

from portway.objects.verdict import ObjectKey
from portway.status.programmed import Part
from portway.status.tally import FleetTally, Tally

MAX_CLAIMS: Final = 200_000
"""Objects that one replica may speak of: ten times what a cluster was ever seen to have."""
MAX_FLEETS: Final = 10_000
BATCH: Final = 500
"""Claims in one message: some 100 KB."""


class Claim(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one replica knows about one object."""

    object: ObjectKey
    generation: int
    lacking: Mapping[Part, Tally] = {}
    """The parts that not all proxies of the replica hold."""


class Word(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One message of a follower to the leader."""

    fleets: Mapping[str, int] | None = None
    """Proxies by fleet, those without any left out; `None`: as before."""
    claims: tuple[Claim, ...] = ()
    gone: tuple[ObjectKey, ...] = ()
    """Objects that there is nothing to say about any more."""


class _Replica:
    """One follower, as the leader knows it."""

    def __init__(self) -> None:
        self.fleets: Mapping[str, int] = {}
        self.claims: dict[ObjectKey, Claim] = {}
        self.left_at: float | None = None


class ReplicaStatistics(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    is_connected: bool
    proxies: int
    claims: int


@final
class Replicas:
    """The followers of a leader. Implements `judge.Others`."""

    def __init__(self) -> None:
        self._replicas: dict[str, _Replica] = {}

    def statistics(self) -> tuple[ReplicaStatistics, ...]:
        return tuple(
            ReplicaStatistics(
                name=name,
                is_connected=replica.left_at is None,
                proxies=sum(replica.fleets.values()),
                claims=len(replica.claims),
            )
            for name, replica in self._replicas.items()
        )

    def joined(self, name: str) -> None:
        """A follower has connected; it tells everything anew."""
        self._replicas[name] = _Replica()

    def heard(self, name: str, word: Word) -> tuple[ObjectKey, ...]:
        """A follower has spoken. Returns the objects that it spoke of.

        Raises:
            ValueError: it says more than can be meant, or is not connected.
        """
        replica = self._replicas.get(name)
        if replica is None:
            raise ValueError(f"replica {name} is not connected")
        if word.fleets is not None:
            if len(word.fleets) > MAX_FLEETS:
                raise ValueError(f"replica {name} has {len(word.fleets):,} fleets")
            replica.fleets = {fleet: proxies for fleet, proxies in word.fleets.items() if proxies > 0}
        for key in word.gone:
            replica.claims.pop(key, None)
        replica.claims.update((claim.object, claim) for claim in word.claims)
        if len(replica.claims) > MAX_CLAIMS:
            raise ValueError(f"replica {name} speaks of more than {MAX_CLAIMS:,} objects")
        return (*word.gone, *(claim.object for claim in word.claims))

    def left(self, name: str, now: float) -> None:
        """A follower's connection is gone. What it said holds until `forget`: it may come back at once."""
        replica = self._replicas.get(name)
        if replica is not None:
            replica.left_at = now

    def forget(self, before: float) -> bool:
        """Forget followers that left before that time. Whether there were any."""
        gone = [name for name, one in self._replicas.items() if one.left_at is not None and one.left_at <= before]
        for name in gone:
            del self._replicas[name]
        return bool(gone)

    def clear(self) -> None:
        """Forget all of them: somebody else leads."""
        self._replicas.clear()

    def tallies(self, key: ObjectKey, generation: int, part: Part, fleets: tuple[str, ...]) -> Iterator[Tally]:
        for name, replica in self._replicas.items():
            counts = {fleet: replica.fleets[fleet] for fleet in fleets if fleet in replica.fleets}
            if counts:
                yield tuple(_tally(name, replica.claims.get(key), generation, part, counts))


def _tally(
    replica: str, claim: Claim | None, generation: int, part: Part, counts: Mapping[str, int]
) -> Iterator[FleetTally]:
    if claim is None or claim.generation < generation:
        for fleet, proxies in counts.items():
            yield FleetTally(fleet=fleet, proxies=proxies, waiting=f"replica {replica} has not come so far yet")
        return
    lacking = {tally.fleet: tally for tally in claim.lacking.get(part, ())}
    for fleet, proxies in counts.items():
        tally = lacking.get(fleet)
        yield FleetTally(fleet=fleet, proxies=proxies, acknowledged=proxies) if tally is None else tally


@final
class Teller:
    """What a follower has to tell, and has not told yet. Coalescing: of each object only the latest is told."""

    def __init__(self) -> None:
        self._claims: dict[ObjectKey, Claim] = {}
        self._untold: dict[ObjectKey, None] = {}
        self._fleets: Mapping[str, int] = {}
        self._told_fleets: Mapping[str, int] | None = None

    def claim(self, claim: Claim) -> None:
        """So it is with an object now."""
        if self._claims.get(claim.object) != claim:
            self._claims[claim.object] = claim
            self._untold[claim.object] = None

    def forget(self, key: ObjectKey) -> None:
        """There is nothing to say about the object any more."""
        if self._claims.pop(key, None) is not None:
            self._untold[key] = None

    def count(self, fleets: Mapping[str, int]) -> None:
        """So many proxies of each fleet are connected."""
        self._fleets = {fleet: proxies for fleet, proxies in fleets.items() if proxies}

    def begin(self) -> None:
        """Somebody listens who knows nothing."""
        self._untold = dict.fromkeys(self._claims)
        self._told_fleets = None

    def take(self, most: int = BATCH) -> Word | None:
        """The next message; `None`: all is told. Numbers of proxies come last: what those lack is known by then."""
        keys = [key for key, _ in zip(self._untold, range(most), strict=False)]
        for key in keys:
            del self._untold[key]
        fleets = None
        if not self._untold and self._fleets != self._told_fleets:
            fleets = self._told_fleets = self._fleets
        if fleets is None and not keys:
            return None
        return Word(
            fleets=fleets,
            claims=tuple(self._claims[key] for key in keys if key in self._claims),
            gone=tuple(key for key in keys if key not in self._claims),
        )


def decode_word(data: bytes | str) -> Word:
    """A message as it came.

    Raises:
        msgspec.DecodeError: it is none.
    """
    return _WORD.decode(data)


_WORD: Final = msgspec.json.Decoder(Word)
