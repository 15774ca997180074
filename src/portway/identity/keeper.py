"""The authorities as a Secret: made by whichever replica comes first, read again by all, replaced in time by one.

Each replica looks twice a minute (one GET) instead of watching: a successor signs a day after it was published, so
nobody is late. Only a write that names the version that was read succeeds; who loses the race reads again.
Proxies and control planes out there believe what is in it: what was lost or emptied while we run is put back, by
whoever still knows it. That takes the Secret itself, empty at least; our manifests give us no right to create Secrets
(it could not be limited to this one). For new authorities at once, end all control planes, empty it, and start them.
"""

import asyncio
import base64
import datetime as dt
import random
from collections.abc import Callable, Sequence
from typing import Protocol, final

import msgspec
import structlog

from portway.identity.authorities import Authority, decode_authorities, encode_authorities, followed
from portway.identity.certificates import CertificateProblem
from portway.identity.contract import AUTHORITY_SECRET
from portway.kubernetes.backoff import Backoff
from portway.kubernetes.errors import ApiError, ApiUnreachable, ConnectionProblem
from portway.kubernetes.paths import resource_path

LOOK = dt.timedelta(seconds=30)
"""Between looks, more or less: so long whoever knows what was lost may take to notice that there is an empty Secret."""
FIRST_WAIT_S = 5.0
"""Longest pause while none are known: no proxy can come."""
TURN = 1.5
"""Of `LOOK`: for so long an empty Secret that was lost is left to others by who does not know what was in it."""
RACES = 10
"""How often in a row somebody else may have been faster."""
LABELS = {"app.kubernetes.io/managed-by": "portway"}

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class Secrets(Protocol):
    """What is needed of `portway.kubernetes.ApiClient`."""

    async def get(self, path: str) -> bytes: ...

    async def create(self, path: str, body: bytes) -> bytes: ...

    async def replace(self, path: str, body: bytes) -> bytes: ...


class _Deferred(CertificateProblem):
    """An empty Secret is not filled yet."""


class _Data(msgspec.Struct, frozen=True):
    data: dict[str, str] | None = None


@final
class AuthorityKeeper:
    """Keeps the authorities, here and in the Secret.

    Args:
        client: may `get` and `update` that one Secret; may `create` Secrets, or the manifests hold it empty.
        namespace: Portway's own.
        use: gets the authorities when they are first known and whenever they are others.
        clock: the time of day.
    """

    def __init__(
        self,
        client: Secrets,
        namespace: str,
        use: Callable[[tuple[Authority, ...]], None],
        *,
        name: str = AUTHORITY_SECRET,
        clock: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC),
        look: dt.timedelta = LOOK,
    ) -> None:
        self._client = client
        self._collection = resource_path("", "v1", "secrets", namespace)
        self._path = resource_path("", "v1", "secrets", namespace, name)
        self._secret = f"Secret {namespace}/{name}"
        self._namespace, self._name = namespace, name
        self._use = use
        self._clock = clock
        self._look = look
        self._held: tuple[Authority, ...] = ()
        self._is_lost = False
        """Whether the last look found no Secret, or a damaged one: somebody may still know what was in it."""
        self.problem = "the authorities have not been read yet"
        """Why they cannot be kept, since the last look; empty: they can."""

    async def run(self) -> None:
        """Until cancelled. While the API server cannot be asked, or the Secret cannot be read, what is known stays."""
        backoff = Backoff(longest=self._look.total_seconds() / 4)
        while True:
            try:
                await self.look()
            except (ApiError, ApiUnreachable, ConnectionProblem, CertificateProblem) as error:
                self.problem = f"the authorities cannot be kept: {error}"
                log.error("authorities cannot be kept", secret=self._secret, problem=str(error))  # noqa: TRY400
                await asyncio.sleep(self._pause(error, backoff.failed(error)))
                continue
            self.problem = ""
            backoff.succeeded()
            # Not all replicas in one moment.
            await asyncio.sleep(self._look.total_seconds() * (0.75 + random.random() / 2))  # noqa: S311

    def _pause(self, error: Exception, wait: float) -> float:
        if isinstance(error, _Deferred):
            return self._look.total_seconds() * TURN
        return wait if self._held else min(wait, FIRST_WAIT_S)

    async def look(self) -> tuple[Authority, ...]:
        """Read them, make or replace them where it is time, and hand them on.

        Raises:
            ApiError, ApiUnreachable: the API server refuses or does not answer.
            CertificateProblem: what the Secret holds is damaged, and not overwritten; or there is none, and we may not
                create it; or it was so, is empty now, and others have the first turn to fill it.
        """
        for _ in range(RACES):
            try:
                held = await self._round()
            except ApiError as error:
                if error.status != 409:
                    raise
                continue
            except _Deferred:
                self._is_lost = False
                raise
            except CertificateProblem:
                self._is_lost = True
                raise
            self._is_lost = False
            if held != self._held:
                log.info("authorities known", secret=self._secret, names=[one.name for one in held])
                self._held = held
                self._use(held)
            return held
        raise CertificateProblem(f"somebody else changes {self._secret} all the time")

    async def _round(self) -> tuple[Authority, ...]:
        try:
            found = await self._client.get(self._path)
        except ApiError as error:
            if error.status != 404:
                raise
            return await self._create()
        data = msgspec.json.decode(found, type=_Data).data or {}
        try:
            decoded = {name: base64.b64decode(value) for name, value in data.items()}
            held = decode_authorities(decoded)
        except (ValueError, CertificateProblem) as error:
            raise CertificateProblem(
                f"{self._secret}: {error}; restore it, or take its data away (kubectl patch secret {self._name} "
                f'-n {self._namespace} --type=json -p \'[{{"op":"remove","path":"/data"}}]\'): then a control plane '
                "that still knows the authorities puts them back, else there are new ones"
            ) from error
        if not held:
            self._give_way()
        wanted = followed(held or self._held, self._clock())
        if wanted != held:
            await self._client.replace(self._path, _with_data(found, wanted))
        return wanted

    def _give_way(self) -> None:
        """Before new authorities are made."""
        if self._is_lost and not self._held:
            raise _Deferred(f"{self._secret} was lost and is empty; who knows the authorities has the first turn")

    async def _create(self) -> tuple[Authority, ...]:
        made = followed(self._held, self._clock())
        try:
            await self._client.create(self._collection, self._new(made))
        except ApiError as error:
            if error.status != 403:
                raise
            raise CertificateProblem(
                f"{self._secret} does not exist, and Portway may not create Secrets; apply the manifests again, or "
                f"kubectl create secret generic {self._name} -n {self._namespace}: it is filled at the next look"
            ) from error
        return made

    def _new(self, authorities: Sequence[Authority]) -> bytes:
        return msgspec.json.encode(
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": self._name, "namespace": self._namespace, "labels": LABELS},
                "type": "Opaque",
                "data": _encoded(authorities),
            }
        )


def _with_data(found: bytes, authorities: Sequence[Authority]) -> bytes:
    """The Secret as it was read, its resourceVersion with it, with other authorities."""
    secret = msgspec.json.decode(found, type=dict[str, msgspec.Raw])
    return msgspec.json.encode(secret | {"data": msgspec.Raw(msgspec.json.encode(_encoded(authorities)))})


def _encoded(authorities: Sequence[Authority]) -> dict[str, str]:
    return {name: base64.b64encode(value).decode() for name, value in encode_authorities(authorities).items()}
