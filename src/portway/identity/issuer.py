"""Who gets which certificate.

    a proxy shows a bound token        the API server says whose it is (namespace, ServiceAccount, pod)
    asks for a fleet                   only its own: the ServiceAccount that the fleet's pods run under
    and gets a certificate             24 hours, naming the workload; what it may have is looked up when it connects

A TokenReview is asked for once in some seconds for a token, however often it is shown: at once, and waiting, there are
only so many. Whose it is has credit for requests, granted or refused, and less for certificates. Tokens that are no
good are bounded by the address that they come from (`service.py`).
"""

import asyncio
import contextlib
import datetime as dt
import hashlib
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol, final
from weakref import WeakValueDictionary

import msgspec
import structlog

from portway.identity.authorities import Authority, bundle, signer
from portway.identity.certificates import CertificateProblem, Subject, parse_request, sign
from portway.identity.contract import workload_id
from portway.identity.credit import Credits
from portway.identity.messages import CertificateRequest, IssuedCertificate, Place
from portway.identity.tokens import Bearer, TokenRefused
from portway.kubernetes.errors import ApiError, ApiUnreachable, ConnectionProblem

LIFETIME = dt.timedelta(hours=24)

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class Owner(msgspec.Struct, frozen=True, kw_only=True):
    """Under which ServiceAccount a fleet's proxies run."""

    namespace: str
    service_account: str


class Refused(Exception):
    """A request that is not granted.

    Args:
        status: of the HTTP answer: 400 the request, 401 the token, 403 not this fleet, 404 unknown, 429 too many,
            503 not now.
        problem: for the log of the proxy.
        retry_after: seconds.
    """

    def __init__(self, status: int, problem: str, retry_after: int | None = None) -> None:
        super().__init__(problem)
        self.status = status
        self.problem = problem
        self.retry_after = retry_after


class Reviews(Protocol):
    """What is needed of `tokens.TokenReviewer`."""

    async def review(self, token: str) -> Bearer: ...


class IssuerLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How much is done for others."""

    reviews: int = 8
    """TokenReviews at once."""
    waiting: int = 200
    """Requests that wait for one; more are told to come again."""
    known_s: float = 10.0
    """For which a token that was reviewed is not reviewed again, as API servers remember tokens themselves."""
    requests: int = 20
    """Of one pod at once, refused ones too. A proxy whose fleet is not known yet asks 7 times in half a minute."""
    request_interval_s: float = 2.0
    """After those, one in so many seconds."""
    burst: int = 5
    """Certificates that one pod gets at once: each restart of its container asks for one."""
    interval_s: float = 30.0
    """After those, one in so many seconds."""
    pods: int = 10_000
    """How many pods, and tokens, are remembered, the latest ones."""


class IssuerStatistics(msgspec.Struct, frozen=True, kw_only=True):
    issued: int
    refused: int
    """Of those the token, the request or the fleet was wrong."""
    delayed: int
    """Were told to come again."""


@final
class Issuer:
    """Decides about requests.

    Args:
        owner: of a fleet; `None`: no such fleet is known here (yet).
        place: of a node, by its name; asked for proxies that do not know their zone.
        clock: the time of day.
        monotonic: seconds, never going back.
    """

    def __init__(
        self,
        reviews: Reviews,
        owner: Callable[[str], Owner | None],
        place: Callable[[str], Awaitable[Place]] | None = None,
        *,
        limits: IssuerLimits | None = None,
        lifetime: dt.timedelta = LIFETIME,
        clock: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reviews = reviews
        self._owner = owner
        self._place = place
        self._limits = limits or IssuerLimits()
        self._lifetime = lifetime
        self._clock = clock
        self._monotonic = monotonic
        self._authorities: tuple[Authority, ...] = ()
        self._turn = asyncio.Semaphore(self._limits.reviews)
        self._waiting = 0
        self._known: OrderedDict[bytes, tuple[Bearer, float]] = OrderedDict()
        """By the hash of a token: whose it is, and until when that counts."""
        self._reviewing: WeakValueDictionary[bytes, asyncio.Lock] = WeakValueDictionary()
        """By the hash of a token: one review of it at a time."""
        self._requests: Credits[tuple[str, str]] = Credits(
            burst=self._limits.requests, interval_s=self._limits.request_interval_s, remembered=self._limits.pods
        )
        """By pod."""
        self._certificates: Credits[tuple[str, str]] = Credits(
            burst=self._limits.burst, interval_s=self._limits.interval_s, remembered=self._limits.pods
        )
        """By pod."""
        self._issued = self._refused = self._delayed = 0

    def use(self, authorities: tuple[Authority, ...]) -> None:
        """Sign with these from now on."""
        self._authorities = authorities

    def statistics(self) -> IssuerStatistics:
        return IssuerStatistics(issued=self._issued, refused=self._refused, delayed=self._delayed)

    async def issue(self, token: str, wanted: CertificateRequest) -> IssuedCertificate:
        """A certificate for whoever shows this token.

        Raises:
            Refused: not now, or not at all.
        """
        try:
            bearer, issued = await self._issue(token, wanted)
        except Refused as error:
            if error.retry_after is None:
                self._refused += 1
                log.warning("certificate refused", fleet=wanted.fleet, status=error.status, problem=error.problem)
            else:
                self._delayed += 1
            raise
        self._issued += 1
        log.info("certificate issued", fleet=wanted.fleet, namespace=bearer.namespace, proxy=bearer.pod)
        return issued

    async def _issue(self, token: str, wanted: CertificateRequest) -> tuple[Bearer, IssuedCertificate]:
        try:
            request = parse_request(wanted.request.encode())
        except CertificateProblem as error:
            raise Refused(400, str(error)) from error
        if not self._authorities:
            raise Refused(503, "this control plane does not know its authorities yet", 1)
        bearer = await self._bearer(token)
        self._charge(self._requests, bearer, f"asked {self._limits.requests} times")
        self._check_fleet(bearer, wanted.fleet)
        self._charge(self._certificates, bearer, f"got {self._limits.burst} certificates")
        now = self._clock()
        chosen = signer(self._authorities, now)
        subject = Subject(
            common_name=bearer.pod, uri=workload_id(bearer.namespace, bearer.service_account), client=True
        )
        certificate, _ = sign(subject, request, (chosen.certificate, chosen.key), now=now, lifetime=self._lifetime)
        place = Place(zone=wanted.zone)
        if not wanted.zone and self._place is not None:
            place = await self._place(bearer.node or wanted.node_name)
        return bearer, IssuedCertificate(
            certificates=certificate.decode(),
            authorities=bundle(self._authorities).decode(),
            zone=place.zone,
            region=place.region,
        )

    async def _bearer(self, token: str) -> Bearer:
        """Whose token it is. Raises Refused."""
        digest = hashlib.sha256(token.encode()).digest()
        async with self._reviewing.setdefault(digest, asyncio.Lock()):
            bearer, until = self._known.get(digest, (None, 0.0))
            if bearer is None or self._monotonic() >= until:
                bearer = await self._review(token)
                self._known[digest] = bearer, self._monotonic() + self._limits.known_s
                self._known.move_to_end(digest)
                while len(self._known) > self._limits.pods:
                    self._known.popitem(last=False)
            return bearer

    async def _review(self, token: str) -> Bearer:
        async with self._one_of_few():
            try:
                return await self._reviews.review(token)
            except TokenRefused as error:
                raise Refused(401, str(error)) from error
            except (ApiError, ApiUnreachable, ConnectionProblem) as error:
                log.warning("token cannot be reviewed", problem=str(error))
                asked = error.retry_after if isinstance(error, ApiError) else None
                raise Refused(503, f"the token cannot be reviewed: {error}", max(1, int(asked or 0))) from error

    @contextlib.asynccontextmanager
    async def _one_of_few(self) -> AsyncIterator[None]:
        if self._waiting >= self._limits.waiting:
            raise Refused(503, "too many requests at once", 2)
        self._waiting += 1
        try:
            async with self._turn:
                yield
        finally:
            self._waiting -= 1

    def _check_fleet(self, bearer: Bearer, fleet: str) -> None:
        owner = self._owner(fleet)
        if owner is None:
            # It may be a moment younger than what this replica knows: no final answer.
            raise Refused(404, f"fleet {fleet!r} is not known", 1)
        if owner != Owner(namespace=bearer.namespace, service_account=bearer.service_account):
            raise Refused(
                403, f"ServiceAccount {bearer.namespace}/{bearer.service_account} may not have fleet {fleet!r}"
            )

    def _charge(self, credit: Credits[tuple[str, str]], bearer: Bearer, what: str) -> None:
        """One of what its pod may have. Raises Refused: it had enough lately."""
        pod = (bearer.namespace, bearer.pod_uid or bearer.pod)
        wait = credit.take(pod, self._monotonic())
        if wait > 0:
            raise Refused(429, f"pod {bearer.namespace}/{bearer.pod} {what} lately", int(wait) + 1)
