"""What a proxy shows to its control plane, kept fresh: obtained by token, or taken from files that somebody else keeps.

Both look every few seconds at the files that they were given and publish what changed. A certificate is renewed at two
thirds of its life, a little earlier or later by chance, so that a fleet that started together does not come together;
and at once when its authority is believed no longer, or when it is not valid yet: somebody's clock jumped. While that
fails, the old one is shown for as long as it lasts.
"""

import asyncio
import contextlib
import datetime as dt
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol, final

import msgspec
import structlog

from portway.identity.certificates import BACKDATED, CertificateProblem, Credentials, make_credentials
from portway.identity.messages import Place
from portway.identity.obtain import (
    NotObtained,
    Obtained,
    Source,
    decode_kept,
    encode_kept,
    is_believed,
    obtain,
    read_authorities,
)

LOOK = dt.timedelta(seconds=5)
FIRST_WAIT_S, LONGEST_WAIT_S = 0.25, 30.0
EARLY_WAIT_S = 60.0
"""Between two certificates while those that come are not valid yet: our clock may be the one that is wrong."""
RENEWED_AT = 2 / 3
SPREAD = 0.1
"""Of the life: renewal comes at 2/3 of it, less up to so much."""

Publish = Callable[[Credentials], None]

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class Keeps(Protocol):
    """A proxy's own identity."""

    async def first(self) -> Place:
        """Until there is something to show, which has been published then."""
        ...

    async def run(self) -> None:
        """Keep it fresh. Until cancelled."""
        ...

    @property
    def not_after(self) -> dt.datetime | None:
        """When what is shown now ends."""
        ...


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


@final
class TokenIdentity:
    """Certificates obtained with a bound token.

    Args:
        source: whom to ask, and what with.
        kept: file in a private folder where the certificate outlives the container.
        write: writes that file, readable by its owner only.
        publish: gets what to show and whom to believe, each time when one of them is another.
        clock: the time of day.
        chance: from 0 to 1.
    """

    def __init__(
        self,
        source: Source,
        kept: Path,
        write: Callable[[bytes], None],
        publish: Publish,
        *,
        ask: Callable[[Source], Awaitable[Obtained]] = obtain,
        clock: Callable[[], dt.datetime] = _now,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._source = source
        self._kept = kept
        self._write = write
        self._publish = publish
        self._ask = ask
        self._clock = clock
        self._chance = chance
        self._held: Obtained | None = None
        self._due = dt.datetime.max.replace(tzinfo=dt.UTC)
        self._failures = 0

    @property
    def not_after(self) -> dt.datetime | None:
        return self._held.credentials.not_after if self._held is not None else None

    async def first(self) -> Place:
        with contextlib.suppress(NotObtained, OSError):
            kept = decode_kept(self._kept.read_bytes(), read_authorities(self._source.authorities_file), self._clock())
            if kept is not None:
                log.info("certificate of the last run is used", until=_text(kept.credentials.not_after))
                return self._take(kept).place
        while True:
            wait = await self._attempt()
            if self._held is not None:
                return self._held.place
            await asyncio.sleep(wait)

    async def run(self) -> None:
        again = 0.0
        while True:
            await asyncio.sleep(max(again, LOOK.total_seconds()))
            again = 0.0
            believed = self._follow_authorities()
            if not believed or self._is_early or self._clock() >= self._due:
                again = await self._attempt()

    async def _attempt(self) -> float:
        """Ask once. Returns how many seconds to wait before the next time."""
        try:
            obtained = await self._ask(self._source)
        except NotObtained as error:
            self._failures += 1
            wait = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** min(self._failures, 20)) * (0.5 + self._chance() / 2)
            wait = max(wait, error.retry_after)
            until = self.not_after
            tell = log.warning if until is None or self._failures < 5 else log.error
            tell(
                "no certificate yet" if until is None else "certificate cannot be renewed",
                problem=str(error),
                until=_text(until) if until is not None else None,
                again_ms=int(wait * 1000),
            )
            return wait
        self._failures = 0
        self._take(obtained)
        log.info("certificate obtained", until=_text(obtained.credentials.not_after), zone=obtained.place.zone)
        try:
            self._write(encode_kept(obtained))
        except OSError as error:  # it is needed after a restart only
            log.warning("certificate cannot be kept", path=str(self._kept), problem=error.strerror)
        if not self._is_early:
            return 0.0
        log.warning(
            "certificate is not valid yet: the control plane's clock is ahead of this one",
            begins=_text(obtained.credentials.not_before),
            again_ms=int(EARLY_WAIT_S * 1000),
        )
        return EARLY_WAIT_S

    @property
    def _is_early(self) -> bool:
        """Whether nobody would believe what is shown, if our clock is right."""
        return self._held is not None and self._clock() < self._held.credentials.not_before

    def _take(self, obtained: Obtained) -> Obtained:
        self._held = obtained
        credentials = obtained.credentials
        begin = credentials.not_before + BACKDATED
        self._due = begin + (credentials.not_after - begin) * (RENEWED_AT - SPREAD * self._chance())
        self._publish(credentials)
        return obtained

    def _follow_authorities(self) -> bool:
        """Publish a changed bundle; whether our certificate is believed by it."""
        held = self._held
        if held is None:
            return False
        try:
            authorities = read_authorities(self._source.authorities_file)
        except NotObtained as error:
            log.warning("authorities cannot be read, the last ones stay", problem=str(error))
            return True
        if authorities != held.credentials.authorities:
            changed = msgspec.structs.replace(held.credentials, authorities=authorities)
            self._held = msgspec.structs.replace(held, credentials=changed)
            log.info("authorities changed")
            self._publish(changed)
            return is_believed(changed)
        return self._failures == 0 or is_believed(held.credentials)


@final
class FileIdentity:
    """A certificate that somebody else keeps fresh, outside of a cluster: three files, read again as they change."""

    def __init__(self, certificate: Path, key: Path, authorities: Path, publish: Publish) -> None:
        self._files = (certificate, key, authorities)
        self._publish = publish
        self._held: Credentials | None = None

    @property
    def not_after(self) -> dt.datetime | None:
        return self._held.not_after if self._held is not None else None

    async def first(self) -> Place:
        while not self._look():  # noqa: ASYNC110 - files tell nobody
            await asyncio.sleep(LOOK.total_seconds())
        return Place()

    async def run(self) -> None:
        while True:
            await asyncio.sleep(LOOK.total_seconds())
            self._look()

    def _look(self) -> bool:
        """Whether there is something to show."""
        try:
            found = make_credentials(*(path.read_bytes() for path in self._files))
        except (OSError, CertificateProblem) as error:  # also while the files are replaced one by one
            log.warning("certificate cannot be read", files=[str(path) for path in self._files], problem=str(error))
            return self._held is not None
        if found != self._held:
            self._held = found
            self._publish(found)
        return True


def _text(moment: dt.datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"
